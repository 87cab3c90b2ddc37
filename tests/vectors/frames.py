"""Zstandard frames (RFC 8878), by hand: raw and run-length blocks, and any fault in them."""

from __future__ import annotations

import struct

MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 131_072
#: Window descriptors (section 3.1.1.1.2): exponent << 3 | mantissa, of 1 KiB << exponent.
WINDOW_8_MIB = 13 << 3
WINDOW_1_MIB = 10 << 3


def block(data: bytes, *, last: bool, kind: int = 0, regenerated: int | None = None) -> bytes:
    """Section 3.1.1.2: kind 0 is raw, 1 a repeated byte, 3 reserved."""
    size = len(data) if regenerated is None else regenerated
    return struct.pack("<I", size << 3 | kind << 1 | last)[:3] + data


def raw_blocks(data: bytes) -> bytes:
    """The data in raw blocks as large as they may be."""
    pieces = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)] or [b""]
    return b"".join(block(piece, last=piece is pieces[-1]) for piece in pieces)


def run(byte: bytes, length: int) -> bytes:
    """`length` times the same byte, in blocks of four bytes each."""
    sizes = [BLOCK_BYTES] * (length // BLOCK_BYTES)
    sizes += [length % BLOCK_BYTES] if length % BLOCK_BYTES else []
    return b"".join(
        block(byte, last=index == len(sizes) - 1, kind=1, regenerated=size)
        for index, size in enumerate(sizes)
    )


def frame(
    blocks: bytes, *, descriptor: int = 0, window: int = WINDOW_1_MIB, fields: bytes = b""
) -> bytes:
    """A frame with a window descriptor; `fields` are what the frame's descriptor announces."""
    return MAGIC + bytes((descriptor, window)) + fields + blocks


def single_segment(blocks: bytes, content_bytes: int, size_bytes: int = 8) -> bytes:
    """A frame that states its content's size, in four or eight bytes, and has no other window."""
    descriptor = {4: 0b1010_0000, 8: 0b1110_0000}[size_bytes]
    return MAGIC + bytes((descriptor,)) + content_bytes.to_bytes(size_bytes, "little") + blocks


def skippable(data: bytes) -> bytes:
    """Section 3.1.2."""
    return b"\x50\x2a\x4d\x18" + struct.pack("<I", len(data)) + data
