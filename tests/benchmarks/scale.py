"""How time and memory grow with the size of a value: lines of text, 1 KB to 1 GiB, loopback.

A backend's series ends where the next point would take too long; nothing is drawn beyond it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import values
from names import NEAR, OURS, PEERS
from timing import Peak, spread

if TYPE_CHECKING:
    from bench import Bench

SIZES = [2**10, 2**13, 2**16, 2**18, 2**20, 2**23, 2**26, 2**28, 2**30]
_QUICK_SIZES = [2**10, 2**16, 2**20]
#: What one push and pull may take, as it seems from the one before.
_SECONDS = 40.0
#: Up to here a point is the median of several.
_OFTEN_BYTES = 2**23


def measure(bench: Bench) -> dict[str, Any]:
    """Each size by each backend in turn."""
    bench.link(NEAR)
    points: list[dict[str, Any]] = []
    going = [OURS, *PEERS]
    sizes = _QUICK_SIZES if bench.quick else SIZES
    for name in going:
        bench.backends[name].pull(bench.backends[name].push(values.text(2**17)))
    for size, following in zip(sizes, [*sizes[1:], None], strict=True):
        text = values.text(size)
        for name in list(going):
            bench.say(f"{size} bytes, {name}")
            started = time.monotonic()
            points.append(_point(bench, name, text))
            bench.cloud.empty()
            seconds = (time.monotonic() - started) * (following or size) / size
            if size > _OFTEN_BYTES and seconds > _SECONDS:
                going.remove(name)
    return {"rows": points}


def _point(bench: Bench, name: str, text: str) -> dict[str, Any]:
    backend = bench.backends[name]
    samples = []
    often = 1 if bench.quick or len(text) > _OFTEN_BYTES else 5
    for _ in range(often):
        with Peak() as push_peak:
            started = time.perf_counter()
            row = backend.push(text)
            push = time.perf_counter() - started
        with Peak() as pull_peak:
            started = time.perf_counter()
            found = backend.pull(row)
            pull = time.perf_counter() - started
        bench.check(found, text, name)
        del found
        samples.append((push, pull, push_peak.bytes, pull_peak.bytes))
    push, pull, push_bytes, pull_bytes = (
        spread(list(column)).median for column in zip(*samples, strict=True)
    )
    return {
        "backend": name,
        "bytes": len(text),
        "push s": push,
        "pull s": pull,
        "push peak MB": push_bytes / 1e6,
        "pull peak MB": pull_bytes / 1e6,
    }
