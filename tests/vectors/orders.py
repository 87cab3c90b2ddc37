"""Vectors with two faults each: the one that section 8.2 comes to first must be reported."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vectors import frames
from vectors.bad_envelopes import flip
from vectors.case import Vector, bad
from vectors.codec_values import PLAIN, document
from vectors.construct import (
    COORDINATE,
    FIRST_BYTES,
    GENERATION,
    SEGMENT_BYTES,
    Envelope,
    envelope,
    offloaded,
    state,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OTHER_URI = "local-kek:///vectors/other"
_OTHER_DAG = COORDINATE | {"dag": "payments2"}
_FOREIGN = {"store": "file:///vectors/other"}
_ELSEWHERE = {"object": f"{'0' * 16}/{'0' * 64}"}
_FORMAT, _CONFIG, _REFUSED, _MISSING = (
    "FormatError",
    "ConfigError",
    "AuthenticationError",
    "ObjectNotFound",
)


@dataclass
class _Faults:
    """What is wrong with an offloaded XCom; `there` says whether its object is."""

    comment: str
    expect: str
    parts: dict[str, Any] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Envelope], bytes] | None = None
    there: bool = True


_OFFLOADED: dict[str, _Faults] = {
    # Within step 1.
    "shape-store": _Faults(
        "The checksum has 3 bytes; the store is not trusted.",
        _FORMAT,
        row=_FOREIGN | {"crc32c": "AAAA"},
    ),
    "length-store": _Faults(
        "No body has that length; the store is not trusted.",
        _FORMAT,
        row=_FOREIGN | {"length_bytes": 311},
    ),
    "limit-store": _Faults(
        "Longer than the reader's limit; the store is not trusted.",
        _FORMAT,
        {"raw": bytes(500)},
        _FOREIGN,
        {"max_value_bytes": 1},
    ),
    # Steps 1 and 2.
    "store-preamble": _Faults(
        "The store is not trusted; the preamble has version 2.",
        _CONFIG,
        {"version": 2},
        _FOREIGN,
    ),
    "store-name": _Faults(
        "The store is not trusted; the header gives another name.",
        _CONFIG,
        row=_FOREIGN | _ELSEWHERE,
    ),
    "limit-name": _Faults(
        "Longer than the reader's limit; the header gives another name.",
        _FORMAT,
        {"raw": bytes(500)},
        _ELSEWHERE,
        {"max_value_bytes": 1},
    ),
    # Within step 2.
    "preamble-name": _Faults(
        "The header has suite 2, and gives another name.", _FORMAT, {"suite": 2}, _ELSEWHERE
    ),
    # Steps 2, 3 and 4.
    "preamble-kek": _Faults(
        "The header has suite 2; the KEK is not trusted.",
        _FORMAT,
        {"suite": 2, "kek_uri": _OTHER_URI},
    ),
    "name-kek": _Faults(
        "The header gives another name; the KEK is not trusted.",
        _REFUSED,
        {"kek_uri": _OTHER_URI},
        _ELSEWHERE,
    ),
    "name-instance": _Faults(
        "The header gives another name; the deployment is not trusted.",
        _REFUSED,
        {"instance": "test"},
        _ELSEWHERE,
    ),
    "kek-context": _Faults(
        "The KEK is not trusted; another dag.",
        _CONFIG,
        {"kek_uri": _OTHER_URI},
        members={"asked": _OTHER_DAG},
    ),
    "instance-mark": _Faults(
        "The deployment is not trusted; a state's mark.", _CONFIG, {"instance": "test#task-state"}
    ),
    "instance-context": _Faults(
        "The deployment is not trusted; another dag.",
        _CONFIG,
        {"instance": "test"},
        members={"asked": _OTHER_DAG},
    ),
    # Steps 2 to 4, and what needs the key service or the store.
    "name-object": _Faults(
        "The header gives another name; there is no object.", _REFUSED, row=_ELSEWHERE, there=False
    ),
    "kek-object": _Faults(
        "The KEK is not trusted; there is no object.",
        _CONFIG,
        {"kek_uri": _OTHER_URI},
        there=False,
    ),
    "instance-object": _Faults(
        "The deployment is not trusted; there is no object.",
        _CONFIG,
        {"instance": "test"},
        there=False,
    ),
    "context-object": _Faults(
        "Another dag; there is no object.",
        _REFUSED,
        members={"asked": _OTHER_DAG},
        there=False,
    ),
    "instance-key": _Faults(
        "The deployment is not trusted; a bit of the wrapped key.",
        _CONFIG,
        {"instance": "test"},
        after=flip("wrapped", 20),
    ),
    "kek-wrapped": _Faults(
        "The KEK is not trusted; the wrapped key has 59 bytes.",
        _CONFIG,
        {"kek_uri": _OTHER_URI, "wrapped": lambda wrapped: wrapped[:-1]},
    ),
    "instance-wrapped": _Faults(
        "The deployment is not trusted; the wrapped key has 59 bytes.",
        _CONFIG,
        {"instance": "test", "wrapped": lambda wrapped: wrapped[:-1]},
    ),
    # Steps 5 to 7: side by side, and both have failed.
    "key-object": _Faults(
        "A bit of the wrapped key; there is no object.",
        _REFUSED,
        after=flip("wrapped", 20),
        there=False,
    ),
    "commitment-object": _Faults(
        "A bit of the commitment; there is no object.",
        _REFUSED,
        after=flip("commitment"),
        there=False,
    ),
    # Steps 8 and 9.
    "checksum-payload": _Faults(
        "Another checksum; codec 6.", _REFUSED, {"codec": 6}, {"crc32c": "AAAAAA=="}
    ),
    "segment-raw-len": _Faults(
        "A bit of the second segment; raw_len is beyond the reader's limit.",
        _REFUSED,
        {"raw": stream("order", FIRST_BYTES), "raw_len": 2**40},
        after=flip("body", SEGMENT_BYTES),
    ),
    "segment-codec": _Faults(
        "A bit of the second segment; codec 0.",
        _REFUSED,
        {"raw": stream("order", FIRST_BYTES), "codec": 0},
        after=flip("body", SEGMENT_BYTES),
    ),
    "segment-frame": _Faults(
        "A bit of the second segment; no Zstandard frame.",
        _REFUSED,
        {"raw": stream("order", FIRST_BYTES), "compression": 1},
        after=flip("body", SEGMENT_BYTES),
    ),
    "cut-frame": _Faults(
        "Cut after the first of two segments; the frame ended there, and bytes follow it.",
        _REFUSED,
        {
            "raw": b"abc",
            "compression": 1,
            "data": frames.frame(frames.raw_blocks(b"abc")) + bytes(FIRST_BYTES),
        },
        after=lambda made: made.data[: made.at["body"] + SEGMENT_BYTES],
    ),
}


def vectors() -> Iterator[Vector]:
    for name, faults in _OFFLOADED.items():
        full = f"bad-order-{name}"
        parts = dict(faults.parts)
        made = envelope(full, parts.pop("raw", b"4111 1111 1111 1111"), **parts)
        if faults.after:
            made = replace(made, data=faults.after(made))
        row = offloaded(made) | faults.row
        stored = (row["object"], GENERATION, made.body) if faults.there else None
        yield bad(
            full,
            faults.comment,
            faults.expect,
            made,
            remote=True,
            row=lambda _, row=row: row,
            stored=stored,
            **faults.members,
        )
    yield from _inline()
    yield from _states()


def _inline() -> Iterator[Vector]:
    name = "bad-order-limit-kek"
    made = envelope(name, stream(name, 14_000), kek_uri=_OTHER_URI)
    comment = "An envelope longer than the reader's limit; the KEK is not trusted."
    yield bad(name, comment, _FORMAT, made, max_value_bytes=1000)
    name = "bad-order-body-kek"
    made = envelope(name, b"4111", kek_uri=_OTHER_URI)
    made = replace(made, data=made.data[:-1])
    comment = "A body of 311 bytes; the KEK is not trusted."
    yield bad(name, comment, _FORMAT, made)
    name = "bad-order-start-codec"
    made = envelope(name, b"4111", codec=0, body_start=b"\x27")
    comment = "Another first byte than 28; codec 0."
    yield bad(name, comment, _REFUSED, made)


def _states() -> Iterator[Vector]:
    read: dict[str, Any] = {
        "state": "task",
        "instances": ["prod"],
        "asked": COORDINATE | {"key": "page"},
        "remote": True,
    }

    def made_of(name: str, **parts: Any) -> Envelope:
        raw = document(json.dumps("4111"))
        parts = {"key": "page", "instance": "prod#task-state", "codec": PLAIN} | parts
        return envelope(name, raw, **parts)

    cases: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], bool]] = {
        "store-object": (
            "The store is not trusted; there is no object.",
            _CONFIG,
            {},
            {"store": "file:///vectors/other/~state/task"},
            False,
        ),
        "object-key": (
            "Another key's name; there is no object.",
            _MISSING,
            {"key": "x"},
            {},
            False,
        ),
        "name-kek": (
            "The header gives another name; the KEK is not trusted.",
            _REFUSED,
            {"kek_uri": _OTHER_URI},
            {"object": "/".join(("0" * 16, *["0" * 64] * 3))},
            True,
        ),
        "preamble-name": (
            "The header has suite 2, and gives another name.",
            _FORMAT,
            {"suite": 2},
            {"object": "/".join(("0" * 16, *["0" * 64] * 3))},
            True,
        ),
        "kek-key": (
            "The KEK is not trusted; another key's.",
            _CONFIG,
            {"kek_uri": _OTHER_URI, "key": "x"},
            {},
            True,
        ),
        "instance-kind": (
            "The deployment is not trusted; an asset's mark.",
            _CONFIG,
            {"instance": "test#asset-state"},
            {},
            True,
        ),
    }
    for name, (comment, expect, parts, changes, there) in cases.items():
        full = f"bad-order-state-{name}"
        made = made_of(full, **parts)
        row = state(made, "task") | changes
        stored = (row["object"], GENERATION, made.data) if there else None
        yield bad(full, comment, expect, made, row=lambda _, row=row: row, stored=stored, **read)
    full = "bad-order-state-offloaded-store"
    made = made_of(full)
    row = offloaded(made) | _FOREIGN
    comment = "An offloaded reference is no state; the store is not trusted."
    yield bad(full, comment, _FORMAT, made, row=lambda _: row, stored=None, **read)
    full = "bad-order-state-limit-name"
    made = made_of(full, task="x" * 4000, dag="d" * 4000, kek_uri="k" * 1024)
    made = replace(made, data=made.data + bytes(6000))
    row = state(made, "task") | {"object": "/".join(("0" * 16, *["0" * 64] * 3))}
    comment = "An object longer than the reader's limit; the header gives another name."
    stored = (row["object"], GENERATION, made.data)
    read |= {"max_value_bytes": 100}
    yield bad(full, comment, _FORMAT, made, row=lambda _: row, stored=stored, **read)
