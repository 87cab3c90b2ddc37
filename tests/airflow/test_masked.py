"""What tasks and callbacks print of what they pulled, where one process runs them all."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from support.deployed import switch_on
from support.environments import DEFAULT

DAGS = Path(__file__).parent / "dags"
#: What is printed, and where: only then does it say something that nothing is found.
TOLD = ("a task", "a task that goes on", "the task that fails", "the task's callback")


@pytest.fixture
def deployed(home):
    plugins = home.path / "plugins"
    plugins.mkdir()
    for folder, name in ((home.dags, "masked.py"), (plugins, "telling_trigger.py")):
        (folder / name).write_bytes((DAGS / name).read_bytes())
    canary = f"canary-{secrets.randbelow(10**15) + 10**15}"
    return switch_on(home) | {"CANARY": canary}


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
