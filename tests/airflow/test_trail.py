"""Where the lines of the audit log end, of tasks, triggers and callbacks under real daemons."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections import Counter
from pathlib import Path

import pytest
from support.daemons import daemons, wait_for
from support.deployed import switch_on
from support.environments import DEFAULT

DAGS = Path(__file__).parent / "dags"
TRAIL = "trail.jsonl"
#: Where lines end, and of how many: five of tasks, one of a trigger, one of the DAG's callback.
ENDS = {
    2: {
        "task-log": {("task",): 5, ("trigger",): 1, ("dag",): 1},
        "stderr": {("scheduler.log",): 6, ("triggerer.log",): 1},
    },
    3: {
        "task-log": {("scheduler.log", "task"): 5, ("trigger",): 1, ("dag",): 1},
        "stderr": {("scheduler.log", "task"): 5, ("triggerer.log",): 1, ("dag",): 1},
    },
}


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_each_line_is_where_it_is_said_to_be(home):
    """The table of docs/operations.md. A LocalExecutor shows tasks' logs on Airflow 3."""
    plugins = home.path / "plugins"
    plugins.mkdir()
    for folder, name in ((home.dags, "masked.py"), (plugins, "telling_trigger.py")):
        (folder / name).write_bytes((DAGS / name).read_bytes())
    env = switch_on(home, audit_log=f"task-log, stderr, {home.path / TRAIL}") | {
        "CANARY": f"canary-{secrets.randbelow(10**15) + 10**15}",
    }
    wanted = dict.fromkeys(("records", "show", "deferred", "other"), "success") | {"fail": "failed"}
    with daemons(home, env):
        wait_for(home, "masked", wanted)
        files = _wait_for_text(home, "the dag's callback has ended")
    written = [json.loads(line) for line in (home.path / TRAIL).read_text().splitlines()]
    ended = {"task-log": Counter(), "stderr": Counter()}
    for line in written:
        found = {"task-log": set(), "stderr": set()}
        for path, text in files.items():
            for place, other in _audited(text):
                if other.items() >= line.items():
                    found[place].add(_kind(path.relative_to(home.path)))
        for place, kinds in found.items():
            ended[place][tuple(sorted(kinds))] += 1
    assert ended == ENDS[min(home.environment.major, 3)]


def _kind(path):
    if path.parts[0] != "logs":
        return path.name
    if path.name == "masked.py.log":
        return "dag"
    return "trigger" if ".trigger." in path.name else "task"


def _audited(text):
    """Give the lines in a log, however it wraps them, and the places that they were written to."""
    plain = text.replace('\\"', '"')
    for found in re.finditer(r'\{("severity": "\w+", "logger": "[\w.]+", )?"time"', plain):
        line, _ = json.JSONDecoder().raw_decode(plain[found.start() :])
        yield "stderr" if found[1] else "task-log", line


def _wait_for_text(home, text, timeout_seconds=90):
    deadline = time.monotonic() + timeout_seconds
    while True:
        paths = [*home.path.glob("*.log"), *home.logs.rglob("*")]
        files = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
        if any(text in found for found in files.values()) or time.monotonic() > deadline:
            return files
        time.sleep(0.5)
