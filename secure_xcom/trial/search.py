"""Searches bytes for texts: in clear, written otherwise, encoded, compressed, and in columns."""

from __future__ import annotations

import base64
import binascii
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["Search", "zstd"]

#: How many encodings and compressions around each other are undone.
_DEPTH = 4
#: How much of a compressed stream is looked at, at most.
_STREAM_BYTES_MAX = 256 << 20
_PIECE_BYTES = 1 << 16

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX = re.compile(rb"[0-9A-Fa-f]{20,}")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")

#: What begins and ends a Parquet file, and what begins a message of Arrow's stream: a mark and the
#: length of the schema, which is short.
_PARQUET = re.compile(rb"PAR1")
_ARROW = re.compile(rb"(?=\xff\xff\xff\xff..[\x00-\x0f]\x00)", re.DOTALL)
#: How many beginnings and ends of Parquet are tried with one another, at most.
_PARQUET_MARKS = 32


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_STREAMS: tuple[tuple[str, re.Pattern[bytes], Callable[[], _Decompressor]], ...] = (
    ("zstd", re.compile(rb"\x28\xb5\x2f\xfd"), zstd.ZstdDecompressor),
    ("gzip", re.compile(rb"\x1f\x8b\x08"), lambda: zlib.decompressobj(wbits=31)),
    ("zlib", re.compile(rb"\x78[\x01\x5e\x9c\xda]"), zlib.decompressobj),
)


class Search:
    """A search for several texts at once.

    Looked for are the texts in UTF-8 and UTF-16, in hexadecimal and in base64 at every alignment,
    and, if one is a number of at most 64 bits, the binary integer and the floating-point number.
    All that is looked for again in whatever the data holds in base64, hexadecimal, zstd, gzip,
    zlib, Arrow or Parquet, four such wrappings deep. Arrow and Parquet need pyarrow.

    Args:
        texts: what is looked for, by a name for it.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._spellings = {name: _spellings(text) for name, text in texts.items()}

    def found_in(self, data: bytes) -> dict[str, str]:
        """Say how texts stand in `data`: `in clear`, `in clear, through base64, zstd`, by name."""
        found: dict[str, str] = {}
        pending: list[tuple[bytes, tuple[str, ...]]] = [(data, ())]
        while pending and len(found) < len(self._spellings):
            blob, undone = pending.pop()
            for name, spellings in self._spellings.items():
                if name in found:
                    continue
                how = next((how for how, written in spellings.items() if written in blob), None)
                if how:
                    found[name] = ", through ".join((how, ", ".join(undone))) if undone else how
            if len(undone) < _DEPTH:
                pending += [(inner, (*undone, name)) for name, inner in _unwrapped(blob)]
        return found


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
        for order, mark in (("big", ">"), ("little", "<")):
            spellings[f"as an integer ({order}-endian)"] = struct.pack(f"{mark}Q", int(text))
            if int(float(text)) == int(text):
                spellings[f"as a float ({order}-endian)"] = struct.pack(f"{mark}d", int(text))
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
    yield from _columns(blob)


def _decompressed(decompressor: _Decompressor, blob: bytes, start: int) -> bytes:
    """Decompress what can be decompressed: it may be no stream, be cut off, or never end."""
    out = bytearray()
    with suppress(zstd.ZstdError, zlib.error):
        for position in range(start, len(blob), _PIECE_BYTES):
            piece = blob[position : position + _PIECE_BYTES]
            out += decompressor.decompress(piece, _STREAM_BYTES_MAX - len(out))
            if decompressor.eof or len(out) >= _STREAM_BYTES_MAX:
                break
    return bytes(out)


def _columns(blob: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the cells of what is a table, whose columns may be compressed without any mark."""
    marks = [match.start() for match in _PARQUET.finditer(blob)][:_PARQUET_MARKS]
    streams = [match.start() for match in _ARROW.finditer(blob)]
    if not (len(marks) > 1 or streams) or find_spec("pyarrow") is None:
        return
    # Not before there is something to open; whatever is not a table raises one of these.
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    unreadable = (pa.ArrowException, OSError, ValueError, TypeError)
    for start in marks:
        for end in marks:
            if start < end:
                with suppress(*unreadable):
                    cells = pa.BufferReader(blob[start : end + len(b"PAR1")])
                    yield "Parquet", _written_out(pq.read_table(cells))
                    break
    for start in streams:
        with suppress(*unreadable):
            yield "Arrow", _written_out(pa.ipc.open_stream(blob[start:]).read_all())


def _written_out(table: Any) -> bytes:  # noqa: ANN401 - of an optional library
    return str(table.to_pydict()).encode(errors="backslashreplace")
