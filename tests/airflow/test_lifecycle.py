"""`secure-xcom scan` and `gc` on the tables, the archives and the Variables of each Airflow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.deployed import BACKEND, make_canary, make_kek, objects
from support.environments import DEFAULT

DAG = Path(__file__).parent / "dags" / "inspected.py"
WEEK_SECONDS = 7 * 86_400


def run(home, *arguments, code=0):
    """Run a command; what it printed as JSON, and what went to standard error."""
    done = home.run("secure-xcom", *arguments, "--json", check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else None, done.stderr


def counts(scanned, *, archived):
    """Add up the states of the tables that are archives, or are not."""
    total = {}
    for table in scanned["tables"].values():
        if table.pop("archived") is archived:
            for state, count in table.items():
                total[state] = total.get(state, 0) + count
    return total


def stored(home):
    return {name for name in objects(home) if not name.startswith("~gc/")}


def age(home):
    """Make every object a week old."""
    for name in objects(home):
        path = home.path / "store" / name
        then = path.stat().st_mtime - WEEK_SECONDS
        os.utime(path, (then, then))


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT, "3.4.0b2"], indirect=True)
def test_rows_live_archived_and_gone_with_their_objects(home):
    canary = make_canary()
    (home.dags / DAG.name).write_bytes(DAG.read_bytes())
    settings = {
        "kek_uri": make_kek(home.path / "kek"),
        "store_uri": f"file://{home.path}/store",
        "instance": "prod",
    }
    home.run("airflow", "variables", "set", "SECURE_XCOM", json.dumps(settings))
    env = {"AIRFLOW__CORE__XCOM_BACKEND": BACKEND, "CANARY": canary}
    home.run("airflow", "dags", "test", "inspected", env=env)
    (live,) = stored(home)
    orphan = f"{live[:17]}{'0' * 64}"
    (home.path / "store" / orphan).write_bytes(b"of a push that was killed")

    scanned, printed = run(home, "scan", "--deep", "--objects")
    assert (scanned["ok"], scanned["opened"], scanned["missing"]) == (True, 3, 0)
    assert scanned["objects"]["total"] == scanned["objects"]["young"] == 2
    assert canary not in printed
    states = counts(scanned, archived=False)
    assert (states["inline"], states["offloaded"]) == (2, 1)

    age(home)
    _, refused = run(home, "gc", code=2)
    assert "run the command once with --adopt" in refused
    found, _ = run(home, "gc", "--adopt", "--dry-run")
    assert (found["orphans"], found["deleted"], stored(home)) == (1, 0, {live, orphan})
    found, _ = run(home, "gc", "--adopt")
    assert (found["deleted"], stored(home)) == (1, {live})

    clean = ("airflow", "db", "clean", "--clean-before-timestamp", "2100-01-01", "--yes")
    home.run(*clean, "--tables", "xcom")
    scanned, _ = run(home, "scan")
    assert counts(json.loads(json.dumps(scanned)), archived=True)["offloaded"] == 1
    assert counts(scanned, archived=False).get("offloaded", 0) == 0
    found, _ = run(home, "gc")
    assert (found["deleted"], found["marks"], stored(home)) == (0, [2], {live})

    home.run("airflow", "db", "drop-archived", "--yes")
    _, refused = run(home, "gc", code=2)
    assert "has no rows at all" in refused
    found, _ = run(home, "gc", "--no-rows", "--max-share", "1")
    assert (found["deleted"], stored(home)) == (1, set())
