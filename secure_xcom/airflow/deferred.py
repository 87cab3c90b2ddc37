"""Rows pass unopened through Airflow's code, to be opened where the coordinate is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Held:
    """A stored row on its way through Airflow's code, to be opened once it is out."""

    #: What Airflow handed to `deserialize_value`.
    result: Any

    def __repr__(self) -> str:
        return "Held()"


_unopened: ContextVar[bool] = ContextVar("secure_xcom_unopened", default=False)


@contextmanager
def unopened() -> Iterator[None]:
    """Have `deserialize_value` hand back `Held` in this context."""
    token = _unopened.set(True)
    try:
        yield
    finally:
        _unopened.reset(token)


def is_unopened() -> bool:
    """Whether the caller will open by itself what `deserialize_value` gets."""
    return _unopened.get()
