"""What the read cache does with threads, failures and forks; `property/` has its state machine."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from secure_xcom.errors import AuthenticationError, ObjectNotFound, StoreUnavailable
from secure_xcom.layers.cached import Cached
from secure_xcom.model import Buffer
from secure_xcom.stores.file import Directory
from secure_xcom.stores.protocol import Stored

NAME = "dag/run/task/-1/key/token"


class Slow:
    """A store that counts, waits where it is told, and fails when it is told."""

    def __init__(self, store: Directory) -> None:
        self._store = store
        self.uri = store.uri
        self.gets = 0
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.failures: list[BaseException] = []

    def create(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        metadata: Mapping[str, str],
    ) -> Stored:
        return self._store.create(name, make_chunks, metadata)

    def get(self, name: str, **asked: object) -> Iterator[Buffer]:
        self.gets += 1
        self.started.set()
        assert self.go_on.wait(10)
        blocks = list(self._store.get(name, **asked))
        yield blocks[0][:1]
        if self.failures:
            raise self.failures.pop()
        yield blocks[0][1:]
        yield from blocks[1:]

    def delete(self, name: str, *, generation: str) -> bool:
        return self._store.delete(name, generation=generation)


@pytest.fixture
def below(tmp_path: Path) -> Slow:
    return Slow(Directory(f"file://{tmp_path}/store"))


def _get(store: Cached, stored: Stored, name: str = NAME, **changed: object) -> bytes:
    asked = {
        "generation": stored.generation,
        "length_bytes": stored.length_bytes,
        "crc32c": stored.crc32c,
    }
    return b"".join(store.get(name, **(asked | changed)))


def _held(cached: Cached) -> dict[tuple[str, str], bytes]:
    return {key: b"".join(value.blocks) for key, value in cached._held.items()}


def test_what_is_held_is_given_without_the_store(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    assert _held(cached) == {}
    for _ in range(3):
        assert _get(cached, stored) == b"sealed"
    assert below.gets == 1
    assert _held(cached) == {(NAME, stored.generation): b"sealed"}
    assert cached.held_bytes == 6


@pytest.mark.parametrize(("max_bytes", "held_bytes"), [(0, 0), (5, 0), (6, 6)])
def test_what_is_longer_than_the_bound_passes_through(below: Slow, max_bytes: int, held_bytes: int):
    cached = Cached(below, max_bytes)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    for _ in range(2):
        assert _get(cached, stored) == b"sealed"
    assert below.gets == (1 if held_bytes else 2)
    assert cached.held_bytes == held_bytes


def test_what_passes_through_is_not_collected_first(below: Slow):
    cached = Cached(below, 5)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.failures.append(StoreUnavailable("later"))
    blocks = cached.get(NAME, generation=stored.generation, length_bytes=6, crc32c=stored.crc32c)
    assert next(blocks) == b"s"
    with pytest.raises(StoreUnavailable):
        next(blocks)


def test_what_was_used_least_lately_gives_way(below: Slow):
    cached = Cached(below, 10)
    stored = {name: cached.create(name, partial(list, [name.encode() * 4]), {}) for name in "abc"}
    for name in "aba":
        _get(cached, stored[name], name)
    _get(cached, stored["c"], "c")
    assert sorted(_held(cached).values()) == [b"aaaa", b"cccc"]
    assert cached.held_bytes == 8


def test_a_failure_is_not_held_and_neither_is_its_beginning(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.failures.append(StoreUnavailable("out of reach"))
    with pytest.raises(StoreUnavailable):
        _get(cached, stored)
    assert _held(cached) == {}
    assert _get(cached, stored) == b"sealed"


def test_nothing_is_given_out_before_all_is_there(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.failures.append(StoreUnavailable("out of reach"))
    blocks = cached.get(NAME, generation=stored.generation, length_bytes=6, crc32c=stored.crc32c)
    with pytest.raises(StoreUnavailable):
        next(blocks)


def test_a_wrong_reference_is_refused_although_the_object_is_held(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    _get(cached, stored)
    with pytest.raises(AuthenticationError):
        _get(cached, stored, crc32c=stored.crc32c ^ 1)
    with pytest.raises(AuthenticationError):
        _get(cached, stored, length_bytes=5)
    assert below.gets == 1


def _threads(count: int, work: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _waiting(cached: Cached) -> bool:
    """Whether a fetch is under way."""
    return bool(cached._fetches._flights)


def test_many_who_ask_at_once_cause_one_fetch(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.go_on.clear()
    results: list[bytes] = []
    threads = _threads(8, lambda: results.append(_get(cached, stored)))
    assert below.started.wait(5)
    time.sleep(0.05)
    below.go_on.set()
    for thread in threads:
        thread.join(10)
    assert results == [b"sealed"] * 8
    assert below.gets == 1


def test_an_error_reaches_all_who_wait_and_nobody_after(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.go_on.clear()
    below.failures.append(StoreUnavailable("out of reach"))
    errors: list[BaseException] = []

    def read() -> None:
        try:
            _get(cached, stored)
        except StoreUnavailable as error:
            errors.append(error)

    threads = _threads(4, read)
    assert below.started.wait(5)
    time.sleep(0.05)
    below.go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 4
    assert below.gets == 1
    assert _get(cached, stored) == b"sealed"


def test_an_interrupted_fetch_leaves_nobody_waiting(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.failures.append(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        _get(cached, stored)
    assert not _waiting(cached)
    assert _get(cached, stored) == b"sealed"


def test_a_reader_that_stops_half_way_holds_nobody_up(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    blocks = cached.get(NAME, generation=stored.generation, length_bytes=6, crc32c=stored.crc32c)
    next(blocks)
    assert _get(cached, stored) == b"sealed"
    assert b"".join(blocks) == b"ealed"


def test_what_is_deleted_while_it_is_fetched_is_not_held(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.go_on.clear()
    results: list[object] = []

    def read() -> None:
        try:
            results.append(_get(cached, stored))
        except ObjectNotFound:
            results.append("gone")

    [thread] = _threads(1, read)
    assert below.started.wait(5)
    cached.delete(NAME, generation=stored.generation)
    below.go_on.set()
    thread.join(10)
    assert results == ["gone"]
    assert _held(cached) == {}


def test_what_was_fetched_before_a_deletion_is_not_held_after_it(below: Slow, tmp_path: Path):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    below.go_on.clear()
    results: list[bytes] = []
    [thread] = _threads(1, lambda: results.append(_get(cached, stored)))
    assert below.started.wait(5)
    # The store deletes only after it has given the object away.
    path = tmp_path / "store" / NAME
    path.rename(tmp_path / "kept")
    cached.delete(NAME, generation=stored.generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kept").rename(path)
    below.go_on.set()
    thread.join(10)
    assert results == [b"sealed"]
    assert _held(cached) == {}


def test_a_deletion_that_fails_drops_what_is_held(below: Slow, monkeypatch: pytest.MonkeyPatch):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    _get(cached, stored)

    def fail(_name: str, *, generation: str) -> None:
        raise StoreUnavailable(f"generation {generation}")

    monkeypatch.setattr(below, "delete", fail)
    with pytest.raises(StoreUnavailable):
        cached.delete(NAME, generation=stored.generation)
    assert _held(cached) == {}
    assert _get(cached, stored) == b"sealed"


def test_what_was_read_in_the_place_of_another_generation_goes_with_it(below: Slow, tmp_path: Path):
    cached = Cached(below, 100)
    stored, other = (cached.create(name, lambda: [b"sealed"], {}) for name in (NAME, "other"))
    path = tmp_path / "store" / NAME
    path.unlink()
    path.write_bytes(b"sealed")
    assert _get(cached, stored) == _get(cached, other, "other") == b"sealed"
    restored = str(path.stat().st_mtime_ns)
    assert restored != stored.generation
    assert cached.delete(NAME, generation=restored)
    assert list(_held(cached)) == [("other", other.generation)]
    with pytest.raises(ObjectNotFound):
        _get(cached, stored)


def test_generations_are_kept_apart(below: Slow):
    cached = Cached(below, 100)
    first = cached.create(NAME, lambda: [b"first"], {})
    assert _get(cached, first) == b"first"
    below.delete(NAME, generation=first.generation)
    second = cached.create(NAME, lambda: [b"second"], {})
    assert _get(cached, second) == b"second"
    assert _get(cached, first) == b"first"
    assert cached.held_bytes == 11


def test_a_child_starts_with_nothing_and_with_no_lock_taken(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    _get(cached, stored)
    with cached._fetches._lock:
        child = os.fork()
        if not child:
            ok = _held(cached) == {} and _get(cached, stored) == b"sealed" and below.gets == 2
            os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert _held(cached) == {(NAME, stored.generation): b"sealed"}


def test_a_cache_that_nobody_has_is_let_go(below: Slow):
    cached = Cached(below, 100)
    stored = cached.create(NAME, lambda: [b"sealed"], {})
    _get(cached, stored)
    held = cached._held
    del cached
    gc.collect()
    assert len(gc.get_referrers(held)) <= 1
