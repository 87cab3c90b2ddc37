"""Values to bytes and back: a small closed set of codecs (`docs/codecs.md`).

What a value is decides how it travels: `bytes` as they are, arrays and tables as their memory,
plain data by a fast encoder that is exact about what it takes, and everything else by Airflow's own
serialisation, whose results are those of the stock backend. Nothing is ever pickled.
"""

from __future__ import annotations

from secure_xcom.codecs import octets, plain, serde
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.refusal import Refused, type_name
from secure_xcom.codecs.source import Source
from secure_xcom.errors import CodecError
from secure_xcom.model import CodecId, Payload

__all__ = ["contents", "decode", "encode"]


def encode(value: object) -> Payload:
    """Encode a value. The payload's buffers may be the value's own memory: use them at once.

    Raises:
        CodecError: a value in it has no way to travel, or needs a library that is not installed
            here; names the path, such as `$.rows[3].when`, and the type.
    """
    try:
        codec, buffers = _encode(value)
    except Refused as refused:
        reason = str(refused)
    else:
        return Payload(codec, buffers, type_name(value))
    raise CodecError(f"The value cannot be encoded: {reason}.")


def _encode(value: object) -> Encoded:
    if type(value) is bytes:
        return CodecId.BYTES, octets.encode(value)
    leaf = plain.leaves()
    refused: Refused | None = None
    try:
        if (encoded := leaf(value)) is not None:
            return encoded
    except Refused as error:  # Airflow's serialisation may take it
        refused = error
    if refused is None and (buffers := plain.encode(value, leaf)) is not None:
        return CodecId.PLAIN, buffers
    try:
        return CodecId.SERDE, serde.encode(value, leaf)
    except Refused as error:
        raise refused or error from None


def decode(payload: Payload) -> object:
    """Decode a value. It owns its memory, or shares the payload's where it cannot be changed.

    Raises:
        FormatError: the bytes are not what the codec writes.
        CodecError: the value needs a library or a class that is not here, or not allowed.
    """
    if payload.codec is CodecId.BYTES:
        return octets.decode(payload)
    codec, source = payload.codec, Source(payload.buffers)
    # A caller that has let go of it too does not hold the bytes while the value is made of them.
    del payload
    if codec is CodecId.PLAIN:
        return plain.decode(source)
    if codec is CodecId.SERDE:
        return serde.decode(source)
    return plain.decode_leaf(codec, source)


def contents(payload: Payload) -> object:
    """What a value was made of: the same leaves, in plain containers, arrays and tables.

    No class but those of libraries that codecs know is made, and none of Airflow's code runs.

    Raises:
        FormatError: the bytes are not what the codec writes.
        CodecError: the value needs a library that is not here.
    """
    if payload.codec is CodecId.SERDE:
        return serde.contents(Source(payload.buffers))
    return decode(payload)
