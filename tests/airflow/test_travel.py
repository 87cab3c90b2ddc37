"""A real DAG on each Airflow: its values come back, its rows are sealed, moved rows are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.deployed import make_canary, objects, raw_xcoms, switch_on, xcoms

DAGS = Path(__file__).parent / "dags"

#: What the DAG notes of values that nobody touched; the stock backend gives the same.
VALUES = {
    "values through arguments": [{"a": {"b": "c"}}, 4000, 3999, 14],
    "canary through arguments": [True, True],
    "zip": [[1, 1], [4, 4], [9, 9]],
    "map": [-1, -4, -9],
    "lazy sequence": [[4, 9], 9, 3, 1],
    "pull of two tasks": [{"a": {"b": "c"}}, ["large", "small"]],
    "pull of all map indexes": [1, 4, 9],
    "pull of one map index": 9,
    "pull of two map indexes": [9, 1],
    "pull of a key": "source",
    "pull of None": None,
    "pull of a clear key": "in clear",
    "pull of what is not there": None,
    "pull of what a failed try pushed": None,
    "pull of a tuple": "(1, 'two')",
    "pull with prior dates": [1, 2.5, None, True],
    "get_value": 4,
    "put back": [1, 4, 9],
}

#: What it notes of rows that were written to: the error's class, and whether it shows the canary.
REFUSED = {
    "push of a tagged value under a clear key": "CodecError",
    "moved: pulled with a map index": "AuthenticationError False",
    "moved: pulled by task id": "AuthenticationError False",
    "moved: pulled by task ids": "AuthenticationError False",
    "moved: pulled with prior dates": "AuthenticationError False",
    "moved: get_value": "AuthenticationError False",
    "moved from key to key": "AuthenticationError False",
    "moved among map indexes: lazy sequence": "AuthenticationError False",
    "moved among map indexes: lazy slice": "AuthenticationError False",
    "moved among map indexes: lazy item": "AuthenticationError False",
    "moved among map indexes: all": "AuthenticationError False",
    "moved among map indexes: one": "AuthenticationError False",
    "moved into a mapped task: lazy sequence": "AuthenticationError False",
    "moved into a mapped task: lazy slice": "AuthenticationError False",
    "replaced by plain JSON": "UnsealedError False",
    "replaced by plain JSON: lazy sequence": "UnsealedError False",
    "replaced by null": "UnsealedError False",
    "replaced by a later version": "FormatError False",
    "sealed row under a clear key": "FormatError False",
}


def run(home, dag, env):
    """Run a DAG from `dags/`; what it noted, by name."""
    (home.dags / f"{dag}.py").write_bytes((DAGS / f"{dag}.py").read_bytes())
    probes = home.path / "probes"
    home.run(
        *("airflow", "dags", "test", dag),
        env={**env, "PROBES": str(probes), "DATABASE": str(home.database)},
    )
    notes = [json.loads(line) for line in probes.read_text().splitlines()]
    return {note["name"]: note["value"] for note in notes}


def test_values_travel_sealed(home):
    canary = make_canary()
    notes = run(home, "travel", {**switch_on(home), "CANARY": canary})

    assert notes == VALUES | REFUSED

    rows = xcoms(home)
    assert rows.pop(("source", -1, "trigger_run_id")) == "in clear"
    placements = {where: row["placement"] for where, row in rows.items()}
    assert placements == {
        ("plain", -1, "return_value"): "inline",
        ("source", -1, "nothing"): "inline",
        ("source", -1, "other"): "inline",
        ("source", -1, "tuple"): "inline",
        ("source", -1, "small"): "inline",
        ("source", -1, "large"): "offloaded",
        ("source", -1, "return_value"): "offloaded",
        ("square", 0, "return_value"): "inline",
        ("square", 1, "return_value"): "inline",
        ("square", 2, "return_value"): "inline",
    }

    # What the first try pushed is deleted when the second one starts, and what is written over
    # once the newer row is there.
    stored = objects(home)
    named = {row["object"] for row in rows.values() if row["placement"] == "offloaded"}
    left = {name for name in stored if name not in named}
    if home.environment.airflow.startswith("3.4"):
        # A try that is over keeps its task instance there, and this one its XComs.
        assert len(left) == 1
    else:
        assert left == set()
    assert named <= set(stored)
    for name, envelope in stored.items():
        assert canary.encode() not in envelope, name
    assert canary.encode() not in raw_xcoms(home)


@pytest.mark.parametrize("environment", ["3.4.0b2"], indirect=True)
def test_iterations_of_a_loop_travel(home):
    assert run(home, "loops", switch_on(home)) == {
        "iterations": [{"n": 0}, {"n": 1}, {"n": 2}],
        "mapped iterations": [2, 3, 21, 31],
    }
    sealed = [row for row in xcoms(home).values() if "__secure_xcom__" in row]
    assert len(sealed) >= 3
