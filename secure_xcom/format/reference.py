"""What a row holds (`docs/format.md`, section 7)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from secure_xcom.errors import FormatError
from secure_xcom.format.body import PAYLOAD_BYTES_MAX, body_length
from secure_xcom.format.envelope import PREAMBLE_BYTES_MAX
from secure_xcom.model import Description, Inline, Reference, Remote

TAG = "__secure_xcom__"
VERSION = 1

#: The tag of a row that names the folder of a state.
FOLDER_TAG = "__secure_xcom_state__"
#: What a store of states has behind the URI of the XComs' store, by their kind (section 7.1).
STATE_STORES = {kind: f"/~state/{kind}" for kind in ("task", "asset")}
#: What their envelopes have behind the name of the instance.
STATE_MARKS = {kind: f"#{kind}-state" for kind in STATE_STORES}

_INLINE_MEMBERS = {TAG, "placement", "envelope", "about"}
_REMOTE_MEMBERS = {
    TAG,
    "placement",
    "store",
    "object",
    "generation",
    "length_bytes",
    "crc32c",
    "about",
}
_MEMBERS = {"inline": _INLINE_MEMBERS, "offloaded": _REMOTE_MEMBERS}
#: What `isinstance` answers at once for a `dict`, and slowly for all else.
_OBJECT = (dict, Mapping)
_GENERATION = re.compile(r"[1-9][0-9]{0,19}")
_SEGMENT = r"(?!\.)[A-Za-z0-9\-._~%]+"
_NAME = re.compile(f"{_SEGMENT}(?:/{_SEGMENT})*")
_NAME_BYTES_MAX = 800
ENVELOPE_BYTES_MAX = PREAMBLE_BYTES_MAX + body_length(PAYLOAD_BYTES_MAX)


def is_tagged(row: object) -> bool:
    """Whether a row claims to be one of ours, well-formed or not."""
    return isinstance(row, _OBJECT) and TAG in row


def to_row(reference: Reference) -> dict[str, object]:
    """The JSON object that stands for a reference."""
    if isinstance(reference, Inline):
        return {
            TAG: VERSION,
            "placement": "inline",
            "envelope": base64.b64encode(reference.envelope).decode(),
            "about": _about(reference.description, len(reference.envelope)),
        }
    return {
        TAG: VERSION,
        "placement": "offloaded",
        "store": reference.store_uri,
        "object": reference.name,
        "generation": reference.generation,
        "length_bytes": reference.length_bytes,
        "crc32c": base64.b64encode(reference.crc32c.to_bytes(4, "big")).decode(),
        "about": _about(reference.description, reference.length_bytes),
    }


def _about(description: Description | None, sealed_bytes: int) -> dict[str, object]:
    about: dict[str, object] = {"sealed_bytes": sealed_bytes}
    if description:
        about["kek"] = description.kek_uri
        if description.type_name:
            about["type"] = description.type_name
        if description.raw_bytes is not None:
            about["raw_bytes"] = description.raw_bytes
    return about


def from_row(row: object) -> Reference:
    """Parse a row strictly; `about` is ignored.

    Raises:
        FormatError: the row is not a reference of this version.
    """
    try:
        return _parsed(row)
    except FormatError:
        raise
    except Exception as error:  # noqa: BLE001 - a mapping of another library's runs its own methods
        fault = type(error).__name__
    raise FormatError(f"The row is not one that JSON makes ({fault}).")


def _parsed(row: object) -> Reference:
    if not isinstance(row, _OBJECT) or TAG not in row:
        raise FormatError(f"The row is not a sealed XCom: it has no member {TAG}.")
    version = row[TAG]
    if type(version) is not int or version != VERSION:
        raise FormatError(
            f"The row is of a version of {TAG} that this release does not read; "
            "a newer secure-xcom may have written it."
        )
    placement = row.get("placement")
    members = _MEMBERS.get(placement) if type(placement) is str else None
    if members is None:
        raise FormatError("The row's placement is neither inline nor offloaded.")
    if set(row) != members:
        raise FormatError("The row's members are not exactly those of a sealed XCom.")
    if not isinstance(row["about"], _OBJECT):
        raise FormatError("The row's member about is not an object.")
    if placement == "inline":
        return Inline(_base64(row, "envelope"))
    return _remote(row)


def _remote(row: Mapping[str, Any]) -> Remote:
    store_uri = _text(row, "store")
    name = _text(row, "object")
    if not _is_object_name(name):
        raise FormatError("The row's object name has a form that is never written.")
    generation = _text(row, "generation")
    if not _GENERATION.fullmatch(generation):
        raise FormatError("The row's generation is not a decimal number.")
    length_bytes = row["length_bytes"]
    if type(length_bytes) is not int or not 1 <= length_bytes <= ENVELOPE_BYTES_MAX:
        raise FormatError("The row's length_bytes is not the length of an envelope.")
    checksum = _base64(row, "crc32c")
    if len(checksum) != 4:  # noqa: PLR2004 - a CRC-32C has four bytes
        raise FormatError("The row's crc32c does not have four bytes.")
    return Remote(store_uri, name, generation, length_bytes, int.from_bytes(checksum, "big"))


def _is_object_name(name: str) -> bool:
    return len(name) <= _NAME_BYTES_MAX and _NAME.fullmatch(name) is not None


def _text(row: Mapping[str, Any], member: str) -> str:
    value = row[member]
    if type(value) is not str:
        raise FormatError(f"The row's {member} is not text.")
    return value


def _base64(row: Mapping[str, Any], member: str) -> bytes:
    value = _text(row, member)
    try:
        data = binascii.a2b_base64(value)
    except ValueError:
        raise FormatError(f"The row's {member} is not base64.") from None
    # The decoder passes over what does not belong there; this does not.
    if binascii.b2a_base64(data, newline=False).decode() != value:
        raise FormatError(f"The row's {member} is not canonical base64.")
    return data


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise FormatError("The row has a member twice.")
    return members


def _no_number(name: str) -> object:
    raise FormatError(f"The row holds {name}, which is not JSON.")


def claimed(stored: bytes | str) -> object:
    """Parse a stored text that may be one of our rows; None where it is none.

    Raises:
        FormatError: it carries the member of one, and is not strictly JSON.
    """
    try:
        return loads(stored)
    except FormatError:
        if is_ours(_loosely(stored)):
            raise
    return None


def _loosely(stored: bytes | str) -> object:
    """What a stock backend would read, which takes members twice and NaN."""
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return None


def is_ours(row: object) -> bool:
    """Whether a row claims to be a sealed XCom or the folder of a state, well-formed or not."""
    return is_tagged(row) or is_folder(row)


def loads(data: bytes | str) -> object:
    """Parse a row that is kept as JSON text, and refuse duplicate members, NaN and infinities.

    Raises:
        FormatError: it is not JSON (RFC 8259), or a member stands twice.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        # What these errors hold is the row, which need not be a sealed one: it is left behind.
        pass
    raise FormatError("The row is not JSON.")


