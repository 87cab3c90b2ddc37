"""A real DAG that uses both state stores, on each Airflow that has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployed import make_canary, objects, switch_on
from support.environments import new_home, provide
from support.notes import run

BACKEND = "secure_xcom.airflow.state_store.SecureStateStoreBackend"
DAGS = Path(__file__).parent / "dags"


@pytest.mark.parametrize("version", ["3.3.2", "3.4.0b2"])
def test_states_travel_sealed(version, tmp_path):
    home = new_home(provide(version), tmp_path / "home")
    canary = make_canary()
    env = {
        **switch_on(home),
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": BACKEND,
        "CANARY": canary,
    }
    assert run(home, DAGS / "states.py", env) == {
        "a key that is not there": "none",
        "a task's state": True,
        "a long one": True,
        "one that was deleted": "none",
        "an asset's state": True,
    }
    rows = _rows(home)
    assert len(rows) == 3
    assert all("__secure_xcom" in row for row in rows)
    assert not any(canary in row for row in rows)
    held = objects(home)
    assert [name.split("/")[:2] for name in held] == [["~state", "task"]]
    assert all(canary.encode() not in data for data in held.values())


def _rows(home):
    """The values of both tables, as the database holds them."""
    with home.connect() as database:
        tables = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE '%state_store%'"
        ).fetchall()
        return [
            str(row[0])
            for (table,) in tables
            for row in database.execute(f"SELECT value FROM {table}")  # noqa: S608
        ]
