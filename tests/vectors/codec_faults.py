"""Vectors of encoded values that no codec writes (`docs/codecs.md`), one fault each."""

from __future__ import annotations

import functools
import struct
from typing import TYPE_CHECKING

from vectors import library_streams
from vectors.case import Vector, good
from vectors.codec_values import (
    ARRAY,
    ARROW,
    FRAME,
    NUMBERS,
    NUMPY,
    PLAIN,
    SERDE,
    TABLE,
    arrow,
    document,
    npy,
    part,
)
from vectors.construct import envelope
from vectors.messagepack import Ext, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

_STREAM = library_streams.TABLE
_META = {"type": "pyarrow.Table", "stream_bytes": len(_STREAM)}


def _described(meta: object, streams: bytes = _STREAM, zeros: bytes | None = None) -> bytes:
    data = document(meta)
    fill = bytes(-len(data) % 8) if zeros is None else zeros
    return struct.pack(">Q", len(data)) + data + fill + streams


def _table(stream: bytes) -> bytes:
    return arrow({"type": "pyarrow.Table"}, stream)


def _claim(stream: bytes, was: int, now: int) -> bytes:
    """A table of a stream in which a number of 64 bits is another one, wherever it stands."""
    changed = stream.replace(struct.pack("<q", was), struct.pack("<q", now))
    if changed == stream:
        raise AssertionError("The stream does not hold the number.")
    return _table(changed)


def _level(labels: int) -> bytes:
    """An index of one label, the first of so many."""
    span = {"kind": "range", "range": [0, labels, 1], "name": None}
    meta = {
        "type": "pandas.Index",
        "columns_of": [1, 0],
        "index": {"kind": "multi", "levels": [[1, span]], "names": [None]},
    }
    return arrow(meta, library_streams.ONE_CODE)


def _serde(text: bytes, mark: str = "", lifted: list[object] | None = None) -> bytes:
    return document([text, mark, lifted or []])


def _deque(*items: object) -> Ext:
    return Ext(9, b"\x01" + pack([None, list(items)]))