def dumps(reference: Reference) -> bytes:
    """The row as UTF-8 JSON."""
    return json.dumps(to_row(reference), separators=(",", ":")).encode()


def is_folder(row: object) -> bool:
    """Whether a row claims to name the folder of a state, well-formed or not."""
    return isinstance(row, _OBJECT) and FOLDER_TAG in row


def folder_from_row(row: object) -> tuple[str, str]:
    """The store's URI and the folder, slash included, that a state's row names (section 7.1).

    Raises:
        FormatError: the row does not name a folder.
    """
    if not isinstance(row, _OBJECT) or set(row) != {FOLDER_TAG, "store", "folder"}:
        raise FormatError("The row's members are not exactly those of a state.")
    if type(row[FOLDER_TAG]) is not int or row[FOLDER_TAG] != VERSION:
        raise FormatError("The row is of a version of states that this release does not read.")
    folder = _text(row, "folder")
    if not folder.endswith("/") or not _is_object_name(folder[:-1]):
        raise FormatError("The row's folder has a form that is never written.")
    return _text(row, "store"), folder


def dumps_folder(store_uri: str, folder: str) -> str:
    """The row of a state whose newest object is in a folder."""
    return json.dumps(
        {FOLDER_TAG: VERSION, "store": store_uri, "folder": folder}, separators=(",", ":")
    )
