"""What tasks and callbacks print of what they pulled, in every process that runs them."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from pathlib import Path

import pytest
from support.daemons import daemons, wait_for
from support.deployed import switch_on
from support.environments import DEFAULT

DAGS = Path(__file__).parent / "dags"
#: What is printed, and where: only then does it say something that nothing is found.
TRAIL = "trail.jsonl"
TOLD = ("a task", "a task that goes on", "the task that fails", "the task's callback")


@pytest.fixture
def deployed(home):
    plugins = home.path / "plugins"
    plugins.mkdir()
    for folder, name in ((home.dags, "masked.py"), (plugins, "telling_trigger.py")):
        (folder / name).write_bytes((DAGS / name).read_bytes())
    canary = f"canary-{secrets.randbelow(10**15) + 10**15}"
    places = f"task-log, stderr, {home.path / TRAIL}"
    return switch_on(home, audit_log=places) | {"CANARY": canary}


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_nothing_is_told_by_daemons(home, deployed):
    canary = deployed["CANARY"]
    wanted = dict.fromkeys(("records", "show", "deferred", "other"), "success") | {"fail": "failed"}
    with daemons(home, deployed):
        wait_for(home, "masked", wanted)
        files = _wait_for_text(home, "the dag's callback has ended")
    written = "\n".join(files.values())
    for where in (*TOLD, "a trigger", "the dag's callback"):
        assert f"print in {where}" in written, where
        assert f"log in {where}" in written, where
    assert written.count("structured in") >= len(TOLD) + 1
    for path, text in files.items():
        assert canary not in text, path
        assert canary.partition("-")[2] not in text, path
    _each_line_of_the_audit_log_is_where_it_is_said_to_be(home, files)


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


def _each_line_of_the_audit_log_is_where_it_is_said_to_be(home, files):
    """The table of docs/operations.md. A LocalExecutor shows tasks' logs on Airflow 3."""
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
    import time  # noqa: PLC0415

    deadline = time.monotonic() + timeout_seconds
    while True:
        paths = [*home.path.glob("*.log"), *home.logs.rglob("*")]
        files = {path: path.read_text(errors="replace") for path in paths if path.is_file()}
        if any(text in found for found in files.values()) or time.monotonic() > deadline:
            return files
        time.sleep(0.5)


IN_PROCESS = """
import os, sys
sys.path[:0] = os.environ["AIRFLOW__CORE__DAGS_FOLDER"], "plugins"
import masked
masked.the_dag.test()
print("told after:", os.environ["TOLD"])
import logging
logging.getLogger("masked").error("logged after: %s", os.environ["TOLD"])
print("streams:", ["write" in vars(stream)
                   for stream in (sys.stdout, sys.stderr)])
"""


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_a_task_is_not_masked_for_what_another_pulled(home, deployed):
    canary = f"{deployed['CANARY']}-name"
    done = home.run("python", "-c", IN_PROCESS, env=deployed | {"TOLD": canary}, check=False)
    written = done.stdout + done.stderr
    for where in TOLD:
        assert f"print in {where}:" in written, written[-5000:]
    shown = [line for line in written.splitlines() if deployed["CANARY"] in line]
    assert any(f"told by another task: {canary}" in line for line in shown)
    assert f"told after: {canary}" in written
    assert f"logged after: {canary}" in written
    # A file that runs by itself has no cluster policy on Airflow 2, so tasks log what they return.
    allowed = ("told by another task", "told after", "logged after", "Returned value was")
    assert [line for line in shown if not any(one in line for one in allowed)] == []
    assert "streams: [False, False]" in written
