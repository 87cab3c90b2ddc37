"""What a store can do: keep bytes under a name, once, and give back the very same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from secure_xcom.model import Buffer


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store answers to a write: what it holds now, compared with what was sent."""

    generation: str
    length_bytes: int
    crc32c: int


class Store(Protocol):
    """A leaf that holds objects under `uri`; names are relative to it (`stores/names.py`).

    Every method raises `StoreAccessDenied` when a permission is missing, `StoreUnavailable` when
    the store is out of reach after its retries, and `FormatError` for a name that could leave it.
    """

    @property
    def uri(self) -> str:
        """The URI that references name, such as `gs://bucket/prefix`; no trailing slash."""
        ...

    def put(self, name: str, chunks: Iterable[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write a new object; visible whole or not at all.

        Args:
            name: of the new object.
            chunks: its bytes. A chunk is good until the next one is asked for. What can be
                iterated over again, as a list can and a generator cannot, may be: an upload that
                failed starts over with it, and need not give the same bytes again.
            metadata: what the store shows to an operator, if it can.

        Raises:
            GenerationMismatch: an object of that name exists.
            StoreError: what the store holds is not what was sent.
        """
        ...

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield the object's bytes; an error may come at any point, also after the last chunk.

        A caller uses nothing before the iteration has ended without an error.

        Raises:
            ObjectNotFound: there is no object of that name.
            GenerationMismatch: there is one, but it is another generation.
            AuthenticationError: length or checksum differ from the reference's. It is `damaged`
                where another read may do.
        """
        ...

    def delete(self, name: str, *, generation: str) -> None:
        """Delete that generation of the object; one that is gone already is no error."""
        ...

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder, by name, in no order.

        Args:
            folder: the beginning of their names, up to and with a slash.
        """
        ...
