"""What every codec does: exact round trips, out of any buffers, and a clear error on anything else.

It looks at the bytes: they are cut, extended and altered under the codec that has to read them.
"""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import pathlib
import random
import sys
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.sameness import assert_same

from secure_xcom.codecs import decode, encode
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

SAMPLES = {
    CodecId.PLAIN: {
        "None": None,
        "numbers": [0, -1, 2**63, -(2**63), 1.5, float("nan"), float("-inf"), True],
        "text": {"": "", "é😀\0": ["x" * 300]},
        "bytes": {"raw": b"\xc4\0", "long": b"x" * 70_000},
        "bytearray": bytearray(b"abc"),
        "long integers": [2**64, -(2**63) - 1, 10**5000],
        "offset": [dt.datetime(2020, 1, 1, 2, 3, 4, 5, dt.timezone(dt.timedelta(hours=-5)))],
        "paths": [pathlib.Path("/a/é"), pathlib.PureWindowsPath("c:\\x"), pathlib.Path("\udce9")],
        "scalars": [np.int8(-3), np.bool_(0), np.datetime64("2020", "Y"), np.complex64(1j)],
        "small": [1j, dt.time(1, 2), pd.NA, pd.NaT, pd.Timedelta(5)],
        "timestamps": [pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-01", tz="Europe/Paris")],
        "holders": {"deque": collections.deque([b"x", np.arange(3)], 4)},
        "objects": np.array([[1, "a"], [None, 2.5]], dtype=object),
        "parts": {"array": np.arange(3), "frame": pd.DataFrame({"a": [1]}), "after": b"x"},
    },
    CodecId.SERDE: {
        "tuple": (1, "x", None),
        "date": {"when": dt.date(2020, 1, 1)},
        "sets": {"a": {1, 2}, "b": decimal.Decimal("1.5")},
        "taken out": (
            b"\0",
            bytearray(b"x"),
            2**70,
            10**5000,
            np.arange(3),
            {"path": pathlib.Path("/a")},
        ),
    },
    CodecId.ARROW: {
        "frame": pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}),
        "series": pd.Series([1.5, 2.5], name="s"),
        "index": pd.date_range("2020", periods=3, freq="D"),
        "polars frame": pl.DataFrame({"a": [1, None], "b": ["x", "y"]}),
        "polars series": pl.Series("s", ["a", "b"], dtype=pl.Categorical),
        "table": pa.table({"a": [1, None]}, metadata={b"k": b"v"}),
        "batch": pa.RecordBatch.from_pydict({"a": ["x", None]}),
    },
    CodecId.NUMPY: {
        "floats": np.array([[1.5, float("nan")], [0, -0.0]]),
        "by columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "nothing": np.empty((0, 3), "i2"),
        "one": np.array(5),
        "records": np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", ">f8")]),
        "times": np.array(["2020-01-01", "NaT"], "M8[us]"),
    },
    CodecId.BYTES: {"bytes": b"\0" * 1000, "no bytes": b""},
}
CASES = [
    pytest.param(codec, value, id=f"{codec.name.lower()} {name}")
    for codec, values in SAMPLES.items()
    for name, value in values.items()
]
STRUCTURED = [
    case
    for case in CASES
    if case.values[0] is not CodecId.BYTES  # noqa: PD011 - of a pytest parameter
]
each = pytest.mark.parametrize(("codec", "value"), CASES)
each_structured = pytest.mark.parametrize(("codec", "value"), STRUCTURED)


def raw(value):
    return b"".join(
        memoryview(part).cast("B") for part in encode(value).buffers if memoryview(part).nbytes
    )


def refuses(codec, data):
    """Read what is wrong: nothing but an error of ours comes out of it."""
    with pytest.raises(FormatError):
        decode(Payload(codec, (data,)))


@each
def test_a_value_comes_back_as_it_went_in(codec, value):
    payload = encode(value)
    assert payload.codec is codec
    assert_same(decode(payload), value)


@each
@pytest.mark.parametrize(
    "buffers",
    [
        lambda data: (data,),
        lambda data: (bytearray(data),),
        lambda data: (memoryview(data),),
        lambda data: (memoryview(bytearray(b"-" + data))[1:],),
        lambda data: [data[at : at + 7] for at in range(0, len(data), 7)],
        lambda data: (b"", data[:1], b"", data[1:]),
    ],
    ids=["bytes", "bytearray", "memoryview", "unaligned memoryview", "sevens", "empty ones"],
)
def test_a_value_comes_back_out_of_any_buffers(codec, value, buffers):
    assert_same(decode(Payload(codec, buffers(raw(value)))), value)


@each
def test_what_was_decoded_can_be_changed_without_a_trace_in_the_payload(codec, value):
    data = bytearray(raw(value))
    before = bytes(data)
    value = decode(Payload(codec, (data,)))
    match value:
        case np.ndarray() if value.size:
            value[...] = value.flat[-1]
        case pd.DataFrame():
            value.iloc[0, 0] = 7
            assert value.iloc[0, 0] == 7
        case pd.Series():
            value.iloc[0] = 7
            assert value.iloc[0] == 7
        case bytearray() | list():
            value.clear()
    assert data == before


@each
def test_the_type_is_named(codec, value):  # noqa: ARG001
    kind = type(value)
    assert encode(value).type_name == f"{kind.__module__}.{kind.__qualname__}"


@each
def test_a_payload_shows_nothing_of_its_value(codec, value):  # noqa: ARG001
    assert len(repr(encode(value))) < 150


