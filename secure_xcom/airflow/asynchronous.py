"""Calls that an event loop waits for, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from secure_xcom.threads import Crew

_Result = TypeVar("_Result")


async def awaited(call: Callable[..., _Result], *args: Any, **kwargs: Any) -> _Result:  # noqa: ANN401
    """Make a call in a thread of its own.

    Who is cancelled meanwhile leaves at once, and the thread is told to stop. It is none of the
    event loop's own, which are waited for when a loop or the process ends.
    """
    crew = Crew(1, "secure-xcom-async")
    try:
        return await asyncio.wrap_future(crew.submit(partial(call, *args, **kwargs)))
    finally:
        crew.leave()
