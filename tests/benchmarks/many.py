"""All values of a mapped task, read by the task that reduces them, 20 ms away.

This package reads as `get_all` does, each time with no connection and no key; each value has a data
key of its own, and so costs a call of KMS, 20 ms away as well. The peers read one value after
another, as Airflow has them do; they read fewer, and their time is scaled, which they take in
proportion.
"""

# ruff: noqa: PLC0415 - what is compared is imported where it is measured

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import values
from names import FAR, NEAR, OURS, PEERS
from results import target
from servers.kms import KEY
from timing import Peak, spread, timed

if TYPE_CHECKING:
    from bench import Bench

#: The figure that the target is for.
COUNT = 1_000
_TASK = "mapped"
CLIENT = "Google's client, 32 threads"


def measure(bench: Bench) -> dict[str, Any]:
    """A reduce over 1,000, in the same rounds as the peers; then over 1 to 10,000."""
    counts = [1, 4, 12] if bench.quick else [1, 10, 100, COUNT, 10_000]
    at_peers = 4 if bench.quick else 30
    values_ = values.mapped(counts[-1])
    bench.link(NEAR)
    bench.say(f"pushing {len(values_)} values")
    rows_of = {name: _push(bench, name, values_[:at_peers]) for name in PEERS}
    rows_of[OURS] = _push_ours(bench, values_, counts[-2])
    bench.link(FAR)
    count = counts[-2]
    times: dict[str, list[float]] = {name: [] for name in rows_of}
    cpu_seconds: list[float] = []
    for _ in bench.rounds(least=3, most=5, seconds=15.0):
        bench.say(f"reading {count}")
        before = time.process_time()
        times[OURS].append(_pull(bench, OURS, rows_of[OURS][:count], values_))
        cpu_seconds.append(time.process_time() - before)
        for name in PEERS:
            seconds = _pull(bench, name, rows_of[name], values_)
            times[name].append(seconds * count / at_peers)
    fastest = min(PEERS, key=lambda name: spread(times[name]).median)
    rows = []
    for name, samples in times.items():
        found = spread(samples)
        row = {"backend": name, "values": count, "read": count if name == OURS else at_peers}
        row |= {"s": found.median, "s_low": found.low, "s_high": found.high}
        ratio = spread([mine / one for mine, one in zip(times[OURS], samples, strict=True)])
        row |= {"ratio": ratio.median, "ratio_low": ratio.low, "ratio_high": ratio.high}
        rows.append(row | {"rounds": len(samples)})
    ratio = next(row for row in rows if row["backend"] == fastest)
    cpu = spread([seconds * 1e3 / count for seconds in cpu_seconds])
    aims = [
        target(
            "reduce over 1,000 offloaded values of 100 KB, 20 ms latency: pull",
            "≤ 0.04",
            f"{ratio['ratio']:.3f} ({ratio['ratio_low']:.3f}-{ratio['ratio_high']:.3f}) of "
            f"{fastest}'s",
            holds=ratio["ratio"] <= 0.04,
            why=f"A value takes {cpu.median:.2f} ms of CPU, for a call of KMS and a download, most "
            "of it in Python and so by one thread at a time; the emulators take theirs from the "
            "same cores.",
        ),
        target(
            "the same: CPU of the process for each value",
            "≤ 1.3 ms",
            f"{cpu} ms",
            holds=cpu.median <= 1.3,
            why="Half of it is the download, by requests' adapter and urllib3, which bring "
            "proxies and certificates; a call of KMS by gRPC's Python takes most of the rest.",
        ),
    ]
    points = [_point(bench, OURS, rows_of[OURS][:number], values_) for number in counts]
    points += [
        _point(bench, name, rows_of[name][:number], values_)
        for name in PEERS
        for number in (1, at_peers)
    ]
    bench.cloud.empty()
    os.environ.pop("AIRFLOW__SECURE_XCOM__TRUSTED_STORES")
    return {"rows": rows, "points": points, "targets": aims}


