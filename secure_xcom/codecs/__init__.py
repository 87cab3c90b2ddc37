"""Values to bytes and back: a small closed set of codecs (`docs/codecs.md`).

What a value is decides how it travels: `bytes` as they are, arrays and tables as their memory,
plain data by a fast encoder that is exact about what it takes, and everything else by Airflow's own
serialisation, whose results are those of Airflow's default backend. Nothing is ever pickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

from secure_xcom.codecs import document, plain, serde
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.refusal import Refused
from secure_xcom.codecs.source import Source, as_bytes_view
from secure_xcom.errors import CodecError, FormatError, SecureXComError
from secure_xcom.model import Buffer, CodecId, Payload
from secure_xcom.text import type_name

__all__ = ["contents", "decode", "encode"]


def encode(value: object, *, is_exact: bool = False) -> Payload:
    """Encode a value. The payload's buffers may be the value's own memory: use them at once.

    Args:
        value: any value.
        is_exact: whether it has to come back as it is. Otherwise it comes back as the stock backend
            gives it back, where that takes it.

    Raises:
        CodecError: a value in it has no way to travel, or none that is exact if that is asked for,
            or needs a library that is not installed here; names the path, such as `$.rows[3].when`,
            and the type.
    """
    try:
        codec, buffers = _encode_exactly(value) if is_exact else _encode(value)
        return Payload(codec, buffers, type_name(value))
    except Refused as refused:
        reason = str(refused)
    except SecureXComError:
        raise
    except Exception as error:  # noqa: BLE001 - a value's own methods run, and say what they like
        reason = f"$: a value of type {type_name(value)} ({type(error).__name__})"
    # Outside, so that no error of the value's own is shown as the context of this one.
    raise CodecError(f"The value cannot be encoded: {reason}.")


def _encode(value: object) -> Encoded:
    if type(value) is bytes:
        return CodecId.BYTES, [value]
    leaf = plain.leaf_encoder()
    refused: Refused | None = None
    try:
        if (encoded := leaf(value)) is not None:
            return encoded
    except Refused as error:  # Airflow's serialisation may take it
        refused = error
    if (buffers := plain.encode(value, leaf)) is not None:
        return CodecId.PLAIN, buffers
    try:
        return CodecId.SERDE, serde.encode(value, leaf)
    except Refused as error:
        raise refused or error from None


def _encode_exactly(value: object) -> Encoded:
    if type(value) is bytes:
        return CodecId.BYTES, [value]
    leaf = plain.leaf_encoder()
    with suppress(Refused):  # an array of objects is no leaf, and has a form all the same
        if (encoded := leaf(value)) is not None:
            return encoded
    for is_exact in (False, True):  # most values are plain, and that is tried in C alone
        with suppress(Refused):  # which says less of where than the last resort
            if (buffers := document.pack(value, leaf, is_exact=is_exact)) is not None:
                return CodecId.PLAIN, buffers
    return CodecId.SERDE, serde.encode(value, leaf, is_exact=True)


def decode(payload: Payload) -> object:
    """Decode a value. It owns its memory, or shares the payload's where it cannot be changed.

    Raises:
        FormatError: the bytes are not what the codec writes.
        CodecError: the value needs a library or a class that is not here, or not allowed; or more
            memory or stack than there is.
    """
    if payload.codec is CodecId.BYTES:
        return _one_bytes(payload.buffers)
    codec, source = payload.codec, Source(payload.buffers)
    # A caller that has let go of it too does not hold the bytes while the value is made of them.
    del payload
    return _translated(_decode, codec, source)


def contents(payload: Payload) -> object:
    """What a value was made of: the same leaves, in plain containers, arrays and tables.

    No class but those of libraries that codecs know is made, and none of Airflow's code runs.

    Raises:
        FormatError: the bytes are not what the codec writes.
        CodecError: the value needs a library that is not here, or more memory or stack than there
            is.
    """
    if payload.codec is CodecId.SERDE:
        return _translated(serde.contents, Source(payload.buffers))
    return decode(payload)


def _translated(read: Callable[..., object], *args: object) -> object:
    """Call what reads, with errors that are ours and quote nothing."""
    fault: SecureXComError
    try:
        return read(*args)
    except SecureXComError:
        raise
    except (MemoryError, RecursionError) as error:
        lacking = "memory" if isinstance(error, MemoryError) else "of Python's stack"
        fault = CodecError(f"The value was not decoded: there is not enough {lacking} left here.")
    except Exception as error:  # noqa: BLE001 - libraries raise what they like, and quote contents
        fault = FormatError(
            f"The encoded value is not what its codec writes ({type(error).__name__})."
        )
    raise fault


def _one_bytes(buffers: Iterable[Buffer]) -> bytes:
    """The buffers as one `bytes`; copied only where they are not one already."""
    match list(buffers):
        case [bytes(value)]:
            return value
        case several:
            return b"".join(map(as_bytes_view, several))


def _decode(codec: CodecId, source: Source) -> object:
    if codec is CodecId.PLAIN:
        return plain.decode(source)
    if codec is CodecId.SERDE:
        return serde.decode(source)
    return plain.decode_leaf(codec, source)
