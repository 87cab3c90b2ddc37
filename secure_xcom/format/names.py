"""What objects are called: hashes that only a row's own header gives (`docs/format.md`, 7.1, 7.2).

The object of an XCom is `<deployment>/<header>`, and that of a state
`<deployment>/<task>/<map index>/<key>`: 16 hexadecimal digits for the deployment, 64 for the rest.
"""

from __future__ import annotations

import hashlib
import re

from secure_xcom.format.envelope import Header, context_bytes
from secure_xcom.format.fields import lp, text
from secure_xcom.model import Coordinate

_XCOM = re.compile(r"[0-9a-f]{16}/[0-9a-f]{64}")
_STATE = re.compile(r"[0-9a-f]{16}(?:/[0-9a-f]{64}){3}")
_DEPLOYMENT_DIGITS = 16


def is_object_name(name: str) -> bool:
    """Whether a name has the form of an XCom's object."""
    return _XCOM.fullmatch(name) is not None


def is_state_name(name: str) -> bool:
    """Whether a name has the form of a state's object."""
    return _STATE.fullmatch(name) is not None


def deployment(instance: str) -> str:
    """The folder of a deployment's objects: 16 hexadecimal digits.

    Args:
        instance: the header's, so with its mark where it is a state's.
    """
    return _hash("deployment", instance.encode())[:_DEPLOYMENT_DIGITS]


def object_name(instance: str, header_bytes: bytes) -> str:
    """The name of an XCom's object."""
    return f"{deployment(instance)}/{_hash('object', header_bytes)}"


def state_name(instance: str, coordinate: Coordinate) -> str:
    """The name of a state's object: the same for every write of its key.

    Raises:
        FormatError: a field is out of its bounds.
    """
    key = lp(text(coordinate.key, "The key", min_bytes=1))
    whole = _hash("state-key", context_bytes(instance, coordinate) + key)
    return f"{state_folder(instance, coordinate, every_index=False)}/{whole}"


def state_folder(instance: str, coordinate: Coordinate, *, every_index: bool) -> str:
    """What the names of the states of a task instance begin with, without the last slash.

    Args:
        instance: with the mark of states.
        coordinate: of the task instance; its key does not count.
        every_index: whether those of all map indexes are meant, and the index does not count.

    Raises:
        FormatError: a field is out of its bounds.
    """
    indexed = context_bytes(instance, coordinate)
    folder = f"{deployment(instance)}/{_hash('state-task', indexed[:-4])}"
    return folder if every_index else f"{folder}/{_hash('state-index', indexed)}"


def state_name_of(header: Header) -> str:
    """The name that a state's object has to have, by its header."""
    return state_name(header.instance, header.coordinate)


def _hash(label: str, data: bytes) -> str:
    return hashlib.sha256(f"secure-xcom/v1/{label}\x00".encode() + data).hexdigest()
