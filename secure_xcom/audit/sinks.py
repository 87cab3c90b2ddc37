"""Where lines of the audit log go: the log of the task, standard error, files.

No level and no `propagate` of Python's logging silences them: what is to go into the task's log is
handed to the handlers themselves, and the others are written to without logging.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

#: The sinks that have a name; any other one is the absolute path of a file.
TASK_LOG = "task-log"
STANDARD_ERROR = "stderr"

logger = logging.getLogger("secure_xcom.audit")

#: Airflow 2 keeps handlers here that write the log of a task (where it was told to leave the root's
#: alone), and of the callbacks that the DAG processor runs.
_AIRFLOWS_LOGGERS = ("airflow.task", "airflow.processor")
_STANDARD_ERROR_FD = 2
_log = logging.getLogger("secure_xcom")

#: The least level that the log of this process lets through beyond its handlers, if Airflow
#: says one: a supervisor may filter once more what a task has sent it.
level_min: Callable[[], int] = lambda: logging.NOTSET  # noqa: E731 - replaced by `airflow.process`


def write(places: Iterable[str], level: int, event: Mapping[str, object]) -> list[str]:
    """Write a line to each sink; those that took it.

    Args:
        places: the sinks, as the setting `audit_log` names them.
        level: of the line, as Python's logging counts.
        event: the members of the line.
    """
    line = json.dumps(event)
    taken = []
    for place in places:
        try:
            if place == TASK_LOG:
                took = _to_handlers(level, line)
            elif place == STANDARD_ERROR:
                took = _to_standard_error(level, event)
            else:
                took = _to_file(place, line)
        except OSError as error:
            _complain(place, type(error).__name__)
            continue
        if took:
            taken.append(place)
        else:
            _complain(place, "nothing there takes lines")
    return taken


def would_take(place: str) -> bool:
    """Whether a sink can be written to now, as far as can be known without a line."""
    if place == TASK_LOG:
        return bool(_handlers())
    try:
        if place == STANDARD_ERROR:
            os.fstat(_STANDARD_ERROR_FD)
        else:
            with _file(place):
                pass
    except OSError:
        return False
    return True


def _to_handlers(level: int, line: str) -> bool:
    """Hand a line to the handlers of the log themselves, whatever levels loggers have."""
    record = logger.makeRecord(
        logger.name, max(level, level_min()), __file__, 0, "%s", (line,), None, "write"
    )
    return sum(bool(handler.handle(record)) for handler in _handlers()) > 0


def _handlers() -> list[logging.Handler]:
    """What writes the task's log, or that of another process."""
    found: list[logging.Handler] = []
    current: logging.Logger | None = logger
    while current is not None:
        found += current.handlers
        current = current.parent
    for name in _AIRFLOWS_LOGGERS:
        # Others that stand there are a console's, which the root has as well.
        found += [
            handler
            for handler in logging.getLogger(name).handlers
            if hasattr(handler, "set_context") and handler not in found
        ]
    return [handler for handler in found if _is_open(handler)]


def _is_open(handler: logging.Handler) -> bool:
    """Whether a handler writes somewhere, and not to a stream that only logs again, by levels.

    Airflow's own for tasks write once they have a task.
    """
    return (
        not isinstance(handler, logging.NullHandler)
        and getattr(handler, "handler", handler) is not None
        and not isinstance(
            getattr(getattr(handler, "stream", None), "logger", None), logging.Logger
        )
    )


def _to_standard_error(level: int, event: Mapping[str, object]) -> bool:
    # The members that Cloud Logging takes for the entry's own, and one to find the lines by.
    line = json.dumps({"severity": logging.getLevelName(level), "logger": logger.name, **event})
    # Not `sys.stderr`, which Airflow 2 leads into the task's log, past levels and all.
    return _whole(_STANDARD_ERROR_FD, line)


def _to_file(path: str, line: str) -> bool:
    with _file(path) as file:
        return _whole(file, line)


@contextmanager
def _file(path: str) -> Iterator[int]:
    # Opened for each line, so that a file that was moved away is made anew, and no child of a fork
    # holds one. Without O_NONBLOCK a pipe that nobody reads would hold up the task.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(path, flags, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _whole(file: int, line: str) -> bool:
    """Write a line at once, so that those of several processes do not mix."""
    data = line.encode() + b"\n"
    return os.write(file, data) == len(data)


@cache
def _complain(place: str, why: str) -> None:
    """Say in the log, once in a process, that a sink does not take lines."""
    _log.warning("The audit log cannot be written to %s (%s).", place, why)
