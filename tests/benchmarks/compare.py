"""The same values through all backends, near and far, and large bytes beside a plain client."""
# ruff: noqa: PLC0415 - Google's client is imported where it is measured

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import values
from cloud import BUCKET
from names import FAR, NEAR, OURS, OURS_HELD, PEERS, STOCK
from timing import spread, timed

if TYPE_CHECKING:
    from bench import Bench
    from peers import Backend

PUSH, PULL = "push", "pull"
CLIENT = "plain client"
#: How often a call that takes microseconds is repeated for one time of it.
_REPEATED = 200


def near(bench: Bench) -> list[dict[str, Any]]:
    """All values over the loopback."""
    return _all(bench, NEAR)


def far(bench: Bench) -> list[dict[str, Any]]:
    """All values over the shaped link."""
    return _all(bench, FAR)


def _all(bench: Bench, link: str) -> list[dict[str, Any]]:
    bench.link(link)
    rows = []
    for name, make in values.makers(quick=bench.quick).items():
        bench.say(name)
        rows += _one(bench, link, name, make())
    return rows


def _one(bench: Bench, link: str, name: str, value: object) -> list[dict[str, Any]]:
    taking = {one.name: one for one in bench.backends.values() if _takes(bench, one, value)}
    if name in values.INLINE:
        # A backend that stays in the process is far quicker than one that calls a service.
        number = dict.fromkeys((OURS_HELD, STOCK, *PEERS[:2]), 5 if bench.quick else _REPEATED)
    else:
        number = {}
    times = {(one, what): [] for one in taking for what in (PUSH, PULL)}
    # The peers take many seconds for the largest one.
    least = 3 if name == values.LARGE_FRAME else 5
    for _ in bench.rounds(least=least, most=25, seconds=6.0):
        for one, backend in taking.items():
            repeat = number.get(one, 1)
            push, pull = _round(backend, value, repeat, one)
            times[one, PUSH].append(push / repeat)
            times[one, PULL].append(pull / repeat)
        bench.cloud.empty()
    return [
        row
        for what in (PUSH, PULL)
        for row in _rows(
            {one: found for (one, which), found in times.items() if which == what},
            {"value": name, "link": link, "operation": what},
            [STOCK] if name in values.INLINE else [one for one in PEERS if one in taking],
        )
    ]


def _takes(bench: Bench, backend: Backend, value: object) -> bool:
    """Whether a backend takes a value at all; this also warms it up."""
    try:
        row = backend.push(value)
    except TypeError:
        return False
    bench.check(backend.pull(row), value, backend.name)
    return True


def _round(backend: Backend, value: object, repeat: int, name: str) -> tuple[float, float]:
    push_seconds, pushed = timed(lambda: [backend.push(value) for _ in range(repeat)])
    pull_seconds, pulled = timed(lambda: [backend.pull(row) for row in pushed])
    if not all(values.same(one, value) for one in pulled):
        raise SystemExit(f"{name}: what was read is not what was written.")
    return push_seconds, pull_seconds


def _rows(
    times: dict[str, list[float]], about: dict[str, str], against: list[str]
) -> list[dict[str, Any]]:
    """One row for each backend; those of ours with their ratio to the fastest to be compared."""
    found = {name: spread(samples) for name, samples in times.items()}
    fastest = min(against, key=lambda name: found[name].median, default=None)
    rows = []
    for name, each in found.items():
        row: dict[str, Any] = {**about, "backend": name, "rounds": len(times[name])}
        row |= {"ms": each.median * 1e3, "ms_low": each.low * 1e3, "ms_high": each.high * 1e3}
        if name in (OURS, OURS_HELD) and fastest:
            ratio = spread(
                [mine / other for mine, other in zip(times[name], times[fastest], strict=True)]
            )
            over = spread(
                [mine - other for mine, other in zip(times[name], times[fastest], strict=True)]
            )
            row |= {"against": fastest, "ratio": ratio.median}
            row |= {"ratio_low": ratio.low, "ratio_high": ratio.high, "over_ms": over.median * 1e3}
        rows.append(row)
    return rows


def plain(bench: Bench) -> list[dict[str, Any]]:
    """64 MiB of random bytes beside Google's client, which puts the same bytes as they are."""
    from google.cloud.storage import Client

    bench.link(NEAR)
    data = values.makers(quick=bench.quick)[values.BYTES]()
    bucket = Client(project="test-project").bucket(BUCKET)
    ours = {name: bench.backends[name] for name in (OURS, OURS_HELD)}
    times = {(name, what): [] for name in (*ours, CLIENT) for what in (PUSH, PULL)}
    for backend in ours.values():
        _takes(bench, backend, data)
    bucket.blob("warm").upload_from_string(data)
    for number in bench.rounds(least=7, most=25, seconds=15.0):
        for name, backend in ours.items():
            push, pull = _round(backend, data, 1, name)
            times[name, PUSH].append(push)
            times[name, PULL].append(pull)
        blob = bucket.blob(f"plain{number}")
        seconds, _ = timed(lambda blob=blob: blob.upload_from_string(data))
        times[CLIENT, PUSH].append(seconds)
        seconds, found = timed(blob.download_as_bytes)
        times[CLIENT, PULL].append(seconds)
        bench.check(found, data, CLIENT)
        del found
        bench.cloud.empty()
    about = {"value": values.BYTES, "link": NEAR}
    return [
        row
        for what in (PUSH, PULL)
        for row in _rows(
            {name: found for (name, which), found in times.items() if which == what},
            {**about, "operation": what},
            [CLIENT],
        )
    ]
