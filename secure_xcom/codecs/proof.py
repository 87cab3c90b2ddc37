"""Whether Airflow reads what it wrote: its serialisation writes more than it reads.

What cannot be read is refused when it is pushed, where someone can still mend it. Reading all of a
value to find out costs as much as a pull, so that is done only where the value decides: where
classes are restored by code of their own, and where times are so early or late that an offset or a
rounding takes them out of the calendar. Other classes and time zones are tried once a process.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import re
from collections.abc import Callable

from secure_xcom.codecs.libraries import Untyped
from secure_xcom.codecs.refusal import fields_of

#: A class in what Airflow wrote; the group is empty where something else than a name stands.
_CLASS = re.compile(r'"__classname__":(?:"([^"\\]*)")?')
#: Airflow 2 reads dicts with this key as classes, too.
_OLD_STYLE = '"__type":'
#: What Airflow restores whatever the value is; a frozenset within a set is a list on Airflow 2, and
#: times are looked at one by one. Tables of these libraries are read from where they lie, which is
#: not for a push to do.
_READ_ALWAYS = {
    "builtins.set",
    "builtins.tuple",
    "datetime.date",
    "datetime.datetime",
    "datetime.timedelta",
    "decimal.Decimal",
    "deltalake.table.DeltaTable",
    "pendulum.date.Date",
    "pendulum.datetime.DateTime",
    "pyiceberg.table.Table",
    "uuid.UUID",
    *(f"numpy.{name}{bits}" for name in ("int", "uint") for bits in (8, 16, 32, 64)),
    *(f"numpy.float{bits}" for bits in (16, 32, 64)),
}
#: Airflow writes seconds as a float, which rounds the last days up.
_LAST_DAYS = dt.timedelta.max.days - 1
#: Where Airflow looks for the name of a time zone.
ZONE_NAMES = ("key", "name", "zone")
#: How many classes and zones are remembered.
_TRIED = 1024
_read_zones: set[tuple[type, str]] = set()


class Unreadable(Exception):  # noqa: N818 - like `Refused`, which it becomes
    """What Airflow wrote of a value cannot be read here; says why, without contents."""


class Proof:
    """What was seen in one value.

    Args:
        check: writes a value and reads it; raises if either fails.
    """

    def __init__(self, check: Callable[[object], None]) -> None:
        self._check = check
        self._is_in_doubt = False
        self._tried: set[str] = set()

    def is_needed(self, text: str) -> bool:
        """Whether all of what Airflow wrote is to be read."""
        names = set(_CLASS.findall(text))
        # A member of a set has to be hashable again, which depends on what is in it.
        has_records_in_sets = self._tried and "builtins.set" in names
        return bool(
            self._is_in_doubt
            or has_records_in_sets
            or names - _READ_ALWAYS - self._tried
            or _OLD_STYLE in text
        )

    def note_time(self, value: dt.datetime) -> None:
        """Take note of a time; raises if its zone cannot be read."""
        if not dt.MINYEAR < value.year < dt.MAXYEAR:
            self._is_in_doubt = True
        elif value.tzinfo is not None:
            _try_zone(self._check, value.tzinfo)

    def note_span(self, value: dt.timedelta) -> None:
        """Take note of a duration."""
        if abs(value.days) >= _LAST_DAYS:
            self._is_in_doubt = True

    def note_record(self, value: object) -> None:
        """Take note of a dataclass or an attrs instance; raises if its class cannot be read."""
        kind: Untyped = type(value)
        if _is_made_by_its_fields(kind):
            _try_class(self._check, kind)
            self._tried.add(f"{kind.__module__}.{kind.__qualname__}")


@functools.lru_cache(maxsize=_TRIED)
def _try_class(check: Callable[[object], None], kind: Untyped) -> None:
    blank: object = object.__new__(kind)
    for name in fields_of(blank):
        object.__setattr__(blank, name, None)
    check(blank)


def _try_zone(check: Callable[[object], None], zone: dt.tzinfo) -> None:
    # Airflow writes a zone's class and name; those of pendulum 3 have no hash.
    name = next((str(getattr(zone, name, "")) for name in ZONE_NAMES if hasattr(zone, name)), "")
    written = (type(zone), name)
    if written not in _read_zones:
        check(dt.datetime(2020, 1, 1, tzinfo=zone))
        if len(_read_zones) >= _TRIED:
            _read_zones.clear()
        _read_zones.add(written)


@functools.lru_cache(maxsize=_TRIED)
def _is_made_by_its_fields(kind: Untyped) -> bool:
    """Whether instances are made of whatever their fields held, by no code of the class's own."""
    is_generated = getattr(getattr(kind.__init__, "__code__", None), "co_filename", "").startswith(
        "<"
    )
    has_own_code = any(
        hasattr(kind, name)
        for name in ("__post_init__", "__attrs_post_init__", "__attrs_pre_init__", "deserialize")
    )
    if not is_generated or has_own_code or kind.__new__ is not object.__new__:
        return False
    if hasattr(kind, "__dataclass_params__"):
        is_frozen = kind.__dataclass_params__.frozen
        return bool(is_frozen or kind.__setattr__ is object.__setattr__) and not any(
            isinstance(vars(kind).get(field.name), property) for field in dataclasses.fields(kind)
        )
    return all(
        attribute.validator is None and attribute.converter is None and attribute.on_setattr is None
        for attribute in kind.__attrs_attrs__
    )
