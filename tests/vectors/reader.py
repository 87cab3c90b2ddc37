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


class Refused(Exception):  # noqa: N818 - an answer, not a fault of this program
    """The error class that section 8 asks for stands in `args`."""


def check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Refused(otherwise)


def read(vector: Vector, data: bytes | None) -> tuple[int, int, bytes]:
    """Sections 7 and 8. `data` is the object of the vector, if there is one."""
    reference = state(vector) if vector.state else row(vector.row)
    limit = 12_329 + body_bytes(vector.max_value_bytes + vector.max_value_bytes // 256 + 270)
    if "envelope" in reference:
        envelope = reference["envelope"]
        check(len(envelope) <= limit, "FormatError")
    else:
        check(reference["length_bytes"] <= limit, "FormatError")
        check(reference["store"] in vector.stores, "ConfigError")
        name, generation, _ = vector.object or ("", "", b"")
        check(name == reference["object"], "ObjectNotFound")
        check(generation == reference["generation"], "GenerationMismatch")
        envelope = data or b""
        check(len(envelope) == reference["length_bytes"], "AuthenticationError")
        check(
            struct.pack(">I", google_crc32c.value(envelope)) == reference["crc32c"],
            "AuthenticationError",
        )
    return open_envelope(vector, envelope)


def state(vector: Vector) -> dict[str, Any]:
    """Section 7.1."""
    found = parsed(vector.row)
    if "__secure_xcom_state__" not in found:
        return row(vector.row)
    check(set(found) == {"__secure_xcom_state__", "store", "folder"}, "FormatError")
    check(type(found["__secure_xcom_state__"]) is int, "FormatError")
    check(found["__secure_xcom_state__"] == 1, "FormatError")
    check(type(found["store"]) is str and type(found["folder"]) is str, "FormatError")
    check(found["folder"].endswith("/"), "FormatError")
    check_name(found["folder"][:-1])
    check(found["store"] in vector.stores, "ConfigError")
    name, generation, data = vector.object or ("", "", b"")
    check(name.startswith(found["folder"]), "ObjectNotFound")
    crc32c = struct.pack(">I", google_crc32c.value(data))
    length = len(data)
    return {
        "store": found["store"],
        "object": name,
        "generation": generation,
        "length_bytes": length,
        "crc32c": crc32c,
    }


def parsed(text: str) -> dict[str, Any]:
    """A row is one JSON object, and no member stands twice."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        check(len(dict(pairs)) == len(pairs), "FormatError")
        return dict(pairs)

    def constant(_: str) -> Any:
        raise Refused("FormatError")

    try:
        found = json.loads(text, object_pairs_hook=members, parse_constant=constant)
    except ValueError:
        raise Refused("FormatError") from None
    check(type(found) is dict, "FormatError")
    return dict(found)


def row(text: str) -> dict[str, Any]:
    """Section 7."""
    found = parsed(text)
    check(type(found.get("__secure_xcom__")) is int, "FormatError")
    check(found["__secure_xcom__"] == 1, "FormatError")
    check(found.get("placement") in ("inline", "offloaded"), "FormatError")
    named = {"__secure_xcom__", "placement", "about"}
    remote = {"store", "object", "generation", "length_bytes", "crc32c"}
    inline = found["placement"] == "inline"
    check(set(found) == named | ({"envelope"} if inline else remote), "FormatError")
    check(type(found["about"]) is dict, "FormatError")
    if inline:
        return {"envelope": base64_bytes(found["envelope"])}
    for member in ("store", "object", "generation"):
        check(type(found[member]) is str, "FormatError")
    check_name(found["object"])
    check(re.fullmatch("[1-9][0-9]{0,19}", found["generation"]), "FormatError")
    check(type(found["length_bytes"]) is int, "FormatError")
    check(1 <= found["length_bytes"] <= 1_099_528_417_633, "FormatError")
    found["crc32c"] = base64_bytes(found["crc32c"])
    check(len(found["crc32c"]) == 4, "FormatError")
    return found


def check_name(name: str) -> None:
    segments = name.split("/")
    check(len(name) <= 800, "FormatError")
    check(all(re.fullmatch(r"[A-Za-z0-9.\-_~%]+", segment) for segment in segments), "FormatError")
    check(not any(segment.startswith(".") for segment in segments), "FormatError")


def base64_bytes(text: object) -> bytes:
    check(type(text) is str, "FormatError")
    try:
        data = base64.b64decode(str(text).encode(), validate=True)
    except binascii.Error:
        raise Refused("FormatError") from None
    check(base64.b64encode(data) == str(text).encode(), "FormatError")
    return data


def body_bytes(payload_bytes: int) -> int:
    """Section 4."""
    further = max(0, payload_bytes - 1_048_520)
    return 40 + payload_bytes + 16 * (1 + (further + 1_048_559) // 1_048_560)


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


def open_envelope(vector: Vector, envelope: bytes) -> tuple[int, int, bytes]:
    """Sections 2 and 3."""
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
    body = cursor.data
    check(len(body) >= 312, "FormatError")
    check(not 1 <= len(body) % 1_048_576 <= 16, "FormatError")

    check(kek_uri in vector.keks, "ConfigError")
    mark = f"#{vector.state}-state" if vector.state else ""
    check(instance in [own + mark for own in vector.instances], "AuthenticationError")
    for name, value in vector.asked.items():
        check(context[name] == value, "AuthenticationError")

    aad = b"secure-xcom/v1/dek\x00" + hashlib.sha256(b"\x01" + scope).digest() + key_id
    check(len(wrapped) == 60, "AuthenticationError")
    dek = aead_open(bytes.fromhex(vector.keks[kek_uri]), wrapped[:12], wrapped[12:], aad)
    check(len(dek) == 32, "AuthenticationError")
    hh = hashlib.sha256(header_bytes).digest()
    expected = HKDF(SHA256(), 32, salt, b"secure-xcom/v1/commit\x00" + hh).derive(dek)
    check(hmac.compare_digest(expected, commitment), "AuthenticationError")
    content_key = HKDF(SHA256(), 32, salt, b"secure-xcom/v1/content\x00" + hh).derive(dek)
    return payload(vector, open_body(content_key, hh, body))


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
    elif data[4] >> 6 == 3:
        at = 5 + (0, 1, 2, 4)[data[4] & 3]
        check(int.from_bytes(data[at : at + 8], "little") <= 2**23, "FormatError")
    decompressor = zstd.ZstdDecompressor()
    try:
        content = decompressor.decompress(data, max_length=raw_len + 1)
    except zstd.ZstdError:
        raise Refused("FormatError") from None
    check(decompressor.eof and not decompressor.unused_data, "FormatError")
    return content
