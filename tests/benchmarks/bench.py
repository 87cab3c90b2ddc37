"""What every benchmark gets: the services, the backends, and how much of it is wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import values
from timing import rounds

if TYPE_CHECKING:
    from cloud import Cloud
    from peers import Backend


@dataclass
class Bench:
    """One process that measures.

    Args:
        quick: run everything, on less, once: to see that it runs.
    """

    cloud: Cloud
    backends: dict[str, Backend]
    quick: bool
    section: str = ""
    _started: float = field(default_factory=time.monotonic)

    def link(self, link: str) -> None:
        """Have all backends connect anew, near or far."""
        self.cloud.link(link)
        for backend in self.backends.values():
            backend.forget()

    def rounds(self, *, least: int, most: int, seconds: float) -> Iterator[int]:
        """Count rounds: at least so many, and then up to the most while the time lasts."""
        return rounds(1, 1, 0) if self.quick else rounds(least, most, seconds)

    def check(self, found: object, value: object, who: str) -> None:
        """Stop if a value did not come back as it went in."""
        if not values.same(found, value):
            raise SystemExit(f"{who}: what was read is not what was written.")

    def say(self, what: str) -> None:
        """Show how far it is."""
        seconds = time.monotonic() - self._started
        print(f"  {seconds:6.1f} s  {self.section}: {what}", file=sys.stderr, flush=True)  # noqa: T201
