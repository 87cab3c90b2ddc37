"""A task's log, without a task: what would stand in it, for `secure-xcom doctor`."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from secure_xcom.airflow import versions


def holds(text: str, write: Callable[[], object]) -> bool | None:
    """Whether the log of a task would hold a text, if its process did something.

    A forked child sets its logging up as Airflow does for a task, and does it there; this process
    then reads what came of it, on Airflow 3 by what the supervisor makes of it.

    Args:
        text: what is looked for.
        write: what the task would do.

    Returns:
        None if it cannot be known here, because tasks log by a handler that is not Airflow's own.
    """
    with tempfile.TemporaryDirectory(prefix="secure-xcom-") as folder:
        path = Path(folder) / "task.log"
        if versions.is_airflow_3():
            sent = _in_child(versions.log_as_supervised_task, write)
            versions.supervise_log(sent, path)
        elif versions.has_task_log():
            _in_child(lambda _: versions.log_as_task(path), write)
        else:
            return None
        return path.is_file() and text in path.read_text(errors="replace")


def _in_child(begin: Callable[[int], None], write: Callable[[], object]) -> bytes:
    """Do something in a fork of this process, and give what it sent up the pipe."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Of threads that hold locks: the child logs, and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            begin(writing)
            write()
        finally:
            os._exit(0)
    os.close(writing)
    with closing(os.fdopen(reading, "rb")) as sent:
        data = sent.read()
    os.waitpid(child, 0)
    return data
