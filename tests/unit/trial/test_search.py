"""The search that the demo's verdict rests on finds what is there, however it is written."""

from __future__ import annotations

import base64
import gzip
import json
import os
import struct
import zlib

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from secure_xcom.trial.search import Search

CARD = "9785541247384469"
TEXT = json.dumps({"name": "Ada", "card": CARD, "limit": 1}).encode()

#: What is alike among rows, compressors write once; so the card stands in no block as it is.
ALIKE = pa.table({"card": [f"{CARD[:9]}{row:07}" for row in range(500)] + [CARD]})
NUMBERS = pa.table({"card": [int(CARD[:9]) * 10**7 + row for row in range(500)] + [int(CARD)]})


def arrow(table, compression=None, *, is_file=False):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with new(sink, table.schema, options=options) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def parquet(table, **options):
    sink = pa.BufferOutputStream()
    # The least and the greatest value would stand there for all to see.
    pq.write_table(table, sink, write_statistics=False, **options)
    return sink.getvalue().to_pybytes()


WRITTEN = {
    "alone": CARD.encode(),
    "in JSON": TEXT,
    "UTF-16 LE": CARD.encode("utf-16-le"),
    "UTF-16 BE": CARD.encode("utf-16-be"),
    "hex": CARD.encode().hex().encode(),
    "HEX": CARD.encode().hex().upper().encode(),
    "integer BE": int(CARD).to_bytes(8, "big"),
    "integer LE": int(CARD).to_bytes(8, "little"),
    "gzip": gzip.compress(TEXT),
    "zlib": zlib.compress(TEXT),
    "zlib 9": zlib.compress(TEXT, level=9),
    "zstd": zstd.compress(TEXT),
    "gzip in base64": base64.b64encode(gzip.compress(TEXT)),
    "zstd in base64": base64.b64encode(zstd.compress(TEXT)),
    "zstd in url-safe base64": base64.urlsafe_b64encode(zstd.compress(TEXT)),
    "gzip in base64 in zstd": zstd.compress(base64.b64encode(gzip.compress(TEXT))),
    "zlib in hex": zlib.compress(TEXT).hex().encode(),
    "Arrow": arrow(ALIKE),
    "Arrow, zstd": arrow(ALIKE, "zstd"),
    "Arrow, lz4": arrow(ALIKE, "lz4"),
    "Arrow file, lz4": arrow(ALIKE, "lz4", is_file=True),
    "Arrow, numbers, lz4": arrow(NUMBERS, "lz4"),
    "Parquet, snappy": parquet(ALIKE, compression="snappy"),
    "Parquet, zstd": parquet(ALIKE, compression="zstd"),
    "Parquet, gzip": parquet(ALIKE, compression="gzip"),
    "Parquet, numbers": parquet(NUMBERS, use_dictionary=False),
    "Parquet, numbers, delta": parquet(
        NUMBERS, use_dictionary=False, column_encoding="DELTA_BINARY_PACKED"
    ),
    "Parquet of pandas in hex": pd.DataFrame({"a": [TEXT.decode()]}).to_parquet().hex().encode(),
    "Arrow in base64 in gzip": gzip.compress(base64.b64encode(arrow(ALIKE, "lz4"))),
}
BEFORE = {
    "nothing": b"",
    "a digit": b"a",
    "two letters": b"xy",
    "three letters": b"xyz",
    "JSON": b'{"value": "',
    "bytes": bytes(range(256)),
}


def found_in(data, text):
    """How one text stands in the data; None: nowhere."""
    return Search({"": text}).found_in(data).get("")


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("before", BEFORE)
def test_the_text_is_found(written, before):
    assert found_in(BEFORE[before] + WRITTEN[written] + b'", more', CARD) is not None


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(7))
def test_base64_is_found_at_every_alignment(before, after):
    data = base64.b64encode(b"x" * before + CARD.encode() + b"y" * after)
    assert found_in(b'{"value": "' + data + b'"}', CARD).startswith("in base64")


def test_it_says_how_the_text_stands_there():
    assert found_in(TEXT, CARD) == "in clear"
    assert found_in(b"..." + zlib.compress(TEXT), CARD) == "in clear, through zlib"
    wrapped = base64.b64encode(gzip.compress(TEXT))
    assert found_in(wrapped, CARD) == "in clear, through base64, gzip"


def test_tables_are_opened_and_not_just_looked_at():
    for written in ("Arrow, lz4", "Arrow file, lz4"):
        assert found_in(WRITTEN[written], CARD) == "in clear, through Arrow"
    for written in ("Parquet, snappy", "Parquet, numbers, delta"):
        assert found_in(WRITTEN[written], CARD) == "in clear, through Parquet"
    # Among other bytes, and after what only looks like the beginning of one.
    data = b"PAR1" * 3 + b"\xff\xff\xff\xff\x08\x00\x00\x00junk" + WRITTEN["Parquet, snappy"]
    assert found_in(data + b"PAR1", CARD) == "in clear, through Parquet"


@pytest.mark.parametrize(("order", "name"), [(">", "big"), ("<", "little")])
def test_a_number_is_found_as_a_float_if_it_can_be_one(order, name):
    data = b"x" + struct.pack(f"{order}d", 1234567890123456)
    assert found_in(data, "1234567890123456") == f"as a float ({name}-endian)"
    assert found_in(struct.pack(f"{order}d", int(CARD)), CARD) is None


def test_several_texts_are_found_each_where_it_stands():
    search = Search({"card": CARD, "name": "Ada Example", "other": "not there", "number": "12345"})
    data = base64.b64encode(zlib.compress(b"Ada Example")) + b" " + TEXT + struct.pack("<q", 12345)
    assert search.found_in(data) == {
        "card": "in clear",
        "name": "in clear, through base64, zlib",
        "number": "as an integer (little-endian)",
    }
    assert search.found_in(b"") == {}


def test_a_stream_that_breaks_off_or_is_long_is_still_looked_into():
    # Among such noise zstd, too, writes its literals by Huffman codes, and not as they are.
    noise, more = (base64.b64encode(os.urandom(300_000)) for _ in range(2))
    for compress, name in ((zstd.compress, "zstd"), (gzip.compress, "gzip")):
        data = compress(noise + TEXT + more)
        assert CARD.encode() not in data
        assert found_in(data, CARD) == f"in clear, through {name}"
        assert found_in(data[:-100_000], CARD) == f"in clear, through {name}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"9785541247384473",
        base64.b64encode(b"9785541247384473"),
        int(CARD).to_bytes(8, "big")[:-1],
        b"\x28\xb5\x2f\xfd" * 10,
        b"\x1f\x8b\x08" * 10,
        b"\x78\x9c" * 10,
        b"A" * 1001,
        b"PAR1" * 10,
        b"\xff\xff\xff\xff\x08\x00\x00\x00" * 10,
        arrow(ALIKE.slice(0, 500), "lz4"),
        parquet(ALIKE.slice(0, 500)),
    ],
)
def test_nothing_is_found_where_nothing_is(data):
    assert found_in(data, CARD) is None


def test_a_megabyte_of_sealed_bytes_holds_nothing():
    assert found_in(os.urandom(1 << 20), CARD) is None


def test_url_safe_base64_is_undone():
    # Somewhere in that much noise stand both characters in which the two alphabets differ.
    data = base64.urlsafe_b64encode(gzip.compress(base64.b64encode(os.urandom(10_000)) + TEXT))
    assert b"-" in data
    assert b"_" in data
    assert found_in(b'{"value": "' + data + b'"}', CARD) == "in clear, through base64, gzip"
