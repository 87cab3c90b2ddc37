"""Counts of what happens, and steps with a beginning and an end, for whoever observes it.

Rooms below `airflow` say here what they do; `airflow` observes, where its metrics or traces are on.
Nobody does otherwise, and then saying it costs next to nothing. Names and tags tell no contents;
`docs/operations.md` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

_NO_TAGS: Mapping[str, str] = {}
_UNOBSERVED = nullcontext()


class Observer(Protocol):
    """Who is told. It is called from any thread, and what it raises ends the work."""

    def count(self, name: str, amount: int, tags: Mapping[str, str]) -> None:
        """Take note of so many."""

    def step(self, name: str) -> AbstractContextManager[object]:
        """Give what a step is made in."""


class _Present:
    observer: Observer | None = None


def observe(observer: Observer | None) -> None:
    """Tell a observer in place of the former one; or nobody."""
    _Present.observer = observer


def count(name: str, amount: int = 1, tags: Mapping[str, str] = _NO_TAGS) -> None:
    """Say that something happened, or how much of it."""
    if (observer := _Present.observer) is not None:
        observer.count(name, amount, tags)


def is_observed() -> bool:
    """Whether anybody observes, for those who would have to look up what to say."""
    return _Present.observer is not None


def step(name: str) -> AbstractContextManager[object]:
    """Say that a step begins, and with the context that it ends."""
    observer = _Present.observer
    return _UNOBSERVED if observer is None else observer.step(name)
