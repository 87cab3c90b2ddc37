"""The values that the benchmarks push: the same in each run, but for what has to be random."""
# ruff: noqa: PLC0415, S311 - nothing here is secret

from __future__ import annotations

import os
import random
from collections.abc import Callable
from functools import partial
from typing import Any

SMALL = "200 B dict"
SECRET = "1 KB secret"  # noqa: S105 - it is the name of a value
DICTS = "10,000 dicts"
RECORDS = "10,000 records"
INTS = "1,000,000 ints"
BYTES = "64 MiB random bytes"
FRAME = "DataFrame, 200,000 rows"
LARGE_FRAME = "DataFrame, 2,000,000 rows"

#: Those that stay in the row.
INLINE = (SMALL, SECRET)


def makers(*, quick: bool) -> dict[str, Callable[[], Any]]:
    """How to make each; the quick form has less of what is large, under the same names."""
    less = 1000 if quick else 1
    return {
        SMALL: small,
        SECRET: partial(secret, 1024),
        DICTS: partial(dicts, 10_000 // (5 if quick else 1)),
        RECORDS: partial(records, 10_000 // (5 if quick else 1)),
        INTS: partial(ints, 1_000_000 // (10 if quick else 1)),
        BYTES: partial(os.urandom, 64 * 2**20 // (64 if quick else 1)),
        FRAME: partial(frame, 200_000 // min(less, 40)),
        LARGE_FRAME: partial(frame, 2_000_000 // min(less, 200)),
    }


def same(found: object, value: object) -> bool:
    """Whether a value came back as it went in."""
    if hasattr(value, "equals"):
        return type(found) is type(value) and bool(found.equals(value))
    return type(found) is type(value) and found == value


def small() -> dict[str, Any]:
    """200 bytes of JSON."""
    return {
        "order_id": 4_711_001,
        "customer": "Josephine Example",
        "status": "authorised",
        "amount": 1999.95,
        "currency": "EUR",
        "retry": False,
        "parent": None,
        "steps": [1, 2, 3],
        "when": "2026-11-22T10:00:00+00:00",
        "n": "ab",
    }


def secret(count: int) -> str:
    return os.urandom(count // 2).hex()


def dicts(count: int) -> list[dict[str, Any]]:
    """Records as an API gives them."""
    draw = random.Random(1)
    return [
        {
            "id": number,
            "name": f"customer {draw.randrange(10**6)}",
            "email": f"user{draw.randrange(10**6)}@example.com",
            "amount": round(draw.uniform(1, 10_000), 2),
            "active": draw.random() < 0.9,
            "created": f"2026-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}T08:00:00Z",
        }
        for number in range(count)
    ]


def records(count: int) -> list[dict[str, Any]]:
    """Records with a list in each, as a database of customers gives them."""
    draw = random.Random(4)
    return [
        {
            "id": number,
            "name": f"customer {draw.randrange(10**6)}",
            "iban": f"DE{draw.randrange(10**20):020}",
            "balance": round(draw.uniform(-10_000, 10_000), 2),
            "tags": [f"tag {draw.randrange(50)}" for _ in range(4)],
            "active": draw.random() < 0.9,
        }
        for number in range(count)
    ]


def ints(count: int) -> list[int]:
    draw = random.Random(2)
    return [draw.randrange(10**9) for _ in range(count)]


def text(count: int) -> str:
    """Lines of records, of so many bytes, that compress as such lines do."""
    block = "\n".join(map(str, dicts(min(40_000, count // 100 + 1))))
    return (block * (count // len(block) + 1))[:count]


def frame(rows: int) -> Any:
    """Whole numbers, floats, texts, truth values and times."""
    import numpy as np
    import pandas as pd

    draw = np.random.default_rng(3)
    names = np.array([f"customer {number}" for number in range(5_000)])
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "amount": draw.uniform(1, 10_000, rows).round(2),
            "score": draw.normal(size=rows),
            "name": names[draw.integers(0, len(names), rows)],
            "country": np.array(["DE", "FR", "NL", "AT"])[draw.integers(0, 4, rows)],
            "active": draw.random(rows) < 0.9,
            "when": pd.Timestamp("2026-01-01")
            + pd.to_timedelta(draw.integers(0, 31_536_000, rows), unit="s"),
        }
    )


def mapped(count: int, *, value_bytes: int = 100_000) -> list[dict[str, Any]]:
    """What the task instances of a mapped task return."""
    return [{"n": number, "text": os.urandom(value_bytes // 2).hex()} for number in range(count)]