#: Name, comment, codec, encoded value.
_FAULTS: tuple[tuple[str, str, int, bytes], ...] = (
    # Section 1.
    ("plain-empty", "No bytes.", PLAIN, b""),
    ("plain-length-cut", "Seven bytes.", PLAIN, bytes(7)),
    ("plain-no-tree", "A tree of no bytes.", PLAIN, bytes(8)),
    ("plain-tree-claim", "A tree that claims 2^64 - 1 bytes.", PLAIN, b"\xff" * 8 + b"\xc0"),
    ("plain-tree-cut", "The tree ends in a text.", PLAIN, document(b"\xa3ab")),
    ("plain-tree-two", "Two values.", PLAIN, document(b"\xc0\xc0")),
    ("plain-tree-reserved", "The byte that MessagePack never uses.", PLAIN, document(b"\xc1")),
    (
        "plain-list-claim",
        "A list of 65,535 elements, and one.",
        PLAIN,
        document(b"\xdc\xff\xff\xc0"),
    ),
    ("plain-text-claim", "A text of 4 GiB.", PLAIN, document(b"\xdb\xff\xff\xff\xffabc")),
    ("plain-utf8", "A text that is not UTF-8.", PLAIN, document(b"\xa1\xff")),
    ("plain-surrogate", "A surrogate.", PLAIN, document(b"\xa3\xed\xa0\x80")),
    ("plain-key", "A key that is not text.", PLAIN, document(b"\x81\x01\x02")),
    ("plain-deep", "Lists in lists, 100,000 of them.", PLAIN, document(b"\x91" * 99_999 + b"\x90")),
    (
        "plain-two-arrays",
        "Two arrays, where one value has its place.",
        PLAIN,
        document(pack(part(NUMPY, ARRAY)) * 2, ARRAY, ARRAY),
    ),
    ("plain-deep-1025", "1,025 lists in each other.", PLAIN, document(b"\x91" * 1024 + b"\x90")),
    (
        "plain-deep-dicts",
        "1,025 dicts in each other.",
        PLAIN,
        document(b"\x81\xa1k" * 1024 + b"\x80"),
    ),
    ("plain-trailing", "A byte after the tree.", PLAIN, document(None, b"\0")),
    ("plain-ext-0", "Extension 0.", PLAIN, document(Ext(0, b"a"))),
    ("plain-ext-7", "Extension 7.", PLAIN, document(Ext(7, b"a"))),
    ("plain-ext-timestamp", "MessagePack's own timestamp.", PLAIN, document(Ext(-1, bytes(4)))),
    ("plain-part-missing", "A part that is not there.", PLAIN, document(part(NUMPY, ARRAY))),
    ("plain-part-left", "A part that nothing refers to.", PLAIN, document([1], ARRAY)),
    (
        "plain-part-claim",
        "A part that claims 2^64 - 1 bytes.",
        PLAIN,
        document(Ext(1, struct.pack(">BQ", NUMPY, 2**64 - 1)), ARRAY),
    ),
    ("plain-part-less", "A part cut by a byte.", PLAIN, document(part(NUMPY, ARRAY[:-1]), ARRAY)),
    ("plain-part-plain", "A part in codec 1.", PLAIN, document(part(1, document(1)), document(1))),
    ("plain-part-bytes", "A part in codec 5.", PLAIN, document(part(5, b"abc"), b"abc")),
    ("plain-part-codec", "A part in codec 9.", PLAIN, document(part(9, b"abc"), b"abc")),
    ("plain-part-short", "A part without a length.", PLAIN, document(Ext(1, b"\x04"))),
    ("plain-integer-small", "An integer of 64 bits.", PLAIN, document(Ext(3, b"\x01"))),
    (
        "plain-integer-long",
        "An integer a byte too long.",
        PLAIN,
        document(Ext(3, b"\0\1" + bytes(8))),
    ),
    ("plain-integer-empty", "An integer of no bytes.", PLAIN, document(Ext(3, b""))),
    ("plain-path-flavour", "A path of flavour 4.", PLAIN, document(Ext(4, b"\x04/data"))),
    ("plain-path-empty", "A path without a flavour.", PLAIN, document(Ext(4, b""))),
    ("plain-scalar-object", "A scalar of objects.", PLAIN, document(Ext(5, b"\x03|O8" + bytes(8)))),
    (
        "plain-scalar-length",
        "A scalar cut by a byte.",
        PLAIN,
        document(Ext(5, b"\x03<i8" + bytes(7))),
    ),
    ("plain-scalar-empty", "A scalar without a type.", PLAIN, document(Ext(5, b""))),
    ("plain-boolean-2", "A boolean of numpy that is 2.", PLAIN, document(Ext(5, b"\x03|b1\x02"))),
    (
        "plain-boolean-255",
        "A boolean of numpy that is 255.",
        PLAIN,
        document(Ext(5, b"\x03|b1\xff")),
    ),
    (
        "plain-time-utc",
        "A time at no offset.",
        PLAIN,
        document(Ext(6, b"2026-11-22T09:30:00+00:00")),
    ),
    (
        "plain-time-naive",
        "A time without an offset.",
        PLAIN,
        document(Ext(6, b"2026-11-22T09:30:00")),
    ),
    (
        "plain-time-form",
        "A time in another form.",
        PLAIN,
        document(Ext(6, b"2026-11-22 09:30:00-03:30")),
    ),
    ("plain-time-junk", "No time.", PLAIN, document(Ext(6, b"now\xff"))),
    # Section 2.
    ("plain-small-empty", "A small value without a kind.", PLAIN, document(Ext(8, b""))),
    ("plain-small-kind", "A small value of kind 7.", PLAIN, document(Ext(8, b"\x07"))),
    ("plain-complex-short", "A complex of 8 bytes.", PLAIN, document(Ext(8, b"\x01" + bytes(8)))),
    ("plain-clock-junk", "No time of day.", PLAIN, document(Ext(8, b"\x02noon"))),
    ("plain-clock-other", "A time, spelled otherwise.", PLAIN, document(Ext(8, b"\x0209:30"))),
    ("plain-missing-more", "A byte after NA.", PLAIN, document(Ext(8, b"\x03\0"))),
    ("plain-pandas-unit", "Unit 4.", PLAIN, document(Ext(8, b"\x05\x04" + bytes(8)))),
    ("plain-pandas-long", "A byte too much.", PLAIN, document(Ext(8, b"\x05\x03" + bytes(9)))),
    ("plain-pandas-short", "A byte too few.", PLAIN, document(Ext(8, b"\x06\x03" + bytes(7)))),
    (
        "plain-pandas-not-a-time",
        "The count that pandas takes for not-a-time.",
        PLAIN,
        document(Ext(8, b"\x06\x03\x80" + bytes(7))),
    ),
    (
        "plain-pandas-zone",
        "A time zone that is none.",
        PLAIN,
        document(Ext(8, b"\x06\x03" + bytes(8) + pack(["pandas", "Europe/Paris"]))),
    ),
    (
        "plain-pandas-zone-more",
        "A byte after the time zone.",
        PLAIN,
        document(Ext(8, b"\x06\x03" + bytes(8) + pack(["zoneinfo", "UTC"]) + b"\xc0")),
    ),
    ("plain-decimal-junk", "No number.", PLAIN, document(Ext(8, b"\x08one"))),
    ("plain-decimal-other", "A number, spelled otherwise.", PLAIN, document(Ext(8, b"\x081e3"))),
    ("plain-decimal-empty", "Nothing.", PLAIN, document(Ext(8, b"\x08"))),
    ("plain-date-other", "A date, spelled otherwise.", PLAIN, document(Ext(8, b"\x0a20200101"))),
    (
        "plain-span-carried",
        "86,400 seconds.",
        PLAIN,
        document(Ext(8, b"\x0b" + bytes(4) + b"\0\1\x51\x80" + bytes(4))),
    ),
    (
        "plain-span-long",
        "A day more than there are.",
        PLAIN,
        document(Ext(8, b"\x0b\x3b\x9a\xca\0" + bytes(8))),
    ),
    ("plain-uuid-short", "15 bytes.", PLAIN, document(Ext(8, b"\x0c" + bytes(15)))),
    (
        "plain-datetime-offset",
        "An offset in the text.",
        PLAIN,
        document(Ext(8, b"\x09" + pack(["2020-01-01T00:00:00+00:00", 0, None]))),
    ),
    (
        "plain-datetime-other",
        "A time, spelled otherwise.",
        PLAIN,
        document(Ext(8, b"\x09" + pack(["2020-01-01", 0, None]))),
    ),
    (
        "plain-datetime-fold",
        "A boolean for the fold.",
        PLAIN,
        document(Ext(8, b"\x09" + pack(["2020-01-01T00:00:00", True, None]))),
    ),
    (
        "plain-datetime-zone",
        "A zone of a library that there is not.",
        PLAIN,
        document(Ext(8, b"\x09" + pack(["2020-01-01T00:00:00", 0, ["x", "UTC"]]))),
    ),
    (
        "plain-datetime-more",
        "A byte after it.",
        PLAIN,
        document(Ext(8, b"\x09" + pack(["2020-01-01T00:00:00", 0, None]) + b"\xc0")),
    ),
    ("plain-tuple-dict", "A dict.", PLAIN, document(Ext(9, b"\x03" + pack({"a": 1})))),
    ("plain-keys-flat", "No pairs.", PLAIN, document(Ext(9, b"\x04" + pack([1, 2])))),
    ("plain-keys-three", "Three of two.", PLAIN, document(Ext(9, b"\x04" + pack([[1, 2, 3]])))),
    (
        "plain-keys-twice",
        "Two equal keys.",
        PLAIN,
        document(Ext(9, b"\x04" + pack([[1, "a"], [1.0, "b"]]))),
    ),
    ("plain-keys-list", "A list.", PLAIN, document(Ext(9, b"\x05" + pack([[[1], 2]])))),
    ("plain-set-twice", "Equal elements.", PLAIN, document(Ext(9, b"\x06" + pack([1, True])))),
    ("plain-set-list", "A list in a set.", PLAIN, document(Ext(9, b"\x07" + pack([[1]])))),
    ("plain-holder-later", "A holder of kind 8.", PLAIN, document(Ext(9, b"\x08" + pack([])))),
    ("plain-holder-empty", "A holder without a kind.", PLAIN, document(Ext(9, b""))),
    ("plain-holder-kind", "A holder of kind 0.", PLAIN, document(Ext(9, b"\0" + pack([None, []])))),
    ("plain-holder-more", "Two values.", PLAIN, document(Ext(9, b"\x01" + pack([None, []]) * 2))),
    ("plain-deque-full", "Two of one.", PLAIN, document(Ext(9, b"\x01" + pack([1, [1, 2]])))),
    ("plain-deque-length", "-1 of them.", PLAIN, document(Ext(9, b"\x01" + pack([-1, []])))),
    (
        "plain-holders-deep",
        "Nine deques in each other.",
        PLAIN,
        document(functools.reduce(lambda held, _: _deque(held), range(8), _deque())),
    ),
    (
        "plain-objects-short",
        "Three elements of four.",
        PLAIN,
        document(Ext(9, b"\x02" + pack([[2, 2], False, [1, 2, 3]]))),
    ),
    (
        "plain-objects-negative",
        "Lengths whose product is right, and which are none.",
        PLAIN,
        document(Ext(9, b"\x02" + pack([[-1, -1], False, [1]]))),
    ),
    (
        "plain-objects-claim",
        "Lengths of 2^64, times none.",
        PLAIN,
        document(Ext(9, b"\x02" + pack([[2**64 - 1, 2**64 - 1, 0], False, []]))),
    ),
    ("serde-no-list", "A text alone.", SERDE, document(b"1")),
    ("serde-two", "Two members.", SERDE, document([b"1", ""])),
    ("serde-text", "The text is not bin.", SERDE, document(["1", "", []])),
    ("serde-not-json", "The text is not JSON.", SERDE, _serde(b"{'a': 1}")),
    ("serde-utf8", "The text is not UTF-8.", SERDE, _serde(b'"\xff"')),
    ("serde-unused", "A lifted value without a mark.", SERDE, _serde(b"[1]", "MARK", [b"a"])),
    ("serde-missing", "A mark without a value.", SERDE, _serde(b'["MARK1"]', "MARK", [b"a"])),
    (
        "serde-twice",
        "A mark twice.",
        SERDE,
        _serde(b'["MARK0","MARK0"]', "MARK", [b"a"]),
    ),
    ("serde-leading-zero", "A place of 00.", SERDE, _serde(b'["MARK00"]', "MARK", [b"a"])),
    (
        "serde-leading-zero-more",
        "A place of 01, of two.",
        SERDE,
        _serde(b'["MARK0","MARK01"]', "MARK", [b"a", b"b"]),
    ),
    (
        "serde-digits",
        "A place in Arabic digits.",
        SERDE,
        _serde('["MARK\u0660"]'.encode(), "MARK", [b"a"]),
    ),
    (
        "serde-long",
        "A mark with 5,000 digits.",
        SERDE,
        _serde(b'["MARK' + b"1" * 5000 + b'"]', "MARK", [b"a"]),
    ),
    (
        "serde-superscript",
        "A place in superscript digits.",
        SERDE,
        _serde('["MARK0","MARK\u00b9"]'.encode(), "MARK", [b"a", b"b"]),
    ),
    ("serde-sign", "A place with a sign.", SERDE, _serde(b'["MARK+0"]', "MARK", [b"a"])),
    ("serde-negative", "A place of -1.", SERDE, _serde(b'["MARK-1"]', "MARK", [b"a"])),
    ("serde-space", "A place and a space.", SERDE, _serde(b'["MARK0 "]', "MARK", [b"a"])),
    ("serde-underscore", "A place of 0_0.", SERDE, _serde(b'["MARK0_0"]', "MARK", [b"a"])),
    (
        "serde-mark-goes-on",
        "A text that begins with the mark, and goes on in letters.",
        SERDE,
        _serde(b'["MARK0","MARKET"]', "MARK", [b"a"]),
    ),
    (
        "serde-mark-only",
        "A text that is the mark.",
        SERDE,
        _serde(b'["MARK0","MARK"]', "MARK", [b"a"]),
    ),
    (
        "serde-huge",
        "A place of 5,000 digits.",
        SERDE,
        _serde(b'["MARK%s"]' % (b"9" * 5000), "MARK", [b"a"]),
    ),
    ("serde-mark-bytes", "The mark is not text.", SERDE, document([b'["MARK0"]', b"MARK", [b"a"]])),
    ("serde-four", "Four members.", SERDE, document([b"1", "", [], None])),
    ("serde-lifted-dict", "The lifted values are a dict.", SERDE, document([b"1", "", {}])),
    ("serde-mark-alone", "A mark and nothing lifted out.", SERDE, _serde(b"[1]", "MARK")),
    ("serde-no-mark", "A value lifted out and no mark.", SERDE, _serde(b'["0"]', "", [b"a"])),
    # Section 3.
    ("arrow-empty", "No bytes.", ARROW, b""),
    ("arrow-meta-claim", "A description of 2^64 - 1 bytes.", ARROW, b"\xff" * 8 + TABLE[8:]),
    ("arrow-meta-list", "The description is a list.", ARROW, _described([1])),
    ("arrow-type", "An unknown type.", ARROW, arrow({"type": "pyarrow.Array"}, _STREAM)),
    ("arrow-member", "A member more.", ARROW, _described(_META | {"more": 1})),
    (
        "arrow-zeros",
        "Ones instead of zeros.",
        ARROW,
        _described(_META, zeros=b"\1" * 4),
    ),
    ("arrow-cut", "The stream is cut.", ARROW, arrow({"type": "pyarrow.Table"}, _STREAM[:200])),
    ("arrow-none", "No stream.", ARROW, arrow({"type": "pyarrow.Table"})),
    ("arrow-two", "Two streams.", ARROW, arrow({"type": "pyarrow.Table"}, _STREAM, _STREAM)),
    ("arrow-trailing", "A byte after the stream.", ARROW, TABLE + b"\0"),
    (
        "arrow-length",
        "A stream of another length than stream_bytes.",
        ARROW,
        _described(_META | {"stream_bytes": len(_STREAM) + 8}),
    ),
    (
        "arrow-length-negative",
        "Streams of -10 bytes.",
        ARROW,
        _described({**_META, "stream_bytes": -10}),
    ),
    (
        "arrow-length-least",
        "Streams of -2^63 bytes.",
        ARROW,
        _described({**_META, "stream_bytes": -(2**63)}),
    ),
    (
        "arrow-length-true",
        "Streams of true bytes.",
        ARROW,
        _described({**_META, "stream_bytes": True}, b"\0"),
    ),
    ("arrow-version-4", "Messages of version 4.", ARROW, _table(library_streams.VERSION_4)),
    ("arrow-no-end", "A stream without its end.", ARROW, _table(_STREAM[:-8])),
    (
        "arrow-nulls",
        "1,048,577 nulls that take no bytes.",
        ARROW,
        _claim(library_streams.NULLS, 77, 2**20 + 1),
    ),
    ("arrow-nulls-negative", "-1 nulls.", ARROW, _claim(library_streams.NULLS, 77, -1)),
    ("arrow-runs", "A run of 2^40.", ARROW, _claim(library_streams.RUNS, 77, 2**40)),
    (
        "arrow-no-width",
        "2^40 rows of no bytes.",
        ARROW,
        _claim(library_streams.NO_WIDTH, 77, 2**40),
    ),
    ("arrow-range", "A level of 2^40 numbers.", ARROW, _level(2**40)),
    (
        "arrow-compressed",
        "A stream with Zstandard of its own.",
        ARROW,
        arrow({"type": "pyarrow.Table"}, library_streams.TABLE_ZSTD),
    ),
    (
        "arrow-compressed-batch",
        "A stream with LZ4 of its own.",
        ARROW,
        arrow({"type": "pyarrow.RecordBatch"}, library_streams.TABLE_LZ4),
    ),
    (
        "arrow-compressed-polars",
        "A stream of polars with Zstandard of its own.",
        ARROW,
        arrow({"type": "polars.DataFrame"}, library_streams.POLARS_ZSTD),
    ),
    (
        "arrow-compressed-pandas",
        "The labels of a frame with LZ4 of their own.",
        ARROW,
        arrow(dict(FRAME), library_streams.ROWS, library_streams.LABELS_LZ4),
    ),
    (
        "arrow-compressed-dictionary",
        "Zstandard in the batch of a dictionary.",
        ARROW,
        arrow({"type": "pyarrow.Table"}, library_streams.DICTIONARY_ZSTD),
    ),
    # Section 4.
    ("numpy-empty", "No bytes.", NUMPY, b""),
    ("numpy-magic", "Another magic.", NUMPY, b"\x93NUMPX" + ARRAY[6:]),
    ("numpy-version-0", "Version 0.0.", NUMPY, ARRAY[:6] + b"\0\0" + ARRAY[8:]),
    ("numpy-version-4", "Version 4.0.", NUMPY, ARRAY[:6] + b"\4\0" + ARRAY[8:]),
    ("numpy-cut", "Cut by one byte.", NUMPY, ARRAY[:-1]),
    ("numpy-trailing", "One byte more.", NUMPY, ARRAY + b"\0"),
    ("numpy-header-cut", "It ends in the header.", NUMPY, ARRAY[:60]),
    ("numpy-header-code", "A header that computes.", NUMPY, npy("'<i' + '2'", "(6,)", NUMBERS)),
    (
        "numpy-header-10001",
        "A header of more than 10,000 bytes.",
        NUMPY,
        npy("'<i2'", "(6,)" + " " * 10_000, NUMBERS),
    ),
    ("numpy-object", "An array of objects.", NUMPY, npy("'|O'", "(1,)", bytes(8))),
    (
        "numpy-object-field",
        "Records with an object.",
        NUMPY,
        npy("[('a', '|O')]", "(1,)", bytes(8)),
    ),
    ("numpy-claim", "2^62 elements.", NUMPY, npy("'<i2'", f"({2**62},)", NUMBERS)),
    ("numpy-negative", "A negative length.", NUMPY, npy("'<i2'", "(-6,)", NUMBERS)),
    ("numpy-negative-twice", "Two of them.", NUMPY, npy("'<i2'", "(-2, -3)", NUMBERS)),
    ("numpy-true", "A length of true.", NUMPY, npy("'<i2'", "(6, True)", NUMBERS)),
    ("numpy-no-width", "2^40 elements of no bytes.", NUMPY, npy("'|V0'", f"({2**40},)", b"")),
    ("numpy-dimensions", "65 dimensions.", NUMPY, npy("'<i2'", f"{(1,) * 64 + (6,)}", NUMBERS)),
    (
        "numpy-pickle",
        "A pickle.",
        NUMPY,
        b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    ),
)


_CLASS = b'{"__classname__":"subprocess.Popen","__version__":1,"__data__":["true"]}'


def vectors() -> Iterator[Vector]:
    for name, comment, codec, encoded in _FAULTS:
        yield _vector(name, comment, "FormatError", codec, encoded)
    comment = "A class that Airflow may not deserialise."
    yield _vector("serde-class", comment, "CodecError", SERDE, _serde(_CLASS))


def _vector(name: str, comment: str, expect: str, codec: int, encoded: bytes) -> Vector:
    """A fault in the codec: the encoded value itself is read without one."""
    made = envelope(f"bad-codec-{name}", encoded, codec=codec)
    vector = good(f"bad-codec-{name}", comment, made)
    vector.expect = expect
    return vector
