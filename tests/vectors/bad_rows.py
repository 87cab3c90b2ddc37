"""Vectors with one fault each in the row, or between the row and the object that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectors.case import Vector, bad
from vectors.construct import GENERATION, OBJECT_NAME, STORE_URI, b64, envelope, row_text, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Row = dict[str, Any]

_TAG = "__secure_xcom__"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _no_rows() -> Iterator[tuple[str, str]]:
    yield "array", '[{"__secure_xcom__":1}]'
    yield "text", '"__secure_xcom__"'
    yield "null", "null"
    yield "number", "1"
    yield "empty", ""
    yield "not-json", "{'__secure_xcom__': 1}"
    yield "untagged", '{"placement":"inline","envelope":"","about":{}}'


def _without(member: str) -> Callable[[Row], Row]:
    return lambda row: {name: value for name, value in row.items() if name != member}


def _spare_bits(text: str) -> str:
    stem = text.rstrip("=")
    if stem == text:
        raise AssertionError("An envelope of this length leaves no spare bits.")
    return stem[:-1] + _ALPHABET[_ALPHABET.index(stem[-1]) + 1] + text[len(stem) :]


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
    "tag-exponent": (
        "The version is 1e0.",
        lambda row: row_text(row).replace(f'"{_TAG}":1', f'"{_TAG}":1e0'),
    ),
    "tag-twice": ("The tag stands twice.", lambda row: row_text(row)[:-1] + f',"{_TAG}":1}}'),
    "envelope-twice": (
        "The envelope stands twice.",
        lambda row: row_text(row)[:-1] + f',"envelope":"{row["envelope"]}"}}',
    ),
    "about-twice": (
        "A member of about stands twice.",
        lambda row: row_text(row).replace('"about":{', '"about":{"kek":"",'),
    ),
    "nan": (
        "A member of about is not a number.",
        lambda row: row_text(row).replace('"about":{', '"about":{"n":NaN,'),
    ),
    "infinity": (
        "A member of about is negative infinity.",
        lambda row: row_text(row).replace('"about":{', '"about":{"n":-Infinity,'),
    ),
    "trailing": ("Text after the object.", lambda row: row_text(row) + "x"),
    "cut": ("The object does not end.", lambda row: row_text(row)[:-1]),
    "byte-order-mark": ("A byte-order mark goes before.", lambda row: "\ufeff" + row_text(row)),
}

#: Changes of an inline row's members.
_INLINE: Mapping[str, tuple[str, Any]] = {
    "extra": ("A member more.", {"codec": 5}),
    "extra-remote": ("A member of the other placement.", {"store": STORE_URI}),
    "placement": ("An unknown placement.", {"placement": "Inline"}),
    "placement-null": ("The placement is null.", {"placement": None}),
    "placement-list": ("The placement is a list.", {"placement": ["inline"]}),
    "placement-other": ("An inline row that says it is not.", {"placement": "offloaded"}),
    "about-null": ("about is null.", {"about": None}),
    "about-text": ("about is text.", {"about": "{}"}),
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
        "slash": "/" + OBJECT_NAME,
        "slash-end": OBJECT_NAME + "/",
        "slash-twice": "dag//run",
        "dot": "dag/./run",
        "dots": "dag/../../etc/passwd",
        "dots-only": "..",
        "dots-end": "dag/..",
        "space": "dag/run 1",
        "backslash": "dag\\..\\run",
        "nul": "dag/run\0",
        "newline": "dag/run\n",
        "unicode": "dag/é",
        "question": "dag/run?generation=1",
        "scheme": "gs://bucket/object",
        "hidden": "dag/.run",
        "801": "d" * 801,
        "null": None,
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
    },
    "length_bytes": {
        "0": 0,
        "negative": -1,
        "true": True,
        "float": 500.0,
        "text": "500",
        "null": None,
        "most": 1_099_528_417_634,
        "digits": 10**400,
    },
    "crc32c": {
        "3-bytes": b64(bytes(3)),
        "5-bytes": b64(bytes(5)),
        "spare-bits": "AAAAAB==",
        "number": 0,
        "empty": "",
    },
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


def vectors() -> Iterator[Vector]:
    yield from _shapes()
    yield from _remote()
    yield from _objects()


def _case(name: str, comment: str, change: Any, *, remote: bool = False) -> Vector:
    full = f"bad-row-{name}"
    made = envelope(full, b"4111 1111 1111 1111")
    row = change if callable(change) else lambda row: row | change
    return bad(full, comment, "FormatError", made, row=row, remote=remote)


def _shapes() -> Iterator[Vector]:
    for name, text in _no_rows():
        yield bad(f"bad-row-{name}", "Not the row of a sealed XCom.", "FormatError", None, row=text)
    for name, tag in _TAGS.items():
        yield _case(f"tag-{name}", f"The version is {row_text(tag)}.", {_TAG: tag})
    for name, (comment, change) in (_TEXTS | _INLINE).items():
        yield _case(name, comment, change)
    for name, (comment, change) in _BASE64.items():
        yield _case(
            f"base64-{name}",
            comment,
            lambda row, change=change: row | {"envelope": change(row["envelope"])},
        )


def _remote() -> Iterator[Vector]:
    for member, values in _VALUES.items():
        start = member.replace("_", "-")
        for name, value in values.items():
            comment = f"A {member} that no writer makes."
            yield _case(f"{start}-{name}", comment, {member: value}, remote=True)
        yield _case(f"without-{start}", f"No {member}.", _without(member), remote=True)
    comment = "A member of the other placement."
    yield _case("extra-envelope", comment, {"envelope": ""}, remote=True)
    for name, uri in _STORES.items():
        vector = _case(f"store-{name}", "Not a trusted store.", {"store": uri}, remote=True)
        vector.expect = "ConfigError"
        yield vector
    # The longest payload of a value of 1,000 bytes has 1,000 + 3 + 270, in one segment.
    most = 12_329 + 40 + 1273 + 16
    comment = "An envelope longer than the reader's limit."
    vector = _case("too-long", comment, {"length_bytes": most + 1}, remote=True)
    vector.max_value_bytes = 1000
    yield vector


def _objects() -> Iterator[Vector]:
    """Section 8, step 2: row and object do not agree."""

    def case(name: str, comment: str, expect: str, **members: Any) -> Vector:
        full = f"bad-object-{name}"
        made = envelope(full, stream(full, 4083))
        if "data" in members:
            members["stored"] = (OBJECT_NAME, GENERATION, members.pop("data")(made.data))
        elif "where" in members:
            members["stored"] = (*members.pop("where"), made.data)
        return bad(full, comment, expect, made, remote=True, **members)

    def flip(data: bytes) -> bytes:
        return data[:2000] + bytes((data[2000] ^ 1,)) + data[2001:]

    other = OBJECT_NAME[:-1] + "0"
    yield case("missing", "Another object.", "ObjectNotFound", where=(other, GENERATION))
    yield case(
        "generation",
        "The same bytes as another generation.",
        "GenerationMismatch",
        where=(OBJECT_NAME, GENERATION + "0"),
    )
    refused = "AuthenticationError"
    yield case("flipped", "A bit of the object.", refused, data=flip)
    yield case("cut", "Cut by one byte.", refused, data=lambda data: data[:-1])
    yield case("extended", "One byte more.", refused, data=lambda data: data + b"\0")
    yield case("empty", "No bytes.", refused, data=lambda _: b"")
    yield case("crc32c", "Another checksum.", refused, row=lambda row: row | {"crc32c": "AAAAAA=="})
    yield case(
        "length-less",
        "The row has a length of one less.",
        refused,
        row=lambda row: row | {"length_bytes": row["length_bytes"] - 1},
    )
    yield case(
        "length-more",
        "The row has a length of one more.",
        refused,
        row=lambda row: row | {"length_bytes": row["length_bytes"] + 1},
    )
