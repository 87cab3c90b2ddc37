"""A reader written from docs/codecs.md alone: it reads what the codecs write.

It trusts what it reads, and uses MessagePack, NPY and Arrow IPC, pandas and numpy, but nothing of
the package. What it makes of a value is compared with the value.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import importlib
import io
import json
import pathlib
import struct
import uuid
import zoneinfo

import numpy as np
import ormsgpack
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.frames import frames
from support.sameness import assert_same

from secure_xcom.codecs import encode


def read(codec, data):
    """The table at the top of the document."""
    if codec == 1:
        value, rest = document(data)
        assert not rest
        return value
    if codec == 2:
        (text, prefix, taken), rest = document(data)
        assert not rest
        return put_back(json.loads(text), prefix, taken)
    if codec == 3:
        return arrow(data)
    return np.load(io.BytesIO(data), allow_pickle=False) if codec == 4 else data


# Section 1.


def document(data):
    """A document's value, and what follows it."""
    tree_bytes = int.from_bytes(data[:8], "big")
    rest = data[8 + tree_bytes :]

    def extension(tag, body):
        nonlocal rest
        if tag == 1:
            part_bytes = int.from_bytes(body[1:], "big")
            part, rest = rest[:part_bytes], rest[part_bytes:]
            return read(body[0], part)
        if tag == 9:
            return HOLDERS[body[0]](*ormsgpack.unpackb(body[1:], ext_hook=extension))
        return EXTENSIONS[tag](body)

    return ormsgpack.unpackb(data[8 : 8 + tree_bytes], ext_hook=extension), rest


PATHS = {1: pathlib.Path, 2: pathlib.PurePosixPath, 3: pathlib.PureWindowsPath}
EXTENSIONS = {
    2: bytearray,
    3: lambda body: int.from_bytes(body, "big", signed=True),
    4: lambda body: PATHS[body[0]](body[1:].decode("utf-8", "surrogateescape")),
    5: lambda body: np.frombuffer(body[1 + body[0] :], body[1 : 1 + body[0]].decode())[0],
    6: lambda body: dt.datetime.fromisoformat(body.decode()),
    8: lambda body: SMALL[body[0]](body[1:]),
}
SMALL = {
    1: lambda body: complex(*struct.unpack(">dd", body)),
    2: lambda body: dt.time.fromisoformat(body.decode()),
    3: lambda _: pd.NA,
    4: lambda _: pd.NaT,
    5: lambda body: pd.Timedelta(counted(np.timedelta64, body)),
    6: lambda body: timestamp(pd.Timestamp(counted(np.datetime64, body)), body[9:]),
    8: lambda body: decimal.Decimal(body.decode()),
    9: lambda body: clock(*ormsgpack.unpackb(body)),
    10: lambda body: dt.date.fromisoformat(body.decode()),
    11: lambda body: dt.timedelta(*struct.unpack(">iII", body)),
    12: lambda body: uuid.UUID(bytes=body),
}
HOLDERS = {
    1: lambda maxlen, items: collections.deque(items, maxlen),
    2: lambda shape, by_columns, items: (
        np.fromiter(items, object, len(items)).reshape(shape).copy("F" if by_columns else "C")
    ),
    3: lambda *items: items,
    4: lambda *pairs: dict(pairs),
    5: lambda *pairs: collections.OrderedDict(pairs),
    6: lambda *items: set(items),
    7: lambda *items: frozenset(items),
}


def counted(kind, body):
    unit, count = struct.unpack(">Bq", body[:9])
    return kind(count, ["s", "ms", "us", "ns"][unit])


def clock(text, fold, described):
    tzinfo = None if described is None else zone(described)
    return dt.datetime.fromisoformat(text).replace(fold=fold, tzinfo=tzinfo)


def timestamp(naive, described):
    if not described:
        return naive
    return naive.tz_localize("UTC").tz_convert(zone(ormsgpack.unpackb(described)))


# Section 2, up to where Airflow takes over.


def put_back(tree, prefix, taken):
    if isinstance(tree, str) and prefix and tree.startswith(prefix):
        return taken[int(tree.removeprefix(prefix))]
    if isinstance(tree, list):
        return [put_back(item, prefix, taken) for item in tree]
    if isinstance(tree, dict):
        return {key: put_back(item, prefix, taken) for key, item in tree.items()}
    return tree


# Section 3.


