"""The preamble of an envelope, and what is derived from it (`docs/format.md`, sections 2 and 3).

    envelope = "SXCM" | u8 version | lp keyblock | lp header | commitment[32] | body
    keyblock = u8 kind | lp kek_uri | lp version_hint | lp wrapped
    header   = u8 suite | u8 scope | key_id[16] | salt[32] | lp instance |
               lp dag | lp run | lp task | i32 map_index | lp key | 00, or 01 ti_id[16]

The commitment is in the manner of the AWS Encryption SDK's algorithm suites with key commitment.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from uuid import UUID

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secure_xcom.errors import AuthenticationError, FormatError
from secure_xcom.format.body import payload_length
from secure_xcom.format.fields import Fields, lp, text
from secure_xcom.model import Coordinate, WrappedKey

MAGIC = b"SXCM"
VERSION = 1
KIND_WRAPPED = 1
SUITE = 1
SCOPE_TASK = 1

KEY_BLOCK_BYTES_MAX = 4_096
HEADER_BYTES_MAX = 8_192
DATA_KEY_BYTES = 32
KEY_ID_BYTES = 16
SALT_BYTES = 32
COMMITMENT_BYTES = 32
PREAMBLE_BYTES_MAX = 5 + 2 + KEY_BLOCK_BYTES_MAX + 2 + HEADER_BYTES_MAX + COMMITMENT_BYTES

_KEK_URI_BYTES_MAX = 1_024
_VERSION_HINT_BYTES_MAX = 512
_WRAPPED_BYTES_MAX = 2_048
_INSTANCE_BYTES_MAX = 255
_MAP_INDEX_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Header:
    """What an envelope authenticates besides the value itself."""

    key_id: bytes
    salt: bytes
    instance: str
    coordinate: Coordinate


@dataclass(frozen=True, slots=True)
class Preamble:
    """A parsed preamble. Nothing in it is authenticated before the body has been opened."""

    unverified_wrapped: WrappedKey
    unverified_header: Header
    header_bytes: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    length_bytes: int


@lru_cache
def marshal_key_block(wrapped: WrappedKey) -> bytes:
    """Section 2.1.

    Raises:
        FormatError: a field is out of its bounds.
    """
    if not 1 <= len(wrapped.ciphertext) <= _WRAPPED_BYTES_MAX:
        raise FormatError(
            f"The wrapped key has {len(wrapped.ciphertext)} bytes; "
            f"1 to {_WRAPPED_BYTES_MAX} are allowed."
        )
    return b"".join(
        (
            bytes((KIND_WRAPPED,)),
            lp(text(wrapped.kek_uri, "The KEK's URI", min_bytes=1, max_bytes=_KEK_URI_BYTES_MAX)),
            lp(
                text(
                    wrapped.unverified_version,
                    "The KEK's version",
                    min_bytes=0,
                    max_bytes=_VERSION_HINT_BYTES_MAX,
                )
            ),
            lp(wrapped.ciphertext),
        )
    )


@lru_cache
def parse_key_block(data: bytes) -> WrappedKey:
    """Section 2.1.

    Raises:
        FormatError: `data` is not a key block.
    """
    fields = Fields(data, "key block")
    fields.only(KIND_WRAPPED, "kind")
    kek_uri = fields.text("KEK URI", min_bytes=1, max_bytes=_KEK_URI_BYTES_MAX)
    version = fields.text("version hint", min_bytes=0, max_bytes=_VERSION_HINT_BYTES_MAX)
    ciphertext = fields.blob("wrapped key", min_bytes=1, max_bytes=_WRAPPED_BYTES_MAX)
    fields.end()
    return WrappedKey(kek_uri, ciphertext, version)


@lru_cache
def context_bytes(instance: str, coordinate: Coordinate) -> bytes:
    """The fields of a header from the instance to the map index.

    Raises:
        FormatError: a field is out of its bounds.
    """
    if not -1 <= coordinate.map_index <= _MAP_INDEX_MAX:
        raise FormatError(f"The map index {coordinate.map_index} is out of bounds.")
    return b"".join(
        (
            lp(text(instance, "`instance`", min_bytes=0, max_bytes=_INSTANCE_BYTES_MAX)),
            lp(text(coordinate.dag_id, "The dag id", min_bytes=1)),
            lp(text(coordinate.run_id, "The run id", min_bytes=1)),
            lp(text(coordinate.task_id, "The task id", min_bytes=1)),
            coordinate.map_index.to_bytes(4, "big", signed=True),
        )
    )


def scope_bytes(instance: str, coordinate: Coordinate) -> bytes:
    """What one data key serves (section 3): a task instance's writes.

    Raises:
        FormatError: a field is out of its bounds.
    """
    return bytes((SCOPE_TASK,)) + context_bytes(instance, coordinate)


def key_aad(scope: bytes, key_id: bytes) -> bytes:
    """The additional data under which a KEK wraps a data key: 67 bytes (section 3)."""
    return b"secure-xcom/v1/dek\x00" + hashlib.sha256(scope).digest() + key_id


def correlation_id(aad: bytes) -> str:
    """A random name for a data key, of 32 hexadecimal digits, by which logs find it again.

    A hash of its additional data, in which the key's id has 128 random bits: it tells nothing of
    the scope to whoever has not the envelope.
    """
    return hashlib.sha256(b"secure-xcom/correlation\x00" + aad).hexdigest()[:32]


def marshal_header(header: Header) -> bytes:
    """Section 2.2.

    Raises:
        FormatError: a field is out of its bounds.
    """
    coordinate = header.coordinate
    data = b"".join(
        (
            bytes((SUITE, SCOPE_TASK)),
            header.key_id,
            header.salt,
            context_bytes(header.instance, coordinate),
            lp(text(coordinate.key, "The XCom key", min_bytes=1)),
            b"\x00" if coordinate.ti_id is None else b"\x01" + coordinate.ti_id.bytes,
        )
    )
    if len(data) > HEADER_BYTES_MAX:
        raise FormatError(
            f"The ids of this XCom need a header of {len(data)} bytes; "
            f"{HEADER_BYTES_MAX} are allowed."
        )
    return data


def parse_header(data: bytes) -> Header:
    """Section 2.2.

    Raises:
        FormatError: `data` is not a header.
    """
    fields = Fields(data, "header")
    fields.only(SUITE, "suite")
    fields.only(SCOPE_TASK, "scope")
    key_id = fields.take(KEY_ID_BYTES)
    salt = fields.take(SALT_BYTES)
    instance, coordinate = _parse_context(data[fields.position :])
    return Header(key_id, salt, instance, coordinate)


@lru_cache
def _parse_context(data: bytes) -> tuple[str, Coordinate]:
    """What stands behind the salt. One task's envelopes have it in common, so it is remembered."""
    fields = Fields(data, "header")
    instance = fields.text("instance", min_bytes=0, max_bytes=_INSTANCE_BYTES_MAX)
    dag_id, run_id, task_id = (
        fields.text(name, min_bytes=1, max_bytes=HEADER_BYTES_MAX)
        for name in ("dag id", "run id", "task id")
    )
    map_index = int.from_bytes(fields.take(4), "big", signed=True)
    if map_index < -1:
        raise FormatError(f"The header's map index is {map_index}; -1 is the least.")
    key = fields.text("key", min_bytes=1, max_bytes=HEADER_BYTES_MAX)
    has_ti_id = fields.unsigned(1)
    if has_ti_id not in (0, 1):
        raise FormatError("The header's mark before the task instance's id is neither 0 nor 1.")
    ti_id = UUID(bytes=fields.take(16)) if has_ti_id else None
    fields.end()
    return instance, Coordinate(dag_id, run_id, task_id, map_index, key, ti_id)


