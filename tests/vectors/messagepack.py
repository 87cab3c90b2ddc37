"""MessagePack, by hand: what `docs/codecs.md` makes documents of."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ext:
    """An extension type and its bytes."""

    kind: int
    data: bytes


def pack(value: Any) -> bytes:  # noqa: PLR0911 - one for each type
    """The shortest form of a value."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, str):
        data = value.encode()
        head = bytes((0xA0 | len(data),)) if len(data) < 32 else _head(data, 0xD9, 0xDA, 0xDB)
        return head + data
    if isinstance(value, bytes):
        return _head(value, 0xC4, 0xC5, 0xC6) + value
    if isinstance(value, Ext):
        return _ext(value)
    if isinstance(value, list):
        return _counted(value, 0x90, 0xDC) + b"".join(map(pack, value))
    if isinstance(value, dict):
        members = (pack(key) + pack(item) for key, item in value.items())
        return _counted(value, 0x80, 0xDE) + b"".join(members)
    raise AssertionError(type(value))


def _integer(value: int) -> bytes:
    if -32 <= value < 128:
        return struct.pack(">b", value)
    codes = zip((0xCC, 0xCD, 0xCE, 0xCF), "BHIQ", (8, 16, 32, 64), strict=True)
    if value < 0:
        codes = zip((0xD0, 0xD1, 0xD2, 0xD3), "bhiq", (7, 15, 31, 63), strict=True)
    for code, form, bits in codes:
        if -(2**bits) <= value < 2**bits:
            return bytes((code,)) + struct.pack(">" + form, value)
    raise AssertionError(value)


def _head(data: bytes, *codes: int) -> bytes:
    for code, form in zip(codes, "BHI", strict=True):
        if len(data) < 2 ** (8 * struct.calcsize(form)):
            return bytes((code,)) + struct.pack(">" + form, len(data))
    raise AssertionError(len(data))


def _counted(items: Any, short: int, code: int) -> bytes:
    if len(items) < 16:
        return bytes((short | len(items),))
    return bytes((code,)) + struct.pack(">H", len(items))


def _ext(ext: Ext) -> bytes:
    fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
    kind = struct.pack(">b", ext.kind)
    if len(ext.data) in fixed:
        return bytes((fixed[len(ext.data)],)) + kind + ext.data
    return _head(ext.data, 0xC7, 0xC8, 0xC9) + kind + ext.data
