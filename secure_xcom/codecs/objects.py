"""Columns of Python objects: text, dates, numbers of any size, or plain data in each cell."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable, Iterator, Mapping

from secure_xcom.codecs import document, ndarray
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.libraries import Untyped, need
from secure_xcom.codecs.primitives import next_column
from secure_xcom.codecs.refusal import Refused
from secure_xcom.codecs.source import Source
from secure_xcom.errors import FormatError
from secure_xcom.model import CodecId
from secure_xcom.text import type_name

#: The marks of what may stand for a missing value in a column of objects; 0 marks a value.
_NONE, _NAN, _NA, _NAT = 1, 2, 3, 4


def _same(value: object) -> object:
    return value


#: For each type of cell: its name, the Arrow type it travels as, and the way there and back.
_TYPED: dict[
    type, tuple[str, Callable[[Untyped], Untyped], Callable[..., Untyped], Callable[..., Untyped]]
] = {
    str: ("text", lambda pa: pa.large_string(), _same, _same),
    bytes: ("bytes", lambda pa: pa.large_binary(), _same, _same),
    decimal.Decimal: ("decimal", lambda pa: pa.large_string(), str, decimal.Decimal),
    uuid.UUID: ("uuid", lambda pa: pa.large_string(), str, uuid.UUID),
    dt.date: ("date", lambda pa: pa.date32(), _same, _same),
    dt.time: ("time", lambda pa: pa.time64("us"), _same, _same),
    dt.datetime: ("datetime", lambda pa: pa.timestamp("us"), _same, _same),
    dt.timedelta: ("timedelta", lambda pa: pa.duration("us"), _same, _same),
}
_BY_NAME = {typed[0]: typed for typed in _TYPED.values()}


def cell(value: object) -> Encoded | None:
    """What a cell may hold besides plain data: an array."""
    buffers = ndarray.encode(value)
    return None if buffers is None else (CodecId.NUMPY, buffers)


def read_cell(codec: CodecId, source: Source) -> object:
    """An array in a cell.

    Raises:
        FormatError: the bytes are not one.
    """
    if codec is not CodecId.NUMPY:
        raise FormatError("A column of objects holds a part that is no array.")
    return ndarray.decode(source)


def write_objects(pd: Untyped, items: list[Untyped], arrays: list[Untyped]) -> Mapping[str, object]:
    """Write the cells of a column of objects.

    Raises:
        Refused: a cell holds what does not travel; names the row.
    """
    pa = need("pyarrow")
    missing = {type(None): _NONE, type(pd.NA): _NA, type(pd.NaT): _NAT}
    kinds = set(map(type, items))
    if float in kinds and all(item != item for item in items if type(item) is float):  # noqa: PLR0124
        missing[float] = _NAN  # a float that is not itself is not a number
    typed = [_TYPED[kind] for kind in kinds - set(missing) if kind in _TYPED]
    is_typed = len(kinds - set(missing)) == 1 and len(typed) == 1
    marked = {_NA, _NAT} | ({_NAN} if is_typed else set())
    has_marks = bool({missing.get(kind) for kind in kinds} & marked)
    if has_marks:
        marks = [missing.get(type(item), 0) for item in items]
        items = [None if mark else item for item, mark in zip(items, marks, strict=True)]
        arrays.append(pa.array(marks, pa.uint8()))
    if not is_typed:
        return {"kind": "object", "type": "plain", "marks": has_marks, "cells": _cells(items)}
    name, arrow_type, write, _ = typed[0]
    if name in ("datetime", "time"):
        _check_times(items)
    if write is not _same:
        items = [None if item is None else write(item) for item in items]
    try:
        arrays.append(pa.array(items, arrow_type(pa)))
    except (ValueError, OverflowError) as error:
        raise Refused(f"a column of {name} that Arrow does not take") from error
    return {"kind": "object", "type": name, "marks": has_marks}


def _check_times(items: list[Untyped]) -> None:
    for position, item in enumerate(items):
        if item is not None and (item.tzinfo is not None or item.fold):
            raise Refused(
                "a time with a zone, in a column of objects; make it a column of times with "
                "`pandas.to_datetime`",
                (f"[{position}]",),
            )


def _cells(items: list[Untyped]) -> bytes:
    packed = document.pack(items, cell)
    if packed is None:
        for position, item in enumerate(items):
            if document.pack([item], cell) is None:
                raise Refused(
                    f"a cell of type {type_name(item)}, in a column of objects",
                    (f"[{position}]",),
                )
        raise Refused("a column of objects that are nested too deeply")
    return b"".join(packed)


def read_objects(
    pd: Untyped, described: Mapping[Untyped, Untyped], arrays: Iterator[Untyped]
) -> Untyped:
    """Read the cells of a column of objects.

    Raises:
        FormatError: they are not what `write_objects` writes.
    """
    np, pa = need("numpy"), need("pyarrow")
    marks = next_column(arrays).to_pylist() if described.get("marks") is True else None
    match described:
        case {"type": "plain", "cells": bytes(cells)}:
            source = Source([cells])
            items = document.unpack(source, read_cell)
            source.check_end()
        case {"type": str(name)} if name in _BY_NAME:
            _, arrow_type, _, read = _BY_NAME[name]
            array = next_column(arrays)
            if array.type != arrow_type(pa):
                raise FormatError("A column of objects is not of the type that it declares.")
            items = array.to_pylist()
            if read is not _same:
                items = [None if item is None else read(item) for item in items]
        case _:
            raise FormatError("A column of objects has no description.")
    if not isinstance(items, list):
        raise FormatError("A column of objects holds no list of cells.")
    if marks is not None:
        stand_ins = {0: None, _NONE: None, _NAN: float("nan"), _NA: pd.NA, _NAT: pd.NaT}
        items = [stand_ins[mark] if mark else item for item, mark in zip(items, marks, strict=True)]
    return np.fromiter(items, dtype=object, count=len(items))
