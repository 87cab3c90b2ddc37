"""Small values that neither MessagePack nor Airflow has a type for (`docs/codecs.md`, section 1).

small = u8 kind | bytes
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
import uuid
from collections.abc import Callable
from contextlib import suppress

import ormsgpack

from secure_xcom.codecs.calendars import read_zone, write_zone
from secure_xcom.codecs.libraries import Untyped, library_of, made_by, need
from secure_xcom.codecs.refusal import Refused
from secure_xcom.errors import CodecError, FormatError

_COMPLEX, _TIME, _NA, _NAT, _TIMEDELTA, _TIMESTAMP = range(1, 7)
# There is no kind 7.
_DECIMAL, _DATETIME, _DATE, _SPAN, _UUID = range(8, 13)
_UNITS = ("s", "ms", "us", "ns")
_COUNT = struct.Struct(">Bq")
_COMPLEX_PARTS = struct.Struct(">dd")
_SPAN_PARTS = struct.Struct(">iII")
#: How a number is written does not depend on the context of whoever pushes it.
_SPELLING = decimal.Context(capitals=1)
_NOT_A_TIME = -(2**63)

#: Types of Python itself that are small values.
TYPES = frozenset((complex, dt.time))


def write(value: Untyped) -> bytes | None:
    """Kind and bytes of a small value; None if it is none, or not one that comes back exactly."""
    kind = type(value)
    if kind is complex:
        return bytes((_COMPLEX,)) + _COMPLEX_PARTS.pack(value.real, value.imag)
    if kind is dt.time:
        text = value.isoformat()
        # Neither `fold` nor the name of a zone is in it.
        is_exact = repr(dt.time.fromisoformat(text)) == repr(value)
        return bytes((_TIME,)) + text.encode("ascii") if is_exact else None
    pandas = made_by(value, "pandas") if library_of(kind) == "pandas" else None
    return None if pandas is None else _write_pandas(pandas, value)


def write_exact(value: Untyped) -> bytes | None:
    """Kind and bytes of what is a small value only where values have to come back exactly."""
    kind = type(value)
    if kind is decimal.Decimal:
        return bytes((_DECIMAL,)) + _SPELLING.to_sci_string(value).encode("ascii")
    if kind is dt.datetime:
        return _write_datetime(value)
    if kind is dt.date:
        text: str = value.isoformat()
        return bytes((_DATE,)) + text.encode("ascii")
    if kind is dt.timedelta:
        return bytes((_SPAN,)) + _SPAN_PARTS.pack(value.days, value.seconds, value.microseconds)
    if kind is uuid.UUID:
        return b"".join((bytes((_UUID,)), value.bytes))
    return None


def _write_datetime(value: dt.datetime) -> bytes | None:
    try:
        zone = None if value.tzinfo is None else write_zone(value.tzinfo)
        text = value.replace(tzinfo=None).isoformat()
        data = bytes((_DATETIME,)) + ormsgpack.packb([text, value.fold, zone])
        restored: Untyped = read(data)
    except (Refused, CodecError):
        return None
    # Two zones of one library and name may still differ, as those of pytz do.
    same_zone = repr(restored.tzinfo) == repr(value.tzinfo) and (
        type(restored.tzinfo) is type(value.tzinfo)
    )
    return data if same_zone else None


def _write_pandas(pandas: Untyped, value: Untyped) -> bytes | None:
    if value is pandas.NA or value is pandas.NaT:
        return bytes((_NA if value is pandas.NA else _NAT,))
    if type(value) not in (pandas.Timedelta, pandas.Timestamp):
        return None
    count = _COUNT.pack(_UNITS.index(value.unit), int(value.asm8.view("i8")))
    if type(value) is pandas.Timedelta:
        return bytes((_TIMEDELTA,)) + count
    zone = b""
    if value.tzinfo is not None:
        try:
            zone = ormsgpack.packb(write_zone(value.tzinfo))
        except Refused:
            return None
    data = bytes((_TIMESTAMP,)) + count + zone
    restored: Untyped = read(data)
    is_exact = repr(restored.tzinfo) == repr(value.tzinfo) and restored.fold == value.fold
    return data if is_exact else None


def read(data: bytes) -> object:
    """The value.

    Raises:
        FormatError: it is not what `write` writes.
        CodecError: a library is missing, or does not know the unit or the time zone.
    """
    reader = _READERS.get(data[0]) if data else None
    if reader is None:
        raise FormatError("The encoded value holds a small value that this version does not know.")
    return reader(data[1:])


def _malformed() -> FormatError:
    return FormatError("The encoded value holds a small value of a wrong length or spelling.")


def _read_complex(data: bytes) -> complex:
    if len(data) != _COMPLEX_PARTS.size:
        raise _malformed()
    real, imaginary = _COMPLEX_PARTS.unpack(data)
    return complex(real, imaginary)


def _read_time(data: bytes) -> dt.time:
    time = None
    with suppress(ValueError):
        time = dt.time.fromisoformat(data.decode("ascii"))
    if time is None or time.isoformat().encode("ascii") != data:
        raise _malformed()
    return time


def _read_decimal(data: bytes) -> decimal.Decimal:
    number = None
    with suppress(ValueError, decimal.InvalidOperation):
        number = decimal.Decimal(data.decode("ascii"))
    if number is None or _SPELLING.to_sci_string(number).encode("ascii") != data:
        raise _malformed()
    return number


def _read_datetime(data: bytes) -> dt.datetime:
    described = ormsgpack.unpackb(data)
    match described:
        case [str(text), int(fold), zone] if type(fold) is int and fold in (0, 1):
            time = None
            with suppress(ValueError):
                time = dt.datetime.fromisoformat(text)
            is_exact = time and time.tzinfo is None and time.isoformat() == text
            if time and is_exact and ormsgpack.packb(described) == data:
                tzinfo = None if zone is None else read_zone(zone)
                return time.replace(tzinfo=tzinfo, fold=fold)
    raise _malformed()


def _read_date(data: bytes) -> dt.date:
    date = None
    with suppress(ValueError):
        date = dt.date.fromisoformat(data.decode("ascii"))
    if date is None or date.isoformat().encode("ascii") != data:
        raise _malformed()
    return date


def _read_span(data: bytes) -> dt.timedelta:
    span = None
    if len(data) == _SPAN_PARTS.size:
        with suppress(OverflowError):
            span = dt.timedelta(*_SPAN_PARTS.unpack(data))
    if span is None or _SPAN_PARTS.pack(span.days, span.seconds, span.microseconds) != data:
        raise _malformed()
    return span


def _read_uuid(data: bytes) -> uuid.UUID:
    if len(data) != 16:  # noqa: PLR2004 - as long as each of them is
        raise _malformed()
    return uuid.UUID(bytes=data)


def _read_singleton(name: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        if data:
            raise _malformed()
        return getattr(need("pandas"), name)

    return read


def _read_count(data: bytes) -> tuple[str, int]:
    if len(data) < _COUNT.size:
        raise _malformed()
    unit, count = _COUNT.unpack_from(data)
    if unit >= len(_UNITS) or count == _NOT_A_TIME:
        raise _malformed()
    return _UNITS[unit], count


def _read_timedelta(data: bytes) -> object:
    if len(data) != _COUNT.size:
        raise _malformed()
    unit, count = _read_count(data)
    return need("pandas").Timedelta(need("numpy").timedelta64(count, unit))


def _read_timestamp(data: bytes) -> object:
    unit, count = _read_count(data)
    timestamp = need("pandas").Timestamp(need("numpy").datetime64(count, unit))
    if not (zone := data[_COUNT.size :]):
        return timestamp
    described = ormsgpack.unpackb(zone)
    if ormsgpack.packb(described) != zone:
        raise _malformed()
    return timestamp.tz_localize("UTC").tz_convert(read_zone(described))


_READERS: dict[int, Callable[[bytes], object]] = {
    _COMPLEX: _read_complex,
    _TIME: _read_time,
    _NA: _read_singleton("NA"),
    _NAT: _read_singleton("NaT"),
    _TIMEDELTA: _read_timedelta,
    _TIMESTAMP: _read_timestamp,
    _DECIMAL: _read_decimal,
    _DATETIME: _read_datetime,
    _DATE: _read_date,
    _SPAN: _read_span,
    _UUID: _read_uuid,
}
