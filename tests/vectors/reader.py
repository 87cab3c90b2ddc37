"""A reader written from `docs/format.md` alone; it never imports `secure_xcom`.

It takes a whole envelope at once, favours the order of the document over speed, and answers with
the codec, the compression and the encoded value, or with the name of an error class. That it
agrees with every vector shows that the document says enough.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from vectors.case import Vector

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


XCOM_TAG = "__secure_xcom__"
STATE_TAG = "__secure_xcom_state__"
PREAMBLE_BYTES_MAX = 12_329


class Refused(Exception):  # noqa: N818 - an answer, not a fault of this program
    """The error class that section 8 asks for stands in `args`."""


def check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)


def read(vector: Vector, data: bytes | None) -> tuple[int, int, bytes]:
    """Section 8.2. `data` is the object of the vector, if there is one."""
    row = parsed(vector.row)
    if vector.state and STATE_TAG in row:
        payload_bytes = read_state(vector, row, data)
    else:
        payload_bytes = read_xcom(vector, row, data)
    return payload(vector, payload_bytes)


def read_xcom(vector: Vector, row: dict[str, Any], data: bytes | None) -> bytes:
    """An XCom; and an inline state, which has the same form."""
    # Step 1.
    check_reference(row)
    limit = longest_body(vector)
    if row["placement"] == "inline":
        envelope = base64_bytes(row["envelope"])
        check(len(envelope) <= limit + PREAMBLE_BYTES_MAX, "FormatError")
        preamble, body = split(envelope)
        check_body_bytes(len(body))
        return open_body(content_key(vector, preamble), preamble.hh, body)
    check(not vector.state, "FormatError")
    check_body_bytes(row["length_bytes"])
    check(row["length_bytes"] <= limit, "FormatError")
    check(row["store"] in vector.stores, "ConfigError")
    # Step 2.
    preamble, rest = split(base64_bytes(row["preamble"]))
    check(not rest, "FormatError")
    name = f"{deployment(preamble)}/{labelled('object', preamble.header)}"
    check(row["object"] == name, "AuthenticationError")
    # Steps 3 to 6.
    key = content_key(vector, preamble)
    # Step 7: whatever its generation, the object of that name is read.
    body = stored(vector, name, data)
    check(len(body) == row["length_bytes"], "AuthenticationError")
    # Step 8.
    opened = open_body(key, preamble.hh, body)
    checksum = struct.pack(">I", google_crc32c.value(body))
    check(checksum == base64_bytes(row["crc32c"]), "AuthenticationError")
    return opened


def read_state(vector: Vector, row: dict[str, Any], data: bytes | None) -> bytes:
    """Section 7.2: a state that is an object."""
    # Step 1, and the object right after it.
    check_members(row, {"about", STATE_TAG, "store", "object"}, STATE_TAG)
    check_text(row, "about", "store", "object")
    check(re.fullmatch("[0-9a-f]{16}(/[0-9a-f]{64}){3}", row["object"]), "FormatError")
    suffix = f"/~state/{vector.state}"
    check(row["store"] in [store + suffix for store in vector.stores], "ConfigError")
    envelope = stored(vector, row["object"], data)
    check(len(envelope) <= longest_body(vector) + PREAMBLE_BYTES_MAX, "FormatError")
    # Step 2.
    preamble, body = split(envelope)
    check_body_bytes(len(body))
    task = preamble.scope[: len(preamble.scope) - 4]
    key = struct.pack(">H", len(preamble.context["key"].encode()))
    where = preamble.scope + key + preamble.context["key"].encode()
    parts = (
        deployment(preamble),
        labelled("state-task", task),
        labelled("state-index", preamble.scope),
        labelled("state-key", where),
    )
    check(row["object"] == "/".join(parts), "AuthenticationError")
    # Steps 3 to 6, and 8.
    return open_body(content_key(vector, preamble), preamble.hh, body)


def stored(vector: Vector, name: str, data: bytes | None) -> bytes:
    found, _, _ = vector.object or ("", "", b"")
    check(found == name, "ObjectNotFound")
    return data or b""


def parsed(text: str) -> dict[str, Any]:
    """Section 7: a row is one JSON object, and no member stands twice."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check(len(dict(pairs)) == len(pairs), "FormatError")
        return dict(pairs)

    def no_number(_: str) -> None:
        raise Refused("FormatError")

    try:
        found = json.loads(
            text, object_pairs_hook=members, parse_float=no_number, parse_constant=no_number
        )
    except (ValueError, RecursionError):
        raise Refused("FormatError") from None
    check(type(found) is dict, "FormatError")
    return dict(found)


