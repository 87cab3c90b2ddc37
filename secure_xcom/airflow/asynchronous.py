"""Calls that an event loop waits for, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from secure_xcom.threads import Crew

_Result = TypeVar("_Result")


async def in_thread(call: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:  # noqa: ANN401
    """Make a call in a thread of its own.

    If the caller is cancelled meanwhile, it leaves at once, and the thread is told to stop. The
    thread is none of the event loop's own, for which the end of a loop or a process waits.
    """
    crew = Crew(1, "secure-xcom-async")
    try:
        return await asyncio.wrap_future(crew.submit(partial(call, *args, **kwargs)))
    finally:
        crew.leave()
