"""Tables, DataFrames and Series: nothing of them is lost, and what cannot be kept is refused."""

from __future__ import annotations

import decimal
import gc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.frames import frames, refused
from support.sameness import assert_same, difference

from secure_xcom.codecs import decode, encode, plain
from secure_xcom.codecs.source import Source
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

FRAMES = frames()
REFUSED = refused()


def raw(payload):
    return b"".join(
        memoryview(part).cast("B") for part in payload.buffers if memoryview(part).nbytes
    )


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_with_all_that_it_is(name):
    frame = FRAMES[name]
    payload = encode(frame)
    assert payload.codec is CodecId.ARROW
    restored = decode(Payload(payload.codec, (raw(payload),)))
    assert_same(restored, frame)
    assert restored is not frame


@pytest.mark.parametrize("name", FRAMES)
def test_its_columns_and_its_index_come_back_alone(name):
    frame = FRAMES[name]
    assert_same(decode(encode(frame.index)), frame.index)
    assert_same(decode(encode(frame.columns)), frame.columns)
    for at in range(frame.shape[1]):
        assert_same(decode(encode(frame.iloc[:, at])), frame.iloc[:, at])


@pytest.mark.parametrize("name", sorted(FRAMES.keys() - {"objects"}))
def test_a_frame_can_be_written_to(name):
    frame = decode(encode(FRAMES[name]))
    for at in range(frame.shape[1]):
        if len(frame):
            frame.isetitem(at, frame.iloc[:, at])
            frame.iloc[0, at] = frame.iloc[len(frame) - 1, at]
    assert_same(frame.shape, FRAMES[name].shape)


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused_by_name(name):
    frame, path = REFUSED[name]
    with pytest.raises(CodecError) as caught:
        encode(frame)
    assert str(caught.value).startswith(f"The value cannot be encoded: {path}: ")
    assert "4111" not in str(caught.value)


def test_what_only_airflow_takes_goes_to_airflow():
    frame = pd.DataFrame({"pairs": [(1, 2), (3, 4)]})
    payload = encode({"frame": frame})
    assert payload.codec is CodecId.SERDE
    assert [list(pair) for pair in decode(payload)["frame"]["pairs"]] == [[1, 2], [3, 4]]


def test_a_subclass_is_no_frame():
    class Mine(pd.DataFrame):
        pass

    with pytest.raises(CodecError, match="Mine"):
        encode(Mine({"a": [1]}))


def test_columns_are_not_copied():
    frame = pd.DataFrame({"a": np.arange(100_000), "b": np.ones(100_000)})
    buffers = encode(frame).buffers
    for name in frame:
        column = frame[name].to_numpy()
        assert any(np.shares_memory(np.frombuffer(buffer, np.uint8), column) for buffer in buffers)


def test_a_table_is_read_in_place():
    table = pa.table({"a": np.arange(100_000)})
    data = raw(encode(table))
    restored = decode(Payload(CodecId.ARROW, (data,)))
    where = np.frombuffer(data, np.uint8).ctypes.data
    assert 0 < restored["a"].chunk(0).buffers()[1].address - where < len(data)


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_does_not_keep_its_payload(name):
    data = bytearray(raw(encode(FRAMES[name])))
    gc.freeze()  # so that only what is made from here on is looked through
    frame = decode(Payload(CodecId.ARROW, (data,)))
    gc.collect()
    gc.unfreeze()
    data.clear()  # refused while anything of it is in use
    assert_same(frame, FRAMES[name])


POLARS = pl.DataFrame(
    {
        "i": pl.Series([1, None], dtype=pl.Int8),
        "u": pl.Series([1, 2**64 - 1], dtype=pl.UInt64),
        "f": pl.Series([1.5, float("nan")], dtype=pl.Float32),
        "s": ["é", None],
        "b": [b"\0", None],
        "z": pl.Series([0, None], dtype=pl.Datetime("ms", "Europe/Amsterdam")),
        "d": pl.Series([1, None], dtype=pl.Duration("ns")),
        "c": pl.Series(["x", "y"], dtype=pl.Categorical),
        "e": pl.Series(["x", "y"], dtype=pl.Enum(["x", "Object", "y"])),
        "m": pl.Series([decimal.Decimal("1.20"), None], dtype=pl.Decimal(10, 2)),
        "l": pl.Series([["x"], None], dtype=pl.List(pl.Enum(["x"]))),
        "a": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)),
        "t": [{"a": 1, "b": None}, {"a": None, "b": "x"}],
        "n": pl.Series([None, None], dtype=pl.Null),
    }
)