def arrow(data):
    meta_bytes = int.from_bytes(data[:8], "big")
    meta, rest = document(data[8 : 8 + meta_bytes])
    streams = data[8 + meta_bytes + -meta_bytes % 8 :]
    assert not rest
    assert len(streams) == meta["stream_bytes"]
    library, _, kind = meta["type"].partition(".")
    if library == "polars":
        frame = pl.read_ipc_stream(io.BytesIO(streams))
        return frame if kind == "DataFrame" else frame.to_series()
    reader, tables = pa.BufferReader(streams), []
    while reader.tell() < len(streams):
        tables.append(pa.ipc.open_stream(reader).read_all())
    if library == "pyarrow":
        return tables[0] if kind == "Table" else tables[0].to_batches()[0]
    return Frames(meta, tables).read(kind)


class Frames:
    """Section 3.1."""

    def __init__(self, meta, tables):
        tables = iter(tables)
        self.meta = meta
        self.columns = [iter(next(tables).columns if n else ()) for n in meta["columns_of"]]

    def read(self, kind):
        meta = self.meta
        index = self.index(meta["index"], 0)
        if kind == "Index":
            return index
        if kind == "Series":
            values = self.array(meta["array"], 0)
            made = pd.Series(values, index, values.dtype, self.label(meta["name"]), copy=True)
        else:
            table, described = meta["columns"]
            names = self.index(described, table)
            columns = [self.array(array, 0) for array in meta["arrays"]]
            series = [pd.Series(column, index, column.dtype) for column in columns]
            made = pd.DataFrame(dict(enumerate(series)), index, range(len(series)))
            made.columns = names
        made.attrs = meta["attrs"]
        return made.set_flags(allows_duplicate_labels=not meta["unique_labels"])

    def index(self, described, table):
        match described:
            case {"kind": "range", "range": [start, stop, step], "name": name}:
                return pd.RangeIndex(start, stop, step, name=self.label(name))
            case {"kind": "multi", "levels": levels, "names": names}:
                codes = [next(self.columns[table]).to_numpy() for _ in levels]
                made = [self.index(level, at) for at, level in levels]
                return pd.MultiIndex(made, codes, names=[self.label(name) for name in names])
            case {"kind": "index", "array": array, "name": name, "freq": freq}:
                values = self.array(array, table)
                made = pd.Index(values, values.dtype, name=self.label(name))
                return made if freq is None else type(made)(made, freq=offset(freq))

    def label(self, described):
        match described:
            case {"tuple": items}:
                return tuple(self.label(item) for item in items)
            case {"table": table, "array": array}:
                return pd.Index(self.array(array, table))[0]
        return described

    def array(self, described, table):
        kind = described["kind"]
        if kind == "object":
            return self.objects(described, table)
        if kind == "interval":
            sides = [self.array(described[side], table) for side in ("left", "right")]
            return pd.arrays.IntervalArray.from_arrays(*sides, closed=described["closed"])
        column = next(self.columns[table])
        return getattr(self, kind)(described, column, column.to_numpy())

    def numpy(self, described, column, values):
        if pa.types.is_fixed_size_binary(column.type):
            return np.frombuffer(b"".join(column.to_pylist()), described["dtype"])
        return values

    def masked(self, described, column, _):
        cells = [pd.NA if cell is None else cell for cell in column.to_pylist()]
        missing = np.array([cell is pd.NA for cell in cells], bool)
        if described["dtype"] == "boolean":
            held = np.array([cell is not pd.NA and cell for cell in cells], bool)
            return pd.arrays.BooleanArray(held, missing)
        kind = pd.api.types.pandas_dtype(described["dtype"]).numpy_dtype
        held = np.array([0 if cell is pd.NA else cell for cell in cells], kind)
        made = pd.arrays.FloatingArray if kind.kind == "f" else pd.arrays.IntegerArray
        return made(held, missing)

    def zoned(self, described, _, values):
        return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone(described["zone"])).array

    def categorical(self, described, _, values):
        categories = self.index(described["categories"], described["table"])
        return pd.Categorical.from_codes(values, categories, described["ordered"])

    def period(self, described, _, values):
        return pd.arrays.PeriodArray(values, dtype=pd.PeriodDtype(offset(described["freq"])))

    def string(self, described, column, _):
        if described["missing"] == "na":
            return pd.array(column.to_pylist(), pd.StringDtype(described["storage"]))
        return pd.array(column.to_pylist(), pd.StringDtype(described["storage"], na_value=np.nan))

    def arrow(self, _, column, __):
        return pd.arrays.ArrowExtensionArray(column)

    def objects(self, described, table):
        marks = next(self.columns[table]).to_pylist() if described["marks"] else None
        if described["type"] == "plain":
            cells, rest = document(described["cells"])
            assert not rest
        else:
            restore = {"decimal": decimal.Decimal, "uuid": uuid.UUID}.get(described["type"])
            cells = next(self.columns[table]).to_pylist()
            cells = [restore(cell) if restore and cell is not None else cell for cell in cells]
        if marks:
            stand_ins = (None, None, float("nan"), pd.NA, pd.NaT)
            cells = [
                stand_ins[mark] if mark else cell for cell, mark in zip(cells, marks, strict=True)
            ]
        return np.fromiter(cells, object, len(cells))


