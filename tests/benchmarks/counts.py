"""How often each backend calls KMS and storage, and looks settings up, as the servers count it."""
# ruff: noqa: PLC0415 - it imports Airflow, whose home is set by then

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import values
from names import COUNTED, OURS, PEERS, STOCK
from results import target

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench import Bench

KMS, STORAGE, LOOK_UPS = "KMS calls", "storage calls", "settings look-ups"
WHAT = (KMS, STORAGE, LOOK_UPS)
#: The same, in a deployment that has the bucket's Variable in place of `store_uri`.
OURS_VARIABLE = "secure_xcom, bucket by Variable"
_STORE_URI = "AIRFLOW__SECURE_XCOM__STORE_URI"


class Counting:
    """Counts what a call does, by the three kinds of calls."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def __call__(self, call: Callable[[], Any]) -> tuple[Any, dict[str, int]]:
        from look_ups import counted

        self._bench.cloud.calls()
        counted.clear()
        result = call()
        calls: Counter[str] = self._bench.cloud.calls()
        return result, {
            KMS: sum(number for name, number in calls.items() if name.startswith("KMS")),
            STORAGE: sum(number for name, number in calls.items() if name.startswith("storage")),
            LOOK_UPS: sum(counted.values()),
            **calls,
        }


def measure(bench: Bench) -> dict[str, Any]:
    """One task that pushes twice, inline and offloaded, and one that pulls both, each time."""
    bench.link(COUNTED)
    small, large = values.small(), values.mapped(1)[0]
    rows = []
    for name in (OURS, STOCK, *PEERS):
        for kind, value in (("inline", small), ("offloaded", large)):
            if (name, kind) != (STOCK, "offloaded"):
                bench.say(f"{name}, {kind}")
                rows += _backend(bench, name, kind, value)
    store_uri = os.environ.pop(_STORE_URI)
    again = _backend(bench, OURS, "inline", small)
    os.environ[_STORE_URI] = store_uri
    bench.backends[OURS].forget()
    targets = _targets(rows)
    rows += [row | {"backend": OURS_VARIABLE} for row in again]
    return {"rows": rows, "targets": targets}


def _backend(bench: Bench, name: str, kind: str, value: object) -> list[dict[str, Any]]:
    backend, counting = bench.backends[name], Counting(bench)
    found: dict[str, Counter[str]] = {}
    backend.forget()
    pushed = []
    for at in ("first push of a task", "second push"):
        row, found[at] = counting(lambda: backend.push(value, task="counted"))
        pushed.append(row)
    backend.forget()
    for at, row in zip(("first pull of a task", "second pull"), pushed, strict=True):
        read, found[at] = counting(lambda row=row: backend.pull(row))
        bench.check(read, value, name)
    bench.cloud.empty()
    return [
        {
            "backend": name,
            "value": kind,
            "call": at,
            **{what: calls[what] for what in WHAT},
            "which": _which(calls),
        }
        for at, calls in found.items()
    ]


def _which(calls: dict[str, int]) -> str:
    named = (name for name in sorted(calls) if name not in WHAT)
    return ", ".join(f"{calls[name]} {name.partition(' ')[2]}" for name in named)


def _targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    ours = {(row["value"], row["call"]): row for row in rows if row["backend"] == OURS}
    first, second = ours["offloaded", "first push of a task"], ours["offloaded", "second push"]
    pulls = [row for (kind, call), row in ours.items() if kind == "offloaded" and "pull" in call]
    inline = [row for (kind, _), row in ours.items() if kind == "inline"]
    look_ups = max(row[LOOK_UPS] for row in ours.values())
    kms = (first[KMS], second[KMS])
    return [
        target(
            "KMS calls per task that pushes",
            "1, and none once held",
            f"{kms[0]}, then {kms[1]}",
            holds=kms == (1, 0),
        ),
        target(
            "storage calls per offloaded push",
            "1",
            f"{first[STORAGE]}",
            holds=first[STORAGE] == second[STORAGE] == 1,
        ),
        target(
            "storage calls per offloaded pull",
            "1",
            f"{max(row[STORAGE] for row in pulls)}",
            holds={row[STORAGE] for row in pulls} == {1},
        ),
        target(
            "storage calls per inline push and pull",
            "0",
            f"{sum(row[STORAGE] for row in inline)}",
            holds=not any(row[STORAGE] for row in inline),
        ),
        target(
            "settings look-ups of a task",
            "1 (the Variable `SECURE_XCOM`)",
            f"{look_ups}",
            holds=look_ups <= 1,
        ),
    ]
