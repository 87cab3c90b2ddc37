"""A store and a KEK that live in memory, for tests of what stands above them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_xcom.errors import AuthenticationError, GenerationMismatch, ObjectNotFound
from secure_xcom.model import WrappedKey
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from secure_xcom.model import Buffer


@dataclass
class MemoryStore:
    """Name to generation and bytes; like a real store, it tells of a wrong end at the end."""

    uri: str
    chunk_bytes: int = 65_521
    objects: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def put(self, name: str, chunks: Iterable[Buffer], metadata: Mapping[str, str]) -> Stored:
        del metadata
        data = b"".join(chunks)
        if name in self.objects:
            raise GenerationMismatch("There is an object of that name.")
        generation = str(1_700_000_000_000_000 + len(self.objects))
        self.objects[name] = (generation, data)
        return Stored(generation, len(data), google_crc32c.value(data))

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        if name not in self.objects:
            raise ObjectNotFound("There is no object of that name.")
        found, data = self.objects[name]
        if found != generation:
            raise GenerationMismatch("There is another generation.")
        for at in range(0, len(data), self.chunk_bytes):
            yield data[at : at + self.chunk_bytes]
        if len(data) != length_bytes or google_crc32c.value(data) != crc32c:
            raise AuthenticationError

    def delete(self, name: str, *, generation: str) -> None:
        if name in self.objects and self.objects[name][0] == generation:
            del self.objects[name]


class FixedKek:
    """Wraps as `docs/format.md`, section 3.1, under any URI, and records every call."""

    def __init__(self, uri: str, key: bytes) -> None:
        self.uri = uri
        self._aead = AESGCM(key)
        self.calls: list[str] = []

    def wrap(self, data_key: bytes, aad: bytes) -> WrappedKey:
        self.calls.append("wrap")
        nonce = os.urandom(12)
        return WrappedKey(self.uri, nonce + self._aead.encrypt(nonce, data_key, aad), "1")

    def unwrap(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        self.calls.append("unwrap")
        try:
            return self._aead.decrypt(wrapped.ciphertext[:12], wrapped.ciphertext[12:], aad)
        except (InvalidTag, ValueError):
            raise AuthenticationError from None
