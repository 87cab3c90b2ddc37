from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.deployment import Deployment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)