def check_reference(row: dict[str, Any]) -> None:
    """Section 7."""
    inline = {"about", XCOM_TAG, "placement", "envelope"}
    offloaded = {"about", XCOM_TAG, "placement", "preamble", "store", "object", "generation"}
    offloaded |= {"length_bytes", "crc32c"}
    check(row.get("placement") in ("inline", "offloaded"), "FormatError")
    if row["placement"] == "inline":
        check_members(row, inline, XCOM_TAG)
        check_text(row, "about", "envelope")
        base64_bytes(row["envelope"])
        return
    check_members(row, offloaded, XCOM_TAG)
    check_text(row, "about", "preamble", "store", "object", "generation", "crc32c")
    base64_bytes(row["preamble"])
    check(re.fullmatch("[0-9a-f]{16}/[0-9a-f]{64}", row["object"]), "FormatError")
    check(re.fullmatch("[1-9][0-9]{0,19}", row["generation"]), "FormatError")
    check(type(row["length_bytes"]) is int, "FormatError")
    check(len(base64_bytes(row["crc32c"])) == 4, "FormatError")


def check_members(row: dict[str, Any], names: set[str], tag: str) -> None:
    check(set(row) == names, "FormatError")
    check(type(row[tag]) is int and row[tag] == 1, "FormatError")


def check_text(row: dict[str, Any], *names: str) -> None:
    check(all(type(row[name]) is str for name in names), "FormatError")
    halves = re.compile("[\ud800-\udfff]")
    check(not any(halves.search(row[name]) for name in names), "FormatError")


def base64_bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except binascii.Error:
        raise Refused("FormatError") from None
    check(base64.b64encode(data) == text.encode(), "FormatError")
    return data


