"""Where the time of a push and of a pull goes: what the calling thread stands in, by samples.

A sample counts for the time since the last one, so that code which holds the interpreter's lock,
and is sampled when it lets go, has its full weight.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import values
from names import FAR, NEAR, OURS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from bench import Bench

_PARTS = (
    ("/secure_xcom/codecs/", "codec"),
    ("/secure_xcom/format/payload", "compression"),
    ("/secure_xcom/format/", "sealing"),
    ("/secure_xcom/keys/", "keys, KMS"),
    ("/secure_xcom/stores/", "storage"),
    ("/secure_xcom/", "the rest"),
)
PARTS = tuple(dict.fromkeys(part for _, part in _PARTS))


class Samples:
    """Samples the calling thread from another one while it is in a `with` block."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._thread_id = threading.get_ident()

    def during(self, call: Callable[[], Any]) -> Any:
        ended = threading.Event()
        thread = threading.Thread(target=self._sample, args=(ended,))
        thread.start()
        try:
            return call()
        finally:
            ended.set()
            thread.join()

    def _sample(self, ended: threading.Event) -> None:
        last = time.perf_counter()
        while not ended.wait(0.0005):
            frame = sys._current_frames().get(self._thread_id)
            now = time.perf_counter()
            self.seconds[_part(frame)] += now - last
            last = now


def _part(frame: FrameType | None) -> str:
    while frame is not None:
        for path, part in _PARTS:
            if path in frame.f_code.co_filename:
                return part
        frame = frame.f_back
    return "the rest"


def measure(bench: Bench) -> dict[str, Any]:
    """Each value that leaves the process, near and far."""
    rows = []
    makers = values.makers(quick=bench.quick)
    for link in (NEAR, FAR):
        bench.link(link)
        for name, make in makers.items():
            if name not in values.INLINE:
                bench.say(f"{link}, {name}")
                rows += _profile(bench, link, name, make())
    return {"rows": rows}


def _profile(bench: Bench, link: str, name: str, value: object) -> list[dict[str, Any]]:
    backend = bench.backends[OURS]
    backend.pull(backend.push(value))
    push, pull = Samples(), Samples()
    count = 0
    for _ in bench.rounds(least=3, most=50, seconds=1.5):
        row = push.during(lambda: backend.push(value))
        found = pull.during(lambda row=row: backend.pull(row))
        bench.check(found, value, OURS)
        count += 1
        del found
        bench.cloud.empty()
    return [
        {
            "value": name,
            "link": link,
            "operation": operation,
            "ms": sum(samples.seconds.values()) / count * 1e3,
            **{
                f"{part}, %": 100 * samples.seconds[part] / sum(samples.seconds.values())
                for part in PARTS
            },
        }
        for operation, samples in (("push", push), ("pull", pull))
    ]