def marshal_preamble(key_block: bytes, header: bytes, commitment: bytes) -> bytes:
    """Section 2: everything before the body."""
    return b"".join((MAGIC, bytes((VERSION,)), lp(key_block), lp(header), commitment))


def parse_preamble(data: bytes) -> Preamble:
    """Parse the preamble at the start of `data`, which may go on with some of the body.

    Raises:
        FormatError: `data` does not start with a preamble.
    """
    fields = Fields(data, "envelope")
    if fields.take(len(MAGIC)) != MAGIC:
        raise FormatError("This is not an envelope: it does not start with SXCM.")
    fields.only(VERSION, "version")
    wrapped = parse_key_block(fields.blob("key block", min_bytes=1, max_bytes=KEY_BLOCK_BYTES_MAX))
    header_bytes = fields.blob("header", min_bytes=1, max_bytes=HEADER_BYTES_MAX)
    header = parse_header(header_bytes)
    commitment = fields.take(COMMITMENT_BYTES)
    return Preamble(wrapped, header, header_bytes, commitment, fields.position)


def parse_whole_preamble(data: bytes) -> Preamble:
    """Parse a preamble with nothing behind it, as an offloaded row holds it (section 7).

    Raises:
        FormatError: `data` is not exactly a preamble.
    """
    preamble = parse_preamble(data)
    if preamble.length_bytes != len(data):
        raise FormatError("The row's preamble has bytes behind its end.")
    return preamble


def split_envelope(envelope: bytes) -> tuple[Preamble, memoryview]:
    """Take a whole envelope apart: its preamble, parsed, and its body.

    Raises:
        FormatError: there is no preamble at the start, or what follows is as long as no body.
    """
    preamble = parse_preamble(envelope)
    body = memoryview(envelope)[preamble.length_bytes :]
    payload_length(len(body))
    return preamble, body


@dataclass(frozen=True, slots=True)
class ContentKeys:
    """What section 3 derives from a data key and a header."""

    content_key: bytes = field(repr=False)
    commitment: bytes
    header_hash: bytes


def derive(data_key: bytes, header_bytes: bytes, salt: bytes) -> ContentKeys:
    """Derive the commitment and the content key (section 3; HKDF is RFC 5869).

    Raises:
        AuthenticationError: the data key does not have 32 bytes.
    """
    if len(data_key) != DATA_KEY_BYTES:
        raise AuthenticationError
    header_hash = hashlib.sha256(header_bytes).digest()

    def expand(label: bytes) -> bytes:
        info = b"secure-xcom/v1/" + label + b"\x00" + header_hash
        return HKDF(hashes.SHA256(), 32, salt, info).derive(data_key)

    return ContentKeys(expand(b"content"), expand(b"commit"), header_hash)


def check_commitment(keys: ContentKeys, commitment: bytes) -> None:
    """Compare in constant time.

    Raises:
        AuthenticationError: another data key, or another header, was committed to.
    """
    if not constant_time.bytes_eq(keys.commitment, commitment):
        raise AuthenticationError