def inline(bench: Bench) -> dict[str, Any]:
    """A reduce over 1,000 values of 200 B that stay in their rows: nothing but calls of KMS.

    No peer makes any. So it is compared with the least that they take without this package: the
    same unwraps by Google's own client, in 32 threads, each with its connection made.
    """
    count = 12 if bench.quick else COUNT
    values_ = values.mapped(count, value_bytes=200)
    bench.link(NEAR)
    bench.say(f"pushing {count} values")
    rows = _push(bench, OURS, values_)
    bench.link(FAR)
    unwraps = [_unwrap(row) for row in rows]
    times: dict[str, list[float]] = {OURS: [], CLIENT: []}
    cpu: dict[str, list[float]] = {OURS: [], CLIENT: []}
    for _ in bench.rounds(least=5, most=9, seconds=15.0):
        bench.say(f"reading {count}")
        for name, read in (
            (OURS, lambda: _pull(bench, OURS, rows, values_)),
            (CLIENT, lambda: _unwrapped(bench, unwraps)),
        ):
            before = time.process_time()
            times[name].append(read())
            cpu[name].append((time.process_time() - before) * 1e3 / count)
    found, aims = [], []
    for name in times:
        row = {"backend": name, "values": count}
        for what, samples in (("s", times), ("CPU ms a value", cpu)):
            ratio = spread(
                [ours / its for ours, its in zip(samples[OURS], samples[name], strict=True)]
            )
            middle = spread(samples[name])
            row |= {what: middle.median, f"{what}_low": middle.low, f"{what}_high": middle.high}
            row |= {f"{what}, ratio": ratio.median}
            row |= {f"{what}, ratio_low": ratio.low, f"{what}, ratio_high": ratio.high}
        found.append(row)
    for what, told, bound in (("s", "time", 1.0), ("CPU ms a value", "CPU", 1.1)):
        ratio = found[1]
        aims.append(
            target(
                f"reduce over 1,000 inline values of 200 B, 20 ms latency: {told}",
                f"≤ {bound}",
                f"{ratio[f'{what}, ratio']:.2f} ({ratio[f'{what}, ratio_low']:.2f}-"
                f"{ratio[f'{what}, ratio_high']:.2f}) of {CLIENT}",
                holds=ratio[f"{what}, ratio"] <= bound,
                why="It opens and decodes the values besides.",
            )
        )
    return {"rows": found, "targets": aims}


def _unwrap(row: Any) -> dict[str, Any]:
    """What Google's client is asked for one row."""
    from secure_xcom.format import envelope
    from secure_xcom.format.reference import from_row

    preamble, _ = envelope.split_envelope(from_row(row).envelope)
    header = preamble.unverified_header
    scope = envelope.scope_bytes(header.instance, header.coordinate)
    return {
        "name": KEY,
        "ciphertext": preamble.unverified_wrapped.ciphertext,
        "additional_authenticated_data": envelope.key_aad(scope, header.key_id),
    }


def _unwrapped(bench: Bench, unwraps: list[dict[str, Any]]) -> float:
    from google.cloud.kms_v1 import KeyManagementServiceClient

    client = KeyManagementServiceClient()

    def unwrap(request: dict[str, Any]) -> int:
        return len(client.decrypt(request=request, retry=None, timeout=10).plaintext)

    with ThreadPoolExecutor(32) as pool:
        seconds, found = timed(lambda: list(pool.map(unwrap, unwraps)))
    bench.check(found, [32] * len(unwraps), CLIENT)
    client.transport.close()
    return seconds


def _push_ours(bench: Bench, values_: list[Any], at_once: int) -> list[object]:
    """Push so many into each bucket.

    The emulator looks at each object of a bucket whenever one is added; ten thousand in one bucket
    would take it minutes. They are read as from trusted stores.
    """
    prefix = "AIRFLOW__SECURE_XCOM__"
    store_uri = os.environ[f"{prefix}STORE_URI"]
    rows, stores = [], []
    for start in range(0, len(values_), at_once):
        if start:
            stores.append(f"gs://{bench.cloud.add_bucket()}/sealed")
            os.environ[f"{prefix}STORE_URI"] = stores[-1]
            bench.backends[OURS].forget()
        rows += _push(bench, OURS, values_[start : start + at_once], start)
    os.environ |= {f"{prefix}STORE_URI": store_uri, f"{prefix}TRUSTED_STORES": ", ".join(stores)}
    return rows


def _push(bench: Bench, name: str, values_: list[Any], start: int = 0) -> list[object]:
    backend = bench.backends[name]

    def push(index: int) -> object:
        return backend.push(values_[index], task=_TASK, map_index=start + index)

    # The first one alone: what a process needs once is not made by several threads at once.
    first = push(0)
    with ThreadPoolExecutor(8 if name == OURS else 1) as pool:
        return [first, *pool.map(push, range(1, len(values_)))]


def _pull(bench: Bench, name: str, rows: list[object], values_: list[Any]) -> float:
    backend = bench.backends[name]
    backend.forget()
    seconds, found = timed(lambda: backend.pull_all(rows, _TASK))
    bench.check(found, values_[: len(rows)], name)
    return seconds


def _point(bench: Bench, name: str, rows: list[object], values_: list[Any]) -> dict[str, Any]:
    bench.say(f"{name}: {len(rows)}")
    with Peak() as peak:
        seconds = _pull(bench, name, rows, values_)
    return {"backend": name, "values": len(rows), "s": seconds, "peak MB": peak.bytes / 1e6}
