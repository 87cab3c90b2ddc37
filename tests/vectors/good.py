"""Vectors that open: sizes at every boundary, every placement, ids of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from vectors import frames, library_frames
from vectors.case import Vector, good
from vectors.construct import (
    COORDINATE,
    FIRST_BYTES,
    FURTHER_BYTES,
    GENERATION,
    KEK_URI,
    STORE_URI,
    envelope,
    kek,
    row_text,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Names as they are written, and what each is about.
_IDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mapped": ("Map index 0.", {"map_index": 0}),
    "mapped-last": ("The largest map index.", {"map_index": 2**31 - 1}),
    "ti-id": ("The task instance's id is present.", {"ti_id": UUID(int=7 << 100 | 1).bytes}),
    "instance": ("A named deployment.", {"instance": "prod-eu"}),
    "instance-longest": ("An instance of 255 bytes.", {"instance": "é" * 127 + "x"}),
    "unicode": (
        "Ids outside ASCII, among them a composed and a decomposed é, an emoji and a NUL.",
        {
            "dag": "zahlungen_übersicht",
            "run": "re\u0301sume\u0301",
            "task": "résumé🧾",
            "key": "a\0b",
        },
    ),
    "byte-order-mark": ("A byte-order mark is a character.", {"task": "\ufeffload"}),
    "shortest-ids": ("Ids of one byte.", {"dag": "d", "run": "r", "task": "t", "key": "k"}),
    "header-longest": (
        "A header of 8,192 bytes.",
        {"dag": "d" * 4000, "run": "r" * 4000, "task": "t" * 98, "key": "k" * 29},
    ),
    "path-like-ids": (
        "Ids that look like paths.",
        {"dag": "../..", "task": "a/b", "key": "gs://b/o"},
    ),
}

_SIZES = {
    "segment-1-less-1": FIRST_BYTES - 1,
    "segment-1": FIRST_BYTES,
    "segment-1-and-1": FIRST_BYTES + 1,
    "segment-2-less-1": FIRST_BYTES + FURTHER_BYTES - 1,
    "segment-2": FIRST_BYTES + FURTHER_BYTES,
    "segment-2-and-1": FIRST_BYTES + FURTHER_BYTES + 1,
    "segment-3": FIRST_BYTES + 2 * FURTHER_BYTES,
    "segment-3-and-1": FIRST_BYTES + 2 * FURTHER_BYTES + 1,
}


def vectors() -> Iterator[Vector]:
    yield from _lengths()
    yield from _segments()
    yield from _ids()
    yield from _compressed()
    yield from _placements()
    yield from _readers()


def _lengths() -> Iterator[Vector]:
    for length, about in (
        (0, "No data at all: 14 bytes and 242 zeros."),
        (1, "One byte."),
        (241, "One zero of padding."),
        (242, "Exactly 256 bytes: no padding."),
        (243, "One byte more: 255 zeros."),
        (3827, "The last zero of padding there is."),
        (4081, "A payload of 4,096 bytes, one of them padding."),
        (4082, "A payload of 4,096 bytes without padding."),
        (4083, "A payload of 4,097 bytes: never padded."),
    ):
        name = f"good-length-{length}"
        yield good(name, about, envelope(name, stream(name, length)))


def _segments() -> Iterator[Vector]:
    for size, payload_bytes in _SIZES.items():
        name = f"good-{size}"
        made = envelope(name, stream(name, payload_bytes - 14))
        yield good(name, f"A payload of {payload_bytes:,} bytes.", made)


def _ids() -> Iterator[Vector]:
    for name, (about, parts) in _IDS.items():
        made = envelope(f"good-{name}", stream(name, 20), **parts)
        asked = {member: parts.get(member, COORDINATE[member]) for member in COORDINATE}
        instances = [parts.get("instance", "")]
        yield good(f"good-{name}", about, made, asked=asked, instances=instances)


def _compressed() -> Iterator[Vector]:
    run = b"x" * 3_000_000
    blocks = stream("raw blocks", 2_500_000)
    cases = {
        "empty": ("A frame without content.", b"", frames.frame(frames.raw_blocks(b""))),
        "run": (
            "Run-length blocks: 99 bytes become 3,000,000.",
            run,
            frames.frame(frames.run(b"x", len(run))),
        ),
        "segments": (
            "A frame of raw blocks over three segments.",
            blocks,
            frames.frame(frames.raw_blocks(blocks)),
        ),
        "window": (
            "A window of 8 MiB, the largest.",
            b"abc",
            frames.frame(frames.raw_blocks(b"abc"), window=frames.WINDOW_8_MIB),
        ),
        "single-segment": (
            "A frame that states its content's size.",
            b"abc",
            frames.single_segment(frames.raw_blocks(b"abc"), 3),
        ),
        "single-segment-8-mib": (
            "A content of 8 MiB that is its own window.",
            b"x" * 2**23,
            frames.single_segment(frames.run(b"x", 2**23), 2**23),
        ),
        "single-segment-4-bytes": (
            "A frame that states its content's size in four bytes.",
            b"abc",
            frames.single_segment(frames.raw_blocks(b"abc"), 3, 4),
        ),
        "dictionary-0": (
            "A dictionary id of 0 stands for none.",
            b"abc",
            frames.frame(frames.raw_blocks(b"abc"), descriptor=1, fields=b"\0"),
        ),
        "level-1": ("Level 1, streamed.", library_frames.RECORDS, library_frames.LEVEL_1),
        "level-19": ("Level 19, with a checksum.", library_frames.RECORDS, library_frames.LEVEL_19),
        "large": ("Many blocks, streamed.", library_frames.LARGE_RECORDS, library_frames.LARGE),
    }
    for name, (about, raw, data) in cases.items():
        made = envelope(f"good-zstd-{name}", raw, compression=1, data=data)
        yield good(f"good-zstd-{name}", about, made)


def _placements() -> Iterator[Vector]:
    name = "good-offloaded"
    yield good(name, "An offloaded body.", envelope(name, stream(name, 5000)), remote=True)
    name = "good-offloaded-shortest"
    made = envelope(name, b"")
    yield good(name, "A body of 312 bytes.", made, remote=True)
    name = "good-offloaded-instance"
    made = envelope(name, b"value", instance="prod-eu")
    comment = "The first part of the name is the deployment's."
    yield good(name, comment, made, remote=True, instances=["prod-eu"])
    name = "good-offloaded-zeros"
    made = envelope(name, bytes(5000))
    yield good(
        name,
        "The checksum is of what lies in the store; the largest number of a generation.",
        made,
        remote=True,
        row=lambda row: row | {"generation": "9" * 20},
        stored=(made.object_name, "9" * 20, made.body),
    )
    name = "good-offloaded-restored"
    made = envelope(name, stream(name, 300))
    yield good(
        name,
        "The row's generation is gone; the live object has the bytes that were written.",
        made,
        remote=True,
        stored=(made.object_name, GENERATION + "0", made.body),
    )
    name = "good-row-order"
    yield good(
        name,
        "Members in another order, white space, escapes, any text in about.",
        envelope(name, stream(name, 9)),
        row=lambda row: (
            f' {{"envelope":"{row["envelope"]}","placement":"\\u0069nline","__secure_xcom__":1,\t'
            '"\\u0061bout": "{\\"__secure_xcom__\\":2} \\ud83e\\uddfe é"}\t '
        ),
    )
    name = "good-about-empty"
    yield good(
        name,
        "Nothing in about.",
        envelope(name, stream(name, 9)),
        row=lambda row: row_text(row | {"about": ""}),
    )


def _readers() -> Iterator[Vector]:
    """What depends on whom is asked."""
    for left_out in COORDINATE:
        name = f"good-asked-without-{left_out.replace('_', '-')}"
        asked = {member: value for member, value in COORDINATE.items() if member != left_out}
        yield good(name, "The reader is not told all.", envelope(name, b"value"), asked=asked)
    name = "good-asked-nothing"
    yield good(name, "The reader is told nothing.", envelope(name, b"value"), asked={})
    name = "good-trusted-instance"
    made = envelope(name, b"value", instance="old")
    yield good(name, "An instance that reads accept.", made, instances=["new", "older", "old"])
    name = "good-trusted-store"
    stores = ["gs://vectors/primary", STORE_URI]
    made = envelope(name, b"value")
    yield good(name, "A store that reads accept.", made, remote=True, stores=stores)
    name = "good-trusted-kek"
    uri = "gcp-kms://projects/p/locations/l/keyRings/r/cryptoKeys/k"
    made = envelope(name, b"value", kek_uri=uri, version_hint="3")
    keks = {KEK_URI: kek(KEK_URI).hex(), uri: kek(uri).hex()}
    yield good(name, "A KEK that reads accept, with a hint of its version.", made, keks=keks)
    name = "good-key-block-longest"
    uri = "local-kek:///" + "k" * (1024 - 13)
    made = envelope(name, b"value", kek_uri=uri, version_hint="v" * 512)
    yield good(name, "The longest URI and hint.", made, keks={uri: kek(uri).hex()})
    name = "good-key-block-shortest"
    made = envelope(name, b"value", kek_uri="k")
    yield good(name, "A URI of one byte.", made, keks={"k": kek("k").hex()})
    name = "good-max-value-bytes"
    made = envelope(name, stream(name, 1000))
    yield good(
        name, "A value of just as many bytes as the reader allows.", made, max_value_bytes=1000
    )
    name = "good-zstd-gains-nothing"
    raw = stream(name, 20_000)
    made = envelope(name, raw, compression=1, data=frames.frame(frames.raw_blocks(raw)))
    yield good(
        name,
        "A frame that is longer than its content, at the reader's limit.",
        made,
        max_value_bytes=20_000,
    )
