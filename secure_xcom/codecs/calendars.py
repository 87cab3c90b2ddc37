"""Time zones and date offsets as plain data: for the columns and indexes of DataFrames."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Callable

from secure_xcom.codecs.libraries import Untyped, need
from secure_xcom.codecs.refusal import Refused
from secure_xcom.errors import CodecError, FormatError

_MICROSECOND = dt.timedelta(microseconds=1)


def _pytz(name: str) -> Untyped:
    """A zone of pytz; pandas 3 does without it, and knows the same zones by zoneinfo."""
    try:
        return need("pytz").timezone(name)
    except CodecError:
        return zoneinfo.ZoneInfo(name)


_ZONES: dict[str, Callable[[str], Untyped]] = {
    "zoneinfo": zoneinfo.ZoneInfo,
    "pytz": _pytz,
    "pendulum": lambda name: need("pendulum").timezone(name),
}


def write_zone(zone: Untyped) -> list[object]:
    """A time zone as the library that it is from, and its name or its offset in microseconds.

    Raises:
        Refused: it is of a library that is not known here.
    """
    library = type(zone).__module__.partition(".")[0]
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if library in _ZONES and isinstance(name, str):
        return [library, name]
    if type(zone) is dt.timezone:
        return ["datetime", zone.utcoffset(None) // _MICROSECOND]
    raise Refused(
        f"a time zone of type {type(zone).__module__}.{type(zone).__name__}; use zoneinfo.ZoneInfo"
    )


def read_zone(described: object) -> Untyped:
    """The time zone that `write_zone` described.

    Raises:
        FormatError: the description is malformed.
        CodecError: the zone is not known on this machine.
    """
    match described:
        case ["datetime", int(microseconds)]:
            offset = microseconds * _MICROSECOND
            if abs(offset) < dt.timedelta(days=1):
                return dt.timezone(offset) if offset else dt.UTC
        case [str(library), str(name)] if library in _ZONES:
            zone = None
            try:
                zone = _ZONES[library](name)
            except CodecError:
                raise
            except Exception as error:  # each library has a class of its own for it
                raise CodecError(f"The time zone {name!r} is not known here.") from error
            return zone
    raise FormatError("A time zone has no description that this version knows.")


def write_offset(pd: Untyped, offset: Untyped) -> list[object] | None:
    """A date offset of pandas by class and arguments: its aliases change between versions.

    Raises:
        Refused: it has arguments that are not plain data.
    """
    if offset is None:
        return None
    arguments = {
        name: item
        for name, item in offset.kwds.items()
        if type(item) in (bool, int, str, type(None))  # others may well be the default
    }
    described = [type(offset).__name__, offset.n, bool(offset.normalize), arguments]
    if _offset(pd, described) != offset:
        raise Refused(f"a frequency of type {type(offset).__name__} that is not plain data")
    return described


def read_offset(pd: Untyped, described: object) -> Untyped:
    """The offset that `write_offset` described.

    Raises:
        FormatError: the description is malformed.
    """
    offset = None if described is None else _offset(pd, described)
    if offset is None and described is not None:
        raise FormatError("A frequency has no description that this version knows.")
    return offset


def _offset(pd: Untyped, described: object) -> Untyped:
    match described:
        case [str(name), int(count), bool(normalize), dict(arguments)]:
            made = getattr(pd.offsets, name, None)
            if isinstance(made, type) and issubclass(made, pd.offsets.BaseOffset):
                # Ticks such as `Hour` take no `normalize`.
                more = {"normalize": True} if normalize else {}
                return made(count, **more, **arguments)
    return None
