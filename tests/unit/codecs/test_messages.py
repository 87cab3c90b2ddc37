"""What is checked of Arrow streams before Arrow reads them, and what a writer refuses for it."""

from __future__ import annotations

import io
import struct
import tracemalloc

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import ipc

from secure_xcom.codecs import arrow, decode, document, encode, messages
from secure_xcom.codecs.source import Source
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

ZEROS = pa.table({"0": np.zeros(1 << 20)})
TEXTS = pa.table({"0": pa.array(["a" * 1_000_000]).dictionary_encode()})
SERIES = {
    "type": "pandas.Series",
    "columns_of": [1],
    "index": {"kind": "range", "range": [0, 1 << 20, 1], "name": None},
    "name": None,
    "array": {"kind": "numpy", "dtype": "<f8"},
    "attrs": {},
    "unique_labels": False,
}
KINDS = ({"type": "pyarrow.Table"}, {"type": "polars.DataFrame"}, SERIES)


def stream(table, **options):
    file = io.BytesIO()
    with ipc.new_stream(file, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return file.getvalue()


def payload(meta, streams):
    head = b"".join(document.pack({**meta, "stream_bytes": len(streams)}, lambda _: None))
    data = len(head).to_bytes(8, "big") + head + bytes(-len(head) % 8) + streams
    return Payload(CodecId.ARROW, (data,))


@pytest.mark.parametrize("meta", KINDS, ids=lambda meta: meta["type"])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
@pytest.mark.parametrize("table", [ZEROS, TEXTS], ids=["buffer", "dictionary"])
def test_a_compressed_stream_is_refused_before_it_is_decompressed(meta, compression, table):
    compressed = payload(meta, stream(table, compression=compression))
    before = pa.total_allocated_bytes()
    peak = pa.default_memory_pool().max_memory()
    with pytest.raises(FormatError, match="compressed once more"):
        decode(compressed)
    assert pa.total_allocated_bytes() == before
    assert pa.default_memory_pool().max_memory() == peak


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_so_is_one_that_polars_compressed(compression):
    file = io.BytesIO()
    frame = pl.DataFrame({"0": np.zeros(1 << 20)})
    frame.write_ipc_stream(file, compression=compression, compat_level=pl.CompatLevel.oldest())
    with pytest.raises(FormatError, match="compressed once more"):
        decode(payload({"type": "polars.DataFrame"}, file.getvalue()))


def test_a_stream_is_read_with_all_its_messages():
    batches = pa.concat_tables([ZEROS.slice(0, 3), ZEROS.slice(0, 5)])
    texts = pa.chunked_array([TEXTS["0"].chunk(0), pa.array(["b", "c"]).dictionary_encode()])
    for table in (batches, pa.table({"0": texts}), pa.table({})):
        messages.check(Source([stream(table)]))
        messages.check(Source([stream(table), stream(table)]))
        assert decode(encode(table)).equals(table)


@pytest.mark.parametrize("was", [77, 308])
@pytest.mark.parametrize("now", [-1, -(2**63), 2**20 + 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("meta", KINDS, ids=lambda meta: meta["type"])
def test_rows_without_bytes_are_not_believed(meta, was, now):
    columns = {
        "0": pa.nulls(77),
        "1": pa.FixedSizeListArray.from_arrays(pa.nulls(308), 4),
        "2": pa.array([b""] * 77, pa.binary(0)),
    }
    data = stream(pa.table(columns))
    assert decode(payload(KINDS[0], data)).num_rows == 77
    claim = data.replace(struct.pack("<q", was), struct.pack("<q", now))
    assert claim != data
    with pytest.raises(FormatError, match="rows"):
        decode(payload(meta, claim))


def test_a_run_is_not_believed_either():
    runs = pc.run_end_encode(pa.array(["x"] * 77), run_end_type=pa.int64())
    claim = stream(pa.table({"0": runs})).replace(struct.pack("<q", 77), struct.pack("<q", 2**40))
    with pytest.raises(FormatError, match="rows"):
        decode(payload(KINDS[0], claim))


def test_a_writer_refuses_what_would_not_be_read():
    column = pa.nulls(messages.ROWS_WITHOUT_BYTES)
    kept = pa.table({"0": column})
    assert decode(encode(kept)).num_rows == messages.ROWS_WITHOUT_BYTES
    for table in (
        pa.table({"0": pa.nulls(messages.ROWS_WITHOUT_BYTES + 1)}),
        pa.table({"0": pa.FixedSizeListArray.from_arrays(pa.nulls(1 << 21), 2)}),
    ):
        with pytest.raises(CodecError, match="take no bytes"):
            encode(table)
    beside = pa.table({"0": pa.nulls(1 << 21), "1": np.zeros(1 << 21, np.uint8)})
    assert decode(encode(beside)).num_rows == 1 << 21


@pytest.mark.parametrize(("was", "now"), [(200, 201), (200, -8), (200, 2**62)])
def test_buffers_lie_within_their_message_and_are_paid_for_once(was, now):
    # Two buffers of 25 numbers each: no other number in the stream is 200.
    table = pa.table({"0": pa.StructArray.from_arrays([np.arange(25), np.arange(25)], ["a", "b"])})
    data = stream(table)
    with pytest.raises(FormatError, match="more bytes"):
        decode(payload(KINDS[0], data.replace(struct.pack("<q", was), struct.pack("<q", now))))
    assert decode(payload(KINDS[0], data)).equals(table)


def test_a_buffer_that_stands_for_many_columns_is_refused():
    # Sixteen columns of one length, one after the other; then all but two where the first one is.
    length = 8 * 12_352
    data = stream(pa.table({str(number): np.zeros(length // 8) for number in range(16)}))
    for number in range(2, 16):
        data = data.replace(struct.pack("<q", number * length), bytes(8))
    head = data.index(struct.pack("<q", 16 * length))
    body = len(data) - 8 - 16 * length
    short = (
        data[:head] + struct.pack("<q", 2 * length) + data[head + 8 : body + 2 * length] + data[-8:]
    )
    with pytest.raises(FormatError, match="more bytes"):
        decode(payload(KINDS[0], short))


def test_each_number_in_a_message_is_checked():
    # One byte at a time becomes each of a few: what is read is a table, or refused as one.
    small = pa.table({"n": [1, None, 3], "s": pa.array(["a", "b", "a"]).dictionary_encode()})
    good = stream(small)
    refused = 0
    tracemalloc.start()
    for at in range(len(good)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            bad = bytearray(good)
            bad[at] = value
            try:
                arrow.decode(Source(payload(KINDS[0], bytes(bad)).buffers))
            except FormatError:
                refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > len(good)
    assert peak < 10_000_000


@pytest.mark.parametrize("length", [-1, -10, -(2**63)])
def test_a_source_gives_no_negative_length(length):
    source = Source([b"12345"])
    for take in (source.pieces, source.take, source.number):
        with pytest.raises(FormatError):
            take(length)
    assert source.left_bytes == 5


@pytest.mark.parametrize(
    ("array", "column"),
    [
        (
            {"kind": "string", "storage": "python", "missing": "na"},
            pa.array(["a" * 1_000_000], pa.large_string()).dictionary_encode(),
        ),
        # Older versions of pyarrow have no such type.
        *(
            (
                {"kind": "string", "storage": "python", "missing": "na"},
                pa.array(["a" * 1_000_000], view()),
            )
            for view in [getattr(pa, "string_view", None)]
            if view
        ),
        ({"kind": "numpy", "dtype": "<i8"}, pa.array([1]).dictionary_encode()),
        ({"kind": "masked", "dtype": "Int64"}, pa.array([1]).dictionary_encode()),
    ],
)
def test_columns_that_grow_when_they_are_taken_out_are_refused(array, column):
    meta = {**SERIES, "array": array, "index": {"kind": "range", "range": [0, 1, 1], "name": None}}
    with pytest.raises(FormatError, match="type"):
        decode(payload(meta, stream(pa.table({"0": column}))))


def test_ranges_that_would_be_made_are_bounded():
    most = messages.ROWS_WITHOUT_BYTES
    for labels in (most, most + 1):
        span = pd.RangeIndex(labels)
        index = pd.MultiIndex([span, span], [[0, 1], [1, 0]], verify_integrity=False)
        values = pd.Series(pd.Categorical.from_codes([0], dtype=pd.CategoricalDtype(span)))
        for value in (index, values):
            if type(getattr(value, "levels", [span])[0]) is not pd.RangeIndex:
                continue  # this pandas keeps no ranges there
            if labels == most:
                assert arrow.encode(value)
            else:
                with pytest.raises(Exception, match="range of more than") as caught:
                    arrow.encode(value)
                assert type(caught.value).__name__ == "Refused"


@pytest.mark.parametrize("at", [-1, 0, True, 2, 2**70, 1.0])
def test_a_table_is_named_by_its_number(at):
    empty = {"kind": "range", "range": [0, 0, 1], "name": None}
    meta = {
        "type": "pandas.DataFrame",
        "columns_of": [0, 0],
        "index": empty,
        "columns": [at, empty],
        "arrays": [],
        "attrs": {},
        "unique_labels": False,
    }
    assert decode(payload({**meta, "columns": [1, empty]}, b"")).shape == (0, 0)
    with pytest.raises(FormatError):
        decode(payload(meta, b""))
