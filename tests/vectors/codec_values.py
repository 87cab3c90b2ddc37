"""Vectors of the codecs (`docs/codecs.md`): values that decode, as Python spells them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from vectors import library_streams
from vectors.case import Vector, good
from vectors.construct import envelope
from vectors.messagepack import Ext, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN, SERDE, ARROW, NUMPY, BYTES = range(1, 6)


def document(tree: Any, *parts: bytes) -> bytes:
    """Section 1; a tree that is bytes already is taken as it is."""
    data = tree if isinstance(tree, bytes) else pack(tree)
    return struct.pack(">Q", len(data)) + data + b"".join(parts)


def part(codec: int, data: bytes) -> Ext:
    return Ext(1, struct.pack(">BQ", codec, len(data)))


def npy(descr: str, shape: str, data: bytes, *, fortran: bool = False, version: int = 1) -> bytes:
    """Section 4: the header ends with a line break, at a multiple of 64."""
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    form = "<H" if version == 1 else "<I"
    start = 8 + struct.calcsize(form)
    text += " " * (-(start + len(text) + 1) % 64) + "\n"
    head = b"\x93NUMPY" + bytes((version, 0)) + struct.pack(form, len(text))
    return head + text.encode() + data


def arrow(meta: dict[str, Any], *streams: bytes) -> bytes:
    """Section 3."""
    kind = meta.pop("type")
    data = document({"type": kind, "stream_bytes": sum(map(len, streams))} | meta)
    zeros = bytes(-len(data) % 8)
    return struct.pack(">Q", len(data)) + data + zeros + b"".join(streams)


NUMBERS = struct.pack("<6h", *range(6))
ARRAY = npy("'<i2'", "(6,)", NUMBERS)
TABLE = arrow({"type": "pyarrow.Table"}, library_streams.TABLE)

_TEXT = {"kind": "object", "type": "text", "marks": False}
FRAME = {
    "type": "pandas.DataFrame",
    "columns_of": [4, 1],
    "index": {"kind": "range", "range": [0, 3, 1], "name": None},
    "columns": [1, {"kind": "index", "array": _TEXT, "name": None, "freq": None}],
    "arrays": [
        {"kind": "numpy", "dtype": "<i8"},
        {"kind": "numpy", "dtype": "<f8"},
        _TEXT,
        {"kind": "numpy", "dtype": "<M8[us]"},
    ],
    "attrs": {"currency": "EUR"},
    "unique_labels": False,
}
_SERIES = {
    "type": "pandas.Series",
    "columns_of": [2, 1],
    "index": {
        "kind": "index",
        "array": {"kind": "numpy", "dtype": "<M8[us]"},
        "name": "when",
        "freq": None,
    },
    "name": {"tuple": ["level", 1]},
    "array": {
        "kind": "categorical",
        "ordered": True,
        "table": 1,
        "categories": {"kind": "index", "array": _TEXT, "name": None, "freq": None},
    },
    "attrs": {},
    "unique_labels": True,
}

_INTEGERS = [0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
_INTEGERS += [-1, -32, -33, -128, -129, -32_768, -32_769, -(2**31), -(2**31) - 1, -(2**63)]

#: Name, comment, codec, encoded value, and the value as Python spells it.
_VALUES: tuple[tuple[str, str, int, bytes, str], ...] = (
    ("plain-none", "None.", PLAIN, document(None), "None"),
    ("plain-booleans", "Both.", PLAIN, document([True, False]), "[True, False]"),
    ("plain-integers", "Every width.", PLAIN, document(_INTEGERS), repr(_INTEGERS)),
    (
        "plain-floats",
        "Those that JSON has no form for among them.",
        PLAIN,
        document([0.5, -0.0, 5e-324, 1e308, float("inf"), float("-inf"), float("nan")]),
        "[0.5, -0.0, 5e-324, 1e308, float('inf'), float('-inf'), float('nan')]",
    ),
    (
        "plain-texts",
        "Lengths at each boundary, and characters of each length.",
        PLAIN,
        document(["", "x" * 31, "x" * 32, "x" * 255, "x" * 256, "é€\U0001f9fe\0"]),
        "['', 'x' * 31, 'x' * 32, 'x' * 255, 'x' * 256, 'é€\U0001f9fe\\0']",
    ),
    (
        "plain-nested",
        "Dicts keep their order; a key may be anything that is text.",
        PLAIN,
        document({"b": [{}, [], {"a": None}], "a": {"": {"gs://b/o": [[1]]}}, "é": "4111"}),
        "{'b': [{}, [], {'a': None}], 'a': {'': {'gs://b/o': [[1]]}}, 'é': '4111'}",
    ),
    (
        "plain-many",
        "More elements than a short form has.",
        PLAIN,
        document({"list": list(range(300)), "dict": {str(index): index for index in range(20)}}),
        "{'list': list(range(300)), 'dict': {str(index): index for index in range(20)}}",
    ),
    (
        "plain-look-alike",
        "A dict that looks like a row is a dict.",
        PLAIN,
        document({"__secure_xcom__": 1, "placement": "inline", "envelope": "", "about": ""}),
        "{'__secure_xcom__': 1, 'placement': 'inline', 'envelope': '', 'about': ''}",
    ),
    (
        "plain-bytes",
        "Bytes in a list, and a bytearray.",
        PLAIN,
        document([b"", b"\0\xff" * 200, Ext(2, b"abc"), Ext(2, b"")]),
        "[b'', b'\\0\\xff' * 200, bytearray(b'abc'), bytearray()]",
    ),
    (
        "plain-large-integers",
        "Beyond 64 bits, as short as they can be.",
        PLAIN,
        document(
            [
                Ext(3, b"\x01" + bytes(8)),
                Ext(3, b"\xff\x7f" + b"\xff" * 7),
                Ext(3, b"\x00\x80" + bytes(15)),
                Ext(3, b"\x80" + bytes(16)),
            ]
        ),
        "[2**64, -2**63 - 1, 2**127, -2**135]",
    ),
    (
        "plain-paths",
        "Each flavour; a byte that is not UTF-8.",
        PLAIN,
        document(
            [
                Ext(1 + 3, b"\x01/data/\xc3\xa9"),
                Ext(4, b"\x02relative/\xff"),
                Ext(4, b"\x03C:\\data"),
            ]
        ),
        (
            "[pathlib.Path('/data/é'), pathlib.PurePosixPath('relative/\\udcff'), "
            "pathlib.PureWindowsPath('C:\\\\data')]"
        ),
    ),
    (
        "plain-numpy-scalars",
        "A number, a boolean and a time of numpy.",
        PLAIN,
        document(
            [
                Ext(5, b"\x03<i2" + struct.pack("<h", -2)),
                Ext(5, b"\x03<f4" + struct.pack("<f", 1.5)),
                Ext(5, b"\x03|b1\x01"),
                Ext(5, b"\x07<M8[ns]" + struct.pack("<q", 1)),
            ]
        ),
        "[numpy.int16(-2), numpy.float32(1.5), numpy.bool_(True), numpy.datetime64(1, 'ns')]",
    ),
    (
        "plain-numpy-false",
        "numpy's false.",
        PLAIN,
        document(Ext(5, b"\x03|b1\x00")),
        "numpy.bool_(False)",
    ),
    (
        "plain-time",
        "A time at an offset.",
        PLAIN,
        document(Ext(6, b"2026-11-22T09:30:00.000001-03:30")),
        (
            "datetime.datetime(2026, 11, 22, 9, 30, 0, 1, "
            "datetime.timezone(-datetime.timedelta(hours=3, minutes=30)))"
        ),
    ),
    (
        "plain-complex",
        "Complex numbers.",
        PLAIN,
        document(
            [Ext(8, b"\x01" + struct.pack(">dd", *parts)) for parts in ((1.5, -2), (0, -0.0))]
        ),
        "[complex(1.5, -2.0), complex(0.0, -0.0)]",
    ),
    (
        "plain-clock",
        "Times of day, one at an offset.",
        PLAIN,
        document([Ext(8, b"\x0209:30:00.000001"), Ext(8, b"\x0223:59:59-03:30")]),
        (
            "[datetime.time(9, 30, 0, 1), datetime.time(23, 59, 59, 0, "
            "datetime.timezone(-datetime.timedelta(hours=3, minutes=30)))]"
        ),
    ),
    (
        "plain-pandas-missing",
        "What pandas has for missing values.",
        PLAIN,
        document({"na": Ext(8, b"\x03"), "nat": Ext(8, b"\x04")}),
        "{'na': pandas.NA, 'nat': pandas.NaT}",
    ),
    (
        "plain-pandas-times",
        "Durations and times of pandas, of several units, without a zone and in zones.",
        PLAIN,
        document(
            [
                Ext(8, b"\x05\x03" + struct.pack(">q", -1)),
                Ext(8, b"\x05\x00" + struct.pack(">q", 90)),
                Ext(8, b"\x06\x02" + struct.pack(">q", 1)),
                Ext(8, b"\x06\x03" + struct.pack(">q", 0) + pack(["zoneinfo", "Europe/Paris"])),
                Ext(8, b"\x06\x01" + struct.pack(">q", 0) + pack(["datetime", -3_600_000_000])),
            ]
        ),
        (
            "[pandas.Timedelta(numpy.timedelta64(-1, 'ns')), "
            "pandas.Timedelta(numpy.timedelta64(90, 's')), "
            "pandas.Timestamp(numpy.datetime64(1, 'us')), "
            "pandas.Timestamp(numpy.datetime64(0, 'ns')).tz_localize('UTC')"
            ".tz_convert(zoneinfo.ZoneInfo('Europe/Paris')), "
            "pandas.Timestamp(numpy.datetime64(0, 'ms')).tz_localize('UTC')"
            ".tz_convert(datetime.timezone(datetime.timedelta(hours=-1)))]"
        ),
    ),
    (
        "plain-deque",
        "A deque with a bound and one without, which holds a part and another deque.",
        PLAIN,
        document(
            [
                Ext(9, b"\x01" + pack([3, ["a", b"b"]])),
                Ext(
                    9, b"\x01" + pack([None, [part(NUMPY, ARRAY), Ext(9, b"\x01" + pack([0, []]))]])
                ),
            ],
            ARRAY,
        ),
        (
            "[collections.deque(['a', b'b'], 3), collections.deque("
            "[numpy.array([0, 1, 2, 3, 4, 5], '<i2'), collections.deque([], 0)])]"
        ),
    ),
    (
        "plain-objects",
        "An array of objects, of two rows of three.",
        PLAIN,
        document(Ext(9, b"\x02" + pack([[2, 3], False, [1, "a", None, 2.5, [1], Ext(2, b"x")]]))),
        ("numpy.fromiter([1, 'a', None, 2.5, [1], bytearray(b'x')], object, 6).reshape((2, 3))"),
    ),
    (
        "plain-objects-by-columns",
        "An array of objects that lies by columns, and one of no dimension.",
        PLAIN,
        document(
            [
                Ext(9, b"\x02" + pack([[2, 2], True, ["a", "b", "c", "d"]])),
                Ext(9, b"\x02" + pack([[], False, ["a"]])),
            ]
        ),
        (
            "[numpy.array([['a', 'b'], ['c', 'd']], dtype=object, order='F'), "
            "numpy.array('a', dtype=object)]"
        ),
    ),
    (
        "plain-decimals",
        "Decimals: their last zeros, exponents, and what is no number.",
        PLAIN,
        document(
            [
                Ext(8, b"\x08" + text)
                for text in (b"1.10", b"-0E+3", b"1E-7", b"NaN12", b"-Infinity")
            ]
        ),
        (
            "[decimal.Decimal('1.10'), decimal.Decimal('-0E+3'), decimal.Decimal('1E-7'), "
            "decimal.Decimal('NaN12'), decimal.Decimal('-Infinity')]"
        ),
    ),
    (
        "plain-datetimes",
        "The last time of the calendar, one in UTC, and one that a clock shows twice.",
        PLAIN,
        document(
            [
                Ext(8, b"\x09" + pack(["9999-12-31T23:59:59.999999", 0, None])),
                Ext(8, b"\x09" + pack(["2026-11-22T09:30:00", 0, ["datetime", 0]])),
                Ext(8, b"\x09" + pack(["2026-10-25T02:30:00", 1, ["zoneinfo", "Europe/Paris"]])),
            ]
        ),
        (
            "[datetime.datetime(9999, 12, 31, 23, 59, 59, 999999), "
            "datetime.datetime(2026, 11, 22, 9, 30, tzinfo=datetime.timezone.utc), "
            "datetime.datetime(2026, 10, 25, 2, 30, fold=1, "
            "tzinfo=zoneinfo.ZoneInfo('Europe/Paris'))]"
        ),
    ),
    (
        "plain-dates",
        "A date, the longest duration, one below zero, and a UUID.",
        PLAIN,
        document(
            [
                Ext(8, b"\x0a0001-01-01"),
                Ext(8, b"\x0b" + struct.pack(">iII", 999_999_999, 86_399, 999_999)),
                Ext(8, b"\x0b" + struct.pack(">iII", -1, 1, 2)),
                Ext(8, b"\x0c" + bytes(range(16))),
            ]
        ),
        (
            "[datetime.date(1, 1, 1), datetime.timedelta.max, datetime.timedelta(-1, 1, 2), "
            "uuid.UUID(bytes=bytes(range(16)))]"
        ),
    ),
    (
        "plain-tuples",
        "Tuples in each other, which hold two parts, and an empty one.",
        PLAIN,
        document(
            [
                part(NUMPY, ARRAY),
                Ext(9, b"\x03" + pack([1, Ext(9, b"\x03" + pack([part(NUMPY, ARRAY)]))])),
                Ext(9, b"\x03" + pack([])),
            ],
            ARRAY,
            ARRAY,
        ),
        (
            "[numpy.array([0, 1, 2, 3, 4, 5], '<i2'), "
            "(1, (numpy.array([0, 1, 2, 3, 4, 5], '<i2'),)), ()]"
        ),
    ),
    (
        "plain-keys",
        "Keys of several types, one of them a tuple, and a dict that is known by its order.",
        PLAIN,
        document(
            [
                Ext(
                    9,
                    b"\x04"
                    + pack([[1, "a"], ["1", {}], [None, 2], [Ext(9, b"\x03" + pack([b"x"])), []]]),
                ),
                Ext(9, b"\x05" + pack([["b", 1], ["a", 2]])),
            ]
        ),
        (
            "[{1: 'a', '1': {}, None: 2, (b'x',): []}, "
            "collections.OrderedDict([('b', 1), ('a', 2)])]"
        ),
    ),
    (
        "plain-sets",
        "A set, and a frozen one in another.",
        PLAIN,
        document(
            [
                Ext(9, b"\x06" + pack([3, "a"])),
                Ext(9, b"\x07" + pack([Ext(9, b"\x07" + pack([None]))])),
            ]
        ),
        "[{3, 'a'}, frozenset({frozenset({None})})]",
    ),
    (
        "plain-parts",
        "An array and a table in a dict.",
        PLAIN,
        document({"a": part(NUMPY, ARRAY), "b": [part(ARROW, TABLE), 1]}, ARRAY, TABLE),
        (
            "{'a': numpy.array([0, 1, 2, 3, 4, 5], '<i2'), 'b': [pyarrow.table({'n': "
            "pyarrow.array([1, None, -3], 'int32'), 's': ['a', 'ü', None]}, "
            "metadata={'source': 'a vector'}), 1]}"
        ),
    ),
    (
        "plain-deepest",
        "Lists in lists, 255 of them.",
        PLAIN,
        document(b"\x91" * 254 + b"\x90"),
        "functools.reduce(lambda inner, _: [inner], range(254), [])",
    ),
    (
        "plain-deepest-dicts",
        "Dicts in dicts, 255 of them, and a text in the last.",
        PLAIN,
        document(b"\x81\xa1k" * 255 + b"\xa4leaf"),
        "functools.reduce(lambda inner, _: {'k': inner}, range(255), 'leaf')",
    ),
    ("numpy", "Six numbers.", NUMPY, ARRAY, "numpy.array([0, 1, 2, 3, 4, 5], '<i2')"),
    (
        "numpy-fortran",
        "Columns first.",
        NUMPY,
        npy("'<i2'", "(2, 3)", NUMBERS, fortran=True),
        "numpy.array([0, 1, 2, 3, 4, 5], '<i2').reshape((2, 3), order='F')",
    ),
    ("numpy-empty", "No rows.", NUMPY, npy("'<f8'", "(0, 3)", b""), "numpy.zeros((0, 3), '<f8')"),
    (
        "numpy-no-dimension",
        "An array of no dimension.",
        NUMPY,
        npy("'>f8'", "()", struct.pack(">d", 2.5)),
        "numpy.array(2.5, '>f8')",
    ),
    (
        "numpy-version-2",
        "The longer header.",
        NUMPY,
        npy("'|b1'", "(2,)", b"\0\1", version=2),
        "numpy.array([False, True])",
    ),
    (
        "numpy-records",
        "Records of a text and a time.",
        NUMPY,
        npy("[('a', '<U2'), ('b', '<m8[s]')]", "(1,)", "xy".encode("utf-32-le") + bytes(8)),
        "numpy.array([('xy', 0)], [('a', '<U2'), ('b', '<m8[s]')])",
    ),
    (
        "arrow-table",
        "A table with missing values and metadata.",
        ARROW,
        TABLE,
        (
            "pyarrow.table({'n': pyarrow.array([1, None, -3], 'int32'), 's': ['a', 'ü', None]}, "
            "metadata={'source': 'a vector'})"
        ),
    ),
    (
        "arrow-batch",
        "The same as a batch.",
        ARROW,
        arrow({"type": "pyarrow.RecordBatch"}, library_streams.TABLE),
        (
            "pyarrow.table({'n': pyarrow.array([1, None, -3], 'int32'), 's': ['a', 'ü', None]}, "
            "metadata={'source': 'a vector'}).to_batches()[0]"
        ),
    ),
    (
        "arrow-polars",
        "A frame of polars.",
        ARROW,
        arrow({"type": "polars.DataFrame"}, library_streams.POLARS),
        "polars.DataFrame({'n': [1, None, 3], 's': ['a', 'ü', None]})",
    ),
    (
        "arrow-pandas",
        "A frame of pandas: numbers, texts and times, with attributes.",
        ARROW,
        arrow(dict(FRAME), library_streams.ROWS, library_streams.LABELS),
        (
            "with_attributes(pandas.DataFrame(dict(enumerate(([1, 2, 3], "
            "[0.5, float('nan'), -0.0], pandas.Series(['a', None, 'ü'], dtype=object), "
            "numpy.array([0, 10**6, 'NaT'], '<M8[us]'))))).set_axis("
            "pandas.Index(['n', 'x', 's', 't'], dtype=object), axis=1), currency='EUR')"
        ),
    ),
    (
        "arrow-pandas-series",
        "Ordered categories under an index of times, with a tuple for a name.",
        ARROW,
        arrow(dict(_SERIES), library_streams.CATEGORICAL_ROWS, library_streams.CATEGORIES),
        (
            "pandas.Series(pandas.Categorical.from_codes([0, 1], pandas.Index(['low', 'high'], "
            "dtype=object), ordered=True), pandas.Index(numpy.array([0, 86400 * 10**6], "
            "'<M8[us]'), name='when'), name=('level', 1)).set_flags(allows_duplicate_labels=False)"
        ),
    ),
    (
        "serde",
        "A tuple and a set, as every supported Airflow writes them.",
        SERDE,
        document(
            [
                (
                    b'{"__classname__":"builtins.tuple","__version__":1,"__data__":["a",'
                    b'{"__classname__":"builtins.set","__version__":1,"__data__":[1]}]}'
                ),
                "",
                [],
            ]
        ),
        "('a', {1})",
    ),
    (
        "serde-lifted",
        "Bytes, a large integer and an array, lifted out of a tuple.",
        SERDE,
        document(
            [
                (
                    b'{"__classname__":"builtins.tuple","__version__":1,"__data__":'
                    b'["MARK2","MARK0","MARK1","MAR"]}'
                ),
                "MARK",
                [b"\xff", Ext(3, b"\x01" + bytes(8)), part(NUMPY, ARRAY)],
            ],
            ARRAY,
        ),
        "(numpy.array([0, 1, 2, 3, 4, 5], '<i2'), b'\\xff', 2**64, 'MAR')",
    ),
    (
        "serde-many",
        "Eleven values: a place of two digits.",
        SERDE,
        document(
            [
                b'{"__classname__":"builtins.tuple","__version__":1,"__data__":['
                + b",".join(b'"MARK%d"' % place for place in range(10, -1, -1))
                + b"]}",
                "MARK",
                [bytes((place,)) for place in range(11)],
            ]
        ),
        "tuple(bytes((10 - place,)) for place in range(11))",
    ),
    (
        "serde-empty-mark",
        "Nothing was lifted out: no text is a mark, not even one of digits.",
        SERDE,
        document(
            [b'{"__classname__":"builtins.tuple","__version__":1,"__data__":["0","","00"]}', "", []]
        ),
        "('0', '', '00')",
    ),
    ("bytes", "Bytes.", BYTES, b"SXCM\x01\xff", "b'SXCM\\x01\\xff'"),
    ("bytes-empty", "No bytes.", BYTES, b"", "b''"),
)


def vectors() -> Iterator[Vector]:
    for name, comment, codec, encoded, value in _VALUES:
        made = envelope(f"good-codec-{name}", encoded, codec=codec)
        yield good(f"good-codec-{name}", comment, made, value=value)