def body_bytes(payload_bytes: int) -> int:
    """Section 4."""
    further = max(0, payload_bytes - 1_048_520)
    return 40 + payload_bytes + 16 * (1 + (further + 1_048_559) // 1_048_560)


def check_body_bytes(length: int) -> None:
    """Section 4: a length that no payload makes."""
    check(312 <= length <= body_bytes(2**40), "FormatError")
    check(not 1 <= length % 1_048_576 <= 16, "FormatError")


def longest_body(vector: Vector) -> int:
    """Section 8.2, step 1."""
    return body_bytes(vector.max_value_bytes + vector.max_value_bytes // 256 + 270)


def labelled(label: str, data: bytes) -> str:
    """Section 7.1."""
    return hashlib.sha256(b"secure-xcom/v1/" + label.encode() + b"\0" + data).hexdigest()


def deployment(preamble: Preamble) -> str:
    return labelled("deployment", preamble.instance.encode())[:16]


class Cursor:
    """Section 1."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, length: int) -> bytes:
        check(len(self.data) >= length, "FormatError")
        taken, self.data = self.data[:length], self.data[length:]
        return taken

    def lp(self, least: int, most: int) -> bytes:
        length = int.from_bytes(self.take(2), "big")
        check(least <= length <= most, "FormatError")
        return self.take(length)

    def text(self, least: int, most: int) -> str:
        try:
            return self.lp(least, most).decode()
        except UnicodeDecodeError:
            raise Refused("FormatError") from None


@dataclass
class Preamble:
    """Section 2."""

    kek_uri: str
    wrapped: bytes
    header: bytes
    key_id: bytes
    salt: bytes
    #: From the instance to the map index, as `where1` of section 7.2.
    scope: bytes
    instance: str
    context: dict[str, Any]
    commitment: bytes

    @property
    def hh(self) -> bytes:
        return hashlib.sha256(self.header).digest()


def split(envelope: bytes) -> tuple[Preamble, bytes]:
    """Section 2: the preamble, and what follows it."""
    cursor = Cursor(envelope)
    check(cursor.take(5) == b"SXCM\x01", "FormatError")
    block = Cursor(cursor.lp(1, 4096))
    check(block.take(1) == b"\x01", "FormatError")
    kek_uri = block.text(1, 1024)
    block.text(0, 512)
    wrapped = block.lp(1, 2048)
    check(not block.data, "FormatError")

    header_bytes = cursor.lp(1, 8192)
    header = Cursor(header_bytes)
    check(header.take(2) == b"\x01\x01", "FormatError")
    key_id, salt = header.take(16), header.take(32)
    scope = header.data
    instance = header.text(0, 255)
    context: dict[str, Any] = {name: header.text(1, 8192) for name in ("dag", "run", "task")}
    (context["map_index"],) = struct.unpack(">i", header.take(4))
    check(context["map_index"] >= -1, "FormatError")
    scope = scope[: len(scope) - len(header.data)]
    context["key"] = header.text(1, 8192)
    mark = header.take(1)
    check(mark in (b"\x00", b"\x01"), "FormatError")
    header.take(16 if mark == b"\x01" else 0)
    check(not header.data, "FormatError")
    commitment = cursor.take(32)
    preamble = Preamble(
        kek_uri, wrapped, header_bytes, key_id, salt, scope, instance, context, commitment
    )
    return preamble, cursor.data


def content_key(vector: Vector, preamble: Preamble) -> bytes:
    """Section 8.2, steps 3 to 6, and section 3."""
    check(preamble.kek_uri in vector.keks, "ConfigError")
    own, mark, kind = preamble.instance.partition("#")
    check(own in vector.instances, "ConfigError")
    expected_mark = f"#{vector.state}-state" if vector.state else ""
    check(mark + kind == expected_mark, "AuthenticationError")
    for name, value in vector.asked.items():
        check(preamble.context[name] == value, "AuthenticationError")

    scope_hash = hashlib.sha256(b"\x01" + preamble.scope).digest()
    aad = b"secure-xcom/v1/dek\x00" + scope_hash + preamble.key_id
    check(len(preamble.wrapped) == 60, "AuthenticationError")
    kek = bytes.fromhex(vector.keks[preamble.kek_uri])
    dek = aead_open(kek, preamble.wrapped[:12], preamble.wrapped[12:], aad)
    check(len(dek) == 32, "AuthenticationError")
    commitment = derived("commit", dek, preamble)
    check(hmac.compare_digest(commitment, preamble.commitment), "AuthenticationError")
    return derived("content", dek, preamble)


def derived(label: str, dek: bytes, preamble: Preamble) -> bytes:
    """Section 3."""
    info = b"secure-xcom/v1/" + label.encode() + b"\0" + preamble.hh
    return HKDF(SHA256(), 32, preamble.salt, info).derive(dek)


def aead_open(key: bytes, nonce: bytes, ciphertext: bytes, aad: bytes | None) -> bytes:
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise Refused("AuthenticationError") from None


def open_body(content_key: bytes, hh: bytes, body: bytes) -> bytes:
    """Section 4."""
    check(body[0] == 0x28, "AuthenticationError")
    key = HKDF(SHA256(), 32, body[1:33], hh).derive(content_key)
    segments = [body[at : at + 1_048_576] for at in range(0, len(body), 1_048_576)]
    segments[0] = segments[0][40:]
    opened = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        opened.append(aead_open(key, body[33:40] + struct.pack(">IB", index, last), segment, None))
    return b"".join(opened)


def payload(vector: Vector, data: bytes) -> tuple[int, int, bytes]:
    """Section 5."""
    codec, compression, reserved, raw_len = struct.unpack(">HBBQ", data[:12])
    check(1 <= codec <= 5, "FormatError")
    check(compression in (0, 1), "FormatError")
    check(reserved == 0, "FormatError")
    check(raw_len <= vector.max_value_bytes, "FormatError")
    (pad_len,) = struct.unpack(">H", data[-2:])
    length = len(data) - pad_len
    check(length >= 14, "FormatError")
    check(pad_len == (-length % 256 if length <= 4096 else 0), "FormatError")
    check(not any(data[length - 2 : -2]), "FormatError")
    encoded = data[12 : length - 2]
    if compression:
        encoded = one_frame(encoded, raw_len)
    check(len(encoded) == raw_len, "FormatError")
    return codec, compression, encoded


def one_frame(data: bytes, raw_len: int) -> bytes:
    check(data[:4] == b"\x28\xb5\x2f\xfd", "FormatError")
    check(len(data) >= 9, "FormatError")
    if not data[4] & 0x20:
        window = (1 << 10 + (data[5] >> 3)) * (8 + data[5] % 8) // 8
        check(window <= 2**23, "FormatError")
    else:
        at = 5 + (0, 1, 2, 4)[data[4] & 3]
        size = (1, 2, 4, 8)[data[4] >> 6]
        # RFC 8878 adds 256 to a size of two bytes, which the bound need not know.
        check(int.from_bytes(data[at : at + size], "little") <= 2**23, "FormatError")
    decompressor = zstd.ZstdDecompressor()
    try:
        content = decompressor.decompress(data, max_length=raw_len + 1)
    except zstd.ZstdError:
        raise Refused("FormatError") from None
    check(decompressor.eof and not decompressor.unused_data, "FormatError")
    return content
