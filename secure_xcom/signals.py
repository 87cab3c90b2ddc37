"""Exceptions that are the caller's own: a signal handler raised them in the middle of our work.

Airflow ends a task that takes too long, and so may a user's code, by an exception out of a signal
handler. It can be of any class, `TimeoutError` too, and is neither to be handled nor translated.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Iterator
from types import CodeType, TracebackType


def is_callers(error: BaseException) -> bool:
    """Whether an exception, or one that it was made of, came out of a signal handler."""
    handlers = {*_handlers()}
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if any(code in handlers for code in _codes(one.__traceback__)):
            return True
        pending += (one.__cause__, one.__context__)
    return False


def _codes(traceback: TracebackType | None) -> Iterator[CodeType]:
    while traceback is not None:
        yield traceback.tb_frame.f_code
        traceback = traceback.tb_next


def _handlers() -> Iterator[CodeType]:
    """The code of what is set to handle signals in Python now."""
    for number in signal.valid_signals():
        handler: object = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if not callable(handler):
            continue
        for function in (handler, type(handler).__call__):
            code = getattr(getattr(function, "__func__", function), "__code__", None)
            if isinstance(code, CodeType):
                yield code
