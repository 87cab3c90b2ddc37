"""Exceptions that are the caller's own: a signal handler raised them in the middle of our work.

Airflow ends a task that takes too long, and so may a user's code, by an exception out of a signal
handler. It can be of any class, `TimeoutError` too, and is neither to be handled nor translated.
"""

from __future__ import annotations

import functools
import signal
from collections.abc import Collection, Iterator
from types import CodeType

#: Whose classes wrap what they meet.
_LIBRARIES = frozenset(("google", "requests", "urllib3"))


def is_callers(error: BaseException) -> bool:
    """Whether an exception, or one that it was made of, came out of a signal handler."""
    return raised_by_handler(error) is not None


def raised_by_handler(
    error: BaseException, outer: BaseException | None = None
) -> BaseException | None:
    """What one of the caller's signal handlers raised, if that is what this error is made of.

    A handler's exception comes up wherever this thread happens to be, and where that is in the
    layers below, they take a `TimeoutError` for their own and wrap it. So it is told by where it
    was raised: in a function that is a signal's handler now.
    """
    codes = {*_handlers()}
    raised = [layer for layer in layers_of(error, outer) if _passed(layer, codes)]
    # A wrapper may have been given the traceback of what it wraps.
    own = (layer for layer in raised if type(layer).__module__.split(".")[0] not in _LIBRARIES)
    return next(own, raised[-1] if raised else None)


def _passed(error: BaseException, codes: Collection[CodeType]) -> bool:
    """Whether an exception came out of one of these functions."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def layers_of(error: BaseException, outer: BaseException | None = None) -> Iterator[BaseException]:
    """The exception, and what it was made of, each once, outermost first.

    Libraries keep the inner one as the cause, as the context, as an argument, or as `reason`.

    Args:
        error: the outermost.
        outer: what the caller was handling before. It is the context of whatever is raised
            meanwhile, and not one of the layers.
    """
    seen = {id(outer)}
    todo: list[object] = [error]
    while todo:
        layer = todo.pop(0)
        if isinstance(layer, BaseException) and id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            todo += [layer.__cause__, layer.__context__, getattr(layer, "reason", None)]
            todo += layer.args


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
