"""What Airflow writes and cannot read is refused when it is pushed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import importlib
import traceback
import zoneinfo
from typing import NamedTuple

import attr
import pydantic
import pytest

from secure_xcom.codecs import decode, encode, proof, serde
from secure_xcom.errors import CodecError

try:
    SERDE = importlib.import_module("airflow.sdk.serde")
except ImportError:  # before Airflow 3.2
    SERDE = importlib.import_module("airflow.serialization.serde")
CARD = "4111111111111111"


@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = 0


@attr.define(frozen=True)
class Attrs:
    x: object = 0


@dataclasses.dataclass
class WithoutInit:
    x: object
    sum: object = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class WithVariable:
    x: object
    scale: dataclasses.InitVar[int]


@dataclasses.dataclass
class Checked:
    x: object

    def __post_init__(self):
        if not isinstance(self.x, Point):
            raise ValueError(CARD)  # noqa: TRY004


class Aliased(pydantic.BaseModel):
    size: int = pydantic.Field(alias="Size")


class Unread:
    def serialize(self):
        return {"card": CARD}

    @staticmethod
    def deserialize(data, version):
        raise RuntimeError(data, version)


class Outer:
    @dataclasses.dataclass
    class Inner:
        x: int = 0


class Pair(NamedTuple):
    left: object
    right: object


def local():
    @dataclasses.dataclass
    class Local:
        x: object = CARD

    return Local()


def zone():
    with open(zoneinfo.TZPATH[0] + "/Europe/Paris", "rb") as file:  # noqa: PTH123
        return zoneinfo.ZoneInfo.from_file(file, key="Nowhere/Near")


@pytest.fixture(autouse=True)
def allow(monkeypatch):
    """Let Airflow restore classes by these patterns, and no others."""

    def allow(*patterns):
        monkeypatch.setenv(
            "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", " ".join(("airflow.*", *patterns))
        )
        forget()

    allow(f"{__name__}.*")
    yield allow
    monkeypatch.undo()
    forget()


def forget():
    for name in ("_get_patterns", "_get_regexp_patterns", "_match_glob", "_match_regexp"):
        getattr(SERDE, name).cache_clear()
    proof._try_class.cache_clear()
    proof._read_zones.clear()


UNREADABLE = {
    "a class of a function": (local, "at the top of a module"),
    "a class of a class": (Outer.Inner, "cannot be imported"),
    "init=False": (lambda: WithoutInit(1), "init=False"),
    "InitVar": (lambda: WithVariable(1, 2), "InitVar"),
    "a field that is no record any more": (lambda: Checked(Point(1)), "constructor"),
    "an alias": (lambda: Aliased(Size=1), "ValidationError"),
    "its own method": (Unread, "RuntimeError"),
    "the last time": (lambda: dt.datetime.max, "near the end"),  # noqa: DTZ901
    "the first time, east of UTC": (
        lambda: dt.datetime.min.replace(tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")),
        "datetime",
    ),
    "the longest time": (lambda: dt.timedelta.max, "near the end"),
    "a zone of another name": (
        lambda: dt.datetime(2020, 1, 1, tzinfo=zone()),
        "datetime",
    ),
    "records in a set": (lambda: {Point(Point(1))}, "set"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_refused_when_it_is_pushed(name):
    make, why = UNREADABLE[name]
    for _ in range(2):  # what was found out before does not let it pass
        with pytest.raises(CodecError, match=why) as caught:
            encode({"rows": [1, (make(), 2)]})
        assert "encoded: $.rows[1][0]: a value of type " in str(caught.value)
        assert caught.value.__context__ is None
        assert CARD not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("value", [Point(1), Attrs(1), Unread()], ids=["dataclass", "attrs", "own"])
def test_a_class_that_may_not_be_read_is_refused_when_it_is_pushed(value, allow):
    allow()
    with pytest.raises(CodecError, match=r"\$\[1\]: .*allowed_deserialization_classes"):
        encode([1, value])


READABLE = [
    (Point(1), [Attrs(2), Point(Attrs((3,)), {4})]),
    {Attrs(1), Attrs(2)},
    {Pair(1, (2, 3))},
    [dt.datetime(2, 1, 1, tzinfo=dt.UTC), dt.datetime(9998, 12, 31), dt.timedelta(999_999_000)],  # noqa: DTZ001
    (dt.timedelta.min, dt.datetime(9999, 1, 1, tzinfo=dt.UTC)),
    {"a": [Point(b"x")]},
]


@pytest.mark.parametrize("value", READABLE, ids=range(len(READABLE)))
def test_what_can_be_read_is_taken(value):
    restored = decode(encode(value))
    assert type(restored) is type(value)


def test_what_only_its_fields_decide_is_read_once_and_not_each_time(monkeypatch):
    encode(([Point(1)], dt.datetime(2020, 1, 1, tzinfo=dt.UTC), Attrs(1)))
    monkeypatch.setattr(serde, "_read_back", lambda _: pytest.fail("it was read again"))
    encode(([Point(2)] * 3, dt.datetime(2021, 1, 1, tzinfo=dt.UTC), Attrs(3)))


@dataclasses.dataclass
class Clearing:
    data: bytearray

    def __post_init__(self):
        self.data.clear()


def test_what_is_read_is_a_copy():
    value = Clearing(bytearray())
    value.data.extend(b"abc")
    encode([value])
    assert value.data == b"abc"


@dataclasses.dataclass
class Even:
    x: int

    def __post_init__(self):
        if self.x % 2:
            raise ValueError(self.x)


def test_sets_in_sets_are_read(monkeypatch):
    reads = []
    monkeypatch.setattr(serde, "_read_back", reads.append)
    encode({"a": [{frozenset([1])}]})
    assert reads


def test_what_its_value_decides_is_read_each_time():
    value = Even(2)
    assert decode(encode(value)) == value
    value.x = 3
    with pytest.raises(CodecError, match="constructor"):
        encode(value)
    assert decode(encode([Even(4)])) == [Even(4)]
