"""Vectors of states (section 7.2): those that open, and those with one fault each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vectors.bad_envelopes import cut, flip
from vectors.case import Vector, bad, good
from vectors.codec_values import BYTES, PLAIN, document
from vectors.construct import (
    COORDINATE,
    GENERATION,
    STORE_URI,
    Envelope,
    deployment,
    envelope,
    labelled,
    row_text,
    state,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Row = dict[str, Any]

STATE = {"next": 2, "card": "4111"}
KEY = COORDINATE | {"key": "page"}
_TAG = "__secure_xcom_state__"
_REFUSED = "AuthenticationError"
#: An asset's name, URI and id stand where a task's do, under the kind of it.
ASSETS = {
    "name": {"dag": "asset", "run": "name", "task": "orders", "key": "page"},
    "uri": {"dag": "asset", "run": "uri", "task": "s3://bucket/orders", "key": "page"},
    "id": {"dag": "asset", "run": "id", "task": "7", "key": "page"},
}


def _made(
    seed: str, kind: str = "task", value: dict[str, Any] | None = None, **parts: Any
) -> Envelope:
    raw = document(json.dumps(value or STATE))
    parts = {"key": "page", "instance": f"prod#{kind}-state", "codec": PLAIN} | parts
    return envelope(seed, raw, **parts)


def _read(kind: str = "task", **members: Any) -> dict[str, Any]:
    """What the reader knows; `members` take the place of that."""
    return {"state": kind, "instances": ["prod"], "asked": KEY} | members


def _object(made: Envelope, row: Row | str | None = None, kind: str = "task") -> dict[str, Any]:
    """The row names an object, which is there under the name that its header gives."""
    found = state(made, kind) if row is None else row
    return {
        "remote": True,
        "row": lambda _: found,
        "stored": (made.state_name, GENERATION, made.data),
    }


def vectors() -> Iterator[Vector]:
    yield from _good()
    yield from _moved()
    yield from _rows()
    yield from _names()
    yield from _objects()


def _good() -> Iterator[Vector]:
    value = repr(json.dumps(STATE))
    name = "good-state-inline"
    yield good(name, "A task's state in its row.", _made(name), value=value, **_read())
    name = "good-state-object"
    made = _made(name)
    comment = "A row that names an object."
    yield good(name, comment, made, value=value, **_read(), **_object(made))
    name = "good-state-object-mapped"
    made = _made(name, map_index=3)
    comment = "The state of a mapped task instance."
    read = _read(asked=KEY | {"map_index": 3})
    yield good(name, comment, made, value=value, **read, **_object(made))
    name = "good-state-object-replaced"
    made = _made(name)
    comment = "The row is the same for every write: about may be of another one."
    row = state(made, "task") | {"about": "Sealed by secure_xcom: 9 bytes."}
    yield good(name, comment, made, value=value, **_read(), **_object(made, row))
    name = "good-state-object-order"
    made = _made(name)
    text = row_text(dict(reversed(state(made, "task").items()))).replace(",", " ,\t")
    comment = "Members in another order, and white space."
    yield good(name, comment, made, value=value, **_read(), **_object(made, text))
    for kind, where in ASSETS.items():
        read = _read("asset", asked=where | {"map_index": -1})
        comment = f"The state of an asset that is known by its {kind}."
        name = f"good-state-asset-{kind}"
        yield good(name, comment, _made(name, "asset", **where), value=value, **read)
        name = f"good-state-asset-{kind}-object"
        made = _made(name, "asset", **where)
        placed = _object(made, kind="asset")
        yield good(name, comment, made, value=value, **read, **placed)
    name = "good-state-without-instance"
    made = _made(name, instance="#task-state")
    comment = "A deployment without a name."
    yield good(name, comment, made, value=value, **_read(instances=[""]))
    name = "good-state-trusted-instance"
    made = _made(name, instance="old#task-state")
    comment = "An instance that reads accept."
    read = _read(instances=["new", "old"])
    yield good(name, comment, made, value=value, **read, **_object(made))


#: What is read as something else than it was sealed as: inline, and as an object.
_CONTEXTS: Mapping[str, tuple[str, str, Row]] = {
    "xcom": ("An XCom's envelope as a state.", _REFUSED, {"instance": "prod"}),
    "kind": ("An asset's state as a task's.", _REFUSED, {"instance": "prod#asset-state"}),
    "mark": ("Another mark.", _REFUSED, {"instance": "prod#task-State"}),
    "mark-twice": ("The mark twice.", _REFUSED, {"instance": "prod#task-state#task-state"}),
    "instance": ("Another deployment's state.", "ConfigError", {"instance": "test#task-state"}),
    "instance-xcom": ("Another deployment's XCom.", "ConfigError", {"instance": "test"}),
    "key": ("Another key's state.", _REFUSED, {"key": "other"}),
    "task": ("Another task's state.", _REFUSED, {"task": "other"}),
    "map-index": ("Another map index's state.", _REFUSED, {"map_index": 0}),
}


def _moved() -> Iterator[Vector]:
    for name, (comment, expect, parts) in _CONTEXTS.items():
        full = f"bad-state-{name}"
        yield bad(full, comment, expect, _made(full, **parts), **_read())
        full = f"bad-state-object-{name}"
        made = _made(full, **parts)
        yield bad(full, comment, expect, made, **_read(), **_object(made))
    name = "bad-state-as-xcom"
    read = _read("")
    yield bad(name, "A state's envelope as an XCom.", _REFUSED, _made(name), **read)
    name = "bad-state-row-as-xcom"
    made = _made(name)
    comment = "The row of a state, read as an XCom."
    yield bad(name, comment, "FormatError", made, **read, **_object(made))
    name = "bad-state-offloaded"
    made = _made(name)
    stored = (made.object_name, GENERATION, made.body)
    comment = "An offloaded reference is no state."
    yield bad(
        name,
        comment,
        "FormatError",
        made,
        **_read(),
        remote=True,
        stored=stored,
    )


def _without(row: Row, member: str) -> Row:
    return {name: value for name, value in row.items() if name != member}


def _rows() -> Iterator[Vector]:
    made = _made("bad-state-object rows")
    row = state(made, "task")
    text = row_text(row)
    name = row["object"]
    first, *parts = name.split("/")
    cases: dict[str, tuple[str, Row | str]] = {
        "version": ("Version 2.", row | {_TAG: 2}),
        "version-0": ("Version 0.", row | {_TAG: 0}),
        "version-true": ("The version is true.", row | {_TAG: True}),
        "version-text": ("The version is text.", row | {_TAG: "1"}),
        "version-null": ("The version is null.", row | {_TAG: None}),
        "version-float": ("The version is 1.0.", row | {_TAG: 1.0}),
        "version-exponent": ("The version is 1e0.", text.replace(f'"{_TAG}":1', f'"{_TAG}":1e0')),
        "version-nan": ("The version is NaN.", row | {_TAG: float("nan")}),
        "member": ("A member more.", row | {"folder": "a/"}),
        "generation": ("A member of an offloaded reference.", row | {"generation": GENERATION}),
        "both-tags": ("The tag of XComs, too.", row | {"__secure_xcom__": 1}),
        "placement": ("A placement.", row | {"placement": "offloaded"}),
        "tag-of-xcoms": (
            "The tag of XComs instead.",
            _without(row, _TAG) | {"__secure_xcom__": 1},
        ),
        "without-about": ("No about.", _without(row, "about")),
        "without-store": ("No store.", _without(row, "store")),
        "without-object": ("No object.", _without(row, "object")),
        "about-null": ("about is null.", row | {"about": None}),
        "about-object": ("about is an object.", row | {"about": {}}),
        "about-nan": ("about is NaN.", row | {"about": float("nan")}),
        "store-null": ("The store is null.", row | {"store": None}),
        "object-null": ("The object is null.", row | {"object": None}),
        "object-list": ("The object is a list.", row | {"object": name.split("/")}),
        "twice": ("The object stands twice.", f'{text[:-1]},"object":"{name}"}}'),
        "tag-twice": ("The tag stands twice.", f'{text[:-1]},"{_TAG}":1}}'),
        "trailing": ("Text after the object.", text + "x"),
        "array": ("An array.", f"[{text}]"),
    }
    forms = {
        "empty": "",
        "upper": name.upper(),
        "upper-last": f"{first}/{parts[0]}/{parts[1]}/{parts[2].upper()}",
        "three-parts": f"{first}/{parts[0]}/{parts[1]}",
        "two-parts": f"{first}/{parts[0]}",
        "five-parts": f"{name}/{parts[2]}",
        "63": name[:-1],
        "65": name + "0",
        "17": "0" + name,
        "shifted": f"{first}/{parts[0]}0/{parts[1][1:]}/{parts[2]}",
        "slash": f"/{name}",
        "slash-end": f"{name}/",
        "slash-twice": name.replace("/", "//", 1),
        "dots": f"../{name}",
        "newline": f"{name}\n",
        "letter": f"{name[:-1]}g",
    }
    for form, value in forms.items():
        cases[f"form-{form}"] = ("A name of another form.", row | {"object": value})
    for case, (comment, changed) in cases.items():
        placed = _object(made, changed)
        yield bad(f"bad-state-row-{case}", comment, "FormatError", made, **_read(), **placed)
    for case, comment, store in (
        ("foreign", "A store that is not trusted.", "file:///other/~state/task"),
        ("kind", "The store of the other kind.", f"{STORE_URI}/~state/asset"),
        ("xcoms", "The store of XComs.", STORE_URI),
        ("slash", "A slash more.", f"{STORE_URI}/~state/task/"),
        ("case", "Another case.", f"{STORE_URI}/~State/task"),
        ("above", "The store of both kinds.", f"{STORE_URI}/~state"),
        ("empty", "No text.", ""),
    ):
        placed = _object(made, row | {"store": store})
        full = f"bad-state-store-{case}"
        yield bad(full, comment, "ConfigError", made, **_read(), **placed)


def _names() -> Iterator[Vector]:
    """The object is there, under a name that its header does not give."""
    made = _made("bad-state-name")
    other = _made("bad-state-name other", key="other")
    first, task, index, key = made.state_name.split("/")
    wrong: dict[str, tuple[str, str]] = {
        "deployment": (
            "Another deployment's.",
            f"{deployment(b'test#task-state')}/{task}/{index}/{key}",
        ),
        "deployment-unmarked": (
            "The deployment's part is that of XComs.",
            f"{deployment(b'prod')}/{task}/{index}/{key}",
        ),
        "task": ("Another task's part.", f"{first}/{labelled('state-task', b'')}/{index}/{key}"),
        "index": (
            "Another map index's part.",
            f"{first}/{task}/{labelled('state-index', b'')}/{key}",
        ),
        "key": ("Another key's part.", f"{first}/{task}/{index}/{labelled('state-key', b'')}"),
        "other-key": ("The name of another key.", other.state_name),
        "swapped": ("Two parts swapped.", f"{first}/{index}/{task}/{key}"),
        "label": (
            "The last part under the label of another.",
            f"{first}/{task}/{index}/{labelled('state-index', made.where[2])}",
        ),
        "object": (
            "The last part is the hash of the header.",
            f"{first}/{task}/{index}/{labelled('object', made.header)}",
        ),
    }
    for name, (comment, moved) in wrong.items():
        placed = _object(made, state(made, "task") | {"object": moved})
        placed["stored"] = (moved, GENERATION, made.data)
        yield bad(f"bad-state-name-{name}", comment, _REFUSED, made, **_read(), **placed)


def _objects() -> Iterator[Vector]:
    """What the object holds."""
    changes: dict[str, tuple[str, str, Callable[[Envelope], bytes]]] = {
        "cut": ("Cut by one byte.", _REFUSED, lambda made: made.data[:-1]),
        "extended": ("One byte more.", _REFUSED, lambda made: made.data + b"\0"),
        "flipped": ("A bit of the body.", _REFUSED, flip("body", 200)),
        "salt": ("A bit of the header's salt.", _REFUSED, flip("header", 18)),
        "commitment": ("A bit of the commitment.", _REFUSED, flip("commitment")),
        "cut-body": ("A body of 311 bytes.", "FormatError", cut("body", 311)),
        "no-body": ("The preamble alone.", "FormatError", cut("body")),
        "only-body": ("The body alone.", "FormatError", lambda made: made.body),
        "cut-header": ("It ends in the header.", "FormatError", cut("header", 20)),
        "empty": ("No bytes.", "FormatError", lambda _: b""),
        "version": (
            "Version 2.",
            "FormatError",
            lambda made: made.data[:4] + b"\2" + made.data[5:],
        ),
    }
    for name, (comment, expect, change) in changes.items():
        full = f"bad-state-object-{name}"
        made = _made(full, value=STATE | {"note": "x" * 300})
        placed = _object(made)
        placed["stored"] = (made.state_name, GENERATION, change(made))
        yield bad(full, comment, expect, made, **_read(), **placed)
    name = "bad-state-object-missing"
    made, other = _made(name), _made(name, key="other")
    placed = _object(made)
    placed["stored"] = (other.state_name, GENERATION, other.data)
    yield bad(name, "Another key's object.", "ObjectNotFound", made, **_read(), **placed)
    placed["stored"] = None
    yield bad("bad-state-object-none", "No object.", "ObjectNotFound", made, **_read(), **placed)
    name = "bad-state-object-too-long"
    made = _made(name, value={"note": "x" * 14_000})
    comment = "An object longer than the reader's limit."
    read = _read(max_value_bytes=1000)
    yield bad(name, comment, "FormatError", made, **read, **_object(made))
    name = "bad-state-object-raw-len"
    made = _made(name)
    comment = "A value of a byte more than the reader allows."
    read = _read(max_value_bytes=len(made.raw) - 1)
    yield bad(name, comment, "FormatError", made, **read, **_object(made))
    text = json.dumps(STATE)
    for name, comment, codec, raw in (
        ("none", "None.", PLAIN, document(None)),
        ("dict", "A dict that is not JSON yet.", PLAIN, document(STATE)),
        ("bytes", "Bytes that hold JSON.", BYTES, text.encode()),
    ):
        full = f"bad-state-value-{name}"
        made = envelope(full, raw, key="page", instance="prod#task-state", codec=codec)
        vector = good(full, comment, made, **_read(), **_object(made))
        vector.expect = "FormatError"
        yield vector
