"""Calls that take some of Python's stack for each level of a value."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

_Result = TypeVar("_Result")


def with_stack(function: Callable[..., _Result], *args: object) -> _Result:
    """Call a function that can be called twice; again in a thread if the stack does not suffice.

    Raises:
        RecursionError: all of it is too little.
    """
    try:
        return function(*args)
    except RecursionError:
        pass
    return with_whole_stack(function, *args)


def with_whole_stack(function: Callable[..., _Result], *args: object) -> _Result:
    """Call a function in a thread of its own.

    A value may be read from deeper calls than those that it was written from. The recursion limit
    counts for each thread by itself, so a new one has all of it.

    Raises:
        RecursionError: it is too little.
    """
    with ThreadPoolExecutor(1, "secure-xcom-deep") as thread:
        return thread.submit(copy_context().run, function, *args).result()
