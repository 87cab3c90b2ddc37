"""The read cache: ciphertext that was fetched, bounded in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cachetools import LRUCache

from secure_xcom import forks, telemetry, threads
from secure_xcom.model import Buffer
from secure_xcom.single_flight import SingleFlight
from secure_xcom.stores.protocol import Damaged, Entry, Store, Stored

_Key = tuple[str, str]


class Cached:
    """A store that holds the objects it gave out last; threads may share it.

    What is held passed the store's checks of length and checksum, and is found again by name and
    generation, as the reference has them. An object longer than the bound passes through. One that
    is not is fetched whole before any of it is given out, once, however many ask for it. A write
    leaves nothing: a task that pushes seldom pulls what it pushed. What is asked for by its name
    alone passes through: it may be replaced. A child that is forked starts with nothing.

    Args:
        store: where objects are.
        max_bytes: how much is held, counted in the objects' bytes; 0 for nothing.
    """

    def __init__(self, store: Store, max_bytes: int) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self.forget()
        forks.run_in_children(self.forget)

    def __repr__(self) -> str:
        return f"Cached({self._store!r}, {self._max_bytes})"

    def forget(self) -> None:
        """Start afresh, with nothing held and no lock taken."""
        self._held: LRUCache[_Key, _Held] = LRUCache(self._max_bytes, getsizeof=_Held.__len__)
        self._fetches: SingleFlight[_Key, _Held] = SingleFlight(self._held)

    @property
    def uri(self) -> str:
        """The store's URI."""
        return self._store.uri

    @property
    def held_bytes(self) -> int:
        """How many bytes of objects are held."""
        return int(self._held.currsize)

    def create(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        metadata: Mapping[str, str],
    ) -> Stored:
        """Write through (`Store.create`)."""
        return self._store.create(name, make_chunks, metadata)

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write through (`Store.replace`)."""
        return self._store.replace(name, data, metadata)

    def exchange(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], *, generation: str
    ) -> Stored | None:
        """Write in the place of one generation (`Store.exchange`); nothing of it is kept here."""
        return self._store.exchange(name, data, metadata, generation=generation)

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield the object, held or fetched (`Store.get`)."""

        def blocks() -> Iterator[Buffer]:
            for block in self._store.get(
                name, generation=generation, length_bytes=length_bytes, crc32c=crc32c
            ):
                threads.check()
                yield block

        def fetch() -> _Held:
            telemetry.count("read_cache.misses")
            return _Held(blocks(), crc32c)

        # Nothing would count an empty object, so it is not held.
        if not 0 < length_bytes <= self._max_bytes:
            yield from blocks()
            return
        if self._fetches.held((name, generation)) is not None:
            telemetry.count("read_cache.hits")
        held = self._fetches.get((name, generation), fetch)
        if (len(held), held.crc32c) != (length_bytes, crc32c):
            raise Damaged
        yield from held.blocks

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        """Read through (`Store.fetch`)."""
        return self._store.fetch(name)

    def beginning(self, name: str, length_bytes: int) -> bytes:
        """The first bytes of an object (`Store.beginning`)."""
        return self._store.beginning(name, length_bytes)

    def find(self, name: str) -> Stored | None:
        """Look through (`Store.find`)."""
        return self._store.find(name)

    def delete(self, name: str, *, generation: str) -> bool:
        """Delete the object and hold nothing of that name any longer (`Store.delete`).

        What was read in the place of a generation that is gone is held under that one.
        """
        try:
            return self._store.delete(name, generation=generation)
        finally:
            self._fetches.drop(lambda key: key[0] == name)

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield what the store lists; nothing of it is held (`Store.objects`)."""
        return self._store.objects(folder)

    def entries(self, beginning: str) -> Iterator[Entry]:
        """What the store lists (`Store.entries`)."""
        return self._store.entries(beginning)

    def now(self) -> float:
        """The store's clock (`Store.now`)."""
        return self._store.now()


class _Held:
    """An object's bytes, as they came."""

    def __init__(self, blocks: Iterable[Buffer], crc32c: int) -> None:
        self.blocks = tuple(block if type(block) is bytes else bytes(block) for block in blocks)
        self.crc32c = crc32c
        self._length_bytes = sum(map(len, self.blocks))

    def __len__(self) -> int:
        return self._length_bytes
