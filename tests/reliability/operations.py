"""What is done while a fault is there, and what must be true of it afterwards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reliability.scene import ASKED, WHERE

from secure_xcom.errors import SecureXComError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reliability.scene import Scene

#: Offloaded in one request, and in parts.
SMALL = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(2_000))
LARGE = SMALL * 150
OLD, NEW = '"old"', '"new"'
RECOVERED = "recovered"


@dataclass(frozen=True)
class Operation:
    """One thing that a task does.

    Args:
        name: what it is called in the table.
        kind: the requests that a fault disturbs: those of the fault proxy, or a method of KMS.
        prepare: while all is well; what it gives is handed to the others.
        act: while the fault is there.
        is_right: once it has returned, and all is well again.
        is_clean: once it has raised, and all is well again.
        expected: what comes of it whatever the fault, where that is so.
    """

    name: str
    kind: str
    prepare: Callable[[Scene], object]
    act: Callable[[Scene, object], object]
    is_right: Callable[[Scene, object, object], bool]
    is_clean: Callable[[Scene, object], bool]
    expected: str | None = None


def _read(read: Callable[[], object]) -> object:
    """What is read; None where it is refused, as an object is that was spoilt."""
    try:
        return read()
    except SecureXComError:
        return None


def _push(name: str, kind: str, value: bytes) -> Operation:
    def is_right(scene: Scene, _prepared: object, row: object) -> bool:
        named = [] if scene.service == "kms" else [f"xcom/{row['object']}"]
        if scene.service == "file":
            named = [row["object"]]
        return scene.stack().get(row, ASKED).value == value and scene.objects() == named

    return Operation(
        name,
        kind,
        lambda _scene: None,
        lambda scene, _: scene.stack().put(value, WHERE),
        is_right,
        # What is left over has a name that no row holds, and no read of an XCom lists: it is
        # never a value. A state's is, and `state write` looks at that.
        lambda _scene, _: True,
    )


def _pull(name: str, kind: str) -> Operation:
    return Operation(
        name,
        kind,
        lambda scene: scene.stack().put(SMALL, WHERE),
        lambda scene, row: scene.stack().get(row, ASKED).value,
        lambda _scene, _row, value: value == SMALL,
        lambda scene, row: _read(lambda: scene.stack().get(row, ASKED).value) in (SMALL, None),
    )


def _state_read(name: str, kind: str) -> Operation:
    return Operation(
        name,
        kind,
        lambda scene: scene.states().set(OLD, WHERE),
        lambda scene, _: scene.states().get(WHERE),
        lambda _scene, _, text: text == OLD,
        lambda scene, _: scene.state() in (OLD, None),
    )


def _state_write(name: str, kind: str, expected: str | None = None) -> Operation:
    return Operation(
        name,
        kind,
        lambda scene: scene.states().set(OLD, WHERE),
        lambda scene, _: scene.states().set(NEW, WHERE),
        lambda scene, _, _result: scene.state() == NEW,
        lambda scene, _: scene.state() == OLD,
        expected,
    )


def _delete(name: str, kind: str) -> Operation:
    return Operation(
        name,
        kind,
        lambda scene: scene.stack().put(SMALL, WHERE),
        lambda scene, row: scene.stack().delete(row, ASKED),
        lambda scene, _row, _: scene.objects() == [],
        lambda _scene, _: True,
    )


STORAGE = (
    _push("push", "upload", SMALL),
    _push("push of 9 MB, one request", "upload", LARGE),
    _push("push in parts, beginning", "start", LARGE),
    _push("push in parts, a part", "part", LARGE),
    _pull("pull", "download"),
    _state_write("state write", "upload"),
    _state_write("state write, looking", "stat"),
    _state_read("state read", "download"),
    _delete("delete", "delete"),
)
KMS = (_push("push", "Encrypt", SMALL), _pull("pull", "Decrypt"))
FILES = (
    _push("push", "", SMALL),
    _pull("pull", ""),
    _state_write("state write", ""),
    _state_read("state read", ""),
    _delete("delete", ""),
)
