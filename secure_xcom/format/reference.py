"""What a row holds (`docs/format.md`, section 7)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from secure_xcom import signals
from secure_xcom.errors import FormatError
from secure_xcom.format.body import payload_length
from secure_xcom.format.envelope import PREAMBLE_BYTES_MAX
from secure_xcom.format.names import is_object_name, is_state_name
from secure_xcom.model import Inline, Offloaded, Reference, StateObject
from secure_xcom.text import crc32c_base64

TAG = "__secure_xcom__"
STATE_TAG = "__secure_xcom_state__"
VERSION = 1

_Parsed = TypeVar("_Parsed")
_INLINE_MEMBERS = {"about", TAG, "placement", "envelope"}
_OFFLOADED_MEMBERS = {
    *("about", TAG, "placement", "preamble"),
    *("store", "object", "generation", "length_bytes", "crc32c"),
}
_MEMBERS = {"inline": _INLINE_MEMBERS, "offloaded": _OFFLOADED_MEMBERS}
_STATE_MEMBERS = {"about", STATE_TAG, "store", "object"}
#: What the URI of a store, and the instance of a deployment, get behind them for states, by kind.
STATE_STORES = {"task": "/~state/task", "asset": "/~state/asset"}
STATE_MARKS = {"task": "#task-state", "asset": "#asset-state"}
#: What `isinstance` answers at once for a `dict`, and slowly for all else.
_OBJECT = (dict, Mapping)
_GENERATION = re.compile(r"[1-9][0-9]{0,19}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CRC32C_BYTES = 4


def is_tagged(row: object) -> bool:
    """Whether a row claims to be one of ours, well-formed or not, an XCom's or a state's."""
    return isinstance(row, _OBJECT) and (TAG in row or STATE_TAG in row)


def to_row(reference: Reference, about: str) -> dict[str, object]:
    """The JSON object that stands for a reference.

    Args:
        reference: what it stands for.
        about: a sentence for people (`format/about.py`).
    """
    if isinstance(reference, Inline):
        return {
            "about": about,
            TAG: VERSION,
            "placement": "inline",
            "envelope": base64.b64encode(reference.envelope).decode(),
        }
    return {
        "about": about,
        TAG: VERSION,
        "placement": "offloaded",
        "preamble": base64.b64encode(reference.preamble).decode(),
        "store": reference.store_uri,
        "object": reference.name,
        "generation": reference.generation,
        "length_bytes": reference.length_bytes,
        "crc32c": crc32c_base64(reference.crc32c),
    }


def from_row(row: object) -> Reference:
    """Parse the row of an XCom strictly; `about` is ignored.

    Raises:
        FormatError: the row is not a reference of this version.
    """
    return _made_by_json(_reference, row)


def _made_by_json(parse: Callable[[Any], _Parsed], row: object) -> _Parsed:
    try:
        return parse(row)
    except FormatError:
        raise
    except Exception as error:  # a mapping of another library's runs its own methods
        if signals.is_callers(error):
            raise
        fault = type(error).__name__
    raise FormatError(f"The row is not one that JSON makes ({fault}).")


def _reference(row: object) -> Reference:
    if not isinstance(row, _OBJECT) or TAG not in row:
        raise FormatError(f"The row is not a sealed XCom: it has no member {TAG}.")
    _check_version(row, TAG)
    placement = row.get("placement")
    members = _MEMBERS.get(placement) if type(placement) is str else None
    if members is None:
        raise FormatError("The row's placement is neither inline nor offloaded.")
    if set(row) != members:
        raise FormatError("The row's members are not exactly those of a sealed XCom.")
    _text(row, "about")
    if placement == "inline":
        return Inline(_base64(row, "envelope"))
    return _offloaded(row)


def _offloaded(row: Mapping[str, Any]) -> Offloaded:
    name = _text(row, "object")
    if not is_object_name(name):
        raise FormatError("The row's object name has a form that is never written.")
    generation = _text(row, "generation")
    if not _GENERATION.fullmatch(generation):
        raise FormatError("The row's generation is not a decimal number.")
    length_bytes = row["length_bytes"]
    if type(length_bytes) is not int:
        raise FormatError("The row's length_bytes is not an integer.")
    payload_length(length_bytes)
    checksum = _base64(row, "crc32c")
    if len(checksum) != _CRC32C_BYTES:
        raise FormatError("The row's crc32c does not have four bytes.")
    preamble = _base64(row, "preamble")
    if len(preamble) > PREAMBLE_BYTES_MAX:
        raise FormatError(f"The row's preamble has more than {PREAMBLE_BYTES_MAX} bytes.")
    crc32c = int.from_bytes(checksum, "big")
    return Offloaded(_text(row, "store"), name, generation, length_bytes, crc32c, preamble)


def state_from_row(row: object) -> Inline | StateObject:
    """Parse the row of a state strictly (section 7.2); `about` is ignored.

    Raises:
        FormatError: the row is not a state's, of this version.
    """
    return _made_by_json(_state, row)


def _state(row: object) -> Inline | StateObject:
    if not isinstance(row, _OBJECT) or STATE_TAG not in row:
        reference = _reference(row)
        if isinstance(reference, Inline):
            return reference
        raise FormatError("The row is that of an offloaded XCom, and not a state's.")
    if set(row) != _STATE_MEMBERS:
        raise FormatError("The row's members are not exactly those of a state.")
    _check_version(row, STATE_TAG)
    _text(row, "about")
    name = _text(row, "object")
    if not is_state_name(name):
        raise FormatError("The row's object name has a form that is never written.")
    return StateObject(_text(row, "store"), name)


def state_to_row(state: StateObject, about: str) -> dict[str, object]:
    """The JSON object that stands for the object of a state."""
    return {"about": about, STATE_TAG: VERSION, "store": state.store_uri, "object": state.name}


def _check_version(row: Mapping[str, Any], tag: str) -> None:
    version = row[tag]
    if type(version) is not int or version != VERSION:
        raise FormatError(
            f"The row is of a version of {tag} that this release does not read; "
            "a newer secure-xcom may have written it."
        )


def _text(row: Mapping[str, Any], member: str) -> str:
    value = row[member]
    if type(value) is not str:
        raise FormatError(f"The row's {member} is not text.")
    if not value.isascii() and _SURROGATE.search(value):
        raise FormatError(f"The row's {member} has half of a surrogate pair in it.")
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


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"The row holds {name}, which is not JSON.")


def claimed(stored: bytes | str) -> object:
    """Parse a stored text that may be one of our rows; None where it is none.

    Raises:
        FormatError: it carries the member of one, and is not strictly JSON.
    """
    try:
        return loads(stored)
    except FormatError:
        if is_tagged(_loosely(stored)):
            raise
    return None


def _loosely(stored: bytes | str) -> object:
    """What a stock backend would read, which takes members twice and NaN."""
    try:
        return json.loads(stored)
    except (ValueError, RecursionError):
        return None


def loads(data: bytes | str) -> object:
    """Parse a row that is kept as JSON text, and refuse duplicate members, NaN and infinities.

    Raises:
        FormatError: it is not JSON, or a member stands twice.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # What these errors hold is the row, which need not be a sealed one: it is left behind.
        pass
    raise FormatError("The row is not JSON.")


def dumps(row: Mapping[str, object]) -> bytes:
    """A row as UTF-8 JSON."""
    return json.dumps(row, separators=(",", ":")).encode()
