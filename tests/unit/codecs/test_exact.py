"""Values under `fidelity = exact`: as they were, or refused with the place."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import importlib
import uuid
import zoneinfo
from functools import reduce
from typing import NamedTuple

import hypothesis
import numpy as np
import pandas as pd
import pendulum
import pydantic
import pytest
from hypothesis import strategies as st
from support.sameness import assert_same, difference

from secure_xcom.codecs import decode, encode, exact, proof
from secure_xcom.codecs.refusal import Refused
from secure_xcom.errors import CodecError
from secure_xcom.model import CodecId, Payload

try:
    SERDE_OF_AIRFLOW = importlib.import_module("airflow.sdk.serde")
except ImportError:  # before Airflow 3.2
    SERDE_OF_AIRFLOW = importlib.import_module("airflow.serialization.serde")
PARIS = zoneinfo.ZoneInfo("Europe/Paris")
D = decimal.Decimal


class Colour(str, enum.Enum):  # noqa: UP042 - another kind than a StrEnum
    RED = "red"


class Size(enum.IntEnum):
    BIG = 7


class Plain(enum.Enum):
    A = 1


class Pair(NamedTuple):
    left: object
    right: object


class Zone(dt.tzinfo):
    def utcoffset(self, _):
        return dt.timedelta(0)


@dataclasses.dataclass
class Row:
    price: object
    more: object = None

    @classmethod
    def deserialize(cls, data, version):
        assert version == 0
        return cls(**data)


class Rounded:
    """A class whose own serialisation loses something."""

    def __init__(self, amount):
        self.amount = amount

    def serialize(self):
        return {"amount": round(self.amount)}

    @staticmethod
    def deserialize(data, _):
        return Rounded(data["amount"])


class Model(pydantic.BaseModel):
    name: str
    sizes: list[int] = []
    _seen: int = pydantic.PrivateAttr(0)


def with_another(value, attribute):
    setattr(value, attribute, 1)
    return value


def mine(base):
    return type("Mine", (base,), {})


@pytest.fixture(autouse=True, scope="module")
def _allowed():
    """Airflow may restore the classes above; it remembers what it was told before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", f"airflow.* {__name__}.*")
        forget()
        yield
    forget()


def forget():
    for name in ("_get_patterns", "_get_regexp_patterns", "_match_glob", "_match_regexp"):
        getattr(SERDE_OF_AIRFLOW, name).cache_clear()
    proof._try_class.cache_clear()


def back(value):
    payload = encode(value, is_exact=True)
    raw = b"".join(bytes(memoryview(one).cast("B")) for one in payload.buffers if len(one))
    return payload.codec, decode(Payload(payload.codec, (raw,)))


EXACT = [
    b"x",
    D("1.10"),
    D("-0E+3"),
    D("sNaN1"),
    {1: "a", "1": "b", None: 2, (1, D("2")): [{True: bytearray(b"x")}]},
    [(1, (2, [])), (), {1, (2,)}, frozenset({frozenset({1})})],
    collections.OrderedDict(b=1, a={2: 3}),
    collections.deque([(1, {2: 3})], 4),
    [dt.datetime.max, dt.datetime.min, dt.timedelta.max, dt.timedelta(-1, 5, 7)],  # noqa: DTZ901
    [
        dt.datetime(2020, 1, 1, tzinfo=zone)
        for zone in (dt.UTC, PARIS, pendulum.timezone("Asia/Tokyo"))
    ],
    [dt.datetime(2020, 10, 25, 2, 30, fold=fold, tzinfo=PARIS) for fold in (0, 1)],
    [dt.date.min, uuid.UUID(int=7), np.float64(1.5), {"__classname__": "x", "__id__": 1}],
    {"a": np.arange(3), 2: (pd.DataFrame({"a": [1]}), np.arange(2)), "c": pd.NaT},
    np.array([(1, D("2.0")), {3: 4}], dtype=object),
]


@pytest.mark.parametrize("value", EXACT, ids=range(len(EXACT)))
def test_what_has_a_form_of_its_own_comes_back_as_it_was(value):
    codec, read = back({"rows": [value]})
    assert codec is CodecId.PLAIN
    assert_same(read, {"rows": [value]})
    assert repr(read) == repr({"rows": [value]})  # with the folds of times
    assert_same(back(value)[1], value)


