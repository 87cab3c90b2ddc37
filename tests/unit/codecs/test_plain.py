"""Plain data: what is taken as it is, what is handed over, and what is never imported."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import gc
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import ormsgpack
import pandas as pd
import pytest
from support.sameness import assert_same

from secure_xcom.codecs import decode, document, encode
from secure_xcom.errors import FormatError
from secure_xcom.model import CodecId, Payload

ROOT = Path(__file__).resolve().parents[3]


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Size(enum.IntEnum):
    BIG = 7


class Colour(str, enum.Enum):  # noqa: UP042 - another kind than a StrEnum
    RED = "red"


class Pair(NamedTuple):
    left: object
    right: object


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -1, 2**64 - 1, -(2**63), 1.5, -0.0, float("nan"), "", "é\0😀"),
        *([], {}, [[[]]], {"": {"": []}}, {"a": [1, {"b": None}]}),
        *({"raw": b"\xc4\xc5\xc6"}, [2**64, -(2**63) - 1, 2**20_000, -(2**20_000)]),
        *({"__var": {"__data__": 1, "__version__": 2, "__source": 3}}, ["__types", "__id__ "]),
    ],
)
def test_plain_data_is_encoded_as_such(value):
    payload = encode(value)
    assert payload.codec is CodecId.PLAIN
    assert_same(decode(payload), value)


@pytest.mark.parametrize(
    "value",
    [
        *((1,), {"a": (1,)}, Pair(1, 2), {1}, frozenset()),
        *({1: 2}, {True: 1}, {None: 1}, {1.5: 1}, {Text("a"): 1}, {Colour.RED: 1}),
        *(Text("a"), Number(1), Size.BIG, Colour.RED, np.float64(1), np.str_("a")),
        *(collections.OrderedDict(a=1), collections.UserString("a").data.join(["\ud800", ""])),
        *(dt.date(2020, 1, 1), dt.timedelta(1), "\ud800", {"\udfff": 1}),
        *([bytearray(b"x")], {"a": [{"b": bytearray()}]}, [[1], {"a": bytearray(b"\xc4")}]),
        *([{"__type": "dict", "__var": {}}],),
    ],
)
def test_what_is_not_exactly_plain_goes_to_airflow(value):
    assert encode(value).codec is CodecId.SERDE


def test_the_encoder_alone_would_change_a_bytearray():
    # The reason for the look at all types: if this fails, that look can go.
    assert ormsgpack.unpackb(ormsgpack.packb(bytearray(b"x"))) == b"x"


def test_the_collector_tracks_every_list_and_no_atom():
    # What the look at all types relies on, where it takes lists from among atoms.
    gc.collect()
    lists = [], [1], ["a"], [None], list(range(3)), [0] * 2, [[]], json.loads('[["a"]]')[0]
    assert all(map(gc.is_tracked, lists))
    for atom in ("a", "\xe9" * 99, 1, 2**99, 1.5, True, None, b"bytes"):
        assert type(atom) in document._UNTRACKED
        assert not gc.is_tracked(atom)
    assert {str, int, float, bool, type(None), bytes} == document._UNTRACKED


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(("depth", "codec"), [(253, CodecId.PLAIN), (400, CodecId.SERDE)])
def test_depth_is_no_obstacle_below_that_of_the_stock_backend(depth, codec):
    payload = encode(nested(depth))
    assert payload.codec is codec
    assert decode(payload) == nested(depth)


def test_the_value_is_in_the_bytes_as_docs_codecs_md_says():
    tree = ormsgpack.packb({"n": 1, "p": ormsgpack.Ext(4, b"\x01/a")})
    buffers = encode({"n": 1, "p": Path("/a")}).buffers
    assert b"".join(buffers) == len(tree).to_bytes(8, "big") + tree


@pytest.mark.parametrize(
    "tree",
    [
        b"\xc4",
        b"\xc1",
        b"\x01\x02",
        b"\x81\x01\x01",  # a key that is no text
        b"\xa1\xff",  # not UTF-8
        b"\xd4\x00a",  # extensions that there are not
        b"\xd4\x06a",
        b"\xd4\x03\x01",  # an integer that MessagePack has
        b"\xc7\x0a\x03\0" + b"\x01" + bytes(8),  # one with a leading zero byte
        b"\xd4\x04\x04",  # a path of no flavour
        b"\xc7\x00\x04",
        b"\xc7\x05\x05\x03|i1\0\0"[:6],
        b"\xc7\x06\x05\x03|i1\0\0",  # a scalar of one byte with two
        b"\xc7\x05\x05\x03|O8\0",  # a scalar that is an object
        b"\xd7\x01" + bytes((4,)) + bytes(7),
        b"\xc7\x13\x062020-01-01T00:00:00",  # times without an offset, and at none
        b"\xc7\x19\x062020-01-01T00:00:00+00:00",
        b"\xc7\x19\x062020-01-01 00:00:00+01:00",
        b"\xc7\x19\x062020-13-01T00:00:00+01:00",
        b"\xd4\x06\xff",
    ],
)
def test_what_a_tree_may_not_hold_is_refused(tree):
    with pytest.raises(FormatError):
        decode(Payload(CodecId.PLAIN, (len(tree).to_bytes(8, "big") + tree,)))


@pytest.mark.parametrize("codec", [CodecId.PLAIN, CodecId.BYTES])
def test_a_part_is_an_array_or_a_table(codec):
    tree = b"\xc7\x09\x01" + bytes((codec,)) + (9).to_bytes(8, "big")
    with pytest.raises(FormatError, match="neither an array nor a table"):
        decode(Payload(CodecId.PLAIN, (len(tree).to_bytes(8, "big") + tree + bytes(9),)))


def test_parts_are_the_memory_of_what_they_are_of():
    array = np.arange(1000)
    payload = encode({"a": [array], "b": {"c": array}})
    parts = [
        buffer
        for buffer in payload.buffers
        if isinstance(buffer, memoryview)
        and np.shares_memory(np.frombuffer(buffer, np.uint8), array)
    ]
    assert len(parts) == 2


def test_bytes_are_neither_copied_in_nor_out():
    value = bytes(1000)
    payload = encode(value)
    assert payload.buffers[0] is value
    assert decode(payload) is value


def test_a_table_is_encoded_once_also_where_airflow_sees_the_rest(monkeypatch):
    calls = []
    original = document.pack
    monkeypatch.setattr(
        "secure_xcom.codecs.arrow._joined",
        lambda meta, streams: calls.append(meta) or [original(1, None)[1], *streams],
    )
    encode({"frame": pd.DataFrame({"a": [1]}), "when": dt.date(2020, 1, 1)})
    assert len(calls) == 1


def test_plain_data_imports_nothing_heavy():
    code = """
        import json, sys
        from secure_xcom.codecs import decode, encode
        decode(encode({"a": [1, b"x", 2**70, None]}))
        decode(encode(b"x"))
        heavy = {"airflow", "numpy", "pandas", "polars", "pyarrow", "pydantic", "pendulum"}
        print(json.dumps(sorted(heavy & set(sys.modules))))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(done.stdout) == []
