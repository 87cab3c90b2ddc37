"""Looks for a text in bytes: in clear, written otherwise, encoded, and compressed."""

from __future__ import annotations

import base64
import binascii
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: How many encodings and compressions around each other are undone.
_DEPTH = 4
#: How much of a compressed stream is looked at, at most.
_STREAM_BYTES_MAX = 256 << 20
_PIECE_BYTES = 1 << 16

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX = re.compile(rb"[0-9A-Fa-f]{20,}")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_STREAMS: tuple[tuple[str, re.Pattern[bytes], Callable[[], _Decompressor]], ...] = (
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd"), zstd.ZstdDecompressor),
    ("gzip", re.compile(rb"\x1f\x8b\x08"), lambda: zlib.decompressobj(wbits=31)),
    ("zlib", re.compile(rb"\x78[\x01\x5e\x9c\xda]"), zlib.decompressobj),
)


def found_in(data: bytes, text: str) -> str | None:
    """Say how `text` stands in `data`: `in clear`, `in clear, through base64, zstd`; None: nowhere.

    Looked for are the text in UTF-8 and UTF-16, in hexadecimal and in base64 at every alignment,
    and, if it is a number of at most 64 bits, the binary integer. All that is looked for again in
    whatever `data` holds in base64, hexadecimal, zstd, gzip or zlib, four such wrappings deep.
    """
    spellings = _spellings(text)
    pending: list[tuple[bytes, tuple[str, ...]]] = [(data, ())]
    while pending:
        blob, undone = pending.pop()
        for name, spelling in spellings.items():
            if spelling in blob:
                return ", through ".join((name, ", ".join(undone))) if undone else name
        if len(undone) < _DEPTH:
            pending += [(inner, (*undone, name)) for name, inner in _unwrapped(blob)]
    return None


def _spellings(text: str) -> dict[str, bytes]:
    plain = text.encode()
    spellings = {
        "in clear": plain,
        "as UTF-16 (little-endian)": text.encode("utf-16-le"),
        "as UTF-16 (big-endian)": text.encode("utf-16-be"),
        "in hexadecimal": plain.hex().encode(),
        "in hexadecimal (capitals)": plain.hex().upper().encode(),
    }
    for shift in range(3):
        # Characters that also hold bits of what stands before or after the text are left out.
        whole = base64.b64encode(bytes(shift) + plain + bytes(3))
        start, end = -(-shift * 8 // 6), (shift + len(plain)) * 8 // 6
        spellings[f"in base64 (offset {shift})"] = whole[start:end]
    if text.isascii() and text.isdigit() and int(text) < 1 << 64:
        for order in ("big", "little"):
            spellings[f"as an integer ({order}-endian)"] = int(text).to_bytes(8, order)
    return spellings


def _unwrapped(blob: bytes) -> Iterator[tuple[str, bytes]]:
    for match in _BASE64.finditer(blob):
        characters = match[0].rstrip(b"=").translate(_TO_STANDARD)
        # What stands right before base64 may look like a part of it.
        for start in range(4):
            part = characters[start:]
            with suppress(binascii.Error):
                yield "base64", base64.b64decode(part + b"=" * (-len(part) % 4))
    for match in _HEX.finditer(blob):
        digits = match[0].decode()
        for start in range(2):
            yield (
                "hexadecimal",
                bytes.fromhex(digits[start : len(digits) - (len(digits) - start) % 2]),
            )
    for name, magic, new in _STREAMS:
        for match in magic.finditer(blob):
            if inner := _decompressed(new(), blob, match.start()):
                yield name, inner


def _decompressed(decompressor: _Decompressor, blob: bytes, start: int) -> bytes:
    """Give what can be had of a stream that may be none, may break off, and may never end."""
    out = bytearray()
    with suppress(zstd.ZstdError, zlib.error):
        for position in range(start, len(blob), _PIECE_BYTES):
            piece = blob[position : position + _PIECE_BYTES]
            out += decompressor.decompress(piece, _STREAM_BYTES_MAX - len(out))
            if decompressor.eof or len(out) >= _STREAM_BYTES_MAX:
                break
    return bytes(out)
