"""What every store does, and every layer that is one; looked at around the store under test."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import pytest

from secure_xcom.errors import (
    AuthenticationError,
    FormatError,
    ObjectNotFound,
    StoreError,
)
from secure_xcom.layers.cached import Cached
from secure_xcom.stores.file import Directory
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.stores.protocol import Damaged, Store, Stored

MIB = 1_048_576
METADATA = {"secure-xcom": "1", "kek": "local-kek:///k"}
NAME = "dag/run/task/-1/return_value/00112233445566778899aabbccddeeff"
SIZES = [
    0,
    1,
    256 * 1024 - 1,
    256 * 1024,
    256 * 1024 + 1,
    8 * MIB - 1,
    8 * MIB,
    8 * MIB + 1,
    16 * MIB,
    20 * MIB,
]
NAMES = [
    NAME,
    "a/b/c/-1/~/0",
    "%2E./%2E/%25/0/%7E/x",
    "%C3%A9/a%2Fb/a%5Cb/7/a%20b%0A/x",
    "/".join(["x" * 115 + "~" + "0" * 64] * 4) + "/2147483647/" + "f" * 32,
    "alone",
]


@dataclass
class Bench:
    """A store under test, and how to look at and meddle with what truly lies in it."""

    store: Store
    names: Callable[[], list[str]]
    read: Callable[[str], bytes]
    overwrite: Callable[[str, bytes], None]
    remove: Callable[[str], None]


@pytest.fixture(params=["file", "gcs", "cached-file", "cached-gcs", "uncached-file"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    layer, _, kind = request.param.rpartition("-")
    bench = _file(tmp_path) if kind == "file" else _gcs(request)
    if layer:
        # Large objects pass the cache by, small ones do not.
        bench.store = Cached(bench.store, 4 * MIB if layer == "cached" else 0)
    return bench


def _file(tmp_path: Path) -> Bench:
    root = tmp_path / "store"

    def overwrite(name: str, data: bytes) -> None:
        (root / name).unlink()
        (root / name).write_bytes(data)

    return Bench(
        Directory(f"file://{root}"),
        lambda: sorted(
            str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()
        ),
        lambda name: (root / name).read_bytes(),
        overwrite,
        lambda name: (root / name).unlink(),
    )


def _gcs(request: pytest.FixtureRequest) -> Bench:
    server = request.getfixturevalue("gcs_server")
    proxy = request.getfixturevalue("gcs_proxy")
    bucket = request.getfixturevalue("bucket")
    return Bench(
        Gcs(f"gs://{bucket}/some/prefix", make_client=proxy.make_client),
        lambda: [name.removeprefix("some/prefix/") for name in server.names(bucket)],
        lambda name: server.read(bucket, f"some/prefix/{name}"),
        lambda name, data: server.write(bucket, f"some/prefix/{name}", data),
        lambda name: server.delete(bucket, f"some/prefix/{name}"),
    )


def _random(count: int) -> bytes:
    return os.urandom(count)


def _cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


def _made(data: bytes) -> Callable[[], list[bytes]]:
    return lambda: [data]


def _get(store: Store, name: str, stored: Stored, **changed: object) -> bytes:
    asked = {
        "generation": stored.generation,
        "length_bytes": stored.length_bytes,
        "crc32c": stored.crc32c,
    }
    return b"".join(store.get(name, **(asked | changed)))


def _written(bench: Bench, how: str, name: str, data: bytes) -> Stored:
    if how == "create":
        return bench.store.create(name, lambda: _cut(data, MIB), METADATA)
    return bench.store.replace(name, list(_cut(data, MIB)), METADATA)


@pytest.mark.parametrize("how", ["create", "replace"])
@pytest.mark.parametrize("size", SIZES)
def test_what_was_written_lies_there_and_comes_back(bench: Bench, size: int, how: str):
    data = _random(size)
    stored = _written(bench, how, NAME, data)
    assert bench.names() == [NAME]
    assert bench.read(NAME) == data
    assert stored.length_bytes == size
    assert stored.crc32c == google_crc32c.value(data)
    assert stored.generation.isdecimal()
    assert 1 <= len(stored.generation) <= 20
    for _ in range(2):
        assert _get(bench.store, NAME, stored) == data
    assert bench.store.find(NAME) == stored
    found, chunks = bench.store.fetch(NAME)
    assert (found, b"".join(chunks)) == (stored, data)
    assert bench.store.delete(NAME, generation=stored.generation) is True
    assert bench.names() == []
    assert bench.store.find(NAME) is None


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_themselves(bench: Bench, name: str):
    stored = bench.store.create(name, lambda: [b"content"], METADATA)
    assert bench.names() == [name]
    assert bench.read(name) == b"content"
    assert _get(bench.store, name, stored) == b"content"
    bench.store.delete(name, generation=stored.generation)
    assert bench.names() == []


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../x", "a/../../x", "/etc/passwd", "a//b", ".x", "a/.x", "a b", "x" * 801],
)
def test_names_that_could_leave_the_store_are_refused(bench: Bench, name: str):
    with pytest.raises(FormatError):
        bench.store.create(name, lambda: [b"content"], METADATA)
    with pytest.raises(FormatError):
        list(bench.store.get(name, generation="1", length_bytes=1, crc32c=0))
    with pytest.raises(FormatError):
        bench.store.delete(name, generation="1")
    with pytest.raises(FormatError):
        bench.store.replace(name, [b"content"], METADATA)
    with pytest.raises(FormatError):
        bench.store.fetch(name)
    with pytest.raises(FormatError):
        bench.store.find(name)


def test_chunks_of_every_kind_and_size(bench: Bench):
    data = _random(300_000)
    buffer = bytearray(1000)

    def reused() -> Iterator[memoryview]:
        for piece in _cut(data, 1000):
            buffer[:] = piece
            yield memoryview(buffer)

    stored = bench.store.create(NAME, reused, METADATA)
    assert bench.read(NAME) == data == _get(bench.store, NAME, stored)
    tiny = [b"", bytearray(b"a"), memoryview(b"bc"), b"", b"d" * 9 * MIB, b""]
    stored = bench.store.create("other", lambda: tiny, METADATA)
    assert bench.read("other") == b"abc" + b"d" * 9 * MIB == _get(bench.store, "other", stored)


@pytest.mark.parametrize("size", [10, 9 * MIB])
def test_a_name_is_created_once(bench: Bench, size: int):
    first = bench.store.create(NAME, lambda: [b"first"], METADATA)
    with pytest.raises(StoreError, match="exists"):
        bench.store.create(NAME, lambda: [b"x" * size], METADATA)
    assert bench.names() == [NAME]
    assert bench.read(NAME) == b"first"
    assert _get(bench.store, NAME, first) == b"first"


def test_of_those_who_create_one_name_at_once_one_does(bench: Bench):
    outcomes: list[Stored | StoreError] = []
    barrier = threading.Barrier(4)

    def write(value: int) -> None:
        barrier.wait()
        try:
            outcomes.append(bench.store.create(NAME, lambda: [bytes([value]) * 1000], METADATA))
        except StoreError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=write, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [stored] = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    assert len(outcomes) == 4
    data = bench.read(NAME)
    assert data == data[:1] * 1000
    assert google_crc32c.value(data) == stored.crc32c
    assert bench.names() == [NAME]


class BoomError(Exception):
    pass


@pytest.mark.parametrize("how", ["maker", "chunks"])
@pytest.mark.parametrize("after", [0, 3, 12])
@pytest.mark.parametrize("error", [BoomError(), OSError(28, "no space")])
def test_chunks_that_fail_leave_nothing_and_their_error_comes_out(
    bench: Bench, after: int, how: str, error: Exception
):
    def chunks() -> Iterator[bytes]:
        yield from (b"x" * MIB for _ in range(after))
        raise error

    def fail() -> Iterator[bytes]:
        raise error

    with pytest.raises(type(error)) as caught:
        bench.store.create(NAME, fail if how == "maker" else chunks, METADATA)
    assert caught.value is error
    assert bench.names() == []
    stored = bench.store.create(NAME, lambda: [b"later"], METADATA)
    assert _get(bench.store, NAME, stored) == b"later"


def test_an_interrupt_leaves_nothing(bench: Bench):
    def interrupted() -> Iterator[bytes]:
        yield from (b"x" * MIB for _ in range(12))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.create(NAME, interrupted, METADATA)
    assert bench.names() == []


def test_a_missing_object(bench: Bench):
    stored = bench.store.create(NAME, lambda: [b"content"], METADATA)
    other = "dag/run/task/-1/return_value/other"
    with pytest.raises(ObjectNotFound, match="no object"):
        _get(bench.store, other, stored)
    with pytest.raises(ObjectNotFound, match="no object"):
        bench.store.fetch(other)
    assert bench.store.find(other) is None
    with pytest.raises(StoreError):
        _get(bench.store, NAME + "/below", stored)
    bench.remove(NAME)
    with pytest.raises(ObjectNotFound, match="no object"):
        _get(bench.store, NAME, stored)


def test_a_store_that_was_never_written_to(bench: Bench):
    assert bench.store.delete(NAME, generation="1") is False
    assert bench.store.find(NAME) is None
    assert list(bench.store.objects("folder/")) == []
    with pytest.raises(ObjectNotFound):
        bench.store.fetch(NAME)
    with pytest.raises(StoreError):
        list(bench.store.get(NAME, generation="1", length_bytes=1, crc32c=0))


@pytest.mark.parametrize("size", [7, 5 * MIB])
def test_where_the_generation_is_gone_the_same_bytes_will_do(bench: Bench, size: int):
    data = _random(size)
    stored = bench.store.create(NAME, lambda: [data], METADATA)
    bench.overwrite(NAME, data)
    found = bench.store.find(NAME)
    assert found is not None
    assert found.generation != stored.generation
    for _ in range(2):
        assert _get(bench.store, NAME, stored) == data
    # A deletion goes by the generation alone.
    assert bench.store.delete(NAME, generation=stored.generation) is False
    assert bench.read(NAME) == data
    assert bench.store.delete(NAME, generation=found.generation) is True
    with pytest.raises(ObjectNotFound):
        _get(bench.store, NAME, stored)


@pytest.mark.parametrize("other", [b"other!!", b"longer than it was", b"", b"short"])
def test_where_the_generation_is_gone_other_bytes_will_not_do(bench: Bench, other: bytes):
    stored = bench.store.create(NAME, lambda: [b"content"], METADATA)
    bench.overwrite(NAME, other)
    with pytest.raises(Damaged):
        _get(bench.store, NAME, stored)


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_a_reference_that_says_otherwise(bench: Bench, size: int):
    data = _random(size)
    stored = bench.store.create(NAME, lambda: [data], METADATA)
    for _ in range(2):
        for changed in (
            {"length_bytes": size - 1},
            {"length_bytes": size + 1},
            {"length_bytes": 0},
            {"crc32c": stored.crc32c ^ 1},
            {"length_bytes": size - 1, "crc32c": google_crc32c.value(data[:-1])},
        ):
            with pytest.raises(Damaged):
                _get(bench.store, NAME, stored, **changed)
        # What was refused leaves no trace; then the same with the object held.
        assert _get(bench.store, NAME, stored) == data


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_no_more_is_given_out_than_the_reference_says(bench: Bench, size: int):
    stored = bench.store.create(NAME, lambda: [b"x" * size], METADATA)
    given: list[bytes] = []
    with pytest.raises(AuthenticationError):
        given.extend(
            bench.store.get(NAME, generation=stored.generation, length_bytes=size // 2, crc32c=0)
        )
    assert sum(map(len, given)) <= size // 2


def test_a_deletion_is_safe_to_repeat_and_spares_others(bench: Bench):
    one = bench.store.create("a/b/c/-1/k/1", lambda: [b"one"], METADATA)
    two = bench.store.create("a/b/c/-1/k/2", lambda: [b"two"], METADATA)
    assert _get(bench.store, "a/b/c/-1/k/1", one) == b"one"
    assert bench.store.delete("a/b/c/-1/k/1", generation=two.generation + "1") is False
    assert bench.store.delete("a/b/c/-1/k/1", generation=one.generation) is True
    assert bench.store.delete("a/b/c/-1/k/1", generation=one.generation) is False
    assert bench.names() == ["a/b/c/-1/k/2"]
    with pytest.raises(ObjectNotFound):
        _get(bench.store, "a/b/c/-1/k/1", one)
    assert _get(bench.store, "a/b/c/-1/k/2", two) == b"two"


def test_a_name_can_be_written_again_once_it_is_deleted(bench: Bench):
    first = bench.store.create(NAME, lambda: [b"first"], METADATA)
    assert _get(bench.store, NAME, first) == b"first"
    bench.store.delete(NAME, generation=first.generation)
    second = bench.store.create(NAME, lambda: [b"other"], METADATA)
    assert second.generation != first.generation
    with pytest.raises(Damaged):
        _get(bench.store, NAME, first)
    assert _get(bench.store, NAME, second) == b"other"


def test_reads_side_by_side(bench: Bench):
    data = {f"a/{index}": _random(100_000 + index) for index in range(12)}
    stored = {
        name: bench.store.create(name, _made(content), METADATA) for name, content in data.items()
    }
    results: dict[tuple[str, int], bytes] = {}

    def read(name: str, turn: int) -> None:
        results[name, turn] = _get(bench.store, name, stored[name])

    threads = [
        threading.Thread(target=read, args=(name, turn)) for name in data for turn in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {(name, turn): data[name] for name in data for turn in range(3)}


def test_a_read_may_be_given_up(bench: Bench):
    data = _random(6 * MIB)
    stored = bench.store.create(NAME, lambda: [data], METADATA)
    blocks = bench.store.get(
        NAME, generation=stored.generation, length_bytes=len(data), crc32c=stored.crc32c
    )
    assert data.startswith(bytes(next(blocks)))
    blocks.close()
    assert _get(bench.store, NAME, stored) == data


def test_blocks_are_small(bench: Bench):
    data = _random(12 * MIB)
    stored = bench.store.create(NAME, lambda: [data], METADATA)
    blocks = list(
        bench.store.get(
            NAME, generation=stored.generation, length_bytes=len(data), crc32c=stored.crc32c
        )
    )
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= MIB


def test_a_store_says_what_it_is_and_nothing_more(bench: Bench):
    assert bench.store.uri in repr(bench.store)
    assert not bench.store.uri.endswith("/")


def test_a_folder_lists_its_objects_and_no_others(bench: Bench) -> None:
    names = ["d/r/t/-1/k/a", "d/r/t/-1/k/b", "d/r/t/-1/k2/a", "d/r2/t/-1/k/a"]
    stored = {name: bench.store.create(name, _made(name.encode()), METADATA) for name in names}
    for folder in ("d/r/t/-1/k/", "d/r/", "d/", "d/r/t/-1/k2/", "none/", "d/r2/t/-1/k/a/"):
        assert dict(bench.store.objects(folder)) == {
            name: one for name, one in stored.items() if name.startswith(folder)
        }
    with pytest.raises(FormatError):
        list(bench.store.objects("../"))


@pytest.mark.parametrize("size", [9, 9 * MIB])
def test_a_replacement_takes_the_place_of_the_former(bench: Bench, size: int):
    first = bench.store.replace(NAME, [b"first"], METADATA)
    data = _random(size)
    second = bench.store.replace(NAME, [data[:4], memoryview(data)[4:]], METADATA)
    assert int(second.generation) > int(first.generation)
    assert bench.names() == [NAME]
    assert bench.read(NAME) == data
    assert bench.store.find(NAME) == second
    assert bench.store.delete(NAME, generation=first.generation) is False
    assert bench.read(NAME) == data


@pytest.mark.parametrize("size", [9, 9 * MIB])
def test_an_exchange_takes_the_place_of_one_generation_alone(bench: Bench, size: int):
    first = bench.store.replace(NAME, [b"first"], METADATA)
    data = _random(size)
    second = bench.store.exchange(NAME, [data[:4], data[4:]], METADATA, generation=first.generation)
    assert second is not None
    assert bench.store.find(NAME) == second
    assert bench.read(NAME) == data
    late = bench.store.exchange(NAME, [b"late"], METADATA, generation=first.generation)
    assert late is None
    assert (bench.names(), bench.read(NAME)) == ([NAME], data)
    assert bench.store.find(NAME) == second


def test_an_exchange_brings_nothing_back_that_was_deleted(bench: Bench):
    first = bench.store.replace(NAME, [b"first"], METADATA)
    bench.store.delete(NAME, generation=first.generation)
    late = bench.store.exchange(NAME, [b"late"], METADATA, generation=first.generation)
    assert late is None
    assert bench.names() == []


@pytest.mark.parametrize("length", [1, 1000, 3 * MIB])
def test_the_beginning_of_an_object_is_no_longer_than_was_asked(bench: Bench, length: int):
    data = _random(2 * MIB)
    bench.store.replace(NAME, [data], METADATA)
    start = bench.store.beginning(NAME, length)
    assert start == data[:length]
    bench.store.replace(NAME, [b""], METADATA)
    assert bench.store.beginning(NAME, length) == b""
    bench.remove(NAME)
    with pytest.raises(ObjectNotFound):
        bench.store.beginning(NAME, length)


def test_a_fetch_gives_one_object_while_another_takes_its_place(bench: Bench):
    data = _random(6 * MIB)
    first = bench.store.replace(NAME, [data], METADATA)
    stored, chunks = bench.store.fetch(NAME)
    start = bytes(next(chunks))
    bench.store.replace(NAME, [b"second"], METADATA)
    assert stored == first
    assert start + b"".join(chunks) == data
    assert b"".join(bench.store.fetch(NAME)[1]) == b"second"


def test_a_fetch_may_be_given_up(bench: Bench):
    bench.store.replace(NAME, [_random(6 * MIB)], METADATA)
    _, unused = bench.store.fetch(NAME)
    del unused
    _, chunks = bench.store.fetch(NAME)
    next(chunks)
    del chunks
    assert _written(bench, "replace", NAME, b"later").length_bytes == 5


def test_two_writers_of_one_name_while_the_clock_goes_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    clock = itertools.count(time.time_ns(), -1_000_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    written: list[tuple[int, bytes]] = []
    barrier = threading.Barrier(2)

    def write(writer: int) -> None:
        barrier.wait()
        for turn in range(5):
            data = f"writer {writer}, turn {turn}".encode()
            stored = bench.store.replace(NAME, [data], METADATA)
            written.append((int(stored.generation), data))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = bench.store.find(NAME)
    assert found is not None
    assert bench.names() == [NAME]
    # What stands there in the end is what was written last, by the order of generations.
    newest = max(generation for generation, _ in written)
    assert int(found.generation) == newest
    assert (newest, bench.read(NAME)) in written
    assert bench.read(NAME).endswith(b"turn 4")
    later = bench.store.replace(NAME, [b"later"], METADATA)
    assert int(later.generation) > newest


def test_a_listing_has_names_generations_and_times_by_the_stores_clock(bench: Bench):
    names = ["d/0a", "d/0b", "d/1a", "d/0/x", "e/0a"]
    before = bench.store.now() - 1
    stored = {name: bench.store.create(name, _made(name.encode()), METADATA) for name in names}
    after = bench.store.now() + 2

    def listed(beginning: str) -> list[str]:
        return sorted(entry.name for entry in bench.store.entries(beginning))

    assert listed("d/") == ["d/0/x", "d/0a", "d/0b", "d/1a"]
    assert listed("d/0") == ["d/0/x", "d/0a", "d/0b"]
    assert listed("d/0a") == ["d/0a"]
    assert listed("d/2") == listed("none/") == []
    for entry in bench.store.entries("d/"):
        assert entry.generation == stored[entry.name].generation
        assert before <= entry.created <= after
        assert entry.format_version in ("1", None)
    with pytest.raises(FormatError):
        list(bench.store.entries("../"))
    with pytest.raises(FormatError):
        list(bench.store.entries("d/.."))
