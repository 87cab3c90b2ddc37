"""Vectors with one fault each in the body or in the payload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vectors import frames
from vectors.bad_envelopes import VALUE, Table, cut, flip, from_table
from vectors.construct import FIRST_BYTES, FURTHER_BYTES, SEGMENT_BYTES, stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.case import Vector

_TWO_FULL = stream("two full segments", FIRST_BYTES + FURTHER_BYTES - 14)
_THREE = _TWO_FULL + bytes(20)
_FOUR = _THREE + stream("more", FURTHER_BYTES)
_LONG = stream("not padded", 5000)

# Section 4, where a key is needed to tell.
_BODIES: Table = {
    "start": ("Another first byte than 28.", {"body_start": b"\x27"}),
    "salt": ("A bit of the body's salt.", {"after": flip("body", 1)}),
    "prefix": ("A bit of the nonce's prefix.", {"after": flip("body", 39)}),
    "text": ("A bit of the first segment.", {"after": flip("body", 40)}),
    "tag": ("A bit of the tag.", {"after": flip("body", 311, 7)}),
    "associated-data": ("Sealed with other associated data.", {"associated_data": bytes(32)}),
    "cut": (
        "Cut by one byte.",
        {"raw": stream("two pads", 400), "after": lambda made: made.data[:-1]},
    ),
    "extended": ("One byte more.", {"after": lambda made: made.data + b"\0"}),
    "not-last": (
        "The only segment is not marked as the last.",
        {"lasts": lambda _index, _last: False},
    ),
    "last-early": (
        "Both segments are marked as the last.",
        {"raw": _TWO_FULL, "lasts": lambda _index, _last: True},
    ),
    "cut-segment": (
        "Cut after the first of two segments.",
        {"raw": _TWO_FULL, "after": cut("body", SEGMENT_BYTES)},
    ),
    "cut-third-segment": (
        "Cut after the second of three segments.",
        {"raw": _THREE, "after": cut("body", 2 * SEGMENT_BYTES)},
    ),
    "appended": (
        "17 bytes after a full last segment.",
        {"raw": _TWO_FULL, "after": lambda made: made.data + bytes(17)},
    ),
    "appended-segment": (
        "The last segment, full, twice.",
        {"raw": _TWO_FULL, "segments": lambda made: [*made, made[-1]]},
    ),
    "swapped": (
        "The second and the third of four segments swapped.",
        {"raw": _FOUR, "segments": lambda made: [made[0], made[2], made[1], made[3]]},
    ),
    "left-out": (
        "The second of three segments left out.",
        {"raw": _THREE, "segments": lambda made: [made[0], made[2]]},
    ),
    "second-segment": (
        "A bit of the second segment.",
        {"raw": _TWO_FULL, "after": flip("body", SEGMENT_BYTES)},
    ),
}

# Section 4, where the length alone tells.
_LENGTHS: Table = {
    "appended-1": (
        "One byte after a full last segment.",
        {"raw": _TWO_FULL, "after": lambda made: made.data + b"\0"},
    ),
    "appended-16": (
        "16 bytes after a full last segment.",
        {"raw": _TWO_FULL, "after": lambda made: made.data + bytes(16)},
    ),
    "last-empty": (
        "An empty last segment after a full one.",
        {"raw": _TWO_FULL, "segments": lambda made: [*made, bytes(16)]},
    ),
    "255": ("A payload of 255 bytes.", {"payload": lambda payload: payload[:255]}),
}

# Section 5, but for compression.
_PAYLOADS: Table = {
    "codec-0": ("Codec 0.", {"codec": 0}),
    "codec-6": ("Codec 6.", {"codec": 6}),
    "codec-65535": ("Codec 65,535.", {"codec": 65_535}),
    "compression-2": ("Compression 2.", {"compression": 2}),
    "compression-255": ("Compression 255.", {"compression": 255}),
    "reserved": ("The byte after the compression is 1.", {"reserved": 1}),
    "raw-len-less": ("raw_len is one less.", {"raw_len": len(VALUE) - 1}),
    "raw-len-more": ("raw_len is one more.", {"raw_len": len(VALUE) + 1}),
    "raw-len-most": ("raw_len is 2^64 - 1.", {"raw_len": 2**64 - 1}),
    "raw-len-4-gib": ("raw_len is 4 GiB.", {"raw_len": 2**32}),
    "too-long": (
        "A value of a byte more than the reader allows.",
        {"raw": stream("too long", 1001), "max_value_bytes": 1000},
    ),
    "zeros-first": (
        "The first zero of the padding is one.",
        {"zeros": lambda zeros: b"\1" + zeros[1:]},
    ),
    "zeros-last": (
        "The last zero of the padding is one.",
        {"zeros": lambda zeros: zeros[:-1] + b"\1"},
    ),
    "pad-len-less": ("pad_len is one less.", {"pad_len": 222}),
    "pad-len-more": ("pad_len is one more.", {"pad_len": 224}),
    "pad-len-most": ("pad_len is 65,535.", {"pad_len": 65_535}),
    "pad-len-swapped": ("pad_len is little-endian.", {"pad_len": 223 << 8}),
    "pad-len-255": (
        "pad_len leaves one byte for head and data.",
        {"pad_len": 255, "zeros": bytes(223)},
    ),
    "pad-256": ("256 zeros more than needed.", {"pad": 223 + 256}),
    "pad-other": ("Padded to 300 bytes.", {"pad": 300 - 14 - len(VALUE)}),
    "pad-4352": ("Padded beyond 4,096 bytes.", {"raw": stream("4,096", 4082), "pad": 256}),
    "pad-long": ("A long payload, padded.", {"raw": _LONG, "pad": -5014 % 256}),
    "pad-len-long": ("A long payload that claims padding.", {"raw": _LONG, "pad_len": 1}),
}

_BLOCK = frames.raw_blocks(b"abc")
_FRAME = frames.frame(_BLOCK)
_CHECKED = frames.frame(_BLOCK, descriptor=4)

# Section 5, compression 1. The value is b"abc" where no `raw` is given.
_FRAMES: Table = {
    "none": ("No frame.", {"data": b"abc"}),
    "no-data": ("No data at all.", {"data": b"", "raw": b""}),
    "magic": ("Another magic number.", {"data": b"\x27" + _FRAME[1:]}),
    "without-magic": ("A frame without its magic number.", {"data": _FRAME[4:]}),
    "only-magic": ("Nothing but the magic number.", {"data": frames.MAGIC}),
    "only-descriptor": ("It ends before the window.", {"data": _FRAME[:5]}),
    "cut": ("Cut by one byte.", {"data": _FRAME[:-1]}),
    "cut-block": (
        "The last block is missing.",
        {"data": frames.frame(frames.block(b"abc", last=False))},
    ),
    "trailing": ("A byte follows the frame.", {"data": _FRAME + b"\0"}),
    "two": ("Two frames.", {"data": _FRAME + _FRAME, "raw": b"abcabc"}),
    "second-empty": (
        "A frame without content follows.",
        {"data": _FRAME + frames.frame(frames.raw_blocks(b""))},
    ),
    "skippable": ("A skippable frame.", {"data": frames.skippable(b"abc"), "raw": b""}),
    "skippable-first": (
        "A skippable frame goes before.",
        {"data": frames.skippable(b"") + _FRAME},
    ),
    "skippable-after": ("A skippable frame follows.", {"data": _FRAME + frames.skippable(b"")}),
    "raw-len-less": ("raw_len is one less.", {"data": _FRAME, "raw_len": 2}),
    "raw-len-more": ("raw_len is one more.", {"data": _FRAME, "raw_len": 4}),
    "raw-len-4-gib": ("raw_len is 4 GiB.", {"data": _FRAME, "raw_len": 2**32}),
    "bomb": (
        "A frame of 4 GiB, declared as three bytes.",
        {"data": frames.frame(frames.run(b"\0", 2**32))},
    ),
    "too-long": (
        "A value of a byte more than the reader allows.",
        {
            "data": frames.frame(frames.run(b"x", 1001)),
            "raw": b"x" * 1001,
            "max_value_bytes": 1000,
        },
    ),
    "window": (
        "A window of 9 MiB.",
        {"data": frames.frame(_BLOCK, window=frames.WINDOW_8_MIB + 1)},
    ),
    "window-known-size": (
        "A window of 16 MiB, for 300 bytes.",
        {
            "data": frames.frame(
                frames.raw_blocks(b"x" * 300),
                descriptor=0x40,
                window=frames.WINDOW_8_MIB + 8,
                fields=(300 - 256).to_bytes(2, "little"),
            ),
            "raw": b"x" * 300,
        },
    ),
    "single-segment-8-mib-and-1": (
        "A content of 8 MiB and one byte that is its own window.",
        {
            "data": frames.single_segment(frames.run(b"x", 2**23 + 1), 2**23 + 1),
            "raw": b"x" * (2**23 + 1),
        },
    ),
    "single-segment-4-bytes": (
        "The same, with a size of four bytes.",
        {
            "data": frames.single_segment(frames.run(b"x", 2**23 + 1), 2**23 + 1, 4),
            "raw": b"x" * (2**23 + 1),
        },
    ),
    "compression-2": (
        "A frame under compression 2.",
        {"data": _FRAME, "compression": 2},
    ),
    "dictionary": (
        "A frame that needs a dictionary.",
        {"data": frames.frame(_BLOCK, descriptor=1, fields=b"\x07")},
    ),
    "reserved": (
        "The reserved bit of the frame's descriptor.",
        {"data": frames.frame(_BLOCK, descriptor=8)},
    ),
    "block-type": (
        "A block of the reserved type.",
        {"data": frames.frame(frames.block(b"abc", last=True, kind=3))},
    ),
    "content-size": ("A wrong content size.", {"data": frames.single_segment(_BLOCK, 4)}),
    "checksum": ("A wrong checksum.", {"data": _CHECKED + bytes(4)}),
    "checksum-missing": ("A checksum is announced and missing.", {"data": _CHECKED}),
}


def vectors() -> Iterator[Vector]:
    yield from from_table("body", "AuthenticationError", _BODIES)
    yield from from_table("length", "FormatError", _LENGTHS)
    yield from from_table("payload", "FormatError", _PAYLOADS)
    frame_faults = {
        name: (comment, {"compression": 1, "raw": b"abc"} | parts)
        for name, (comment, parts) in _FRAMES.items()
    }
    yield from from_table("zstd", "FormatError", frame_faults)
