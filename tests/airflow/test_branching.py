"""What was skipped and is cleared stays skipped: the scheduler must be able to read why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.deployed import switch_on, xcoms
from support.environments import DEFAULT

PROGRAM = Path(__file__).parent / "dags" / "branching.py"


def run(home, **settings):
    program = home.dags / PROGRAM.name
    program.write_bytes(PROGRAM.read_bytes())
    lines = home.run("python", program, env=switch_on(home, **settings)).stdout.splitlines()
    [seen] = [json.loads(line) for line in lines if line.startswith('{"before"')]
    assert seen["before"] == {
        "choose": "success",
        "taken": "success",
        "left_out": "skipped",
        "stop": "success",
        "stopped": "skipped",
    }
    assert seen["cleared"] == seen["before"] | {"left_out": None, "stopped": None}
    return seen


def test_a_skipped_task_that_is_cleared_stays_skipped(home):
    seen = run(home)
    assert seen["to be run"] == []
    assert seen["after"] == seen["before"]
    rows = xcoms(home)
    assert rows[("choose", -1, "skipmixin_key")] == {"followed": ["taken"]}
    assert rows[("stop", -1, "skipmixin_key")] == {"skipped": ["stopped"]}
    assert rows[("taken", -1, "return_value")]["placement"] == "inline"


@pytest.mark.parametrize("environment", [DEFAULT], indirect=True)
def test_without_their_clear_key_they_stay_skipped_where_the_key_is_at_hand(home):
    seen = run(home, clear_keys="[]")
    assert seen["to be run"] == []
    assert xcoms(home)[("choose", -1, "skipmixin_key")]["placement"] == "inline"
