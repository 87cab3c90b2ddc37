"""Rows pass through Airflow's code as they are stored, to be opened where their XCom is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Deferred:
    """A stored row in the place of its value."""

    #: What Airflow handed to `deserialize_value`.
    result: Any

    def __repr__(self) -> str:
        return "Deferred()"


_is_deferring: ContextVar[bool] = ContextVar("secure_xcom_deferring", default=False)


@contextmanager
def deferring() -> Iterator[None]:
    """Have `deserialize_value` give back a `Deferred` in this context."""
    token = _is_deferring.set(True)
    try:
        yield
    finally:
        _is_deferring.reset(token)


def is_deferring() -> bool:
    """Whether the caller will open by itself what `deserialize_value` gets."""
    return _is_deferring.get()
