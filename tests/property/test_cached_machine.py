"""The read cache against a model: an ordered list of what was used last, and its sizes."""

from __future__ import annotations

import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
from cachetools import Cache
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    precondition,
    rule,
)

from secure_xcom.errors import AuthenticationError, ObjectNotFound, StoreError
from secure_xcom.layers.cached import Cached
from secure_xcom.model import Buffer
from secure_xcom.stores.file import Directory
from secure_xcom.stores.protocol import Damaged, Stored

NAMES = st.sampled_from(["a/1", "a/2", "b/1", "b/2"])
#: Of sizes of which a few, but not all, find room together.
DATA = st.sampled_from([0, 1, 12, 13, 25]).flatmap(lambda n: st.binary(min_size=n, max_size=n))
#: A folder in memory, where there is one: the store syncs its files, and this is about the cache.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - `mkdtemp` makes its own


class Reads(Directory):
    """A directory that notes which objects were read from it."""

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.read: list[tuple[str, str]] = []

    def get(self, name: str, *, generation: str, **asked: int) -> Iterator[Buffer]:
        self.read.append((name, generation))
        yield from super().get(name, generation=generation, **asked)


class CachedMachine(RuleBasedStateMachine):
    references = Bundle("references")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir=MEMORY))

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    @initialize(max_bytes=st.sampled_from([0, 12, 26, 40]))
    def start(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.store = Reads(f"file://{self.root}/store")
        self.cached = Cached(self.store, max_bytes)
        #: What the store must hold, and what the cache must, the latest used last.
        self.objects: dict[str, tuple[Stored, bytes]] = {}
        self.held: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    @rule(target=references, name=NAMES, data=DATA, pieces=st.integers(1, 3))
    def put(self, name: str, data: bytes, pieces: int) -> tuple[str, Stored]:
        size = max(1, -(-len(data) // pieces))
        chunks = [data[i : i + size] for i in range(0, len(data), size)]
        if name in self.objects:
            with pytest.raises(StoreError):
                self.cached.create(name, lambda: chunks, {})
        else:
            self.objects[name] = (self.cached.create(name, lambda: chunks, {}), data)
        return name, self.objects[name][0]

    @rule(reference=references)
    def get(self, reference: tuple[str, Stored]) -> None:
        name, stored = reference
        key = name, stored.generation
        self.store.read.clear()
        if key in self.held:
            assert self._read(name, stored) == self.held[key]
            assert self.store.read == []
            self.held.move_to_end(key)
        elif name not in self.objects:
            with pytest.raises(ObjectNotFound):
                self._read(name, stored)
        elif self._described(name) != (stored.length_bytes, stored.crc32c):
            with pytest.raises(Damaged):
                self._read(name, stored)
        else:
            data = self.objects[name][1]
            assert self._read(name, stored) == data
            assert self.store.read == [key]
            if 0 < len(data) <= self.max_bytes:
                while sum(map(len, self.held.values())) + len(data) > self.max_bytes:
                    self.held.popitem(last=False)
                self.held[key] = data

    @rule(reference=references, change=st.sampled_from(["crc32c", "length"]))
    def get_what_is_not_there(self, reference: tuple[str, Stored], change: str) -> None:
        name, stored = reference
        wrong = Stored(
            stored.generation,
            stored.length_bytes + (change == "length"),
            stored.crc32c ^ (change == "crc32c"),
        )
        with pytest.raises((AuthenticationError, ObjectNotFound)):
            self._read(name, wrong)
        key = name, stored.generation
        # An object that is held counts as used, if it was looked at.
        if key in self.held and wrong.length_bytes <= self.max_bytes:
            self.held.move_to_end(key)

    @rule(reference=consumes(references))
    def delete(self, reference: tuple[str, Stored]) -> None:
        name, stored = reference
        self.cached.delete(name, generation=stored.generation)
        for key in [key for key in self.held if key[0] == name]:
            del self.held[key]
        if name in self.objects and self.objects[name][0] == stored:
            del self.objects[name]

    @rule(name=NAMES)
    def delete_behind_its_back(self, name: str) -> None:
        if name in self.objects:
            self.store.delete(name, generation=self.objects.pop(name)[0].generation)

    @precondition(lambda self: self.held)
    @rule()
    def fork(self) -> None:
        self.cached.forget()
        self.held.clear()

    def _described(self, name: str) -> tuple[int, int]:
        live = self.objects[name][0]
        return live.length_bytes, live.crc32c

    def _read(self, name: str, stored: Stored) -> bytes:
        return b"".join(
            self.cached.get(
                name,
                generation=stored.generation,
                length_bytes=stored.length_bytes,
                crc32c=stored.crc32c,
            )
        )

    @invariant()
    def the_cache_holds_what_the_model_holds(self) -> None:
        # Not by `items`, which would count as a use of each.
        objects = {key: Cache.__getitem__(self.cached._held, key) for key in self.cached._held}
        held = {key: b"".join(value.blocks) for key, value in objects.items()}
        assert held == self.held
        assert self.cached.held_bytes == sum(map(len, held.values())) <= self.max_bytes

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        root = self.root / "store"
        lies = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
        assert lies == set(self.objects)


TestCachedMachine = CachedMachine.TestCase
# Files are synced, which may take its time.
TestCachedMachine.settings = settings(deadline=None, max_examples=200)
