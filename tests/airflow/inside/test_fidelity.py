"""What comes back equals what the stock backend of this Airflow gives back, types included.

The stock backend is asked each time: a value goes through its serialisation, through what carries
a row to the database and back on this version, and through its deserialisation. What it refuses or
changes, and users want, has to come back as it was.
"""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import importlib
import json
import math
import pathlib
import re
import sys
import traceback
import uuid
import zoneinfo
from types import SimpleNamespace
from typing import NamedTuple

import airflow
import attr
import hypothesis
import numpy as np
import pandas as pd
import pendulum
import polars as pl
import pyarrow as pa
import pydantic
import pytest
from hypothesis import strategies as st
from support.frames import frames
from support.sameness import assert_same, difference

from secure_xcom.codecs import decode, document, encode
from secure_xcom.errors import CodecError
from secure_xcom.model import CodecId, Payload

pytestmark = pytest.mark.filterwarnings("ignore")

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])
SERDE = "airflow.sdk.serde" if VERSION >= (3, 2) else "airflow.serialization.serde"


@dataclasses.dataclass
class Point:
    x: object
    y: object = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    data: object


@attr.define
class Attrs:
    x: object
    y: object = None


class Model(pydantic.BaseModel):
    name: str
    sizes: list[int] = []
    when: dt.datetime | None = None


class Custom:
    __version__ = 2

    def __init__(self, inner):
        self.inner = inner

    def serialize(self):
        return {"inner": self.inner}

    @staticmethod
    def deserialize(data, version):
        assert version == 2
        return Custom(data["inner"])

    def __eq__(self, other):
        return difference(self.inner, other.inner) is None

    __hash__ = None


class Colour(str, enum.Enum):  # noqa: UP042 - another kind than a StrEnum
    RED = "red"


class Size(enum.IntEnum):
    BIG = 7


class Plain(enum.Enum):
    A = 1


class Text(str):
    __slots__ = ()


class Pair(NamedTuple):
    left: object
    right: object


