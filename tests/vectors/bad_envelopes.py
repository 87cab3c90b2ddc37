"""Vectors with one fault each in the preamble, in what the reader trusts, or in the keys."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vectors.case import Vector, bad
from vectors.construct import COORDINATE, KEK_URI, Envelope, envelope, lp, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Faults by name: a comment, and what to change. `after` changes the finished envelope.
Table = dict[str, tuple[str, dict[str, Any]]]

VALUE = b"4111 1111 1111 1111"
_OTHER_URI = "local-kek:///vectors/other"
_NOT_UTF8 = {
    "surrogate": b"\xed\xa0\x80",
    "overlong": b"\xc0\xaf",
    "cut": b"\xe2\x82",
    "continuation": b"a\x80",
    "beyond-unicode": b"\xf4\x90\x80\x80",
}


def flip(part: str, offset: int = 0, bit: int = 0) -> Callable[[Envelope], bytes]:
    """Turn one bit over."""

    def flipped(made: Envelope) -> bytes:
        data = bytearray(made.data)
        data[made.at[part] + offset] ^= 1 << bit
        return bytes(data)

    return flipped


def cut(part: str, offset: int = 0) -> Callable[[Envelope], bytes]:
    """Keep what stands before that byte."""
    return lambda made: made.data[: made.at[part] + offset]


def _without(member: str) -> dict[str, Any]:
    return {name: value for name, value in COORDINATE.items() if name != member}


# Section 2.
_ENVELOPES: Table = {
    "magic": ("The magic is SXCN.", {"magic": b"SXCN"}),
    "magic-case": ("The magic is in lower case.", {"magic": b"sxcm"}),
    "version-0": ("Version 0.", {"version": 0}),
    "version-2": ("Version 2.", {"version": 2}),
    "one-byte": ("One byte.", {"after": lambda made: made.data[:1]}),
    "only-magic": ("Nothing but the magic.", {"after": lambda made: made.data[:4]}),
    "cut-key-block": ("It ends in the key block.", {"after": cut("wrapped", 3)}),
    "cut-header": ("It ends in the header.", {"after": cut("header", 20)}),
    "cut-commitment": ("It ends in the commitment.", {"after": cut("body", -1)}),
    "no-body": ("It ends where the body should begin.", {"after": cut("body")}),
    "body-40": ("A body without a segment.", {"after": cut("body", 40)}),
    "body-311": ("A body of 311 bytes.", {"after": cut("body", 311)}),
    "key-block-empty": ("A key block of 0 bytes.", {"key_block_lp": lp(b"")}),
    "key-block-4097": (
        "A key block of 4,097 bytes.",
        {"key_block": lambda block: block + bytes(4097 - len(block))},
    ),
    "key-block-claim": ("A key block that claims 65,535 bytes.", {"key_block_lp": b"\xff\xff"}),
    "header-empty": ("A header of 0 bytes.", {"header_lp": lp(b"")}),
    "header-8193": (
        "A header of 8,193 bytes.",
        {"dag": "d" * 4000, "run": "r" * 4000, "task": "t" * 99, "key": "k" * 29, "asked": {}},
    ),
    "header-claim": (
        "A header that claims 65,535 bytes.",
        {"header_lp": lambda block: b"\xff\xff" + block[2:]},
    ),
}

# Section 2.1.
_KEY_BLOCKS: Table = {
    "kind-0": ("Kind 0.", {"kind": 0}),
    "kind-2": ("Kind 2.", {"kind": 2}),
    "uri-empty": ("The KEK's URI is empty.", {"kek_uri": ""}),
    "uri-1025": ("The KEK's URI has 1,025 bytes.", {"kek_uri": "local-kek:///" + "k" * 1012}),
    "hint-513": ("The version's hint has 513 bytes.", {"version_hint": "v" * 513}),
    "hint-utf8": ("The version's hint is not UTF-8.", {"version_hint": b"\xff"}),
    "wrapped-empty": ("The wrapped key is empty.", {"wrapped": b""}),
    "wrapped-2049": ("The wrapped key has 2,049 bytes.", {"wrapped": bytes(2049)}),
    "trailing": ("A byte follows the wrapped key.", {"key_block": lambda block: block + b"\0"}),
    "cut": ("It ends in the wrapped key.", {"key_block": lambda block: block[:-1]}),
    "claim": (
        "The wrapped key claims 2,048 bytes.",
        {"key_block": lambda block: block[:-62] + struct.pack(">H", 2048) + block[-60:]},
    ),
} | {
    f"uri-{kind}": (
        "The KEK's URI is not UTF-8.",
        {"kek_uri": KEK_URI.encode() + data, "wrapped_by": KEK_URI},
    )
    for kind, data in _NOT_UTF8.items()
}

# Section 2.2.
_HEADERS: Table = {
    "suite-0": ("Suite 0.", {"suite": 0}),
    "suite-2": ("Suite 2.", {"suite": 2}),
    "scope-0": ("Scope 0.", {"scope": 0}),
    "scope-2": ("Scope 2.", {"scope": 2}),
    "instance-256": (
        "An instance of 256 bytes.",
        {"instance": "i" * 256, "instances": ["i" * 256]},
    ),
    "dag-empty": ("An empty dag.", {"dag": "", "asked": _without("dag")}),
    "run-empty": ("An empty run.", {"run": "", "asked": _without("run")}),
    "task-empty": ("An empty task.", {"task": "", "asked": _without("task")}),
    "key-empty": ("An empty key.", {"key": "", "asked": _without("key")}),
    "dag-utf8": ("The dag is not UTF-8.", {"dag": b"\xff", "asked": _without("dag")}),
    "run-utf8": ("The run is not UTF-8.", {"run": b"\xff", "asked": _without("run")}),
    "task-utf8": ("The task is not UTF-8.", {"task": b"\xff", "asked": _without("task")}),
    "key-utf8": ("The key is not UTF-8.", {"key": b"\xff", "asked": _without("key")}),
    "map-index": ("Map index -2.", {"map_index": -2, "asked": _without("map_index")}),
    "map-index-least": (
        "Map index -2^31.",
        {"map_index": -(2**31), "asked": _without("map_index")},
    ),
    "ti-mark": (
        "The mark before the task instance's id is 2.",
        {"header": lambda header: header[:-1] + b"\x02"},
    ),
    "ti-mark-and-id": (
        "The mark is 2, and an id follows.",
        {"header": lambda header: header[:-1] + b"\x02" + bytes(16)},
    ),
    "ti-cut": (
        "The task instance's id has 15 bytes.",
        {"header": lambda header: header[:-1] + b"\x01" + bytes(15)},
    ),
    "ti-unmarked": (
        "A task instance's id after the mark for none.",
        {"header": lambda header: header + bytes(16)},
    ),
    "ti-missing": (
        "No mark for the task instance's id.",
        {"header": lambda header: header[:-1]},
    ),
    "trailing": ("A byte follows the last field.", {"header": lambda header: header + b"\0"}),
    "claim": (
        "The dag's length goes beyond the header.",
        {"header": lambda header: header[:52] + b"\x1f\xff" + header[54:]},
    ),
} | {
    f"instance-{kind}": ("The instance is not UTF-8.", {"instance": data})
    for kind, data in _NOT_UTF8.items()
}

# Section 8.2, step 3.
_KEKS: Table = {
    "foreign": ("A KEK that the reader does not trust.", {"kek_uri": _OTHER_URI}),
    "case": ("A trusted URI in another case.", {"kek_uri": KEK_URI.upper()}),
    "slash": ("A trusted URI with a slash more.", {"kek_uri": KEK_URI + "/"}),
    "shorter": ("The beginning of a trusted URI.", {"kek_uri": KEK_URI[:-1]}),
    "path": (
        "Another path to a trusted file.",
        {"kek_uri": "local-kek:///vectors/x/../kek"},
    ),
    "none": ("The reader trusts no KEK but another.", {"keks": {_OTHER_URI: "00" * 32}}),
}

# Section 8.2, step 4: the deployment.
_INSTANCES: Table = {
    "instance": ("Another deployment's.", {"instance": "test", "instances": ["prod"]}),
    "instance-none": ("Sealed without an instance.", {"instances": ["prod"]}),
    "instance-unasked": ("The reader has no instance.", {"instance": "prod"}),
    "instance-case": (
        "An instance in another case.",
        {"instance": "Prod", "instances": ["prod", "PROD"]},
    ),
    "instance-form": (
        "A composed é for a decomposed one.",
        {"instance": "\u00e9", "instances": ["e\u0301"]},
    ),
    "instance-mark": (
        "Another deployment's state, as an XCom.",
        {"instance": "test#task-state", "instances": ["prod"]},
    ),
    "instance-before-mark": (
        "A trusted name with more behind it.",
        {"instance": "prod2#task-state", "instances": ["prod"]},
    ),
}

# Section 8.2, step 4: the kind and the context.
_CONTEXTS: Table = {
    "mark": ("A task's state.", {"instance": "prod#task-state", "instances": ["prod"]}),
    "mark-asset": ("An asset's state.", {"instance": "#asset-state"}),
    "mark-unknown": ("Another kind's.", {"instance": "prod#other", "instances": ["prod"]}),
    "mark-empty": ("Nothing behind the #.", {"instance": "prod#", "instances": ["prod"]}),
    "dag": ("Another dag.", {"dag": "payments2", "asked": COORDINATE}),
    "run": ("Another run.", {"run": "manual__2026-11-22T00:00:00", "asked": COORDINATE}),
    "task": ("Another task.", {"task": "Load", "asked": COORDINATE}),
    "map-index": ("Another map index.", {"map_index": 0, "asked": COORDINATE}),
    "key": ("Another key.", {"key": "return_value ", "asked": COORDINATE}),
    "form": (
        "A decomposed é for a composed one.",
        {"task": "e\u0301", "asked": COORDINATE | {"task": "\u00e9"}},
    ),
    "shifted": (
        "The same letters, cut in another place.",
        {"dag": "ab", "run": "c", "asked": COORDINATE | {"dag": "a", "run": "bc"}},
    ),
}

# Section 3, and section 8.2, steps 5 and 6.
_KEYS: Table = {
    "wrapped-nonce": ("A bit of the wrapped key's nonce.", {"after": flip("wrapped", 0)}),
    "wrapped-text": ("A bit of the wrapped key.", {"after": flip("wrapped", 12, 7)}),
    "wrapped-tag": ("A bit of the wrapped key's tag.", {"after": flip("wrapped", 59)}),
    "wrapped-1": ("One byte.", {"wrapped": b"\0"}),
    "wrapped-2048": ("The longest wrapped key that a key block holds.", {"wrapped": bytes(2048)}),
    "wrapped-27": ("Fewer bytes than a nonce and a tag have.", {"wrapped": bytes(27)}),
    "wrapped-59": ("A byte less than the wrapped key has.", {"wrapped": lambda key: key[:-1]}),
    "wrapped-61": ("A byte after the wrapped key's tag.", {"wrapped": lambda key: key + b"\0"}),
    "wrapped-by-other": ("Wrapped by another KEK than it names.", {"wrapped_by": _OTHER_URI}),
    "aad-empty": ("Wrapped without additional data.", {"aad": b""}),
    "aad-label": ("Wrapped under another label.", {"aad": lambda aad: b"S" + aad[1:]}),
    "aad-task": (
        "Wrapped for another task.",
        {"aad_scope": lambda scope: scope.replace(b"load", b"lead")},
    ),
    "aad-instance": (
        "Wrapped for another instance.",
        {"aad_scope": lambda scope: scope[:1] + lp(b"x") + scope[3:]},
    ),
    "aad-map-index": (
        "Wrapped for another map index.",
        {"aad_scope": lambda scope: scope[:-4] + bytes(4)},
    ),
    "id": ("Another key's id in the header.", {"key_id": bytes(16)}),
    "other": (
        "Another data key, wrapped for the same scope and id.",
        {"wrapped_dek": stream("another data key", 32)},
    ),
    "commitment": ("A bit of the commitment.", {"after": flip("commitment", 31, 7)}),
    "commitment-zero": ("A commitment of zeros.", {"commitment": bytes(32)}),
    "commitment-half": (
        "A commitment that is right in its first half.",
        {"commitment": lambda commitment: commitment[:16] + bytes(16)},
    ),
    "salt": ("A bit of the header's salt.", {"after": flip("header", 18)}),
    "ti-id": (
        "A bit of the task instance's id.",
        {"ti_id": bytes(16), "after": flip("commitment", -1)},
    ),
    "unasked": (
        "A bit of the XCom's key, which the reader was not told.",
        {"asked": _without("key"), "after": flip("commitment", -2)},
    ),
} | {
    f"dek-{length}": (
        f"A data key of {length} bytes.",
        {"dek": stream(f"a data key of {length} bytes", length)},
    )
    for length in (0, 16, 31, 33, 64)
}


def from_table(section: str, expect: str, table: Table, **common: Any) -> Iterator[Vector]:
    """The vectors of a table; the reader is asked for what stands in the envelope."""
    for name, (comment, parts) in table.items():
        changes = dict(parts)
        members = {
            member: changes.pop(member)
            for member in ("asked", "instances", "keks", "max_value_bytes")
            if member in changes
        }
        after = changes.pop("after", None)
        full = f"bad-{section}-{name}"
        made = envelope(full, changes.pop("raw", VALUE), **changes)
        if after:
            made = replace(made, data=after(made))
        yield bad(full, comment, expect, made, **common, **members)


def vectors() -> Iterator[Vector]:
    yield from from_table("envelope", "FormatError", _ENVELOPES)
    yield from from_table("key-block", "FormatError", _KEY_BLOCKS)
    yield from from_table("header", "FormatError", _HEADERS)
    yield from from_table("kek", "ConfigError", _KEKS)
    yield from from_table("context", "ConfigError", _INSTANCES)
    yield from from_table("context", "AuthenticationError", _CONTEXTS)
    yield from from_table("key", "AuthenticationError", _KEYS)
