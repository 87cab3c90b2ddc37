"""A store and a KEK that live in memory, for tests of what stands above them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import google_crc32c
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_xcom.errors import AuthenticationError, ObjectNotFound, StoreError
from secure_xcom.model import WrappedKey
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from secure_xcom.model import Buffer


@dataclass
class MemoryStore:
    """Name to generation and bytes; like a real store, it tells of wrong bytes at the end."""

    uri: str
    chunk_bytes: int = 65_521
    held: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    generations: Iterator[int] = field(default_factory=count)

    def create(
        self, name: str, make_chunks: Callable[[], Iterable[Buffer]], metadata: Mapping[str, str]
    ) -> Stored:
        del metadata
        data = b"".join(make_chunks())
        if name in self.held:
            raise StoreError("There is an object of that name.")
        return self._hold(name, data)

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        del metadata
        return self._hold(name, b"".join(data))

    def exchange(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], *, generation: str
    ) -> Stored | None:
        if self.held.get(name, ("",))[0] != generation:
            return None
        return self.replace(name, data, metadata)

    def beginning(self, name: str, length_bytes: int) -> bytes:
        _, chunks = self.fetch(name)
        return b"".join(chunks)[:length_bytes]

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        del generation
        stored, chunks = self.fetch(name)
        if stored.length_bytes != length_bytes:
            raise AuthenticationError
        yield from chunks
        if stored.crc32c != crc32c:
            raise AuthenticationError

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        stored = self.find(name)
        if stored is None:
            raise ObjectNotFound("There is no object of that name.")
        data = self.held[name][1]
        return stored, (
            data[at : at + self.chunk_bytes] for at in range(0, len(data), self.chunk_bytes)
        )

    def find(self, name: str) -> Stored | None:
        if name not in self.held:
            return None
        generation, data = self.held[name]
        return Stored(generation, len(data), google_crc32c.value(data))

    def delete(self, name: str, *, generation: str) -> bool:
        held = name in self.held and self.held[name][0] == generation
        if held:
            del self.held[name]
        return held

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        for name in [name for name in self.held if name.startswith(folder)]:
            stored = self.find(name)
            if stored is not None:
                yield name, stored

    def _hold(self, name: str, data: bytes) -> Stored:
        generation = str(1_700_000_000_000_000 + next(self.generations))
        self.held[name] = (generation, data)
        return Stored(generation, len(data), google_crc32c.value(data))


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

    def unwrap_ahead(self, _wrapped: WrappedKey, _aad: bytes, _data_key: Future[bytes]) -> bool:
        return False

    def unwrap(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        self.calls.append("unwrap")
        try:
            return self._aead.decrypt(wrapped.ciphertext[:12], wrapped.ciphertext[12:], aad)
        except (InvalidTag, ValueError):
            raise AuthenticationError from None
