"""Work that goes on beside the caller's own, in a thread that nobody has to wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

_Result = TypeVar("_Result")


def start(work: Callable[[], _Result], name: str) -> Future[_Result]:
    """Begin some work in a thread of its own, in the caller's context; what it gives, or raises.

    The thread does not keep the process alive: a task that was interrupted ends at once.
    """
    future: Future[_Result] = Future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    return future
