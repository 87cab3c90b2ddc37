"""Airflow's own daemons, as a deployment has them: each task runs in a process of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

#: How long a daemon may take to end before it is killed.
_END_SECONDS = 20


@dataclass(frozen=True)
class Daemons:
    """Daemons that run."""

    #: The environment that they run in, and that programs need which are to reach them.
    environment: Mapping[str, str]
    #: The processes, by the command that started each.
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def ended(self) -> dict[str, int]:
        """Give the exit status of each that has ended although nobody told it to."""
        codes = {name: process.poll() for name, process in self.processes.items()}
        return {name: code for name, code in codes.items() if code is not None}


@contextmanager
def daemons(
    airflow: Sequence[str | Path],
    folder: Path,
    environment: Mapping[str, str],
    *,
    has_api_server: bool,
    printed: Path,
) -> Iterator[Daemons]:
    """Run what runs DAGs until the end of the block.

    Args:
        airflow: how the command `airflow` is called.
        folder: where the daemons run.
        environment: all their environment variables.
        has_api_server: whether tasks need one, and DAGs a processor of their own (Airflow 3).
        printed: the folder for what they print, a file for each.
    """
    environment = {
        **environment,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__DAG_DIR_LIST_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    }
    # Logs are read from files, and need no servers on all interfaces.
    commands: list[tuple[str, ...]]
    commands = [("scheduler", "--skip-serve-logs"), ("triggerer", "--skip-serve-logs")]
    if has_api_server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment |= {
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            # On a busy machine the server's first answers take longer than the 5 s that Airflow
            # waits; after some tries it kills the task, whose log ends with "Pre Execute".
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        }
        server = ("api-server", "--host", "127.0.0.1", "--workers", "1", "--apps", "execution")
        commands = [server, ("dag-processor",), *commands]
    running = Daemons(environment)
    try:
        for command in commands:
            with (printed / f"{command[0]}.log").open("wb") as output:
                running.processes[command[0]] = subprocess.Popen(  # noqa: S603 - as the caller says
                    [*airflow, *command],
                    cwd=folder,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        yield running
    finally:
        _end(running.processes.values())


def _end(processes: Collection[subprocess.Popen[bytes]]) -> None:
    """End all of them side by side; each shares its process group with what it started."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    until = time.monotonic() + _END_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
