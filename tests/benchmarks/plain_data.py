"""Plain data to bytes and back, beside the encoder that does most of it.

No service is called, and nothing is sealed: these are `codecs.encode` and `codecs.decode`, of this
process's own CPU time, in the same rounds as `ormsgpack.packb` and `unpackb` of the same values.
What the codec takes beyond these is the look at each type (`docs/decisions/0040`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ormsgpack
import values
from results import target
from timing import spread

from secure_xcom import codecs
from secure_xcom.model import Payload

if TYPE_CHECKING:
    from bench import Bench

PEER = "ormsgpack"
#: How many times the encoder's own time an encoding may take, and a decoding, by value.
_BOUNDS = {values.RECORDS: (4.3, 1.2), values.DICTS: (2.9, 1.2), values.INTS: (3.7, 1.2)}


def measure(bench: Bench) -> dict[str, Any]:
    """The values of `_BOUNDS`, encoded and decoded."""
    rows, targets = [], []
    makers = values.makers(quick=bench.quick)
    for name, bounds in _BOUNDS.items():
        bench.say(name)
        value = makers[name]()
        payload = codecs.encode(value)
        raw = b"".join(payload.buffers)
        packed = ormsgpack.packb(value)
        bench.check(codecs.decode(Payload(payload.codec, (raw,))), value, "codecs")
        bench.check(ormsgpack.unpackb(packed), value, PEER)
        calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "encode": (
                lambda value=value: codecs.encode(value),
                lambda value=value: ormsgpack.packb(value),
            ),
            "decode": (
                lambda raw=raw, codec=payload.codec: codecs.decode(Payload(codec, (raw,))),
                lambda packed=packed: ormsgpack.unpackb(packed),
            ),
        }
        for (operation, (ours, theirs)), bound in zip(calls.items(), bounds, strict=True):
            row = _compared(bench, name, operation, ours, theirs)
            rows.append(row)
            ratio = f"{row['ratio']:.2f} ({row['ratio_low']:.2f}-{row['ratio_high']:.2f})"
            targets.append(
                target(
                    f"{name}: {operation}",
                    f"≤ {bound}",
                    f"{ratio} of {PEER}'s",
                    holds=row["ratio"] <= bound,
                    why="The types of all that a value holds are looked at once, in C; the rest is "
                    "the encoder's own."
                    if operation == "encode"
                    else "A tree is decoded as the first of a pair, which is copied to.",
                )
            )
    return {"rows": rows, "targets": targets}


def _compared(
    bench: Bench,
    name: str,
    operation: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
) -> dict[str, Any]:
    mine, other = [], []
    for _ in bench.rounds(least=15, most=50, seconds=4.0):
        mine.append(_cpu_seconds(ours))
        other.append(_cpu_seconds(theirs))
    ratio = spread([one / two for one, two in zip(mine, other, strict=True)])
    return {
        "value": name,
        "operation": operation,
        "ms": spread(mine).median * 1e3,
        f"{PEER}, ms": spread(other).median * 1e3,
        "ratio": ratio.median,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
    }


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = time.thread_time()
    result = call()
    seconds = time.thread_time() - started
    del result
    return seconds
