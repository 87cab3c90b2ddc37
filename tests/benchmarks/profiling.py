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
from names import FAR, NEAR, OURS, OURS_HELD

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
    ("/secure_xcom/layers/", "layers"),
    ("/secure_xcom/airflow/", "backend"),
    ("/secure_xcom/", "the rest"),
)
_EVERY_SECONDS = 0.0005
PARTS = tuple(dict.fromkeys(part for _, part in _PARTS))


class Samples:
    """Samples the calling thread from another one while it is in a `with` block."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._thread_id = threading.get_ident()

    def during(self, call: Callable[[], Any]) -> Any:
        begun, ended = threading.Event(), threading.Event()
        thread = threading.Thread(target=self._sample, args=(begun, ended))
        switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(_EVERY_SECONDS)
        thread.start()
        begun.wait()
        try:
            return call()
        finally:
            ended.set()
            thread.join()
            sys.setswitchinterval(switch_seconds)

    def shares(self) -> dict[str, float]:
        """The parts of the time, in percent."""
        total = sum(self.seconds.values()) or 1.0
        return {part: 100 * self.seconds[part] / total for part in PARTS}

    def _sample(self, begun: threading.Event, ended: threading.Event) -> None:
        last = time.perf_counter()
        begun.set()
        while not ended.wait(_EVERY_SECONDS):
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
    """A value that stays, with the key held, and each that leaves the process, near and far."""
    bench.link(NEAR)
    rows = _profile(bench, NEAR, values.SMALL, values.small(), repeat=200 if bench.quick else 500)
    makers = values.makers(quick=bench.quick)
    for link in (NEAR, FAR):
        bench.link(link)
        for name, make in makers.items():
            if name not in values.INLINE:
                bench.say(f"{link}, {name}")
                rows += _profile(bench, link, name, make())
    return {"rows": rows}


def _profile(
    bench: Bench, link: str, name: str, value: object, *, repeat: int = 1
) -> list[dict[str, Any]]:
    backend = bench.backends[OURS if repeat == 1 else OURS_HELD]
    backend.pull(backend.push(value))
    push, pull = Samples(), Samples()
    count = 0
    for _ in bench.rounds(least=3, most=50, seconds=1.5):
        row = push.during(lambda: [backend.push(value) for _ in range(repeat)])[0]
        found = pull.during(lambda row=row: [backend.pull(row) for _ in range(repeat)])[0]
        bench.check(found, value, OURS)
        count += repeat
        del found
        bench.cloud.empty()
    return [
        {
            "value": name,
            "link": link,
            "operation": operation,
            "ms": sum(samples.seconds.values()) / count * 1e3,
            **{f"{part}, %": share for part, share in samples.shares().items()},
        }
        for operation, samples in (("push", push), ("pull", pull))
    ]