@pytest.mark.parametrize("frame", [POLARS, POLARS.clear(), POLARS[:1], pl.DataFrame()])
def test_a_polars_frame_comes_back_with_all_that_it_is(frame):
    assert_same(decode(encode(frame)), frame)
    for column in frame:
        assert_same(decode(encode(column)), column)


@pytest.mark.parametrize(
    ("frame", "path", "hint"),
    [
        (pl.DataFrame({"a": [1], "o": [object()]}), "$.o", "objects"),
        (pl.DataFrame({"a": pl.Series([2**100], dtype=pl.Int128)}), "$.a", "Decimal"),
        (
            pl.DataFrame({"s": pl.Series([{"o": 2**100}], dtype=pl.Struct({"o": pl.Int128}))}),
            "$.s",
            "Decimal",
        ),
        (pl.LazyFrame({"a": [1]}), "$", "collect"),
    ],
    ids=["objects", "128 bits", "128 bits within", "lazy"],
)
def test_a_polars_frame_that_would_not_come_back_is_refused(frame, path, hint):
    with pytest.raises(CodecError, match=hint) as caught:
        encode(frame)
    assert str(caught.value).startswith(f"The value cannot be encoded: {path}: ")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"a": [1, None], "b": ["x", None]}),
        pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": ["x", "y", "z"]}),
        pa.table({"d": pa.array(["x", "y", "x"]).dictionary_encode()}),
        pa.table({"u": pa.array([b"x" * 16], pa.uuid())}) if hasattr(pa, "uuid") else pa.table({}),
        pa.table({"m": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}),
        pa.table({"a": [1]}).replace_schema_metadata({"k": "v"}),
        pa.table({"a": []}),
        pa.table({}),
        pa.RecordBatch.from_pydict({"a": [1, None]}),
        pa.RecordBatch.from_pydict({"a": pa.array([], pa.int8())}),
    ],
    ids=lambda table: str(table.schema).replace("\n", " ")[:40],
)
def test_an_arrow_table_comes_back_with_all_that_it_is(table):
    assert_same(decode(encode(table)), table)


def test_an_extension_type_of_others_is_refused():
    class Mine(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.int64(), "mine.own")

        def __arrow_ext_serialize__(self):
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage, serialized):
            return cls()

    column = pa.ExtensionArray.from_storage(Mine(), pa.array([1]))
    within = pa.ListArray.from_arrays([0, 1], column)
    for made in (column, within):
        with pytest.raises(CodecError, match=r"\$\.x: .*mine\.own"):
            encode(pa.table({"a": [1], "x": made}))
        frame = pd.DataFrame({"x": pd.arrays.ArrowExtensionArray(pa.chunked_array([made]))})
        # The stock backend writes it, and cannot read it.
        with pytest.raises(CodecError, match=r"\$\.x: .*mine\.own"):
            encode(frame)


def parts(value):
    """The description of an encoded frame, and its streams."""
    source = Source(encode(value).buffers)
    meta_bytes = source.number(8)
    meta = plain.decode(Source(source.pieces(meta_bytes)))
    source.take(-meta_bytes % 8)
    return meta, bytes(source.take(source.left_bytes))


def joined(meta, streams):
    head = b"".join(plain.encode(meta, lambda _: None))
    return Payload(
        CodecId.ARROW,
        (len(head).to_bytes(8, "big") + head + bytes(-len(head) % 8) + streams,),
    )


def replaced(meta, path, value):
    *above, last = path
    held = meta
    for step in above:
        held = held[step]
    held[last] = value
    return meta


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["type"], "pandas.Nothing"),
        (["type"], "pyarrow.Table"),
        (["type"], "polars.DataFrame"),
        (["type"], 1),
        (["columns_of"], [1]),
        (["columns_of"], "x"),
        (["index"], {"kind": "range", "range": [0, 3, 1], "name": None}),
        (["index"], {"kind": "range", "range": [0, 2, 0], "name": None}),
        (["index"], {"kind": "index", "array": {"kind": "numpy", "dtype": "<i8"}}),
        (["index"], None),
        (["columns"], [9, {}]),
        (["columns"], [1]),
        (["arrays", 0], {"kind": "numpy", "dtype": "<i4"}),
        (["arrays", 0], {"kind": "numpy", "dtype": "|O"}),
        (["arrays", 0], {"kind": "numpy", "dtype": "junk"}),
        (["arrays", 0], {"kind": "masked", "dtype": "Int3"}),
        (["arrays", 0], {"kind": "masked", "dtype": "boolean"}),
        (["arrays", 0], {"kind": "object", "type": "text", "marks": False}),
        (["arrays", 0], {"kind": "object", "type": "plain", "marks": True, "cells": b""}),
        (["arrays", 0], {"kind": "object", "type": "plain", "marks": False, "cells": b"\0" * 9}),
        (["arrays", 0], {"kind": "categorical", "table": 0, "ordered": False, "categories": {}}),
        (["arrays", 0], {"kind": "zoned", "unit": "ns", "zone": ["os", "x"]}),
        (["arrays", 0], {"kind": "zoned", "unit": "ns", "zone": ["datetime", 10**20]}),
        (["arrays", 0], {"kind": "period", "freq": ["__class__", 1, False, {}]}),
        (["arrays", 0], {"kind": "unknown"}),
        (["arrays"], []),
        (["arrays"], [{"kind": "numpy", "dtype": "<i8"}] * 3),
        (["attrs"], 1),
        (["stream_bytes"], 1),
    ],
    ids=str,
)
def test_a_description_that_is_not_of_its_streams_is_refused(path, value):
    meta, streams = parts(pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5]}))
    assert_same(decode(joined(meta, streams)), pd.DataFrame({"a": [1, 2], "b": [1.5, 2.5]}))
    with pytest.raises(FormatError):
        decode(joined(replaced(meta, path, value), streams))


