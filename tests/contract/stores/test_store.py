"""What every store does, and every layer that is one; looked at around the store under test."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import pytest

from secure_xcom.errors import (
    AuthenticationError,
    FormatError,
    GenerationMismatch,
    ObjectNotFound,
    StoreError,
)
from secure_xcom.layers.cached import Cached
from secure_xcom.stores.file import Directory
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.stores.protocol import Store, Stored

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


def _get(store: Store, name: str, stored: Stored, **changed: object) -> bytes:
    asked = {
        "generation": stored.generation,
        "length_bytes": stored.length_bytes,
        "crc32c": stored.crc32c,
    }
    return b"".join(store.get(name, **(asked | changed)))


@pytest.mark.parametrize("how", ["list", "generator"])
@pytest.mark.parametrize("size", SIZES)
def test_what_was_put_lies_there_and_comes_back(bench: Bench, size: int, how: str):
    data = _random(size)
    chunks = _cut(data, MIB)
    stored = bench.store.put(NAME, list(chunks) if how == "list" else chunks, METADATA)
    assert bench.names() == [NAME]
    assert bench.read(NAME) == data
    assert stored.length_bytes == size
    assert stored.crc32c == google_crc32c.value(data)
    assert stored.generation.isdecimal()
    assert 1 <= len(stored.generation) <= 20
    for _ in range(2):
        assert _get(bench.store, NAME, stored) == data
    bench.store.delete(NAME, generation=stored.generation)
    assert bench.names() == []


@pytest.mark.parametrize("name", NAMES)
def test_names_stand_for_themselves(bench: Bench, name: str):
    stored = bench.store.put(name, [b"content"], METADATA)
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
        bench.store.put(name, [b"content"], METADATA)
    with pytest.raises(FormatError):
        list(bench.store.get(name, generation="1", length_bytes=1, crc32c=0))
    with pytest.raises(FormatError):
        bench.store.delete(name, generation="1")


def test_chunks_of_every_kind_and_size(bench: Bench):
    data = _random(300_000)
    buffer = bytearray(1000)

    def reused() -> Iterator[memoryview]:
        for piece in _cut(data, 1000):
            buffer[:] = piece
            yield memoryview(buffer)

    stored = bench.store.put(NAME, reused(), METADATA)
    assert bench.read(NAME) == data == _get(bench.store, NAME, stored)
    tiny = [b"", bytearray(b"a"), memoryview(b"bc"), b"", b"d" * 9 * MIB, b""]
    stored = bench.store.put("other", tiny, METADATA)
    assert bench.read("other") == b"abc" + b"d" * 9 * MIB == _get(bench.store, "other", stored)


@pytest.mark.parametrize("size", [10, 9 * MIB])
@pytest.mark.parametrize("how", ["list", "generator"])
def test_a_name_is_written_once(bench: Bench, size: int, how: str):
    first = bench.store.put(NAME, [b"first"], METADATA)
    again = [b"x" * size]
    with pytest.raises(GenerationMismatch, match="exists"):
        bench.store.put(NAME, again if how == "list" else iter(again), METADATA)
    assert bench.names() == [NAME]
    assert bench.read(NAME) == b"first"
    assert _get(bench.store, NAME, first) == b"first"


def test_two_who_write_one_name_at_once_do_not_mix(bench: Bench):
    outcomes: list[Stored | StoreError] = []
    barrier = threading.Barrier(4)

    def write(value: int) -> None:
        barrier.wait()
        try:
            outcomes.append(bench.store.put(NAME, [bytes([value]) * 1000], METADATA))
        except GenerationMismatch as error:
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


@pytest.mark.parametrize("how", ["list", "generator"])
@pytest.mark.parametrize("after", [0, 3, 12])
@pytest.mark.parametrize("error", [BoomError(), OSError(28, "no space")])
def test_chunks_that_fail_leave_nothing_and_their_error_comes_out(
    bench: Bench, after: int, how: str, error: Exception
):
    class Failing:
        def __iter__(self) -> Iterator[bytes]:
            yield from (b"x" * MIB for _ in range(after))
            raise error

    with pytest.raises(type(error)) as caught:
        bench.store.put(NAME, Failing() if how == "list" else iter(Failing()), METADATA)
    assert caught.value is error
    assert bench.names() == []
    stored = bench.store.put(NAME, [b"later"], METADATA)
    assert _get(bench.store, NAME, stored) == b"later"


def test_an_interrupt_leaves_nothing(bench: Bench):
    def interrupted() -> Iterator[bytes]:
        yield from (b"x" * MIB for _ in range(12))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.store.put(NAME, interrupted(), METADATA)
    assert bench.names() == []


def test_a_missing_object(bench: Bench):
    stored = bench.store.put(NAME, [b"content"], METADATA)
    with pytest.raises(ObjectNotFound, match="no object"):
        _get(bench.store, "dag/run/task/-1/return_value/other", stored)
    with pytest.raises(StoreError):
        _get(bench.store, NAME + "/below", stored)
    bench.remove(NAME)
    with pytest.raises(ObjectNotFound, match="no object"):
        _get(bench.store, NAME, stored)


def test_a_store_that_was_never_written_to(bench: Bench):
    bench.store.delete(NAME, generation="1")
    with pytest.raises(StoreError):
        list(bench.store.get(NAME, generation="1", length_bytes=1, crc32c=0))


def test_a_generation_is_pinned(bench: Bench):
    stored = bench.store.put(NAME, [b"content"], METADATA)
    bench.overwrite(NAME, b"content")
    with pytest.raises(GenerationMismatch, match="replaced"):
        _get(bench.store, NAME, stored)
    bench.store.delete(NAME, generation=stored.generation)
    assert bench.read(NAME) == b"content"


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_a_reference_that_says_otherwise(bench: Bench, size: int):
    data = _random(size)
    stored = bench.store.put(NAME, [data], METADATA)
    other = str(int(stored.generation) + 1)
    for _ in range(2):
        with pytest.raises(GenerationMismatch):
            _get(bench.store, NAME, stored, generation=other)
        for changed in (
            {"length_bytes": size - 1},
            {"length_bytes": size + 1},
            {"length_bytes": 0},
            {"crc32c": stored.crc32c ^ 1},
            {"length_bytes": size - 1, "crc32c": google_crc32c.value(data[:-1])},
        ):
            with pytest.raises(AuthenticationError):
                _get(bench.store, NAME, stored, **changed)
        # What was refused leaves no trace; then the same with the object held.
        assert _get(bench.store, NAME, stored) == data


@pytest.mark.parametrize("size", [1000, 5 * MIB])
def test_no_more_is_given_out_than_the_reference_says(bench: Bench, size: int):
    stored = bench.store.put(NAME, [b"x" * size], METADATA)
    given: list[bytes] = []
    with pytest.raises(AuthenticationError):
        given.extend(
            bench.store.get(NAME, generation=stored.generation, length_bytes=size // 2, crc32c=0)
        )
    assert sum(map(len, given)) <= size // 2


def test_a_deletion_is_safe_to_repeat_and_spares_others(bench: Bench):
    one = bench.store.put("a/b/c/-1/k/1", [b"one"], METADATA)
    two = bench.store.put("a/b/c/-1/k/2", [b"two"], METADATA)
    assert _get(bench.store, "a/b/c/-1/k/1", one) == b"one"
    for _ in range(2):
        bench.store.delete("a/b/c/-1/k/1", generation=one.generation)
    assert bench.names() == ["a/b/c/-1/k/2"]
    with pytest.raises(ObjectNotFound):
        _get(bench.store, "a/b/c/-1/k/1", one)
    assert _get(bench.store, "a/b/c/-1/k/2", two) == b"two"


def test_a_name_can_be_written_again_once_it_is_deleted(bench: Bench):
    first = bench.store.put(NAME, [b"first"], METADATA)
    assert _get(bench.store, NAME, first) == b"first"
    bench.store.delete(NAME, generation=first.generation)
    second = bench.store.put(NAME, [b"other"], METADATA)
    assert second.generation != first.generation
    with pytest.raises(GenerationMismatch):
        _get(bench.store, NAME, first)
    assert _get(bench.store, NAME, second) == b"other"


def test_reads_side_by_side(bench: Bench):
    data = {f"a/{index}": _random(100_000 + index) for index in range(12)}
    stored = {name: bench.store.put(name, [content], METADATA) for name, content in data.items()}
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
    stored = bench.store.put(NAME, [data], METADATA)
    blocks = bench.store.get(
        NAME, generation=stored.generation, length_bytes=len(data), crc32c=stored.crc32c
    )
    assert data.startswith(bytes(next(blocks)))
    blocks.close()
    assert _get(bench.store, NAME, stored) == data


def test_blocks_are_small(bench: Bench):
    data = _random(12 * MIB)
    stored = bench.store.put(NAME, [data], METADATA)
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
    stored = {name: bench.store.put(name, [name.encode()], METADATA) for name in names}
    for folder in ("d/r/t/-1/k/", "d/r/", "d/", "d/r/t/-1/k2/", "none/", "d/r2/t/-1/k/a/"):
        assert dict(bench.store.objects(folder)) == {
            name: one for name, one in stored.items() if name.startswith(folder)
        }
    with pytest.raises(FormatError):
        list(bench.store.objects("../"))
