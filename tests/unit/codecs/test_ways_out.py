"""A refusal says what to return instead, as far as anybody can know."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import sys
import threading

import pandas as pd
import polars as pl
import pytest
import requests

from secure_xcom.airflow.versions import is_airflow_3
from secure_xcom.codecs import encode
from secure_xcom.errors import CodecError

CARD = "4111111111111111"


class Mine:
    def __init__(self):
        self.card = CARD


async def later():
    return CARD


@pytest.mark.parametrize(
    ("make", "way"),
    [
        (Mine, r"`serialize\(\)` method and a static `deserialize\(data, version\)`.*dataclass"),
        (lambda: (item for item in [CARD]), r"`list\(…\)`"),
        (lambda: map(str, [CARD]), r"`list\(…\)`"),
        (lambda: range(3), r"`list\(…\)`"),
        ({CARD: 1}.keys, r"`list\(…\)`"),
        (lambda: open(__file__), r"its path, or what `file\.read\(\)`"),  # noqa: PTH123, SIM115
        (lambda: io.BytesIO(b"x"), r"`file\.read\(\)`"),
        (requests.Response, r"`response\.json\(\)`"),
        (threading.Lock, "belongs to this process"),
        (threading.Event, "belongs to this process"),
        (lambda: sqlite3.connect(":memory:"), "belongs to this process"),
        (lambda: memoryview(b"x"), r"`bytes\(…\)`"),
        (lambda: ValueError(CARD), r"`str\(error\)`"),
        (lambda: Mine, "its name"),
        (lambda: later, "its name"),
        (lambda: sys, "its name"),
        pytest.param(
            lambda: {"__classname__": CARD},
            "keys that are text",
            marks=pytest.mark.skipif(not is_airflow_3(), reason="Airflow 2 takes it"),
        ),
        (asyncio.Queue, "what it is made of"),
    ],
)
def test_a_refusal_says_what_to_do(make, way):
    value = make()
    with pytest.raises(CodecError, match=way) as caught:
        encode({"rows": [(1, value)]})
    if isinstance(value, (io.IOBase, sqlite3.Connection)):
        value.close()
    assert "encoded: $.rows[0][1]: a value of type " in str(caught.value)
    assert CARD not in str(caught.value)


def test_a_coroutine_is_to_be_awaited():
    coroutine = later()
    with pytest.raises(CodecError, match="`await` it"):
        encode([coroutine])
    coroutine.close()


@pytest.mark.parametrize("frame", [pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]})])
def test_a_frame_without_pyarrow_is_named_with_what_to_install(frame, monkeypatch):
    for name in ("pyarrow", "pyarrow.ipc"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CodecError, match=r"encoded: \$\.f\[0\]: .*pip install pyarrow") as caught:
        encode({"f": [frame]})
    assert type(frame).__name__ in str(caught.value)
    with pytest.raises(CodecError, match=r"encoded: \$: .*pip install pyarrow"):
        encode(frame)
