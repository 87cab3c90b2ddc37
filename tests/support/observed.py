"""Whatever is counted and timed below `airflow`, collected."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from secure_xcom import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Observed:
    """Counters by name, and the steps that have ended."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.steps: Counter[str] = Counter()

    def count(self, name: str, amount: int, _tags: Mapping[str, str]) -> None:
        """Add to a counter."""
        self.counts[name] += amount

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Note a step, however it ends."""
        try:
            yield
        finally:
            self.steps[name] += 1


@contextmanager
def observed() -> Iterator[Observed]:
    """Collect until the end of the block."""
    collected = Observed()
    telemetry.observe(collected)
    try:
        yield collected
    finally:
        telemetry.observe(None)
