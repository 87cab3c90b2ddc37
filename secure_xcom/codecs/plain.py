"""Trees of JSON's types, encoded fast, or left to Airflow where they would change.

The bytes are in `docs/codecs.md`, section 1.
"""

from __future__ import annotations

from collections.abc import Callable

from secure_xcom.codecs import arrow, document, ndarray
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.libraries import library_of
from secure_xcom.codecs.refusal import Refused
from secure_xcom.codecs.source import Source
from secure_xcom.errors import FormatError
from secure_xcom.model import Buffer, CodecId

#: A dict with one of these keys means something to Airflow's serialisation. Each is preceded by
#: the byte that begins a MessagePack string of its length.
_RESERVED = (b"\xad__classname__", b"\xa6__type", b"\xa6__id__")

#: Whose arrays and tables travel apart from the tree that they are in.
LIBRARIES = frozenset(("numpy", "pandas", "polars", "pyarrow"))
_LEAVES = {CodecId.ARROW: arrow, CodecId.NUMPY: ndarray}


def leaf_encoder() -> Callable[[object], Encoded | None]:
    """An encoder of arrays and tables that keeps what it made, for one value's encoding.

    Where one way of encoding the value fails, the next one asks for the same arrays and tables;
    each of them is encoded, or refused, only once. For anything else it gives None.
    """
    done: dict[int, tuple[object, Encoded | Refused | None]] = {}

    def leaf(value: object) -> Encoded | None:
        if library_of(type(value)) not in LIBRARIES:
            return None
        if id(value) not in done:
            done[id(value)] = (value, _leaf(value))
        encoded = done[id(value)][1]
        if isinstance(encoded, Refused):
            raise encoded
        return encoded

    return leaf


def _leaf(value: object) -> Encoded | Refused | None:
    for codec, module in _LEAVES.items():
        try:
            buffers = module.encode(value)
        except Refused as error:
            return error
        if buffers is not None:
            return codec, buffers
    return None


def encode(value: object, leaf: Callable[[object], Encoded | None]) -> list[Buffer] | None:
    """A document; None if the value is not plain data, or Airflow reads more than that into it."""
    try:
        packed = document.pack(value, leaf)
    except Refused:
        return None
    if packed is None or any(key in bytes(packed[1]) for key in _RESERVED):
        return None
    return packed


def decode(source: Source) -> object:
    """The value.

    Raises:
        FormatError: it is not exactly a document.
        CodecError: an array or a table in it needs a library that is not installed here.
    """
    value = document.unpack(source, decode_leaf)
    source.check_end()
    return value


def decode_leaf(codec: CodecId, source: Source) -> object:
    """An array or a table in a document.

    Raises:
        FormatError: the bytes are neither.
        CodecError: it needs a library that is not installed here.
    """
    if codec not in _LEAVES:
        raise FormatError("The encoded value holds a part that is neither an array nor a table.")
    value = _LEAVES[codec].decode(source)
    source.check_end()
    return value
