"""Where bodies go, and what becomes of those that lie in a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.layers.threshold import METADATA, Threshold
from secure_xcom.model import Offloaded
from secure_xcom.stores.file import Directory
from secure_xcom.stores.protocol import Stored

NAME = f"{'0' * 16}/{'a' * 64}"
OTHER = f"{'0' * 16}/{'b' * 64}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def _layer(root: Path, threshold_bytes: int = 0) -> Threshold:
    store = Directory(f"file://{root}")
    return Threshold({store.uri: store}, store.uri, threshold_bytes)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _put(layer: Threshold, body: bytes, name: str = NAME) -> Offloaded:
    placed = layer.put(name, lambda: iter([body]))
    assert isinstance(placed, Stored)
    return Offloaded(
        layer.store_uri, name, placed.generation, placed.length_bytes, placed.crc32c, b""
    )


@pytest.mark.parametrize(
    ("threshold_bytes", "length", "kind"),
    [
        (100, 99, bytes),
        (100, 100, Stored),
        (100, 101, Stored),
        (0, 0, Stored),
        (0, 1, Stored),
        (1, 0, bytes),
        (1, 1, Stored),
        (-1, 0, bytes),
        (-1, 3_000_000, bytes),
    ],
)
@pytest.mark.parametrize("piece", [1_000_000, 7])
def test_a_body_that_is_at_least_as_long_goes_to_the_store(
    root: Path, threshold_bytes: int, length: int, kind: type, piece: int
):
    if length > 1000 and piece == 7:
        piece = 100_000
    body = (bytes(range(256)) * (length // 256 + 1))[:length]
    layer = _layer(root, threshold_bytes)
    placed = layer.put(NAME, lambda: (body[i : i + piece] for i in range(0, length, piece)))
    assert type(placed) is kind
    if isinstance(placed, Stored):
        [path] = _files(root)
        assert path.read_bytes() == body
        assert str(path.relative_to(root)) == NAME
        assert placed.generation == str(path.stat().st_mtime_ns)
        assert placed.length_bytes == length
        assert placed.crc32c == google_crc32c.value(body)
    else:
        assert placed == body
        assert not root.exists()


def test_chunks_may_be_gone_once_the_next_is_asked_for(root: Path):
    def reused() -> Iterator[memoryview]:
        buffer = bytearray(10)
        for value in range(20):
            buffer[:] = bytes([value]) * 10
            yield memoryview(buffer)

    whole = b"".join(bytes([value]) * 10 for value in range(20))
    for number, threshold_bytes in enumerate((-1, 0, 95, 100, 200, 201)):
        placed = _layer(root, threshold_bytes).put(f"{'0' * 16}/{number:064x}", reused)
        if isinstance(placed, bytes):
            assert placed == whole
        else:
            assert (root / f"{'0' * 16}/{number:064x}").read_bytes() == whole
    assert len(_files(root)) == 4


def test_no_more_is_held_than_it_takes_to_decide(root: Path):
    events: list[str] = []

    def chunks() -> Iterator[bytes]:
        for index in range(5):
            events.append(f"made {index}")
            yield b"x" * 10

    class Watching(Directory):
        def create(self, *arguments: object) -> object:
            events.append("create")
            return super().create(*arguments)

    store = Watching(f"file://{root}")
    Threshold({store.uri: store}, store.uri, 15).put(NAME, chunks)
    assert events == ["made 0", "made 1", "create", "made 2", "made 3", "made 4"]


def test_each_attempt_of_the_store_gets_a_body_of_its_own(root: Path):
    made: list[bytes] = []

    def make_body() -> Iterator[bytes]:
        made.append(b"%d" % len(made) * 40)
        yield made[-1][:20]
        yield made[-1][20:]

    class AtTheThird(Directory):
        def create(self, name: str, make_chunks: object, metadata: dict[str, str]) -> Stored:
            attempts = [b"".join(make_chunks()) for _ in range(2)]
            assert attempts == made == [b"0" * 40, b"1" * 40]
            return super().create(name, make_chunks, metadata)

    store = AtTheThird(f"file://{root}")
    Threshold({store.uri: store}, store.uri, 10).put(NAME, make_body)
    assert (root / NAME).read_bytes() == b"2" * 40
    assert len(made) == 3


def test_what_an_object_shows_is_the_version_of_the_format(root: Path):
    assert METADATA == {"secure-xcom": "1"}
    shown: list[dict[str, str]] = []

    class Watching(Directory):
        def create(self, name: str, make_chunks: object, metadata: dict[str, str]) -> Stored:
            shown.append(metadata)
            return super().create(name, make_chunks, metadata)

    store = Watching(f"file://{root}")
    Threshold({store.uri: store}, store.uri, 0).put(NAME, lambda: iter([b"1"]))
    assert shown == [METADATA]


def test_an_object_is_never_replaced(root: Path):
    layer = _layer(root)
    one = _put(layer, b"1")
    with pytest.raises(StoreError):
        _put(layer, b"2")
    assert b"".join(layer.get(one)) == b"1"


def test_a_store_that_is_not_trusted_is_not_touched(root: Path, tmp_path: Path):
    foreign = Directory(f"file://{tmp_path}/foreign")
    theirs = _put(Threshold({foreign.uri: foreign}, foreign.uri, 0), b"theirs")
    layer = _layer(root)
    for uri in (foreign.uri, f"file://{root}/", f"FILE://{root}", f"file://{root}/../foreign", ""):
        with pytest.raises(ConfigError, match="trusted_stores"):
            list(layer.get(replace(theirs, store_uri=uri)))
        with pytest.raises(ConfigError, match="trusted_stores"):
            layer.delete(replace(theirs, store_uri=uri))
    assert (tmp_path / "foreign" / NAME).read_bytes() == b"theirs"


def test_a_store_that_is_trusted_is_read_and_not_written(root: Path, tmp_path: Path):
    old, new = Directory(f"file://{tmp_path}/old"), Directory(f"file://{root}")
    before = _put(Threshold({old.uri: old}, old.uri, 0), b"1")
    layer = Threshold({new.uri: new, old.uri: old}, new.uri, 0)
    assert b"".join(layer.get(before)) == b"1"
    _put(layer, b"2")
    assert (root / NAME).read_bytes() == b"2"
    assert (tmp_path / "old" / NAME).read_bytes() == b"1"


def test_a_name_that_could_leave_the_store_is_refused(root: Path):
    layer = _layer(root)
    good = _put(layer, b"1")
    for name in ("", "../store2/x", "/etc/passwd", "a/../b", "a//b", ".hidden", "a b", "x" * 801):
        with pytest.raises(FormatError):
            list(layer.get(replace(good, name=name)))
        with pytest.raises(FormatError):
            layer.delete(replace(good, name=name))
    assert (root / NAME).read_bytes() == b"1"


def test_deleting_again_is_safe(root: Path):
    layer = _layer(root)
    one, other = _put(layer, b"1"), _put(layer, b"2", OTHER)
    assert layer.delete(one) == one.generation
    assert [layer.delete(one) for _ in range(2)] == [None, None]
    with pytest.raises(ObjectNotFound):
        list(layer.get(one))
    assert b"".join(layer.get(other)) == b"2"


def _restore(root: Path, data: bytes) -> str:
    """Write the object anew, behind the store's back; its new generation."""
    path = root / NAME
    path.unlink()
    path.write_bytes(data)
    return str(path.stat().st_mtime_ns)


