"""Airflow's own daemons in a home: a scheduler that starts each task in a process of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.environments import Home


@contextmanager
def daemons(home: Home, env: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run what runs DAGs until the end of the block; gives the environment they run in."""
    env = {
        **env,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    }
    with ExitStack() as stack:
        if home.environment.major >= 3:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            env |= {
                "AIRFLOW__API__PORT": str(port),
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
                "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            }
            server = ("api-server", "--host", "127.0.0.1", "--workers", "1", "--apps", "execution")
            stack.enter_context(_daemon(home, env, *server))
            stack.enter_context(_daemon(home, env, "dag-processor"))
        stack.enter_context(_daemon(home, env, "scheduler"))
        yield env


def wait_for(home: Home, dag_id: str, wanted: dict[str, str], timeout_seconds: float = 300) -> None:
    """Wait until the tasks of a DAG are in these states; mapped ones stand for one another.

    Raises:
        AssertionError: with the logs.
    """
    deadline = time.monotonic() + timeout_seconds
    while (seen := _states(home, dag_id)) != wanted:
        if time.monotonic() > deadline:
            logs = "\n".join(
                f"--- {path.relative_to(home.path)}\n{path.read_text()[-4000:]}"
                for path in sorted([*home.path.glob("*.log"), *home.logs.rglob("*.log")])
                if path.stat().st_size
            )
            raise AssertionError(f"{seen}, not {wanted}\n{logs}")
        time.sleep(0.5)


def _states(home: Home, dag_id: str) -> dict[str, str]:
    with home.connect() as database:
        return dict(
            database.execute("SELECT task_id, state FROM task_instance WHERE dag_id = ?", (dag_id,))
        )


@contextmanager
def _daemon(home: Home, env: Mapping[str, str], *command: str) -> Iterator[None]:
    """Run one; it and what it starts share a process group, which ends with it."""
    with (home.path / f"{command[0]}.log").open("w") as output:
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