SERDE = [
    Row(D("1.10"), ((1, {2}), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), [bytearray(b"x")])),
    {"a": [Row(pd.DataFrame({"a": [1]}), np.arange(3))], "b": 2**70},
    [Model(name="x"), Model(name="y", sizes=[1])],
    Rounded(2),
    "\ud800",
    reduce(lambda inner, _: [inner], range(300), 1),
]


@pytest.mark.parametrize("value", SERDE, ids=range(len(SERDE)))
def test_what_airflow_has_to_restore_comes_back_as_it_was(value):
    codec, read = back({"rows": [value]})
    assert codec is CodecId.SERDE
    if isinstance(value, Rounded):
        assert vars(read["rows"][0]) == vars(value)
    else:
        assert_same(read, {"rows": [value]})


CHANGED = {
    "text enum": (Colour.RED, "", "Colour", r"`\.value`"),
    "integer enum": (Size.BIG, "", "Size", r"`\.value`"),
    "plain enum": (Plain.A, "", "Plain", r"`\.value`"),
    "named tuple": (Pair(1, 2), "", "Pair", r"`tuple\(…\)` or `\._asdict\(\)`"),
    "text": (mine(str)("x"), "", "Mine", r"`str\(…\)`"),
    "integer": (mine(int)(1), "", "Mine", r"`int\(…\)`"),
    "float": (mine(float)(1), "", "Mine", r"`float\(…\)`"),
    "list": (mine(list)([1]), "", "Mine", r"`list\(…\)`"),
    "dict": (mine(dict)(a=1), "", "Mine", r"`dict\(…\)`"),
    "tuple": (mine(tuple)([1]), "", "Mine", ""),
    "set": (mine(set)([1]), "", "Mine", ""),
    "bytes": (mine(bytes)(b"x"), "", "Mine", ""),
    "decimal": (mine(D)("1"), "", "Mine", ""),
    "time": (mine(dt.datetime)(2020, 1, 1), "", "Mine", ""),
    "ordered": (mine(collections.OrderedDict)(a=1), "", "Mine", ""),
    "default": (collections.defaultdict(list, a=[1]), "", "defaultdict", r"`dict\(…\)`"),
    "counter": (collections.Counter("a"), "", "Counter", r"`dict\(…\)`"),
    "text of numpy": (np.str_("x"), "", "str_", r"`str\(…\)`"),
    "a key": ({Colour.RED: 1}, "", "dict", "keys that are text"),
    "a key that is a text": ({mine(str)("a"): 1}, "", "dict", "keys that are text"),
    "a key within a class": (Row(1, {2: 3}), r"\.more", "dict", "keys that are text"),
    "beside a key": ({1: 2, 3: [Pair(1, 2)]}, r"\{1\}\[0\]", "Pair", ""),
    "a class in a dict": ({1: Row(1)}, "", "dict", "keys that are text"),
    "in a class": (Row([1, Colour.RED]), r"\.price\[1\]", "Colour", ""),
    "its own loss": (Rounded(1.25), "", "Rounded", ""),
    "cells": (pd.DataFrame({"a": [(1, 2)]}), r"\.a\[0\]", "tuple", ""),
    "zone": (dt.datetime(2020, 1, 1, tzinfo=Zone()), "", "datetime", ""),
    "a named zone": (
        dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(0), "one")),
        "",
        "datetime",
        "",
    ),
    "an attribute": (with_another(Row(1), "x"), "", "Row", ""),
    "a private attribute": (
        with_another(Model(name="x"), "_seen"),
        "",
        "Model",
        "",
    ),
    "object": (object(), "", "object", ""),
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_would_come_back_as_something_else_is_refused_with_the_place(name):
    value, path, kind, way = CHANGED[name]
    rows = {"rows": [1, (2, {"price": value})]}
    with pytest.raises(
        CodecError, match=rf"encoded: \$\.rows\[1\]\[1\]\.price{path}: .*{kind}.*{way}"
    ):
        encode(rows, is_exact=True)
    with pytest.raises(CodecError, match=rf"encoded: \${path}: .*{kind}"):
        encode(value, is_exact=True)


