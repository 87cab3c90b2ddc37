"""One vector: what lies where, what a reader trusts and asks for, and what it must answer."""

from __future__ import annotations

import base64
import hashlib
import json
import textwrap
from dataclasses import dataclass, field
from typing import Any

from vectors.construct import (
    COORDINATE,
    GENERATION,
    KEK_URI,
    STORE_URI,
    Envelope,
    inline,
    kek,
    offloaded,
    row_text,
)

#: Longer objects are not kept in the file: the generator makes them again.
KEPT_BYTES_MAX = 16_384
_SETTINGS = ("asked", "instances", "keks", "stores", "max_value_bytes")


@dataclass
class Vector:
    """The contents of a vector file; `README.md` describes each line."""

    name: str
    comment: str
    expect: str
    row: str
    object: tuple[str, str, bytes] | None = None
    asked: dict[str, Any] = field(default_factory=lambda: dict(COORDINATE))
    instances: list[str] = field(default_factory=lambda: [""])
    keks: dict[str, str] = field(default_factory=lambda: {KEK_URI: kek(KEK_URI).hex()})
    stores: list[str] = field(default_factory=lambda: [STORE_URI])
    max_value_bytes: int = 8 * 2**30
    state: str = ""
    data_key: str = ""
    encoded: dict[str, Any] = field(default_factory=dict)
    value: str = ""
    object_sha256: str = ""

    def dump(self) -> str:
        lines = [f"comment: {self.comment}", f"expect: {self.expect}"]
        lines += [f"{member}: {json.dumps(getattr(self, member))}" for member in _SETTINGS]
        if self.state:
            lines.append(f"state: {self.state}")
        if self.data_key:
            lines.append(f"data_key: {self.data_key}")
        if self.encoded:
            lines.append(f"encoded: {json.dumps(self.encoded)}")
        if self.value:
            lines.append(f"value: {self.value}")
        if "\n" in self.row:
            raise AssertionError(f"{self.name}: a row of several lines is not kept")
        lines.append(f"row: {self.row}")
        if self.object:
            name, generation, data = self.object
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f"object: {name} {generation} {len(data)} {digest}")
            if len(data) <= KEPT_BYTES_MAX:
                lines += ["", *textwrap.wrap(base64.b64encode(data).decode(), 76)]
        return "\n".join(lines) + "\n"


def load(name: str, file_text: str) -> Vector:
    """Read a file back; an object that it does not keep is left empty, with its hash."""
    head, _, body = file_text.partition("\n\n")
    lines = dict(line.split(": ", 1) for line in head.removesuffix("\n").split("\n"))
    vector = Vector(name, lines["comment"], lines["expect"], lines["row"])
    for member in _SETTINGS:
        setattr(vector, member, json.loads(lines[member]))
    vector.state = lines.get("state", "")
    vector.data_key = lines.get("data_key", "")
    vector.encoded = json.loads(lines.get("encoded", "{}"))
    vector.value = lines.get("value", "")
    if "object" in lines:
        object_name, generation, length, vector.object_sha256 = lines["object"].split(" ")
        data = base64.b64decode(body)
        vector.object = (object_name, generation, data)
        if data and len(data) != int(length):
            raise AssertionError(f"{name}: the object does not have {length} bytes")
    return vector


def good(name: str, comment: str, made: Envelope, **members: Any) -> Vector:
    """A vector that opens."""
    vector = bad(name, comment, "success", made, **members)
    vector.encoded = {
        "codec": made.codec,
        "compression": made.compression,
        "bytes": len(made.raw),
        "sha256": hashlib.sha256(made.raw).hexdigest(),
    }
    return vector


def bad(name: str, comment: str, expect: str, made: Envelope | None, **members: Any) -> Vector:
    """A vector that must be refused.

    Args:
        name: of the file, without its ending.
        comment: what is the matter.
        expect: the class of the error.
        made: the envelope, if there is one.
        members: `remote` (offloaded; so is what is large), `row` (what changes the row,
            or makes a text of it; the text itself, where there is no envelope), `stored` (name,
            generation and bytes of the object, or None), and members of `Vector`.
    """
    row = members.pop("row", None)
    if made is None:
        return Vector(name, comment, expect, row, **members)
    remote = members.pop("remote", len(made.data) > KEPT_BYTES_MAX)
    stored = members.pop("stored", (made.object_name, GENERATION, made.body))
    default = offloaded(made) if remote else inline(made)
    changed = row(default) if row else default
    return Vector(
        name,
        comment,
        expect,
        changed if isinstance(changed, str) else row_text(changed),
        stored if remote else None,
        data_key=made.dek.hex(),
        **members,
    )