@pytest.mark.parametrize("table", [0, -1, 2, "1", None])
def test_a_table_that_there_is_not_is_refused(table):
    meta, streams = parts(pd.Series(pd.Categorical(["x", "y"])))
    meta["array"]["table"] = table
    with pytest.raises(FormatError):
        decode(joined(meta, streams))


def test_columns_that_nothing_tells_of_are_refused():
    meta, _ = parts(pd.Series([1.5, 2.5]))
    _, two = parts(pa.table({"0": [1.5, 2.5], "1": [1, 2]}))
    with pytest.raises(FormatError, match="more columns"):
        decode(joined(meta | {"stream_bytes": len(two), "columns_of": [2]}, two))


def test_cells_that_are_no_list_are_refused():
    meta, streams = parts(pd.Series([1, "x"]))
    meta["array"]["cells"] = b"".join(plain.encode({"a": 1, "b": 2}, lambda _: None))
    with pytest.raises(FormatError, match="no list"):
        decode(joined(meta, streams))


@pytest.mark.parametrize("at", [-1, 0])
def test_what_follows_the_description_is_zeros_that_make_up_eight(at):
    meta, streams = parts(pd.Series([1.5, 2.5], name="x" * 3))
    data = bytearray(joined(meta, streams).buffers[0])
    meta_bytes = int.from_bytes(data[:8], "big")
    assert meta_bytes % 8
    if at:
        data[8 + meta_bytes + -meta_bytes % 8 - 1] = 1
    else:  # the first of the zeros, as part of the description
        data[:8] = (meta_bytes + 1).to_bytes(8, "big")
    with pytest.raises(FormatError):
        decode(Payload(CodecId.ARROW, (data,)))


def test_numbers_with_gaps_are_refused_where_there_are_none():
    meta, streams = parts(pd.Series([1.5, 2.5]))
    _, gaps = parts(pa.table({"0": [1.5, None]}))
    with pytest.raises(FormatError):
        decode(joined(meta | {"stream_bytes": len(gaps)}, gaps))
    assert_same(decode(joined(meta, streams)), pd.Series([1.5, 2.5]))


def test_a_zone_that_is_not_known_here_is_an_error_that_names_it():
    meta, streams = parts(pd.DataFrame({"a": pd.date_range("2020", periods=2, tz="Asia/Tokyo")}))
    meta["arrays"][0]["zone"] = ["zoneinfo", "Asia/Atlantis"]
    with pytest.raises(CodecError, match="Asia/Atlantis"):
        decode(joined(meta, streams))


def test_rows_that_cost_nothing_to_claim_are_refused():
    _, streams = parts(pa.table({"0": pa.array([b""] * 1_000_000, pa.binary(0))}))
    for array in (
        {"kind": "object", "type": "text", "marks": False},
        {"kind": "numpy", "dtype": "<f8"},
    ):
        meta = {
            "type": "pandas.Series",
            "index": {"kind": "range", "range": [0, 1_000_000, 1], "name": None},
            "name": None,
            "array": array,
            "attrs": {},
            "unique_labels": False,
            "columns_of": [1],
            "stream_bytes": len(streams),
        }
        with pytest.raises(FormatError, match="rows"):
            decode(joined(meta, streams))


def test_sameness_tells_frames_apart():
    # What the tests above rely on.
    one = pd.DataFrame({"a": [1]})
    other = one.copy()
    other.attrs["x"] = 1
    assert difference(one, other)
    assert difference(FRAMES["attributes"], FRAMES["attributes"]) is None
    assert difference(POLARS, POLARS.with_columns(pl.col("e").cast(pl.String)))
    with pytest.raises(AssertionError):
        difference(one, one.astype("int32"))
