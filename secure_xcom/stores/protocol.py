"""What a store can do: keep bytes under a name, and give back the very same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from secure_xcom.errors import AuthenticationError
from secure_xcom.model import Buffer

#: The member of an object's metadata that names the version of its format.
FORMAT_VERSION = "secure-xcom"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a store holds under a name: a generation, and the length and CRC-32C of its bytes."""

    generation: str
    length_bytes: int
    crc32c: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store lists of an object, whose bytes it does not read for that."""

    name: str
    generation: str
    #: When this generation was written by the store's own clock, in seconds since 1970.
    created: float
    #: The version of the format that the object's metadata name; None where they name none.
    format_version: str | None


class Damaged(AuthenticationError):  # noqa: N818 - nobody outside sees it
    """What came of an object is not what its reference names; the object itself may be.

    It may have changed on its way, so whoever has used nothing of it may read it again. In the
    end it is an `AuthenticationError` like any other.
    """


class Store(Protocol):
    """A leaf that holds objects under `uri`; names are relative to it (`stores/names.py`).

    Every method raises `StoreAccessDenied` when a permission is missing, `StoreUnavailable` when
    the store is out of reach after its retries, and `FormatError` for a name that could leave it.
    """

    @property
    def uri(self) -> str:
        """The URI that references name, such as `gs://bucket/prefix`; no trailing slash."""
        ...

    def create(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        metadata: Mapping[str, str],
    ) -> Stored:
        """Write a new object; visible whole or not at all.

        Args:
            name: of the new object.
            make_chunks: makes its bytes, for each attempt anew; they need not be the same each
                time. A chunk is good until the next one is asked for.
            metadata: what the store shows to an operator, if it can.

        Returns:
            What the attempt that landed has written.

        Raises:
            StoreError: an object of that name exists that is not this write's own, or what the
                store holds is not what was sent.
        """
        ...

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write an object in the place of the one that has its name, if there is one.

        Readers see the former or the new one, whole. Of two writers that saw the same one, the
        write that comes second counts as done just before the first, and succeeds.

        Args:
            name: of the object.
            data: its bytes, held.
            metadata: as for `create`.

        Raises:
            StoreError: the store did not take it; the former object is still there.
        """
        ...

    def exchange(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], *, generation: str
    ) -> Stored | None:
        """Write an object in the place of that very generation.

        Args:
            name: of the object.
            data: its bytes, held.
            metadata: as for `create`.
            generation: the one that it is to replace.

        Returns:
            What was written; None if the name has another generation, or none, and nothing was.

        Raises:
            StoreError: the store did not take it; the former object is still there.
        """
        ...

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object's bytes; an error may come at any point, also after the last chunk.

        Where the generation is gone, the live object of that name is read, and has to hold the
        same bytes. A caller uses nothing before the iteration has ended without an error.

        Raises:
            ObjectNotFound: there is no object of that name.
            Damaged: length or checksum are others than those that were asked for.
        """
        ...

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        """The live object of a name, and its bytes, as for `get`.

        Raises:
            ObjectNotFound: there is no object of that name.
        """
        ...

    def beginning(self, name: str, length_bytes: int) -> bytes:
        """The first bytes of the live object of a name, so many at most; no checksum covers them.

        Raises:
            ObjectNotFound: there is no object of that name.
        """
        ...

    def find(self, name: str) -> Stored | None:
        """What the store holds under a name now; None if nothing."""
        ...

    def delete(self, name: str, *, generation: str) -> bool:
        """Delete that generation of an object.

        Returns:
            Whether it was there. Where an answer was lost, it counts as what this call has deleted
            if it is gone now.
        """
        ...

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder, by name, in no order.

        Args:
            folder: the beginning of their names, up to and with a slash.
        """
        ...

    def entries(self, beginning: str) -> Iterator[Entry]:
        """Yield what the store lists of the objects whose names begin in this way, in no order.

        Args:
            beginning: of their names; a folder with its slash, and what follows it, if anything.
        """
        ...

    def now(self) -> float:
        """What time it is by the store's own clock, in seconds since 1970."""
        ...