@pytest.fixture(autouse=True, scope="module")
def _allowed():
    """Airflow may restore the classes above; it remembers what it was told before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", f"airflow.* {__name__}.*")
        forget()
        yield
    forget()


def forget():
    serde = importlib.import_module(SERDE)
    for name in ("_get_patterns", "_get_regexp_patterns", "_match_glob", "_match_regexp"):
        getattr(serde, name).cache_clear()


class RefusedError(Exception):
    """The stock backend does not take the value, or does not give it back."""


def stock(value):
    """What the stock backend of this version gives back."""
    try:
        return _stock_2(value) if VERSION < (3, 0) else _stock_3(value)
    except Exception as error:
        raise RefusedError from error


def _stock_2(value):
    from airflow.models.xcom import BaseXCom  # noqa: PLC0415 - Airflow 2 alone has it

    row = BaseXCom.serialize_value(value)
    return BaseXCom.deserialize_value(SimpleNamespace(value=row))


def _stock_3(value):
    # Airflow 3 alone has these.
    import msgspec  # noqa: PLC0415
    from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415
    from airflow.sdk.execution_time import comms  # noqa: PLC0415

    where = {"key": "k", "dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1}
    sent = comms.SetXCom(value=BaseXCom.serialize_value(value), **where)
    # From the task to its supervisor, from there to the API server, and into a JSON column.
    frame = comms._new_encoder().encode(sent.model_dump())
    posted = comms.SetXCom.model_validate(msgspec.msgpack.decode(frame)).value
    row = json.loads(json.dumps(posted, allow_nan=False))
    # And back.
    result = comms.XComResult(key="k", value=row)
    return BaseXCom.deserialize_value(result)


def ours(value):
    """What this package gives back, out of one buffer."""
    return read(encode(value))


def ours_exactly(value):
    """What it gives back under `fidelity = exact`."""
    return read(encode(value, is_exact=True))


def read(payload):
    raw = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in payload.buffers if len(buffer))
    return decode(Payload(payload.codec, (bytearray(raw),)))


# Values that the stock backends take.

ZONES = [
    dt.UTC,
    zoneinfo.ZoneInfo("Europe/Amsterdam"),
    pendulum.timezone("America/New_York"),
    pendulum.UTC,
    None,
]
# Such as databases give; the stock backends write them and cannot read what they wrote.
OFFSETS = [dt.timezone(dt.timedelta(hours=2)), dt.timezone(-dt.timedelta(seconds=3601))]
texts = st.text(max_size=8) | st.sampled_from(
    ["__classname__", "__type", "__var", "\ud800", "\0", "é😀", "dict", "builtins.tuple"]
)
integers = st.integers(-(2**63), 2**64 - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
atoms = st.none() | st.booleans() | integers | floats | texts
moments = st.datetimes(dt.datetime(1980, 1, 1), dt.datetime(2100, 1, 1)).flatmap(  # noqa: DTZ001
    lambda naive: st.sampled_from([*ZONES, *OFFSETS]).map(lambda zone: naive.replace(tzinfo=zone))
)
others = st.one_of(
    moments,
    moments.map(pendulum.instance),
    st.dates(),
    st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1e6, max_value=1e6),
    st.uuids(),
    st.sampled_from([Colour.RED, Size.BIG, Plain.A, Text("x"), zoneinfo.ZoneInfo("Asia/Tokyo")]),
    st.sampled_from([pendulum.timezone("Europe/Paris"), pendulum.date(2020, 1, 2)]),
    st.builds(Model, name=st.text(max_size=3), sizes=st.lists(st.integers(0, 9), max_size=2)),
    st.floats(width=32, allow_nan=False).map(np.float64),
)
keys = texts | integers | st.booleans() | st.none() | floats | st.sampled_from([Size.BIG, (1, 2)])
hashable = atoms | moments | st.tuples(integers, texts)


def containers(inner):
    return st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(texts, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3),
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.sets(hashable, max_size=2),
        st.frozensets(hashable, max_size=2),
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner),
        st.builds(Attrs, inner, inner),
        st.builds(Custom, inner),
        st.lists(inner, max_size=2).map(lambda items: collections.OrderedDict(enumerate(items))),
    )


values = st.recursive(atoms | others, containers, max_leaves=8)


def check_against_stock(strategy, examples):
    """Compare with the stock backend where it takes the value; it has to take most of them."""
    taken = 0

    @hypothesis.settings(max_examples=examples, deadline=None, database=None)
    @hypothesis.given(strategy)
    def check(value):
        nonlocal taken
        # Both get the same sets, which become lists on Airflow 2: of a copy, the order is another.
        try:
            expected = stock(value)
        except RefusedError:
            # What the stock backend refuses may come back; what is refused here is a CodecError,
            # and what was taken can be read.
            try:
                payload = encode(value)
            except CodecError:
                return
            read(payload)
            return
        taken += 1
        assert_same(ours(value), expected)

    check()
    assert taken > examples / 3


def test_whatever_the_stock_backend_takes_comes_back_as_it_gives_it():
    check_against_stock(values, 300)


def test_plain_data_comes_back_as_the_stock_backend_gives_it():
    check_against_stock(
        st.recursive(
            atoms, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20
        ),
        300,
    )


# Values that users want, and the stock backends refuse or change.

wanted = st.one_of(
    st.binary(max_size=8),
    st.binary(max_size=8).map(bytearray),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0]),
    st.integers(2**64, 2**80) | st.integers(-(2**80), -(2**63) - 1),
    st.sampled_from([pathlib.Path("/a/b"), pathlib.PurePosixPath("a"), pathlib.PurePath()]),
    st.sampled_from([pathlib.PureWindowsPath("c:\\x"), pathlib.Path("caf\udce9")]),
    st.sampled_from([np.int8(-3), np.uint64(2**64 - 1), np.float32(1.5), np.bool_(0), np.bool_(1)]),
    st.sampled_from(
        [np.complex128(1 + 2j), np.datetime64("2020-01-01", "s"), np.timedelta64(3, "s")]
    ),
    st.sampled_from(
        [np.arange(6).reshape(2, 3), np.asfortranarray(np.eye(3)), np.array([]), np.array(5.5)]
    ),
    st.sampled_from([dt.datetime(2020, 1, 1, 2, 3, 4, 5, zone) for zone in OFFSETS]),
    st.complex_numbers(),
    st.times().map(lambda time: time.replace(fold=0))
    | st.sampled_from([dt.time(1, 2, tzinfo=zone) for zone in OFFSETS]),
    st.sampled_from([pd.NA, pd.NaT, pd.Timedelta(5), pd.Timedelta("3s").as_unit("s")]),
    st.sampled_from([pd.Timestamp(2020, 1, 2, tz=zone) for zone in (*ZONES[1:2], None, *OFFSETS)]),
    st.sampled_from([pd.Timestamp("2020-10-25 01:30Z").tz_convert("Europe/Paris").as_unit("us")]),
    st.lists(st.binary(max_size=3) | st.integers(), max_size=3).map(
        lambda items: collections.deque(items, 5)
    ),
    st.sampled_from([np.array([[1, "a"], [None, b"x"]], object), np.array([[1], [2, 3]], object)]),
    st.just(pd.DataFrame({"a": [1, 2], "b": ["x", None]})),
    st.just(pl.DataFrame({"a": [1, None], "b": ["x", "y"]})),
    st.just(pa.table({"a": [1, None]})),
)
plain_with_wanted = st.recursive(
    st.none() | st.booleans() | integers | floats | st.text(max_size=5) | wanted,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@hypothesis.settings(max_examples=150, deadline=None, database=None)
@hypothesis.given(plain_with_wanted)
def test_what_users_want_comes_back_exactly_from_within_lists_and_dicts(value):
    assert_same(ours(value), value)


@hypothesis.settings(max_examples=150, deadline=None, database=None)
@hypothesis.given(
    st.recursive(
        st.text(max_size=3) | st.dates() | st.uuids() | wanted,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(keys, inner, max_size=3),
            st.tuples(inner, inner),
            st.builds(Pair, inner, inner),
            st.builds(Point, inner, inner),
            st.builds(Frozen, inner),
            st.builds(Attrs, inner, inner),
        ),
        max_leaves=6,
    )
)
def test_what_users_want_comes_back_exactly_from_within_what_airflow_takes_apart(value):
    table = []
    try:
        expected = _restored(stock(_replaced(value, table)), table)
    except RefusedError:
        return
    assert_same(ours(value), expected)


@hypothesis.settings(max_examples=150, deadline=None, database=None)
@hypothesis.given(
    st.recursive(
        atoms | others | wanted,
        lambda inner: st.one_of(
            containers(inner), st.sets(hashable | st.decimals(allow_nan=False))
        ),
        max_leaves=6,
    )
)
def test_under_exact_a_value_comes_back_as_it_was_or_is_refused(value):
    try:
        payload = encode(value, is_exact=True)
    except CodecError:
        return
    assert_same(read(payload), value)


def test_under_exact_a_refusal_names_the_place():
    rows = [{"price": decimal.Decimal("1.10")}] * 3
    for value, path in (
        ({"rows": [*rows, {"price": Colour.RED}]}, r"\$\.rows\[3\]\.price"),
        ([(1, Point(1, Pair(1, 2)))], r"\$\[0\]\[1\]\.y"),
        ({"a": {2: Text("x")}}, r"\$\.a\{0\}"),
        ({"a": Point({2: 1})}, r"\$\.a\.x"),
    ):
        with pytest.raises(CodecError, match=f"encoded: {path}: .*fidelity is exact"):
            encode(value, is_exact=True)
    assert_same(ours_exactly({"rows": rows}), {"rows": rows})


WANTED = (
    *(bytes, bytearray, pathlib.PurePath, np.ndarray, np.generic, complex, dt.time),
    *(pd.DataFrame, pl.DataFrame, pa.Table, pd.Timestamp, pd.Timedelta, type(pd.NaT), type(pd.NA)),
    collections.deque,
)


def _is_wanted(value):
    if isinstance(value, WANTED):
        return True
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dt.datetime):
        return value.tzinfo in OFFSETS
    if type(value) is int:
        return not -(2**63) <= value < 2**64
    return False


def _mapped(value, change):
    """The same containers around what `change` makes of what is in them."""
    if isinstance(value, dict):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, Pair):
        return Pair(*map(change, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(change, value))
    names = [field.name for field in getattr(type(value), "__attrs_attrs__", ())]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    return type(value)(*(change(getattr(value, name)) for name in names)) if names else value


def _replaced(value, table):
    if _is_wanted(value):
        table.append(value)
        return f"token {len(table) - 1} of many"
    return _mapped(value, lambda item: _replaced(item, table))


def _restored(value, table):
    if isinstance(value, str) and value.startswith("token ") and value.endswith(" of many"):
        return table[int(value.split()[1])]
    return _mapped(value, lambda item: _restored(item, table))


# Values worth naming.


def nested(depth, make):
    value = 1
    for _ in range(depth):
        value = make(value)
    return value


NAMED = {
    "keys that collide": {1: "a", "1": "b", 2.5: "c", "2.5": "d"},
    "keys of all kinds": {
        1: 1,
        1.5: 2,
        None: 3,
        False: 4,
        Size.BIG: 5,
        Colour.RED: 6,
        Text("t"): 7,
    },
    "keys within a tuple": ({2: 2, None: 3, True: 4},),
    "old style": [{"__type": "dict", "__var": {"a": 1}}, {"__type": "x"}, {"__var": 1}],
    "old style tuple": {"a": {"__type": "tuple", "__var": [1, 2]}},
    "reserved, not at the top": [
        {"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1]}
    ],
    "reserved, no version": {"a": {"__classname__": "x"}},
    "reserved id": {"a": {"__id__": "x"}},
    "other reserved": {"__version__": 1, "__data__": 2, "__cache__": 3, "__source": 4},
    "tuples in lists": [(1, (2, [3, (4,)])), Pair(1, Pair(2, 3))],
    "sets in dicts": {"a": {1, 2}, "b": frozenset("ab"), "c": [{frozenset([1])}]},
    "records in records": Point(Point(1, 2), [Attrs(1, Frozen(2))]),
    "attrs of a set": Attrs({1, 2}, {"a": (1, 2)}),
    "a model": {"m": Model(name="é", sizes=[1], when=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))},
    "enums": [Colour.RED, Size.BIG, {Size.BIG: Colour.RED}],
    "a decimal with many digits": [
        decimal.Decimal("0.12345678901234567890"),
        decimal.Decimal("1E+3"),
    ],
    "text that is no UTF-8": "\ud800",
    "a long list": list(range(5000)),
    "deep lists": nested(300, lambda value: [value]),
    "deep dicts": nested(150, lambda value: {"a": value}),
    "deep tuples": nested(60, lambda value: (value,)),
    "clocks": [dt.datetime(2020, 10, 25, 2, 30, 1, 7, zone, fold=1) for zone in ZONES],
    "pendulum": [pendulum.datetime(2020, 1, 1, tz="Asia/Tokyo"), pendulum.date(2020, 1, 1)],
    "spans": [dt.timedelta(1, 2, 3), dt.timedelta(0), pendulum.duration(days=1).as_timedelta()],
    "zones": [zone for zone in ZONES if isinstance(zone, zoneinfo.ZoneInfo)],
    "numbers of numpy": [np.float64(1.5), (np.int32(1), np.float16(0.5))],
    "many rows": [(at, f"u{at}", dt.date(2020, 1, 1), decimal.Decimal("1.5")) for at in range(50)],
    "uuid": uuid.UUID(int=7),
    "custom": [Custom((1, 2)), Custom({"a": Custom(1)})],
}


SHAPES = {
    "lists": (lambda value: [value], lambda value: value[0]),
    "dicts": (lambda value: {"a": value}, lambda value: value["a"]),
    "tuples": (lambda value: (value,), lambda value: value[0]),
    "both": (lambda value: [{"a": value}], lambda value: value[0]["a"]),
    "sets in lists": (lambda value: [value, {1}], lambda value: value[0]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_values_are_taken_as_deep_as_the_stock_backend_takes_them(shape):
    make, inner = SHAPES[shape]

    def takes(backend, depth):
        try:
            value = backend(nested(depth, make))
        except (RefusedError, CodecError):
            return False
        for _ in range(depth):
            value = inner(value)
        return value == 1

    low, high = 1, 1500
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(stock, middle) else (low, middle)
    assert low > 100
    assert takes(ours, low)
    with pytest.raises(CodecError, match="nested too deeply"):
        encode(nested(5000, make))


def assets():
    if VERSION < (3, 0):
        dataset = importlib.import_module("airflow.datasets").Dataset
        return [dataset("s3://bucket/key", extra={"a": 1})]
    sdk = importlib.import_module("airflow.sdk")
    return [
        sdk.Asset(name="n", uri="s3://bucket/key", group="g", extra={"a": [1]}),
        {"path": sdk.ObjectStoragePath("file:///some/where")},
    ]


NAMED["assets"] = assets()
#: What a version's stock backend does not take, of the above.
REFUSED = {
    "old style tuple": VERSION < (3, 2),
    "reserved, not at the top": VERSION >= (3, 0),
    "reserved, no version": VERSION >= (3, 0),
    "reserved id": VERSION >= (3, 0),
    "text that is no UTF-8": VERSION >= (3, 0),
    "sets in dicts": VERSION < (3, 0),
    "uuid": VERSION < (3, 2),
    "numbers of numpy": VERSION < (3, 0) and np.lib.NumpyVersion(np.__version__) >= "2.0.0",
    "pendulum": VERSION < (3, 0),
    "deep lists": VERSION >= (3, 0),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_value_comes_back_as_the_stock_backend_gives_it(name):
    if REFUSED.get(name):
        with pytest.raises(RefusedError):
            stock(copy.deepcopy(NAMED[name]))
        try:
            payload = encode(NAMED[name])
        except CodecError:
            return
        read(payload)
    else:
        assert_same(ours(NAMED[name]), stock(copy.deepcopy(NAMED[name])))


def local():
    @dataclasses.dataclass
    class Local:
        x: int = 1

    return Local()


@dataclasses.dataclass
class WithoutInit:
    x: int = 1
    doubled: int = dataclasses.field(default=2, init=False)


class Unread:
    def serialize(self):
        return {"x": 1}


WRITTEN_AND_NOT_READ = {
    "a class of a function": local(),
    "init=False": WithoutInit(),
    "no deserialize": Unread(),
    "the last time": dt.datetime.max,  # noqa: DTZ901
    "the longest time": dt.timedelta.max,
}


@pytest.mark.parametrize("name", WRITTEN_AND_NOT_READ)
def test_what_the_stock_backend_writes_and_cannot_read_is_refused_when_it_is_pushed(name):
    value = {"rows": [(1, WRITTEN_AND_NOT_READ[name])]}
    with pytest.raises(RefusedError) as caught:
        stock(value)
    assert "serialize_value" not in {frame.name for frame in caught.traceback}
    with pytest.raises(CodecError, match=r"\$\.rows\[0\]\[1\]: .* writes and cannot read"):
        encode(value)


SCALARS = [
    np.dtype(kind).type(1)
    for kind in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
]


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: scalar.dtype.name)
def test_a_scalar_of_numpy_is_the_same_where_the_stock_backend_takes_it(scalar):
    for value in (scalar, [scalar], (scalar,), {"a": {"b": scalar}}):
        try:
            expected = stock(value)
        except RefusedError:
            expected = value
        assert_same(ours(value), expected)


@pytest.mark.parametrize("name", frames())
def test_a_frame_comes_back_exactly_on_the_libraries_of_this_airflow(name):
    frame = frames()[name]
    assert encode(frame).codec is CodecId.ARROW
    assert_same(ours(frame), frame)
    assert_same(ours({"a": [frame]}), {"a": [frame]})
    assert_same(ours(Point(frame)).x, frame)


def test_what_is_no_frame_of_ours_comes_back_as_the_stock_backend_gives_it():
    frame = pd.DataFrame({"pairs": [(1, 2), (3, 4)]})
    try:
        expected = stock(frame)
    except RefusedError:  # pandas 3 on Airflow before 3.3
        with pytest.raises(CodecError, match=r"\$\.pairs\[0\]"):
            encode(frame)
        return
    assert_same(ours(frame).map(list), expected.map(list))


def test_a_class_that_airflow_does_not_allow_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = json.dumps({"__classname__": "canary_module.Boom", "__version__": 1, "__data__": {}})
    payload = Payload(CodecId.SERDE, document.pack([text.encode(), "", []], lambda _: None))
    with pytest.raises(CodecError, match="allowed_deserialization_classes"):
        decode(payload)
    assert "canary_module" not in sys.modules
    monkeypatch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", "canary_module.*")
    forget()
    with pytest.raises(SystemExit, match="imported"):
        decode(payload)
    monkeypatch.undo()
    forget()


def test_a_refusal_names_the_path():
    for value, path in (
        ({"rows": [1, {"when": object()}]}, r"\$\.rows\[1\]\.when"),
        ([(1, Point(1, range(1)))], r"\$\[0\]\[1\]\.y"),
        ({"a": {"b": np.array([object()])}}, r"\$\.a\.b"),
    ):
        with pytest.raises(CodecError, match=f"encoded: {path}: "):
            encode(value)


# The table of types in docs/codecs.md.

PAGE = pathlib.Path(document.__file__).parents[2] / "docs" / "codecs.md"
LINES = re.findall(
    r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) "
    r"\| (as it was|as stock|refused) \| (as it was|refused) \|$",
    PAGE.read_text(),
    re.MULTILINE,
)


def outcome(backend, value):
    """What comes of a value in a list in a dict, in the words of the table."""
    try:
        (back,) = backend({"rows": [value]})["rows"]
    except RefusedError as error:
        frames = traceback.walk_tb(error.__cause__.__traceback__)
        read = any(frame.f_code.co_name == "deserialize_value" for frame, _ in frames)
        return "lost at the pull" if read else "refused"
    except CodecError:
        return "refused"
    if difference(back, value) is None:
        return "as it was"
    is_of_type = type(back) is type(value) and not isinstance(value, dict)
    return "changed" if is_of_type else f"`{type(back).__name__}`"


@pytest.mark.skipif(VERSION not in ((2, 11), (3, 3)), reason="the table is of these two")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_the_table_of_types_says_what_comes_back(line):
    spelled, on_2, on_3, with_ours, when_exact = line
    value = eval(spelled)  # noqa: S307 - our own page
    with_stock = on_2 if VERSION < (3, 0) else on_3
    assert outcome(stock, copy.deepcopy(value)) == with_stock
    if with_ours == "as stock" and with_stock != "refused":
        assert_same(ours({"rows": [value]}), stock(copy.deepcopy({"rows": [value]})))
    else:
        assert outcome(ours, value) == with_ours.replace("as stock", "refused")
    assert outcome(ours_exactly, value) == when_exact


def test_the_table_of_types_is_found():
    assert len(LINES) > 40
