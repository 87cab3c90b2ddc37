"""Time, and memory, of calls that alternate in one process."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        median, low, high = (f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in self)
        return f"{median} ({low}-{high})"


def spread(samples: list[float]) -> Spread:
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(statistics.median(samples), low, high)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that a call takes, and what it returns."""
    gc.collect()
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def rounds(least: int, most: int, seconds: float) -> Any:
    """Count rounds: at least so many, and then up to the most while the time lasts."""
    deadline = time.monotonic() + seconds
    for number in range(most):
        if number >= least and time.monotonic() > deadline:
            return
        yield number


class Peak:
    """The memory that a block takes at most, above what there was before it.

    By the kernel's high-water mark of resident memory, which is put back before; what the
    allocator holds and does not use is given back before, too.
    """

    def __enter__(self) -> Self:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._before = _kilobytes("VmRSS")
        self.bytes = 0
        return self

    def __exit__(self, *_exc: object) -> None:
        self.bytes = max(0, _kilobytes("VmHWM") - self._before) * 1024


def _kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise SystemExit(f"The kernel does not tell {name}.")
