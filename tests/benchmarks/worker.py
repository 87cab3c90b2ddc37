"""The CPU of a worker that pushes 100 values a second, by each backend."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import values
from names import NEAR, OURS, OURS_HELD, PEERS, STOCK

if TYPE_CHECKING:
    from bench import Bench

RATE = 100


def measure(bench: Bench) -> dict[str, Any]:
    """CPU seconds of this process, all threads, for each second of pushing at that rate."""
    bench.link(NEAR)
    rows = []
    for kind, value in (("1 KB, inline", values.secret(1024)), ("100 KB", values.mapped(1)[0])):
        for name in (OURS, OURS_HELD, STOCK, *PEERS):
            bench.say(f"{kind}, {name}")
            rows.append({"value": kind, "backend": name, **_paced(bench, name, value)})
        bench.cloud.empty()
    for row in rows:
        stock = next(
            other for other in rows if (other["backend"], other["value"]) == (STOCK, row["value"])
        )
        over = row["CPU, % of a core"] - stock["CPU, % of a core"]
        row["over stock, % of a core"] = 0.0 if row is stock else over
    return {"rows": rows}


def _paced(bench: Bench, name: str, value: object) -> dict[str, float]:
    backend = bench.backends[name]
    for _ in range(3):
        backend.push(value)
    count = RATE // 5 if bench.quick else RATE * 3
    started, cpu_started, late = time.monotonic(), time.process_time(), 0.0
    for number in range(count):
        wait = started + number / RATE - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        else:
            late = -wait
        backend.push(value)
    seconds = (time.process_time() - cpu_started) / count
    return {
        "CPU, ms a push": seconds * 1e3,
        "CPU, % of a core": seconds * RATE * 100,
        "behind at the end, ms": late * 1e3,
    }
