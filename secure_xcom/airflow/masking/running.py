"""Whose code runs in this process, so that what one task pulled is masked for that task alone.

A process that runs one task and ends with it needs no more than that. `dag.test()`, `airflow dags
test` and their like run one task after another, and other code in between. Airflow's daemons run
callbacks, listeners, triggers and links of users, and are one owner each.
"""

from __future__ import annotations

import sys
import threading
from enum import Enum
from typing import TypeAlias

from secure_xcom.airflow import versions


class Whole(Enum):
    """An owner that is a process as long as it lives."""

    TASK = "task"
    DAEMON = "daemon"


#: One of the above, or what stands for a task among others in one process.
Owner: TypeAlias = object

#: What runs in the process of `dag.test()` but in no task, such as a trigger.
_BETWEEN = ("between tasks",)

_RUNNER = "airflow.sdk.execution_time.task_runner"
#: The functions that run tasks in the process of their caller.
_IN_PROCESS = frozenset(
    (
        ("airflow.models.dag", "test"),
        ("airflow.models.taskinstance", "run"),
        ("airflow.cli.commands.task_command", "task_test"),
        ("airflow.sdk.definitions.dag", "test"),
    )
)
_TASK = frozenset((("airflow.cli.commands.task_command", "task_run"), (_RUNNER, "main")))
#: Modules whose code stands below all else in a daemon, and in what it forks.
_DAEMONS = (
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.local_commands.",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.cli.commands.webserver_command",
    "airflow.dag_processing.processor",
    "airflow.jobs.",
    "gunicorn.",
    "uvicorn.",
)


def owner() -> Owner | None:
    """Give whose values are opened in this process now; None if it is neither task nor daemon."""
    if versions.is_airflow_3():
        comms = versions.supervisor_comms()
        if comms is not None:
            if _is_in_process(comms):
                return comms  # type: ignore[no-any-return]
            return Whole.DAEMON if "Trigger" in type(comms).__name__ else Whole.TASK
    else:
        task = _current_task()
        if task is not None:
            return task if _runs_in_process() else Whole.TASK
        # From the end of its code to that of the process: callbacks, and errors that are logged.
        if versions.has_run_task() and _main_stack() & _TASK:
            return Whole.TASK
    if _runs_in_process():
        return _BETWEEN
    return Whole.DAEMON if _is_daemon() else None


def is_same(one: Owner, other: Owner) -> bool:
    """Whether two owners are one. What stands for tasks of Airflow 3 is compared by identity."""
    return one is other or (isinstance(one, tuple) and one == other)


def is_over(known: Owner) -> bool:
    """Whether an owner has come to its end, so that what it pulled is no longer masked."""
    if isinstance(known, Whole):
        return False
    if versions.is_airflow_3():
        comms = versions.supervisor_comms()
        # While the test supervisor answers the task, there is none.
        return comms is not known if comms is not None else not _runs_in_process()
    task = _current_task()
    return task != known if task is not None else not _runs_in_process()


def _is_in_process(comms: object) -> bool:
    return type(comms).__name__.startswith("InProcess")


def _current_task() -> tuple[object, ...] | None:
    context = versions.task_context()
    if context is None:
        return None
    instance = context.get("ti")
    names = ("dag_id", "task_id", "run_id", "map_index", "try_number")
    return tuple(getattr(instance, name, None) for name in names)


def _runs_in_process() -> bool:
    return bool(_main_stack() & _IN_PROCESS)


def _is_daemon() -> bool:
    return any(module.startswith(_DAEMONS) for module, _ in _main_stack())


def _main_stack() -> frozenset[tuple[str, str]]:
    """Give the functions that run in the main thread, with their modules."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001
    stack = set()
    while frame is not None:
        stack.add((str(frame.f_globals.get("__name__")), frame.f_code.co_name))
        frame = frame.f_back
    return frozenset(stack)