@each_structured
def test_a_cut_is_refused_wherever_it_is(codec, value):
    data = raw(value)
    step = max(1, len(data) // 3000)
    for end in {*range(0, len(data), step), *range(max(0, len(data) - 64), len(data))}:
        refuses(codec, data[:end])


@each_structured
@pytest.mark.parametrize("more", [b"\0", b"\xc0", b"\xff\xff\xff\xff\0\0\0\0"])
def test_bytes_that_follow_are_refused(codec, value, more):
    refuses(codec, raw(value) + more)


@each_structured
def test_an_altered_byte_gives_a_value_or_an_error_of_ours(codec, value):
    data = raw(value)
    chosen = random.Random(7)  # noqa: S311 - the same each time
    for at in range(0, len(data), max(1, len(data) // 400)):
        altered = bytearray(data)
        altered[at] ^= 1 << chosen.randrange(8)
        with contextlib.suppress(FormatError, CodecError):
            decode(Payload(codec, (altered,)))


@pytest.mark.parametrize("codec", [codec for codec in CodecId if codec is not CodecId.BYTES])
def test_junk_is_refused(codec):
    chosen = random.Random(7)  # noqa: S311 - the same each time
    for length in range(200):
        refuses(codec, chosen.randbytes(length))


@pytest.mark.parametrize("codec", [codec for codec in CodecId if codec is not CodecId.BYTES])
def test_the_bytes_of_another_codec_are_refused(codec):
    for other, values in SAMPLES.items():
        for value in values.values():
            # A document of Airflow's serialisation is plain data as well; the seal tells which.
            if other is not codec and (codec, other) != (CodecId.PLAIN, CodecId.SERDE):
                refuses(codec, raw(value))


def document(tree, *parts):
    return len(tree).to_bytes(8, "big") + tree + b"".join(parts)


def npy(header):
    head = header.encode()
    return b"\x93NUMPY\x01\0" + len(head).to_bytes(2, "little") + head


HUGE = (2**62).to_bytes(8, "big")
CLAIMS = {
    "tree": (CodecId.PLAIN, HUGE + b"\xc0"),
    "array": (CodecId.PLAIN, document(b"\xdd\xff\xff\xff\xff")),
    "map": (CodecId.PLAIN, document(b"\xdf\xff\xff\xff\xff")),
    "text": (CodecId.PLAIN, document(b"\xdb\xff\xff\xff\xff")),
    "binary": (CodecId.PLAIN, document(b"\xc6\xff\xff\xff\xff")),
    "extension": (CodecId.PLAIN, document(b"\xc9\xff\xff\xff\xff\x02")),
    "part": (CodecId.PLAIN, document(b"\xc7\x09\x01\x04" + HUGE)),
    "depth": (CodecId.PLAIN, document(b"\x91" * 1_000_000 + b"\xc0")),
    "description": (CodecId.ARROW, HUGE),
    "shape": (
        CodecId.NUMPY,
        npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**40},)}}"),
    ),
    "overflowing shape": (
        CodecId.NUMPY,
        npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62}, 0)}}"),
    ),
    "negative shape": (
        CodecId.NUMPY,
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 0)}"),
    ),
    "dimensions": (
        CodecId.NUMPY,
        npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'0, ' * 100})}}"),
    ),
    "wide elements": (
        CodecId.NUMPY,
        npy("{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,)}"),
    ),
    "header": (CodecId.NUMPY, b"\x93NUMPY\x02\0\xff\xff\xff\xff"),
}


@pytest.mark.parametrize(("codec", "data"), CLAIMS.values(), ids=CLAIMS)
def test_a_claim_of_a_giant_size_costs_nothing(codec, data):
    with contextlib.suppress(FormatError):  # so that what is imported once is not counted
        decode(Payload(codec, (data,)))
    tracemalloc.start()
    try:
        refuses(codec, data)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 200_000 + 2 * len(data)


def test_a_table_that_claims_giant_lengths_costs_nothing():
    data = raw(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    start = len(data) - 1500
    for at in range(max(0, start), len(data) - 8, 4):
        altered = bytearray(data)
        altered[at : at + 8] = b"\xff\xff\xff\xff\xff\xff\xff\x0f"
        before = pa.default_memory_pool().max_memory()
        with contextlib.suppress(FormatError, CodecError):
            decode(Payload(CodecId.ARROW, (altered,)))
        assert pa.default_memory_pool().max_memory() - before < 1_000_000


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        (np.arange(3), "numpy"),
        ({"a": [np.arange(3)]}, "numpy"),
        ([np.int8(1)], "numpy"),
        (pd.DataFrame({"a": [1]}), "pandas"),
        (pd.DataFrame({"a": [1]}), "pyarrow"),
        ({"frame": pd.Series([1])}, "pandas"),
        ((b"", pd.Series([1])), "pandas"),
        (pl.DataFrame({"a": [1]}), "polars"),
        (pl.DataFrame({"a": [1]}), "pyarrow"),
        (pa.table({"a": [1]}), "pyarrow"),
    ],
)
def test_a_reader_without_the_library_is_told_what_to_install(value, missing, monkeypatch):
    payload = encode(value)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CodecError, match=rf"`pip install {missing}`"):
        decode(payload)


def test_a_writer_without_pyarrow_is_told_what_to_install(monkeypatch):
    frame = pd.DataFrame({"a": [1]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for value in (frame, {"nested": frame}, (1, frame)):
        with pytest.raises(CodecError, match="`pip install pyarrow`"):
            encode(value)
