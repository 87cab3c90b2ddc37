"""The body of an envelope: Tink's AES256-GCM-HKDF-1MB streaming form (`docs/format.md`, section 4).

    body      = 28 | tink_salt[32] | nonce_prefix[7] | segment_0 | segment_1 | …
    segment_i = AES-256-GCM(segment_key, nonce_prefix | u32 i | u8 last, plaintext_i)

It is the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, "Online authenticated
encryption and its nonce-reuse misuse-resistance" (CRYPTO 2015), with a key derived per body.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from io import BytesIO
from itertools import chain, repeat

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
    chunks: Iterable[Buffer], sizes_bytes: Iterator[int]
) -> Iterator[tuple[memoryview, bool]]:
    """Cut a stream into pieces of exactly these sizes, and mark the last, shorter or full.

    A piece is good until the next one is asked for. One within a chunk is a view of it; only what
    spans chunks is copied, into memory that is used again.
    """
    wanted = next(sizes_bytes)
    gathered = BytesIO()
    for chunk in chunks:
        rest = memoryview(chunk).cast("B")
        while gathered.tell() + len(rest) > wanted:
            missing = wanted - gathered.tell()
            piece = rest[:missing]
            if gathered.tell():
                gathered.write(piece)
                piece = gathered.getbuffer()[:wanted]
            with piece:  # whoever still had it would keep `gathered` from growing
                yield piece, False
            rest = rest[missing:]
            wanted = next(sizes_bytes)
            gathered.seek(0)
        gathered.write(rest)
    yield gathered.getbuffer()[: gathered.tell()], True


def _cipher(content_key: bytes, associated_data: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(hashes.SHA256(), 32, salt, associated_data).derive(content_key))


def _nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def _reusing(cipher: AESGCM, verb: str, full_bytes: int) -> Callable[[bytes, Buffer], bytes]:
    """Encrypt or decrypt segments; full ones into memory that is used again once nobody holds it.

    Fresh memory comes from the system page by page, which takes longer than the cipher. A `BytesIO`
    gives its memory out as `bytes`, and takes another if that is still held when it is written to:
    so what was given out never changes. There are two, since a loop over segments holds one while
    it asks for the next.

    Args:
        cipher: with `encrypt_into` and `decrypt_into`, from cryptography 47 on.
        verb: `encrypt` or `decrypt`.
        full_bytes: what a full segment becomes.
    """
    plain = getattr(cipher, verb)
    into = getattr(cipher, f"{verb}_into", None)
    given_bytes = _PLAINTEXT_BYTES + SEGMENT_BYTES - full_bytes
    memory: deque[BytesIO] = deque(maxlen=2)

    def run(nonce: bytes, data: Buffer) -> bytes:
        if into is None or len(data) != given_bytes:
            return bytes(plain(nonce, data, None))
        memory.append(memory[0] if len(memory) > 1 else BytesIO(bytes(full_bytes)))
        with memory[-1].getbuffer() as target:
            into(nonce, data, None, target)
        return memory[-1].getvalue()

    return run


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
    encrypt = _reusing(_cipher(content_key, associated_data, salt), "encrypt", SEGMENT_BYTES)
    yield bytes((BODY_HEADER_BYTES,)) + salt + prefix
    pieces = _regroup(payload, chain((_FIRST_PLAINTEXT_BYTES,), repeat(_PLAINTEXT_BYTES)))
    for index, (piece, last) in enumerate(pieces):
        left -= len(piece)
        if left < 0:
            raise FormatError(f"The value is longer than {PAYLOAD_BYTES_MAX} bytes once encoded.")
        yield encrypt(_nonce(prefix, index, last=last), piece)


def open_(content_key: bytes, associated_data: bytes, body: Iterable[Buffer]) -> Iterator[bytes]:
    """Yield the payload of a body, each piece authenticated; the whole is, once the iteration ends.

    Raises:
        AuthenticationError: a segment, the order, or the end is not what was sealed.
    """
    segments = _regroup(
        body, chain((BODY_HEADER_BYTES, _FIRST_CIPHERTEXT_BYTES), repeat(SEGMENT_BYTES))
    )
    first, is_all = next(segments)
    start = bytes(first)
    if is_all or start[0] != BODY_HEADER_BYTES:
        raise AuthenticationError
    salt, prefix = start[1 : 1 + _SALT_BYTES], start[1 + _SALT_BYTES :]
    decrypt = _reusing(_cipher(content_key, associated_data, salt), "decrypt", _PLAINTEXT_BYTES)
    for index, (segment, last) in enumerate(segments):
        if len(segment) <= TAG_BYTES:
            raise AuthenticationError
        try:
            yield decrypt(_nonce(prefix, index, last=last), segment)
        except InvalidTag:
            raise AuthenticationError from None