def offset(described):
    name, count, normalize, arguments = described
    more = {"normalize": True} if normalize else {}
    return getattr(pd.offsets, name)(count, **more, **arguments)


ZONES = {"zoneinfo": "ZoneInfo", "pytz": "timezone", "pendulum": "timezone"}


def zone(described):
    library, name = described
    if library == "datetime":
        return dt.timezone(dt.timedelta(microseconds=name)) if name else dt.UTC
    return getattr(importlib.import_module(library), ZONES[library])(name)


def encoded(value, *, is_exact=False):
    payload = encode(value, is_exact=is_exact)
    return int(payload.codec), b"".join(
        memoryview(part).cast("B") for part in payload.buffers if memoryview(part).nbytes
    )


@pytest.mark.parametrize(
    "value",
    [
        b"\0x",
        {"a": [None, True, -1, 2**64 - 1, 2**64, -(2**70), 1.5, float("nan"), "é", b"\0"]},
        [bytearray(b"x"), pathlib.Path("/\udce9"), pathlib.PureWindowsPath("c:\\x")],
        [np.int8(-3), np.datetime64("2020-01-01", "s"), np.longdouble(1.5), np.bool_(1)],
        [dt.datetime(2020, 1, 1, 2, 3, 4, 5, dt.timezone(dt.timedelta(hours=-5)))],
        [1j, dt.time(1, 2, 3, 4), dt.time(1, tzinfo=dt.UTC), pd.NA, {"a": pd.NaT}],
        [pd.Timedelta(-5), pd.Timedelta("3s").as_unit("s"), pd.Timestamp("2020-01-01")],
        [pd.Timestamp("2020-06-01", tz=zone) for zone in ("Europe/Paris", "UTC", dt.UTC)],
        [collections.deque([1, np.arange(3), collections.deque(["x"], 2)]), np.arange(2)],
        [np.array([[1, "a"], [None, np.arange(2)]], dtype=object), b"x"],
        np.asfortranarray(np.array([[1, "a"], [None, b"x"]], dtype=object)),
        {"a": np.arange(3), "b": [np.eye(2), pa.table({"x": [1, None]})], "c": b""},
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        pa.RecordBatch.from_pydict({"a": [1, None]}),
        pl.DataFrame({"a": [1, None], "b": ["x", "y"]}),
        pl.Series("s", ["x", None], dtype=pl.Categorical),
        pd.Index([1.5, 2.5], name=("a", pd.Timestamp("2020"))),
        pd.Series([1, 2], name=pd.Timestamp("2020")),
    ],
)
def test_the_reader_reads_a_value(value):
    assert_same(read(*encoded(value)), value)


@pytest.mark.parametrize(
    "value",
    [
        [decimal.Decimal("1.10"), decimal.Decimal("-0E+3"), uuid.UUID(int=7), dt.date(1, 1, 1)],
        [dt.datetime.max, dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.timedelta.min],  # noqa: DTZ901
        dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")),
        [np.arange(2), (1, (np.arange(3), ())), [bytearray(b"x")], np.float64(0.5)],
        {1: "a", "1": {None: b""}, (2, "x"): [{True: 1, 2.5: bytearray(b"y")}]},
        [collections.OrderedDict(b=1, a=(2,)), {1, "a"}, frozenset({(1, None)})],
        [collections.deque([(1,)]), {"__classname__": "x", "__type": 1}],
    ],
)
def test_the_reader_reads_what_is_plain_only_where_it_is_to_be_exact(value):
    codec, data = encoded(value, is_exact=True)
    assert codec == 1
    assert_same(read(codec, data), value)


@pytest.mark.parametrize("name", frames())
def test_the_reader_reads_a_frame(name):
    frame = frames()[name]
    assert_same(read(*encoded(frame)), frame)


def test_the_reader_gets_as_far_as_airflow():
    codec, data = encoded(({"a": b"x", "b": dt.date(2020, 1, 1)}, 2**70))
    assert codec == 2
    tree = read(codec, data)
    assert tree["__classname__"] == "builtins.tuple"
    assert tree["__data__"][0]["a"] == b"x"
    assert tree["__data__"][1] == 2**70
