"""Every file of units passes by itself: none leans on what another one has imported or left."""

from __future__ import annotations

import pytest
from support.environments import DEFAULT, ROOT, provide
from support.inner import run_tests

UNITS = sorted((ROOT / "tests" / "unit").rglob("test_*.py"))


@pytest.mark.parametrize("file", UNITS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_it_passes_alone(file):
    run_tests(provide(DEFAULT), file)


def test_the_units_are_found():
    assert len(UNITS) > 20
