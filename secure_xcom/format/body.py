"""The body of an envelope: Tink's AES256-GCM-HKDF-1MB streaming form (`docs/format.md`, section 4).

    body      = 28 | tink_salt[32] | nonce_prefix[7] | segment_0 | segment_1 | …
    segment_i = AES-256-GCM(segment_key, nonce_prefix | u32 i | u8 last, plaintext_i)

It is the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, "Online authenticated
encryption and its nonce-reuse misuse-resistance" (CRYPTO 2015), with a key derived per body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secure_xcom.errors import AuthenticationError, FormatError
from secure_xcom.model import Buffer

SEGMENT_BYTES = 1_048_576
TAG_BYTES = 16
_SALT_BYTES = 32
_NONCE_PREFIX_BYTES = 7
BODY_HEADER_BYTES = 1 + _SALT_BYTES + _NONCE_PREFIX_BYTES
#: How many random bytes a body needs: its salt and its nonce prefix.
RANDOM_BYTES = _SALT_BYTES + _NONCE_PREFIX_BYTES
_FIRST_CIPHERTEXT_BYTES = SEGMENT_BYTES - BODY_HEADER_BYTES
_FIRST_PLAINTEXT_BYTES = _FIRST_CIPHERTEXT_BYTES - TAG_BYTES
_PLAINTEXT_BYTES = SEGMENT_BYTES - TAG_BYTES
PAYLOAD_BYTES_MIN = 256
PAYLOAD_BYTES_MAX = 2**40


def payload_length(body_bytes: int) -> int:
    """How many payload bytes a body of that length holds.

    Raises:
        FormatError: no body has that length.
    """
    segments = max(1, -(-body_bytes // SEGMENT_BYTES))
    payload_bytes = body_bytes - BODY_HEADER_BYTES - segments * TAG_BYTES
    last_bytes = body_bytes - (segments - 1) * SEGMENT_BYTES
    if last_bytes <= TAG_BYTES or not PAYLOAD_BYTES_MIN <= payload_bytes <= PAYLOAD_BYTES_MAX:
        raise FormatError(f"No body of an envelope has {body_bytes} bytes.")
    return payload_bytes


def body_length(payload_bytes: int) -> int:
    """How long the body of a payload of `payload_bytes` (at least 1) is."""
    further = max(0, payload_bytes - _FIRST_PLAINTEXT_BYTES)
    segments = 1 + -(-further // _PLAINTEXT_BYTES)
    return BODY_HEADER_BYTES + payload_bytes + segments * TAG_BYTES


def _regroup(
    chunks: Iterable[Buffer], first_bytes: int, further_bytes: int
) -> Iterator[tuple[Buffer, bool]]:
    """Cut a stream into pieces of exactly these sizes, and mark the last, shorter or full.

    A piece within one chunk is a view of it, good until the next chunk is asked for; only what
    spans chunks is copied. So a source may reuse its buffer, and tiny chunks cost no memory.
    """
    wanted = first_bytes
    pending = bytearray()
    for chunk in chunks:
        rest = memoryview(chunk).cast("B")
        while len(pending) + len(rest) > wanted:
            missing = wanted - len(pending)
            pending += rest[:missing] if pending else b""
            yield pending or rest[:missing], False
            rest = rest[missing:]
            wanted = further_bytes
            pending = bytearray()
        pending += rest
    yield pending, True


def _cipher(content_key: bytes, associated_data: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), 32, salt, associated_data).derive(content_key))


def _nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def seal(
    content_key: bytes, associated_data: bytes, payload: Iterable[Buffer], random: bytes
) -> Iterator[bytes]:
    """Yield the body of a payload, piece by piece.

    Args:
        content_key: 32 bytes.
        associated_data: what the body is bound to.
        payload: at least one byte and at most `PAYLOAD_BYTES_MAX`, in pieces of any size.
        random: `RANDOM_BYTES` fresh random bytes.

    Raises:
        FormatError: the payload is longer than the format allows.
    """
    left = PAYLOAD_BYTES_MAX
    salt, prefix = random[:_SALT_BYTES], random[_SALT_BYTES:]
    cipher = _cipher(content_key, associated_data, salt)
    yield bytes((BODY_HEADER_BYTES,)) + salt + prefix
    pieces = _regroup(payload, _FIRST_PLAINTEXT_BYTES, _PLAINTEXT_BYTES)
    for index, (piece, last) in enumerate(pieces):
        left -= len(piece)
        if left < 0:
            raise FormatError(f"The value is longer than {PAYLOAD_BYTES_MAX} bytes once encoded.")
        yield cipher.encrypt(_nonce(prefix, index, last=last), piece, None)


def open_(content_key: bytes, associated_data: bytes, body: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield the payload of a body, each piece authenticated; the whole is, once the iteration ends.

    Raises:
        AuthenticationError: a segment, the order, or the end is not what was sealed.
    """
    segments = _regroup(body, SEGMENT_BYTES, SEGMENT_BYTES)
    cipher: AESGCM | None = None
    prefix = b""
    for index, (segment, last) in enumerate(segments):
        ciphertext = segment
        if cipher is None:
            start = bytes(segment[:BODY_HEADER_BYTES])
            if len(start) < BODY_HEADER_BYTES or start[0] != BODY_HEADER_BYTES:
                raise AuthenticationError
            prefix = start[1 + _SALT_BYTES :]
            cipher = _cipher(content_key, associated_data, start[1 : 1 + _SALT_BYTES])
            ciphertext = memoryview(segment)[BODY_HEADER_BYTES:]
        if len(ciphertext) <= TAG_BYTES:
            raise AuthenticationError
        try:
            yield cipher.decrypt(_nonce(prefix, index, last=last), ciphertext, None)
        except InvalidTag:
            raise AuthenticationError from None