def test_an_object_that_was_restored_is_read_and_deleted_at_its_new_generation(root: Path):
    layer = _layer(root)
    reference = _put(layer, b"12")
    generation = _restore(root, b"12")
    assert generation != reference.generation
    assert b"".join(layer.get(reference)) == b"12"
    assert layer.delete(reference) == generation
    assert _files(root) == []


@pytest.mark.parametrize("data", [b"13", b"123", b""])
def test_a_live_object_with_other_bytes_is_neither_read_nor_deleted(root: Path, data: bytes):
    layer = _layer(root)
    reference = _put(layer, b"12")
    _restore(root, data)
    with pytest.raises(AuthenticationError):
        list(layer.get(reference))
    assert layer.delete(reference) is None
    assert (root / NAME).read_bytes() == data


def test_what_was_written_in_vain_is_deleted_at_its_generation_only(
    root: Path, caplog: pytest.LogCaptureFixture
):
    layer = _layer(root)
    reference = _put(layer, b"12")
    written = Stored(reference.generation, 2, reference.crc32c)
    generation = _restore(root, b"12")
    layer.discard(NAME, written)
    assert len(_files(root)) == 1
    layer.discard(NAME, replace(written, generation=generation))
    assert _files(root) == []
    assert caplog.text == ""


def test_what_cannot_be_deleted_is_told(root: Path, caplog: pytest.LogCaptureFixture):
    class Stuck(Directory):
        def delete(self, *_: object, **__: object) -> bool:
            raise StoreUnavailable("away")

    store = Stuck(f"file://{root}")
    Threshold({store.uri: store}, store.uri, 0).discard(NAME, Stored("1", 1, 1))
    assert f"{store.uri}/{NAME} belongs to no row" in caplog.text


@pytest.mark.parametrize("change", [{"length_bytes": 1}, {"crc32c": 1}])
def test_length_and_checksum_are_compared(root: Path, change: dict[str, int]):
    layer = _layer(root)
    with pytest.raises(AuthenticationError):
        list(layer.get(replace(_put(layer, b"12"), **change)))