def test_the_first_difference_is_named_and_no_contents():
    rows = [Row(1, "4111"), Row("4111", Pair("4111", 2)), Row(Colour.RED)]
    with pytest.raises(CodecError, match=r"\$\[1\]\.more: ") as caught:
        encode({"4111 1": rows}["4111 1"], is_exact=True)
    assert "4111" not in str(caught.value)
    with pytest.raises(CodecError, match=r"\$\{0\}\[1\]\.more: "):
        encode({"4111 1": rows}, is_exact=True)


def test_what_refers_to_itself_is_refused():
    listed, keyed, row = [], {1: 2}, Row(1)
    listed.append((listed,))
    keyed[3] = keyed
    row.price = [row]
    for loop in (listed, keyed, row):
        with pytest.raises(CodecError, match="refers to itself"):
            encode(loop, is_exact=True)


SAME = [1, "x", 1.5, float("nan"), (1,), [{1}], {"a": D("1")}, Row(1), Rounded(1), Model(name="x")]
OTHER = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    ("a", "b"),
    ([1], [1, 2]),
    ([1], []),
    ((1,), [1]),
    ({1}, {True}),
    ({1}, {2}),
    ({1}, {1, 2}),
    ({"a": 1}, {"a": 2}),
    ({"a": 1}, {}),
    ({1: 2}, {True: 2}),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    (D("1.10"), D("1.1")),
    (Row(1), Row(2)),
    (Rounded(1), Rounded(2)),
    (Rounded(1), Rounded(1.0)),
    (mine(str), mine(str)),
    (np.arange(2), np.arange(3)),
    (collections.deque([1], 2), collections.deque([1], 3)),
    (object(), (i for i in ())),
    ((i for i in ()), (i for i in ())),
    (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 1, tzinfo=PARIS)),
    (
        pendulum.datetime(2020, 10, 25, 2, 30, tz="Europe/Paris", fold=0),
        pendulum.datetime(2020, 10, 25, 2, 30, tz="Europe/Paris", fold=1),
    ),
]


@pytest.mark.parametrize("value", SAME, ids=range(len(SAME)))
def test_a_copy_is_the_same(value):
    exact.check([value], [copy.deepcopy(value)], {})


@pytest.mark.parametrize("pair", OTHER, ids=range(len(OTHER)))
def test_a_difference_is_seen_wherever_it_is(pair):
    for one, other in (pair, pair[::-1]):
        for put, path in (
            (lambda item: item, r"\$"),
            (lambda item: [0, {"a": item}], r"\$\[1\]\.a"),
            (lambda item: Row(1, item), r"\$\.more"),
            (Rounded, r"\$"),
        ):
            with pytest.raises(Refused, match=f"^{path}"):
                exact.check(put(one), put(other), {})


atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.binary(),
    st.decimals(), st.dates(), st.datetimes(timezones=st.sampled_from([None, dt.UTC, PARIS])),
    st.timedeltas(), st.uuids(), st.times(),
    st.sampled_from([Colour.RED, Size.BIG, mine(int)(1), mine(str)("x"), np.float64(2)]),
)  # fmt: skip
hashable = st.recursive(
    st.integers()
    | st.text(max_size=2)
    | st.none()
    | st.decimals(allow_nan=False)
    | st.sampled_from(Size),
    lambda inner: st.tuples(inner) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(hashable, inner, max_size=3),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.tuples(inner, inner),
        st.sets(hashable, max_size=2),
        st.builds(Row, inner, inner),
        st.builds(Pair, inner, inner),
        st.lists(st.tuples(hashable, inner), max_size=2).map(collections.OrderedDict),
        st.lists(inner, max_size=2).map(collections.deque),
    ),
    max_leaves=8,
)


@hypothesis.settings(max_examples=150, deadline=None, database=None)
@hypothesis.given(values)
def test_whatever_is_taken_comes_back_as_it_was(value):
    try:
        read = back(value)[1]
    except CodecError:
        return
    assert difference(read, value) is None
