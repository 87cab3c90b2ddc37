"""Vectors of states (section 7.1): those that open, and those with one fault each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vectors.case import Vector, bad, good
from vectors.codec_values import PLAIN, document
from vectors.construct import COORDINATE, GENERATION, STORE_URI, Envelope, envelope, row_text

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE = {"next": 2, "card": "4111"}
KEY = COORDINATE | {"key": "page"}
FOLDER = "payments/manual__2026-11-22T00%3A00%3A00%2B00%3A00/load/-1/page/"
STORES = [f"{STORE_URI}/~state/task", f"{STORE_URI}/~state/asset"]
#: An asset's name, URI and id stand where a task's do, under the kind of it.
ASSETS = {
    "name": {"dag": "asset", "run": "name", "task": "orders", "key": "page"},
    "uri": {"dag": "asset", "run": "uri", "task": "s3://bucket/orders", "key": "page"},
    "id": {"dag": "asset", "run": "id", "task": "7", "key": "page"},
}


def _made(name: str, kind: str = "task", **parts: Any) -> Envelope:
    raw = document(json.dumps(STATE))
    parts = {"key": "page", "instance": f"prod#{kind}-state", "codec": PLAIN} | parts
    return envelope(name, raw, **parts)


def _members(kind: str = "task", **members: Any) -> dict[str, Any]:
    value = repr(json.dumps(STATE))
    return {
        "state": kind,
        "instances": ["prod"],
        "stores": STORES,
        "asked": KEY,
        "value": value,
    } | (members)


def _folder(kind: str = "task", folder: str = FOLDER, **changes: Any) -> dict[str, Any]:
    return {"__secure_xcom_state__": 1, "store": f"{STORE_URI}/~state/{kind}", "folder": folder} | (
        changes
    )


def _in_folder(made: Envelope, row: Any = None, folder: str = FOLDER) -> dict[str, Any]:
    row = _folder() if row is None else row
    text = row if isinstance(row, str) else row_text(row)
    return {
        "remote": True,
        "row": lambda _: text,
        "stored": (f"{folder}0123456789abcdef", GENERATION, made.data),
    }


def vectors() -> Iterator[Vector]:
    yield from _good()
    yield from _moved()
    yield from _rows()


def _good() -> Iterator[Vector]:
    name = "good-state-inline"
    yield good(name, "A task's state in its row.", _made(name), **_members())
    name = "good-state-folder"
    made = _made(name)
    yield good(name, "A row that names a folder.", made, **_members(), **_in_folder(made))
    for kind, where in ASSETS.items():
        name = f"good-state-asset-{kind}"
        made = _made(name, "asset", **where)
        members = _members("asset", asked=where | {"map_index": -1})
        yield good(name, f"The state of an asset that is known by its {kind}.", made, **members)
    name = "good-state-without-instance"
    made = _made(name, instance="#task-state")
    yield good(name, "A deployment without a name.", made, **_members(instances=[""]))


def _moved() -> Iterator[Vector]:
    """What is read as something else than it was sealed as."""
    refused = "AuthenticationError"
    for name, comment, parts, members in (
        ("xcom", "An XCom's envelope as a state.", {"instance": "prod"}, {}),
        ("as-xcom", "A state's envelope as an XCom.", {}, {"state": ""}),
        ("kind", "An asset's state as a task's.", {"instance": "prod#asset-state"}, {}),
        ("instance", "Another deployment's state.", {"instance": "test#task-state"}, {}),
        ("key", "Another key's state.", {"key": "other"}, {}),
        ("task", "Another task's state.", {"task": "other"}, {}),
    ):
        name = f"bad-state-{name}"  # noqa: PLW2901 - the whole of it
        members = {"value": ""} | members  # noqa: PLW2901
        yield bad(name, comment, refused, _made(name, **parts), **_members(**members))
    name = "bad-state-folder-context"
    made = _made(name, key="other")
    yield bad(
        name,
        "The newest object of the folder was sealed for another key.",
        refused,
        made,
        **_members(value=""),
        **_in_folder(made),
    )
    name = "bad-state-folder-empty"
    made = _made(name)
    yield bad(
        name,
        "The object lies in another folder.",
        "ObjectNotFound",
        made,
        **_members(value=""),
        **_in_folder(made, folder=FOLDER.replace("page", "page2")),
    )


def _rows() -> Iterator[Vector]:
    cases: dict[str, tuple[str, Any]] = {
        "version": ("Another version.", _folder(__secure_xcom_state__=2)),
        "version-true": ("The version is true.", _folder(__secure_xcom_state__=True)),
        "member": ("A member more.", _folder(about={})),
        "without-store": ("No store.", {"__secure_xcom_state__": 1, "folder": FOLDER}),
        "store-null": ("The store is null.", _folder(store=None)),
        "no-slash": ("The folder does not end with a slash.", _folder(folder=FOLDER[:-1])),
        "slash": ("The folder is a slash.", _folder(folder="/")),
        "dots": ("The folder leads out.", _folder(folder="../page/")),
        "twice": ("The folder stands twice.", row_text(_folder())[:-1] + ',"folder":"a/"}'),
        "both-tags": ("The tag of XComs, too.", _folder() | {"__secure_xcom__": 1}),
    }
    for name, (comment, row) in cases.items():
        name = f"bad-state-folder-{name}"  # noqa: PLW2901
        made = _made(name)
        members = _members(value="")
        yield bad(name, comment, "FormatError", made, **members, **_in_folder(made, row))
    name = "bad-state-folder-store"
    made = _made(name)
    members = _members(value="")
    row = _folder(store="file:///other/~state/task")
    yield bad(
        name,
        "A store that is not trusted.",
        "ConfigError",
        made,
        **members,
        **_in_folder(made, row),
    )
