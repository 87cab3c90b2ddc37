"""Envelopes and rows built from `docs/format.md` alone, with any part of them replaced.

This is the writer behind the vectors. It never imports `secure_xcom`, it is not fast, and all its
randomness comes from a seed, so that it makes the same bytes every time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import google_crc32c
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if TYPE_CHECKING:
    from collections.abc import Callable

SEGMENT_BYTES = 1_048_576
FIRST_BYTES = 1_048_520
FURTHER_BYTES = 1_048_560

KEK_URI = "local-kek:///vectors/kek"
STORE_URI = "file:///vectors/store"
GENERATION = "1700000000000000"
COORDINATE = {
    "dag": "payments",
    "run": "manual__2026-11-22T00:00:00+00:00",
    "task": "load",
    "map_index": -1,
    "key": "return_value",
}


def stream(label: str, length: int) -> bytes:
    """Bytes that depend on their label only: SHAKE-256 of it."""
    return hashlib.shake_256(b"secure-xcom vector\x00" + label.encode()).digest(length)


def kek(uri: str) -> bytes:
    """The key behind a KEK's URI."""
    return stream("kek " + uri, 32)


def lp(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def wrap(uri: str, nonce: bytes, dek: bytes, aad: bytes) -> bytes:
    """Section 3.1."""
    return nonce + AESGCM(kek(uri)).encrypt(nonce, dek, aad)


def seal_segments(
    key: bytes, prefix: bytes, payload: bytes, lasts: Callable[[int, bool], bool]
) -> list[bytes]:
    """Section 4; `lasts` may turn a segment's mark over."""
    pieces = [payload[:FIRST_BYTES]]
    pieces += [
        payload[at : at + FURTHER_BYTES] for at in range(FIRST_BYTES, len(payload), FURTHER_BYTES)
    ]
    return [
        AESGCM(key).encrypt(
            prefix + struct.pack(">IB", index, lasts(index, index == len(pieces) - 1)), piece, None
        )
        for index, piece in enumerate(pieces)
    ]


@dataclass
class Envelope:
    """An envelope, and where its parts begin."""

    data: bytes
    dek: bytes
    raw: bytes
    codec: int
    compression: int
    instance: bytes
    #: `where0`, `where1` and `where2` of section 7.2.
    where: tuple[bytes, bytes, bytes]
    at: dict[str, int]

    @property
    def preamble(self) -> bytes:
        return self.data[: self.at["body"]]

    @property
    def header(self) -> bytes:
        return self.data[self.at["header"] : self.at["commitment"]]

    @property
    def body(self) -> bytes:
        return self.data[self.at["body"] :]

    @property
    def object_name(self) -> str:
        """Section 7.1."""
        return f"{deployment(self.instance)}/{labelled('object', self.header)}"

    @property
    def state_name(self) -> str:
        """Section 7.2."""
        labels = ("state-task", "state-index", "state-key")
        parts = map(labelled, labels, self.where)
        return "/".join((deployment(self.instance), *parts))


def labelled(label: str, data: bytes) -> str:
    """The names of section 7: a hash under a label of its own, in 64 digits."""
    return hashlib.sha256(f"secure-xcom/v1/{label}\0".encode() + data).hexdigest()


def deployment(instance: bytes) -> str:
    return labelled("deployment", instance)[:16]


class _Changes:
    """Parts to replace, by name: with a value, or with what a function makes of the default."""

    def __init__(self, changes: dict[str, Any]) -> None:
        self._changes = changes

    def __call__(self, name: str, default: Any) -> Any:
        change = self._changes.pop(name, default)
        return change(default) if callable(change) and change is not default else change

    def done(self) -> None:
        if self._changes:
            raise AssertionError(f"These parts do not exist: {sorted(self._changes)}")


def text(value: str | bytes) -> bytes:
    """UTF-8; bytes stand for what is not."""
    return value.encode() if isinstance(value, str) else value


def envelope(seed: str, raw: bytes, **changes: Any) -> Envelope:
    """Sections 2 to 5, in the order in which a writer has to go."""
    lasts = changes.pop("lasts", lambda _index, last: last)
    part = _Changes(changes)

    # Section 5.
    codec, compression = part("codec", 5), part("compression", 0)
    data = part("data", raw)
    length = 14 + len(data)
    pad = part("pad", -length % 256 if length <= 4096 else 0)
    payload = part(
        "payload",
        struct.pack(">HBBQ", codec, compression, part("reserved", 0), part("raw_len", len(raw)))
        + data
        + part("zeros", bytes(pad))
        + struct.pack(">H", part("pad_len", pad)),
    )

    # Section 2.2 and 3: the key comes first, since its id stands in the header.
    dek, key_id = part("dek", stream(seed + " dek", 32)), stream(seed + " key id", 16)
    salt = stream(seed + " salt", 32)
    instance = text(part("instance", ""))
    scope = (
        bytes((part("scope", 1),))
        + lp(instance)
        + lp(text(part("dag", COORDINATE["dag"])))
        + lp(text(part("run", COORDINATE["run"])))
        + lp(text(part("task", COORDINATE["task"])))
        + struct.pack(">i", part("map_index", -1))
    )
    key = lp(text(part("key", COORDINATE["key"])))
    ti_id = part("ti_id", None)
    header = part(
        "header",
        bytes((part("suite", 1), scope[0]))
        + part("key_id", key_id)
        + salt
        + scope[1:]
        + key
        + (b"\x00" if ti_id is None else b"\x01" + ti_id),
    )
    aad = part(
        "aad",
        b"secure-xcom/v1/dek\x00" + hashlib.sha256(part("aad_scope", scope)).digest() + key_id,
    )

    # Section 2.1.
    uri = part("kek_uri", KEK_URI)
    wrapped = part(
        "wrapped",
        wrap(part("wrapped_by", uri), stream(seed + " wrap", 12), part("wrapped_dek", dek), aad),
    )
    key_block = part(
        "key_block",
        bytes((part("kind", 1),))
        + lp(text(uri))
        + lp(text(part("version_hint", "")))
        + lp(wrapped),
    )

    # Sections 3 and 4.
    header_hash = hashlib.sha256(header).digest()
    commitment = part("commitment", hkdf(dek, salt, b"secure-xcom/v1/commit\x00" + header_hash))
    content_key = hkdf(dek, salt, b"secure-xcom/v1/content\x00" + header_hash)
    tink_salt, prefix = stream(seed + " body", 39)[:32], stream(seed + " body", 39)[32:]
    segments = part(
        "segments",
        seal_segments(
            hkdf(content_key, tink_salt, part("associated_data", header_hash)),
            prefix,
            payload,
            lasts,
        ),
    )
    body = part("body", part("body_start", b"\x28") + tink_salt + prefix + b"".join(segments))

    # Section 2.
    start = part("magic", b"SXCM") + bytes((part("version", 1),))
    blocks = part("key_block_lp", lp(key_block)), part("header_lp", lp(header))
    made = part("envelope", start + blocks[0] + blocks[1] + commitment + body)
    part.done()
    at = {"key_block": 7, "wrapped": 7 + len(key_block) - len(wrapped)}
    at["header"] = 5 + len(blocks[0]) + 2
    at["commitment"] = at["header"] + len(header)
    at["body"] = at["commitment"] + 32
    where = scope[1:-4], scope[1:], scope[1:] + key
    return Envelope(made, dek, raw, codec, compression, instance, where, at)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def about(made: Envelope, place: str) -> str:
    return f"Sealed by secure_xcom: {len(made.data)} bytes in {place}."


def inline(made: Envelope) -> dict[str, Any]:
    """Section 7."""
    return {
        "about": about(made, "this row"),
        "__secure_xcom__": 1,
        "placement": "inline",
        "envelope": b64(made.data),
    }


def offloaded(made: Envelope) -> dict[str, Any]:
    """Section 7."""
    return {
        "about": about(made, STORE_URI),
        "__secure_xcom__": 1,
        "placement": "offloaded",
        "preamble": b64(made.preamble),
        "store": STORE_URI,
        "object": made.object_name,
        "generation": GENERATION,
        "length_bytes": len(made.body),
        "crc32c": crc32c(made.body),
    }


def state(made: Envelope, kind: str) -> dict[str, Any]:
    """Section 7.2."""
    store = f"{STORE_URI}/~state/{kind}"
    return {
        "about": about(made, store),
        "__secure_xcom_state__": 1,
        "store": store,
        "object": made.state_name,
    }


def crc32c(data: bytes) -> str:
    return b64(struct.pack(">I", google_crc32c.value(data)))


def row_text(row: object) -> str:
    return json.dumps(row, ensure_ascii=True, separators=(",", ":"))
