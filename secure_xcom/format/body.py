"""The body of an envelope: Tink's AES256-GCM-HKDF-1MB streaming form (`docs/format.md`, section 4).

    body      = 28 | tink_salt[32] | nonce_prefix[7] | segment_0 | segment_1 | …
    segment_i = AES-256-GCM(segment_key, nonce_prefix | u32 i | u8 last, plaintext_i)

It is the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, "Online authenticated
encryption and its nonce-reuse misuse-resistance" (CRYPTO 2015), with a key derived per body.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import chain, count, repeat

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
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
#: Segments below this take one call of a cipher that is made faster: 2 instead of 7 µs.
_AT_ONCE_BYTES = 65_536
#: A payload, or a body, that is no longer than this may be sealed or opened in one go.
SHORT_BYTES = 65_536
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


def _segment_key(content_key: bytes, associated_data: bytes, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, associated_data).derive(content_key)


def _nonce(prefix: bytes, index: int, *, last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


class _Memory:
    """Memory for segments, used again once nobody holds what was made in it.

    Fresh memory comes from the system page by page, which takes longer than the cipher. A `BytesIO`
    gives its memory out as `bytes`, and takes another if that is still held when it is written to:
    so what was given out never changes. There are two, since a loop over segments holds one while
    it asks for the next.
    """

    def __init__(self) -> None:
        self._full: deque[BytesIO] = deque(maxlen=2)

    def of(self, length_bytes: int) -> BytesIO:
        """Memory of that length. A shorter one than a full segment's is the first, or the last."""
        full = self._full
        if length_bytes < SEGMENT_BYTES and len(full) < 2:  # noqa: PLR2004 - see above
            return BytesIO(bytes(length_bytes))
        full.append(full[0] if len(full) > 1 else BytesIO(bytes(SEGMENT_BYTES)))
        full[-1].truncate(length_bytes)
        return full[-1]


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
    key = _segment_key(content_key, associated_data, salt)
    memory = _Memory()
    yield bytes((BODY_HEADER_BYTES,)) + salt + prefix
    pieces = _regroup(payload, chain((_FIRST_PLAINTEXT_BYTES,), repeat(_PLAINTEXT_BYTES)))
    for index, (piece, last) in enumerate(pieces):
        left -= len(piece)
        if left < 0:
            raise FormatError(f"The value is longer than {PAYLOAD_BYTES_MAX} bytes once encoded.")
        yield _sealed(key, _nonce(prefix, index, last=last), piece, memory)


def seal_short(content_key: bytes, associated_data: bytes, payload: bytes, random: bytes) -> bytes:
    """The body of a payload of at most `SHORT_BYTES`, in one go; what `seal` yields for it."""
    salt, prefix = random[:_SALT_BYTES], random[_SALT_BYTES:]
    key = _segment_key(content_key, associated_data, salt)
    sealed = AESGCM(key).encrypt(_nonce(prefix, 0, last=True), payload, None)
    return b"".join((bytes((BODY_HEADER_BYTES,)), salt, prefix, sealed))


def open_short(content_key: bytes, associated_data: bytes, body: Buffer) -> bytes:
    """The payload of a body of at most `SHORT_BYTES`, in one go; what `open_` yields for it.

    Raises:
        AuthenticationError: it is not what was sealed.
    """
    view = memoryview(body)
    if len(view) <= BODY_HEADER_BYTES + TAG_BYTES or view[0] != BODY_HEADER_BYTES:
        raise AuthenticationError
    salt, prefix = (
        bytes(view[1 : 1 + _SALT_BYTES]),
        bytes(view[1 + _SALT_BYTES : BODY_HEADER_BYTES]),
    )
    key = _segment_key(content_key, associated_data, salt)
    try:
        nonce = _nonce(prefix, 0, last=True)
        return AESGCM(key).decrypt(nonce, view[BODY_HEADER_BYTES:], None)
    except InvalidTag:
        raise AuthenticationError from None


def _sealed(key: bytes, nonce: bytes, plaintext: Buffer, memory: _Memory) -> bytes:
    if len(plaintext) < _AT_ONCE_BYTES:
        return AESGCM(key).encrypt(nonce, plaintext, None)
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce)).encryptor()
    segment = memory.of(len(plaintext) + TAG_BYTES)
    with segment.getbuffer() as target:
        cipher.update_into(plaintext, target)
        cipher.finalize()
        target[len(plaintext) :] = cipher.tag
    return segment.getvalue()


class _Stream:
    """A stream of which so many bytes are taken at a time."""

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def take(self, length: int) -> Iterator[memoryview]:
        """Yield the next `length` bytes, in the pieces that they come in, each good until the next.

        Raises:
            AuthenticationError: the stream ends before.
        """
        while length:
            piece = self._rest[:length]
            self._rest = self._rest[len(piece) :]
            length -= len(piece)
            if piece:
                yield piece
            elif (chunk := next(self._chunks, None)) is not None:
                self._rest = memoryview(chunk).cast("B")
            else:
                raise AuthenticationError

    def end(self) -> None:
        """Make sure that the source has ended.

        Raises:
            AuthenticationError: more comes.
        """
        if self._rest or any(map(len, self._chunks)):
            raise AuthenticationError


def open_(
    content_key: bytes, associated_data: bytes, body: Iterable[Buffer], body_bytes: int
) -> Iterator[memoryview]:
    """Yield the payload of a body, each piece authenticated; the whole is, once the iteration ends.

    Args:
        content_key: 32 bytes.
        associated_data: what the body is bound to.
        body: its bytes, in pieces of any size, each good until the next one is asked for.
        body_bytes: how many they are said to be, which says which segment is the last.

    Raises:
        AuthenticationError: a segment, the order, or the end is not what was sealed.
    """
    stream = _Stream(body)
    start = b"".join(map(bytes, stream.take(BODY_HEADER_BYTES)))
    if start[0] != BODY_HEADER_BYTES:
        raise AuthenticationError
    salt, prefix = start[1 : 1 + _SALT_BYTES], start[1 + _SALT_BYTES :]
    key = _segment_key(content_key, associated_data, salt)
    memory = _Memory()
    left, room = body_bytes - BODY_HEADER_BYTES, _FIRST_CIPHERTEXT_BYTES
    for index in count():
        segment_bytes = min(left, room)
        if segment_bytes <= TAG_BYTES:
            raise AuthenticationError
        nonce = _nonce(prefix, index, last=left <= room)
        try:
            yield _opened(key, nonce, stream, segment_bytes, memory)
        except InvalidTag:
            raise AuthenticationError from None
        if left <= room:
            break
        left, room = left - room, SEGMENT_BYTES
    stream.end()


def _opened(
    key: bytes, nonce: bytes, stream: _Stream, segment_bytes: int, memory: _Memory
) -> memoryview:
    if segment_bytes < _AT_ONCE_BYTES:
        segment = b"".join(map(bytes, stream.take(segment_bytes)))
        return memoryview(AESGCM(key).decrypt(nonce, segment, None))
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce)).decryptor()
    # Longer than what it is to hold by a tag: cryptography 42 wants that. And the first one's is as
    # long as that of full ones, to be used again.
    plaintext = memory.of(min(segment_bytes + BODY_HEADER_BYTES, SEGMENT_BYTES))
    opened_bytes = 0
    with plaintext.getbuffer() as target:
        for piece in stream.take(segment_bytes - TAG_BYTES):
            opened_bytes += cipher.update_into(piece, target[opened_bytes:])
    cipher.finalize_with_tag(b"".join(map(bytes, stream.take(TAG_BYTES))))
    return memoryview(plaintext.getvalue())[:opened_bytes]
