"""Airflow's own daemons in a home, as `secure_xcom.trial.daemons` runs them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet

from secure_xcom.trial import xcoms
from secure_xcom.trial.daemons import daemons as run_daemons

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.environments import Home


@contextmanager
def daemons(home: Home, env: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
    """Run what runs DAGs until the end of the block; gives the environment they run in."""
    # What Airflow would write into airflow.cfg; a trigger's arguments need it.
    env = {**env, "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode()}
    with run_daemons(
        [home.environment.folder / "bin" / "airflow"],
        home.path,
        home.variables(env),
        has_api_server=home.environment.major >= 3,
        printed=home.path,
    ) as running:
        yield running.environment


def wait_for(home: Home, dag_id: str, wanted: dict[str, str], timeout_seconds: float = 300) -> None:
    """Wait until the tasks of a DAG are in these states; mapped ones stand for one another.

    Raises:
        AssertionError: they are not in time, or one fails that should not; with the logs.
    """
    deadline = time.monotonic() + timeout_seconds
    while (seen := _states(home, dag_id)) != wanted:
        failed = any(
            state in {"failed", "upstream_failed"} and wanted.get(task_id) != state
            for task_id, state in seen.items()
        )
        if failed or time.monotonic() > deadline:
            logs = "\n".join(
                f"--- {path.relative_to(home.path)}\n{path.read_text()[-4000:]}"
                for path in sorted([*home.path.glob("*.log"), *home.logs.rglob("*.log")])
                if path.stat().st_size
            )
            raise AssertionError(f"{seen}, not {wanted}\n{logs}")
        time.sleep(0.5)


def _states(home: Home, dag_id: str) -> dict[str, str]:
    states = xcoms.states(home.database, dag_id)
    return {task_id: state for (task_id, _), state in states.items()}
