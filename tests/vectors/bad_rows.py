"""Vectors with one fault each in the row, or between the row and the object that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectors.case import Vector, bad
from vectors.construct import (
    GENERATION,
    KEK_URI,
    SEGMENT_BYTES,
    STORE_URI,
    Envelope,
    b64,
    deployment,
    envelope,
    labelled,
    offloaded,
    row_text,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Row = dict[str, Any]
    Stored = tuple[str, str, bytes]

_TAG = "__secure_xcom__"
_REFUSED = "AuthenticationError"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _no_rows() -> Iterator[tuple[str, str]]:
    yield "array", '[{"__secure_xcom__":1}]'
    yield "text", '"__secure_xcom__"'
    yield "null", "null"
    yield "number", "1"
    yield "empty", ""
    yield "not-json", "{'__secure_xcom__': 1}"
    yield "untagged", '{"placement":"inline","envelope":"","about":""}'
    yield "deep", '{"__secure_xcom__":' + "[" * 5000 + "]" * 5000 + "}"


def _without(member: str) -> Callable[[Row], Row]:
    return lambda row: {name: value for name, value in row.items() if name != member}


def _changed(member: str, change: Callable[[Any], Any]) -> Callable[[Row], Row]:
    return lambda row: row | {member: change(row[member])}


def _spare_bits(text: str) -> str:
    stem = text.rstrip("=")
    if stem == text:
        raise AssertionError("An envelope of this length leaves no spare bits.")
    return stem[:-1] + _ALPHABET[_ALPHABET.index(stem[-1]) + 1] + text[len(stem) :]


def _spelled(member: str, number: str, other: str) -> Callable[[Row], str]:
    """The row's text with another number for a member's."""

    def spelled(row: Row) -> str:
        text = row_text(row)
        start = f'"{member}":{number}'
        if text.count(start) != 1:
            raise AssertionError(member)
        return text.replace(start, f'"{member}":{other}')

    return spelled


#: What stands where the version should: the JSON integer 1.
_TAGS: Mapping[str, Any] = {
    "true": True,
    "float": 1.0,
    "2": 2,
    "0": 0,
    "negative": -1,
    "text": "1",
    "null": None,
    "list": [1],
    "object": {},
}

#: Changes of the row's text.
_TEXTS: Mapping[str, tuple[str, Callable[[Row], str]]] = {
    "tag-exponent": ("The version is 1e0.", _spelled(_TAG, "1", "1e0")),
    "tag-twice": ("The tag stands twice.", lambda row: row_text(row)[:-1] + f',"{_TAG}":1}}'),
    "envelope-twice": (
        "The envelope stands twice.",
        lambda row: row_text(row)[:-1] + f',"envelope":"{row["envelope"]}"}}',
    ),
    "about-twice": ("about stands twice.", lambda row: row_text(row)[:-1] + ',"about":""}'),
    "twice-escaped": (
        "A member stands twice, once with an escape in its name.",
        lambda row: row_text(row)[:-1] + ',"\\u0061bout":""}',
    ),
    "tag-nan": ("The version is NaN.", _spelled(_TAG, "1", "NaN")),
    "tag-leading-zero": ("The version is 01.", _spelled(_TAG, "1", "01")),
    "tag-large-float": (
        "The version is 1.0, in many digits.",
        _spelled(_TAG, "1", "1." + "0" * 40),
    ),
    "about-nan": ("about is NaN.", lambda row: row_text(row | {"about": float("nan")})),
    "about-infinity": ("about is Infinity.", lambda row: row_text(row | {"about": float("inf")})),
    "extra-nan": ("A member more, which is NaN.", lambda row: row_text(row)[:-1] + ',"x":NaN}'),
    "control": (
        "A tab in a text, without an escape.",
        lambda row: row_text(row | {"about": "X"}).replace("X", "\t"),
    ),
    "trailing": ("Text after the object.", lambda row: row_text(row) + "x"),
    "cut": ("The object does not end.", lambda row: row_text(row)[:-1]),
    "byte-order-mark": ("A byte-order mark goes before.", lambda row: "\ufeff" + row_text(row)),
}

#: Changes of an inline row's members.
_INLINE: Mapping[str, tuple[str, Any]] = {
    "extra": ("A member more.", {"codec": 5}),
    "extra-remote": ("A member of the other placement.", {"store": STORE_URI}),
    "extra-state": ("The tag of states, too.", {"__secure_xcom_state__": 1}),
    "former": ("A row without the preamble.", lambda row: row | {"preamble": row["envelope"]}),
    "placement": ("An unknown placement.", {"placement": "Inline"}),
    "placement-null": ("The placement is null.", {"placement": None}),
    "placement-list": ("The placement is a list.", {"placement": ["inline"]}),
    "placement-other": ("An inline row that says it is not.", {"placement": "offloaded"}),
    "about-null": ("about is null.", {"about": None}),
    "about-object": ("about is an object.", {"about": {"kek": KEK_URI}}),
    "about-list": ("about is a list.", {"about": ["Sealed"]}),
    "about-number": ("about is a number.", {"about": 1}),
    "about-true": ("about is true.", {"about": True}),
    "about-surrogate": ("about has half of a surrogate pair.", {"about": "Sealed\ud83d."}),
    "without-placement": ("No placement.", _without("placement")),
    "without-envelope": ("No envelope.", _without("envelope")),
    "without-about": ("No about.", _without("about")),
    "base64-empty": ("The envelope is empty.", {"envelope": ""}),
    "base64-null": ("The envelope is null.", {"envelope": None}),
    "base64-list": ("The envelope is a list of numbers.", {"envelope": [83, 88, 67, 77]}),
}

#: Changes of an inline row's envelope.
_BASE64: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "characters": ("Characters outside the alphabet.", lambda text: "*" + text[1:]),
    "outside-ascii": ("A letter outside ASCII.", lambda text: "\uff35" + text[1:]),
    "space": ("A line break.", lambda text: text[:76] + "\n" + text[76:]),
    "unpadded": ("No padding.", lambda text: text.rstrip("=")),
    "padding": ("Padding more than needed.", lambda text: text + "===="),
    "url": (
        "The alphabet for URLs.",
        lambda text: text.replace("+", "-").replace("/", "_"),
    ),
    "spare-bits": ("Spare bits that are not zero.", _spare_bits),
}

#: Values that an offloaded row's members must not have.
_VALUES: Mapping[str, Mapping[str, Any]] = {
    "store": {"null": None, "number": 1},
    "object": {
        "empty": "",
        "null": None,
        "number": 1,
        "list": ["0" * 16, "0" * 64],
    },
    "generation": {
        "empty": "",
        "0": "0",
        "leading-zero": "01",
        "sign": "+1",
        "negative": "-1",
        "space": "1 ",
        "newline": "1\n",
        "21-digits": "1" * 21,
        "digits": "\u0661",
        "number": 1,
        "null": None,
        "letters": "1a",
    },
    "length_bytes": {
        "0": 0,
        "negative": -1,
        "true": True,
        "float": 500.0,
        "text": "500",
        "null": None,
        "311": 311,
        "last-empty": SEGMENT_BYTES + 16,
        "last-of-1": SEGMENT_BYTES + 1,
        "third-empty": 2 * SEGMENT_BYTES + 16,
        "digits": 10**400,
    },
    "preamble": {
        "empty": "",
        "null": None,
        "number": 1,
        "list": [83, 88, 67, 77],
    },
    "crc32c": {
        "3-bytes": b64(bytes(3)),
        "5-bytes": b64(bytes(5)),
        "spare-bits": "AAAAAB==",
        "number": 0,
        "null": None,
        "empty": "",
    },
}

_A, _B = "0123456789abcdef", "0123456789abcdef" * 4

#: Names of another form than section 7.1 has.
_NAMES: Mapping[str, str] = {
    "upper": f"{_A}/{_B.upper()}",
    "upper-deployment": f"{_A.upper()}/{_B}",
    "one-part": _B,
    "three-parts": f"{_A}/{_B}/{_B}",
    "state": f"{_A}/{_B}/{_B}/{_B}",
    "15": f"{_A[:-1]}/{_B}",
    "17": f"{_A}0/{_B}",
    "63": f"{_A}/{_B[:-1]}",
    "65": f"{_A}/{_B}0",
    "no-deployment": f"/{_B}",
    "no-hash": f"{_A}/",
    "slash": f"/{_A}/{_B}",
    "slash-end": f"{_A}/{_B}/",
    "slash-twice": f"{_A}//{_B}",
    "backslash": f"{_A}\\{_B}",
    "letter": f"{_A}/{_B[:-1]}g",
    "newline": f"{_A}/{_B}\n",
    "space": f" {_A}/{_B}",
    "nul": f"{_A}/{_B}\0",
    "digits": f"{_A}/{_B[:-1]}\u0661",
    "dots": f"../{_A}/{_B}",
    "dot": f"./{_A}/{_B}",
    "dots-only": "..",
    "scheme": f"gs://bucket/{_A}/{_B}",
    "question": f"{_A}/{_B}?generation=1",
    "percent": f"{_A}%2F{_B}",
    "former": "payments/manual__2026-11-22/load/-1/return_value/0123456789abcdef",
}

#: Numbers in another spelling than JSON integers have; the length is that of the case's body.
_SPELLINGS: Mapping[str, str] = {
    "float-exact": "312.0",
    "exponent": "312e0",
    "exponent-less": "3.12e2",
    "nan": "NaN",
    "infinity": "Infinity",
    "minus-infinity": "-Infinity",
    "infinite": "1e999",
    "leading-zero": "0312",
    "plus": "+312",
}

#: Changes of an offloaded row's preamble, as bytes.
_PREAMBLES: Mapping[str, tuple[str, Callable[[Envelope], bytes]]] = {
    "trailing": ("A byte follows the preamble.", lambda made: made.preamble + b"\0"),
    "whole": ("The whole envelope.", lambda made: made.data),
    "twice": ("Two preambles.", lambda made: made.preamble * 2),
    "cut": ("It ends in the commitment.", lambda made: made.preamble[:-1]),
    "cut-header": ("It ends in the header.", lambda made: made.preamble[: made.at["header"] + 9]),
    "cut-key-block": ("It ends in the key block.", lambda made: made.preamble[:9]),
    "no-commitment": ("No commitment.", lambda made: made.preamble[:-32]),
    "magic": ("Another magic.", lambda made: b"SXCN" + made.preamble[4:]),
    "version": ("Version 2.", lambda made: made.preamble[:4] + b"\2" + made.preamble[5:]),
}

#: Stores that the reader does not trust.
_STORES: Mapping[str, str] = {
    "foreign": "file:///vectors/other",
    "slash": STORE_URI + "/",
    "below": STORE_URI + "/payments",
    "above": "file:///vectors",
    "case": STORE_URI.upper(),
    "empty": "",
}


_OTHER = envelope("another", stream("another", 4083))


def _body(change: Callable[[bytes], bytes], more: str = "") -> Callable[[Envelope], Stored]:
    """The object with other bytes, and digits behind its generation."""
    return lambda made: (made.object_name, GENERATION + more, change(made.body))


#: Section 8.2, steps 7 and 8: what is in the store instead of the object.
_OBJECTS: Mapping[str, tuple[str, str, Callable[[Envelope], Stored | None]]] = {
    "missing": (
        "Another object.",
        "ObjectNotFound",
        lambda made: (_OTHER.object_name, GENERATION, made.body),
    ),
    "none": ("The store is empty.", "ObjectNotFound", lambda _: None),
    "generation": (
        "Another generation of that name, with as many other bytes.",
        _REFUSED,
        _body(lambda _: _OTHER.body, "0"),
    ),
    "generation-cut": (
        "Another generation of that name, a byte shorter.",
        _REFUSED,
        _body(lambda body: body[:-1], "0"),
    ),
    "flipped": (
        "A bit of the object.",
        _REFUSED,
        _body(lambda body: body[:2000] + bytes((body[2000] ^ 1,)) + body[2001:]),
    ),
    "cut": ("Cut by one byte.", _REFUSED, _body(lambda body: body[:-1])),
    "extended": ("One byte more.", _REFUSED, _body(lambda body: body + b"\0")),
    "empty": ("No bytes.", _REFUSED, _body(lambda _: b"")),
    "envelope": (
        "The preamble stands in the object, too.",
        _REFUSED,
        lambda made: (made.object_name, GENERATION, made.data),
    ),
}

#: What the row says wrongly of the object.
_WRONG: Mapping[str, tuple[str, Callable[[Row], Row]]] = {
    "crc32c": ("Another checksum.", lambda row: row | {"crc32c": "AAAAAA=="}),
    "length-less": (
        "The row has a length of one less.",
        _changed("length_bytes", lambda length: length - 1),
    ),
    "length-more": (
        "The row has a length of one more.",
        _changed("length_bytes", lambda length: length + 1),
    ),
}


def _digit(name: str, at: int) -> str:
    """The name with another digit there."""
    end = name[at + 1 :] if at + 1 else ""
    return name[:at] + ("0" if name[at] != "0" else "1") + end


#: Section 8.2, step 2: the object, which is there, has a name that the preamble does not give;
#: and step 8, where it gives the name, and the body is another's.
_MOVED: Mapping[str, tuple[str, Callable[[Envelope], Row]]] = {
    "deployment": (
        "The first part is another deployment's.",
        lambda made: {"object": f"{deployment(b'test')}/{labelled('object', made.header)}"},
    ),
    "deployment-digit": (
        "Another last digit of the first part.",
        lambda made: {"object": _digit(made.object_name, 15)},
    ),
    "digit": (
        "Another last digit of the second part.",
        lambda made: {"object": _digit(made.object_name, -1)},
    ),
    "digit-first": (
        "Another first digit of the second part.",
        lambda made: {"object": _digit(made.object_name, 17)},
    ),
    "preamble-hash": (
        "The second part is a hash of the preamble.",
        lambda made: {"object": f"{deployment(made.instance)}/{labelled('object', made.preamble)}"},
    ),
    "label": (
        "The second part is a hash under another label.",
        lambda made: {
            "object": f"{deployment(made.instance)}/{labelled('deployment', made.header)}"
        },
    ),
    "object": ("The name of another object.", lambda _: {"object": _OTHER.object_name}),
    "preamble": (
        "The preamble of another object.",
        lambda _: {"preamble": b64(_OTHER.preamble)},
    ),
    "preamble-and-object": (
        "Preamble and name of another value under the same data key.",
        lambda _: {"preamble": b64(_OTHER.preamble), "object": _OTHER.object_name},
    ),
}


def vectors() -> Iterator[Vector]:
    yield from _shapes()
    yield from _remote()
    yield from _objects()
    yield from _names()


def _case(
    name: str, comment: str, change: Any, expect: str = "FormatError", **members: Any
) -> Vector:
    full = f"bad-row-{name}"
    made = envelope(full, b"4111 1111 1111 1111")
    row = change if callable(change) else lambda row: row | change
    return bad(full, comment, expect, made, row=row, **members)


def _shapes() -> Iterator[Vector]:
    for name, text in _no_rows():
        yield bad(f"bad-row-{name}", "Not the row of a sealed XCom.", "FormatError", None, row=text)
    for name, tag in _TAGS.items():
        yield _case(f"tag-{name}", f"The version is {row_text(tag)}.", {_TAG: tag})
    for name, (comment, change) in (_TEXTS | _INLINE).items():
        yield _case(name, comment, change)
    for name, (comment, change) in _BASE64.items():
        yield _case(f"base64-{name}", comment, _changed("envelope", change))
    full = "bad-row-inline-too-long"
    made = envelope(full, stream(full, 14_000))
    comment = "An envelope longer than the reader's limit."
    yield bad(full, comment, "FormatError", made, max_value_bytes=1000)


def _remote() -> Iterator[Vector]:
    for member, values in _VALUES.items():
        start = member.replace("_", "-")
        for name, value in values.items():
            comment = f"A {member} that no writer makes."
            yield _case(f"{start}-{name}", comment, {member: value}, remote=True)
        yield _case(f"without-{start}", f"No {member}.", _without(member), remote=True)
    for name, text in _NAMES.items():
        comment = "An object's name of another form."
        yield _case(f"object-{name}", comment, {"object": text}, remote=True)
    comment = "Half of a surrogate pair in the store's URI, which is then no text."
    yield _case("store-surrogate", comment, {"store": "file:///\udc80"}, remote=True)
    for name, number in _SPELLINGS.items():
        change = _spelled("length_bytes", "312", number)
        yield _case(f"length-bytes-{name}", f"The length is {number}.", change, remote=True)
    for name, (comment, change) in _BASE64.items():
        yield _case(f"preamble-{name}", comment, _changed("preamble", change), remote=True)
    for name, (comment, make) in _PREAMBLES.items():
        full = f"bad-row-preamble-{name}"
        made = envelope(full, b"4111 1111 1111 1111")
        row = {"preamble": b64(make(made))}
        yield bad(
            full, comment, "FormatError", made, remote=True, row=lambda old, row=row: old | row
        )
    comment = "A byte more than the longest body, and a reader without a limit of its own."
    change = {"length_bytes": 1_099_528_405_305}
    yield _case("length-bytes-most", comment, change, remote=True, max_value_bytes=2**50)
    comment = "A member of the other placement."
    yield _case("extra-envelope", comment, {"envelope": ""}, remote=True)
    for name, uri in _STORES.items():
        comment = "Not a trusted store."
        yield _case(f"store-{name}", comment, {"store": uri}, "ConfigError", remote=True)
    # The longest payload of a value of 1,000 bytes has 1,000 + 3 + 270, in one segment.
    comment = "A body longer than the reader's limit."
    change = {"length_bytes": 40 + 1273 + 16 + 1}
    yield _case("too-long", comment, change, remote=True, max_value_bytes=1000)


def _objects() -> Iterator[Vector]:
    for name, (comment, expect, stored) in _OBJECTS.items():
        full = f"bad-object-{name}"
        made = envelope(full, stream(full, 4083))
        yield bad(full, comment, expect, made, remote=True, stored=stored(made))
    for name, (comment, change) in _WRONG.items():
        full = f"bad-object-{name}"
        made = envelope(full, stream(full, 4083))
        yield bad(full, comment, "AuthenticationError", made, remote=True, row=change)

    full = "bad-object-length-most"
    made = envelope(full, stream(full, 4083))
    yield bad(
        full,
        "The row has the length of the longest body.",
        "AuthenticationError",
        made,
        remote=True,
        row=lambda row: row | {"length_bytes": 1_099_528_405_304},
        max_value_bytes=2**50,
    )


def _names() -> Iterator[Vector]:
    for name, (comment, changes) in _MOVED.items():
        full = f"bad-name-{name}"
        made = envelope(full, stream(full, 4083), dek=_OTHER.dek)
        row = offloaded(made) | changes(made)
        yield bad(
            full,
            comment,
            "AuthenticationError",
            made,
            remote=True,
            row=lambda _, row=row: row,
            stored=(row["object"], GENERATION, made.body),
        )
