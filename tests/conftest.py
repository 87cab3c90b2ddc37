"""What every test may rely on."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
from support.environments import ROOT, VERSIONS, Environment, Home, new_home, provide

if TYPE_CHECKING:
    from pathlib import Path

AIRFLOW = ROOT / "tests" / "airflow"

# Airflow reads these when it is first imported, and makes a folder in the user's home if they are
# not set; a developer's own deployment must neither be touched nor be able to change a result.
for name in [name for name in os.environ if name.startswith("AIRFLOW__")]:
    del os.environ[name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["AIRFLOW_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts an Airflow of some version, so that `-m "not airflow"` leaves it out."""
    for item in items:
        if "environment" in getattr(item, "fixturenames", ()) or AIRFLOW in item.path.parents:
            item.add_marker("airflow")


@pytest.fixture
def caplog(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Take logs as pytest does, in a test that runs alone, too.

    Airflow takes the root logger's handlers away when it is first imported. That is done here, for
    pytest sets its own anew before it calls the test.
    """
    importlib.import_module("airflow")
    return caplog


@pytest.fixture(params=VERSIONS)
def environment(request: pytest.FixtureRequest) -> Environment:
    """Each supported Airflow in turn."""
    return provide(request.param)


@pytest.fixture
def home(environment: Environment, tmp_path: Path) -> Home:
    """A fresh AIRFLOW_HOME with a migrated database, on each supported Airflow in turn."""
    return new_home(environment, tmp_path / "home")
