"""What keys and storage cost: a model of three deployments, checked against counted calls.

A task run is a process of its own, and so holds neither keys nor settings when it begins. Under the
scope `task`, the only one that the format has so far, it makes one data key if it pushes at all,
and has one unwrapped for each task instance whose values it pulls.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import values
from counts import Counting
from names import COUNTED, OURS, PEERS, STOCK

if TYPE_CHECKING:
    from bench import Bench

KMS, CLASS_A, CLASS_B = "KMS", "class A", "class B"
MILLION = 1_000_000

#: US dollars, and where they are from.
PRICES = (
    {
        "operation": KMS,
        "dollars": 0.03,
        "for": 10_000,
        "what": "Encrypt, Decrypt; symmetric key, SOFTWARE or HSM",
        "source": "https://cloud.google.com/kms/pricing, prices effective 2025-03-17",
    },
    {
        "operation": CLASS_A,
        "dollars": 0.005,
        "for": 1_000,
        "what": "objects.insert, objects.list; Standard storage in one region",
        "source": "https://cloud.google.com/storage/pricing-examples, as of 2026-11-22",
    },
    {
        "operation": CLASS_B,
        "dollars": 0.0004,
        "for": 1_000,
        "what": "objects.get, buckets.get; Standard storage in one region",
        "source": "https://cloud.google.com/storage/pricing-examples, as of 2026-11-22",
    },
)

#: By the kinds of the test proxy; what goes to a session that was started is part of that upload,
#: and a deletion is free: https://cloud.google.com/storage/pricing#operations-by-class.
_CLASSES = {
    "KMS Encrypt": KMS,
    "KMS Decrypt": KMS,
    "storage upload": CLASS_A,
    "storage start": CLASS_A,
    "storage list": CLASS_A,
    "storage download": CLASS_B,
    "storage stat": CLASS_B,
    "storage bucket": CLASS_B,
}
_KINDS = ("inline", "offloaded")


@dataclass(frozen=True)
class Task:
    """What a task run pushes, if anything, and which task runs before it it pulls from."""

    pushes: str | None
    pulls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Shape:
    """A deployment, by one DAG run of it that stands for all."""

    name: str
    what: str
    tasks: tuple[Task, ...]


def shapes(fan_out: int = 1_000) -> tuple[Shape, ...]:
    """Give the three deployments."""
    orchestration = tuple(
        Task("inline", (number - 1,) if number % 2 else ()) for number in range(10)
    )
    pipeline = tuple(
        Task("offloaded" if number in (1, 4, 7) else "inline", (number - 1,) if number else ())
        for number in range(10)
    )
    mapped = (*(Task("offloaded") for _ in range(fan_out)), Task("inline", tuple(range(fan_out))))
    return (
        Shape(
            "orchestration",
            "each task pushes a small value, every other one pulls one",
            orchestration,
        ),
        Shape("pipeline", "each task pushes and pulls one value, 3 of 10 are offloaded", pipeline),
        Shape("fan-out", f"{fan_out} mapped tasks push 100 KB each, one task reduces them", mapped),
    )


def model(tasks: tuple[Task, ...], each: dict[str, Counter[str]], *, keys: bool) -> Counter[str]:
    """Operations of a DAG run.

    Args:
        tasks: its task runs.
        each: operations of the storage for a push and a pull, inline and offloaded.
        keys: whether values are sealed, under the scope `task`.
    """
    total: Counter[str] = Counter()
    for task in tasks:
        if task.pushes:
            total += each[f"push {task.pushes}"] + Counter({KMS: int(keys)})
        for index in set(task.pulls):
            total += each[f"pull {tasks[index].pushes}"] + Counter({KMS: int(keys)})
    return total


#: What the documentation promises of this package; the peers' are counted.
_OURS = {
    "push inline": Counter(),
    "pull inline": Counter(),
    "push offloaded": Counter({CLASS_A: 1}),
    "pull offloaded": Counter({CLASS_B: 1}),
}


def measure(bench: Bench) -> dict[str, Any]:
    """Count each shape with few tasks, compare it with the model, and reckon up a million."""
    bench.link(COUNTED)
    rows = []
    for name in (OURS, STOCK, *PEERS):
        bench.say(name)
        each = _OURS if name == OURS else _each(bench, name)
        for small, large in zip(shapes(4 if bench.quick else 20), shapes(), strict=True):
            counted = _run(bench, name, small)
            expected = model(small.tasks, each, keys=name == OURS)
            million = model(large.tasks, each, keys=name == OURS)
            row: dict[str, Any] = {"shape": large.name, "what": large.what, "backend": name}
            row |= {"scope": "task" if name == OURS else "", "tasks counted": len(small.tasks)}
            for operation in (KMS, CLASS_A, CLASS_B):
                row[f"{operation}, counted"] = counted[operation]
                row[f"{operation}, model"] = expected[operation]
                row[f"{operation}, a million"] = round(
                    million[operation] * MILLION / len(large.tasks)
                )
            row["dollars"] = sum(
                row[f"{price['operation']}, a million"] * price["dollars"] / price["for"]
                for price in PRICES
            )
            rows.append(row)
    return {"rows": rows, "prices": list(PRICES)}


def _each(bench: Bench, name: str) -> dict[str, Counter[str]]:
    """What a push and a pull of a peer are, in a process that has done neither."""
    backend = bench.backends[name]
    found = {}
    for kind in _KINDS:
        # The stock backend has no other place for a value.
        kind_value = _value("inline" if name == STOCK else kind)
        backend.forget()
        row, found[f"push {kind}"] = _counted(bench, lambda v=kind_value: backend.push(v))
        backend.forget()
        _, found[f"pull {kind}"] = _counted(bench, lambda row=row: backend.pull(row))
    return found


def _run(bench: Bench, name: str, shape: Shape) -> Counter[str]:
    """Run a shape's tasks, each as if in a process of its own."""
    backend = bench.backends[name]
    rows: list[object] = []
    pushed: list[object] = []
    total: Counter[str] = Counter()
    for number, task in enumerate(shape.tasks):
        backend.forget()
        value = _value(task.pushes or "inline")

        def body(task: Task = task, number: int = number, value: object = value) -> object:
            for index in task.pulls:
                bench.check(backend.pull(rows[index]), pushed[index], name)
            return backend.push(value, task=f"{shape.name}{number}") if task.pushes else None

        row, calls = _counted(bench, body)
        total += calls
        rows.append(row)
        pushed.append(value)
    bench.cloud.empty()
    return total


def _value(kind: str) -> object:
    return values.small() if kind == "inline" else values.mapped(1)[0]


def _counted(bench: Bench, call: Any) -> tuple[Any, Counter[str]]:
    result, calls = Counting(bench)(call)
    found: Counter[str] = Counter()
    for name, number in calls.items():
        if name in _CLASSES:
            found[_CLASSES[name]] += number
    return result, found
