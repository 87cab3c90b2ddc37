"""Real daemons: each task in a process of its own, a real scheduler, a real triggerer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from support.deployed import make_canary, objects, raw_xcoms, switch_on, xcoms
from support.environments import DEFAULT

DAGS = Path(__file__).parent / "dags"
TIMEOUT_SECONDS = 300

#: What the button in the UI does.
CLEAR = """
import sys
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
with create_session() as session:
    tis = session.query(TaskInstance).filter(TaskInstance.task_id.in_(sys.argv[1:])).all()
    clear_task_instances(tis, session, dag_run_state=DagRunState.QUEUED)
print("cleared", len(tis))
"""


@contextmanager
def daemon(home, env, *command):
    """Run a daemon until the end of the block; it and what it started share a process group."""
    log = home.path / f"{command[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [home.environment.folder / "bin" / "airflow", *command],
            cwd=home.path,
            env=home.variables(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def deployment(home, env):
    with ExitStack() as stack:
        if home.environment.major >= 3:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            env = {
                **env,
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API_AUTH__JWT_SECRET": "not-a-secret-but-long-enough-for-a-test",
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            }
            server = ("api-server", "--host", "127.0.0.1", "--workers", "1", "--apps", "execution")
            stack.enter_context(daemon(home, env, *server))
            stack.enter_context(daemon(home, env, "dag-processor"))
        stack.enter_context(daemon(home, env, "scheduler"))
        stack.enter_context(daemon(home, env, "triggerer"))
        yield env


def states(home, dag_id="live"):
    current = "AND working_set" if home.environment.airflow.startswith("3.4") else ""
    with home.connect() as database:
        return dict(
            database.execute(
                f"SELECT task_id, state FROM task_instance WHERE dag_id = ? {current}",  # noqa: S608
                (dag_id,),
            )
        )


def wait_for(home, wanted, dag_id="live"):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while (seen := states(home, dag_id)) != wanted:
        failed = {"failed", "upstream_failed"} & set(seen.values())
        if failed or time.monotonic() > deadline:
            logs = "\n".join(
                f"--- {path.relative_to(home.path)}\n{path.read_text()[-4000:]}"
                for path in sorted([*home.path.glob("*.log"), *home.logs.rglob("*.log")])
                if path.stat().st_size
            )
            raise AssertionError(f"{seen}, not {wanted}\n{logs}")
        time.sleep(0.5)


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_a_deployment(home):
    canary = make_canary()
    (home.dags / "live.py").write_bytes((DAGS / "live.py").read_bytes())
    plugins = home.path / "plugins"
    plugins.mkdir()
    (plugins / "reading_trigger.py").write_bytes((DAGS / "reading_trigger.py").read_bytes())
    wanted = dict.fromkeys(
        ("small", "large", "check", "choose", "taken", "deferred", "stop", "trigger"), "success"
    ) | {"left_out": "skipped", "stopped": "skipped"}
    if home.environment.airflow >= "3.3":
        wanted["coroutines"] = "success"

    env = switch_on(home, describe="full") | {
        "CANARY": canary,
        # What `airflow standalone` would write into airflow.cfg; a trigger's arguments need it.
        "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    }
    with deployment(home, env) as env:
        wait_for(home, wanted)
        rows = xcoms(home)
        assert rows["small", -1, "return_value"]["placement"] == "inline"
        assert rows["large", -1, "return_value"]["placement"] == "offloaded"
        assert rows["deferred", -1, "return_value"]["placement"] == "inline"
        assert rows["deferred", -1, "pushed"]["placement"] == "inline"
        wait_for(home, {"return_it": "success"}, "triggered")
        with home.connect() as database:
            [(run_id,)] = database.execute("SELECT run_id FROM dag_run WHERE dag_id = 'triggered'")
        assert rows["trigger", -1, "trigger_run_id"] == run_id
        [first] = objects(home)

        # A new threshold counts for the next task, with no daemon started again; branches that
        # were left out stay so, also where the short circuit runs again; and what `large` wrote
        # goes when it starts anew.
        with home.connect() as database:
            database.execute(
                "INSERT INTO variable (key, val, is_encrypted) "
                "VALUES ('SECURE_XCOM', '{\"threshold_bytes\": 0}', 0)"
            )
        again = ("small", "large", "left_out", "stop", "stopped")
        cleared = home.run("python", "-c", CLEAR, *again, env=env)
        assert cleared.stdout.splitlines()[-1] == "cleared 5"
        wait_for(home, wanted)

    rows = xcoms(home)
    assert rows["small", -1, "return_value"]["placement"] == "offloaded"
    assert rows["check", -1, "return_value"]["placement"] == "inline"
    stored = objects(home)
    assert set(stored) == {
        row["object"]
        for where, row in rows.items()
        if where[2] == "return_value" and row["placement"] == "offloaded"
    }
    assert first not in stored
    for held in (*stored.values(), raw_xcoms(home)):
        assert canary.encode() not in held
