"""What objects are called: `dag/run/task/map_index/key/token`.

Each of the six components is percent-encoded UTF-8, so a name has no character that a bucket, a
file system or a URL reads as something else. `~` is never left bare in an encoded id and marks
what is not one: `~` alone stands for an empty id, and an id too long for its component is cut,
followed by `~` and the SHA-256 of all of it. So no two ids share a component.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from urllib.parse import quote

from secure_xcom.model import Coordinate, Expected

#: The longest encoded id. Any file system takes it as a file's name.
COMPONENT_BYTES_MAX = 180
#: The longest name. With a store's prefix (`PREFIX_BYTES_MAX`) it stays within Cloud Storage's
#: 1,024 bytes.
NAME_BYTES_MAX = 800
PREFIX_BYTES_MAX = 200
_TOKEN_BYTES = 16

_ENCODED = re.compile(r"(?:%[0-9A-F]{2}|[A-Za-z0-9_.-])*")
_COMPONENT = r"(?!\.)[A-Za-z0-9_.~%-]+"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")


def new_token() -> str:
    """128 bits from the operating system: who does not know the name cannot guess it."""
    return secrets.token_hex(_TOKEN_BYTES)


def object_name(coordinate: Coordinate, token: str) -> str:
    """The name of one write of an XCom: ASCII, at most `NAME_BYTES_MAX` bytes.

    Args:
        coordinate: whose write it is. `ti_id` does not show: the token tells writes apart.
        token: of `new_token`.
    """
    return coordinate_prefix(Expected.exactly(coordinate)) + token


def coordinate_prefix(expected: Expected) -> str:
    """What the names of all objects of that coordinate begin with, slash included.

    It ends before the first field that is not known; it is empty if the DAG is not.
    """
    prefix = ""
    for known in (
        expected.dag_id,
        expected.run_id,
        expected.task_id,
        expected.map_index,
        expected.key,
    ):
        if known is None:
            break
        prefix += _component(str(known)) + "/"
    return prefix


def is_name(name: str) -> bool:
    """Whether a name has a form that stays below the store it is used in, and is not hidden."""
    return len(name) <= NAME_BYTES_MAX and _NAME.fullmatch(name) is not None


def _component(id_: str) -> str:
    # A surrogate that stands alone has no UTF-8; its code is kept, so that names stay distinct.
    encoded = quote(id_, safe="", errors="surrogatepass").replace("~", "%7E")
    if not encoded:
        return "~"
    if encoded.startswith("."):
        # Neither `.` and `..`, nor Cloud Storage's reserved `.well-known/acme-challenge/`.
        encoded = "%2E" + encoded[1:]
    if len(encoded) <= COMPONENT_BYTES_MAX:
        return encoded
    digest = hashlib.sha256(id_.encode(errors="surrogatepass")).hexdigest()
    kept = encoded[: COMPONENT_BYTES_MAX - 1 - len(digest)]
    # Escapes are not cut in two.
    while not _ENCODED.fullmatch(kept):
        kept = kept[:-1]
    return f"{kept}~{digest}"
