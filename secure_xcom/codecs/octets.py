"""`bytes`, as they are."""

from __future__ import annotations

from secure_xcom.codecs.source import as_bytes_view
from secure_xcom.model import Buffer, Payload


def encode(value: bytes) -> list[Buffer]:
    """The value itself, not copied."""
    return [value]


def decode(payload: Payload) -> bytes:
    """The value; copied only where it does not lie in one `bytes` already."""
    if len(payload.buffers) == 1 and isinstance(payload.buffers[0], bytes):
        return payload.buffers[0]
    return b"".join(map(as_bytes_view, payload.buffers))
