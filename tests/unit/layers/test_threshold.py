from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import google_crc32c
import pytest

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    GenerationMismatch,
    ObjectNotFound,
)
from secure_xcom.layers.threshold import Threshold, metadata
from secure_xcom.model import Buffer, Coordinate, Description, Expected, Inline, Reference, Remote
from secure_xcom.stores.file import Directory

COORDINATE = Coordinate("dag/1", "run", "task", 3, "return_value")
PREFIX = "dag%2F1/run/task/3/return_value/"
DESCRIPTION = Description("local-kek:///k", "builtins.dict", 12)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def _layer(root: Path, threshold_bytes: int) -> Threshold:
    store = Directory(f"file://{root}")
    return Threshold({store.uri: store}, store.uri, threshold_bytes)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("threshold_bytes", "length", "kind"),
    [
        (100, 99, Inline),
        (100, 100, Remote),
        (100, 101, Remote),
        (0, 0, Remote),
        (0, 1, Remote),
        (1, 0, Inline),
        (1, 1, Remote),
        (-1, 0, Inline),
        (-1, 3_000_000, Inline),
    ],
)
@pytest.mark.parametrize("piece", [1_000_000, 7])
def test_what_is_at_least_as_long_goes_out(
    root: Path, threshold_bytes: int, length: int, kind: type, piece: int
):
    if length > 1000 and piece == 7:
        piece = 100_000
    envelope = bytes(range(256)) * (length // 256 + 1)
    envelope = envelope[:length]
    layer = _layer(root, threshold_bytes)
    chunks = (envelope[i : i + piece] for i in range(0, length, piece))
    reference = layer.put(chunks, COORDINATE, DESCRIPTION)
    assert reference.description == DESCRIPTION
    assert type(reference) is kind
    if isinstance(reference, Remote):
        [path] = _files(root)
        assert path.read_bytes() == envelope
        assert str(path.relative_to(root)) == reference.name
        assert reference.name.startswith(PREFIX)
        assert len(reference.name) == len(PREFIX) + 32
        assert reference.store_uri == f"file://{root}"
        assert reference.generation == str(path.stat().st_mtime_ns)
        assert reference.length_bytes == length
        assert reference.crc32c == google_crc32c.value(envelope)
    else:
        assert reference == Inline(envelope, DESCRIPTION)
        assert not root.exists()
    assert b"".join(layer.get(reference)) == envelope
    layer.delete(reference, Expected.exactly(COORDINATE))
    assert not root.exists() or _files(root) == []


def test_chunks_may_be_gone_once_the_next_is_asked_for(root: Path):
    def reused() -> Iterator[memoryview]:
        buffer = bytearray(10)
        for value in range(20):
            buffer[:] = bytes([value]) * 10
            yield memoryview(buffer)

    whole = b"".join(bytes([value]) * 10 for value in range(20))
    for threshold_bytes in (-1, 0, 95, 100, 200):
        layer = _layer(root, threshold_bytes)
        reference = layer.put(reused(), COORDINATE, DESCRIPTION)
        assert b"".join(layer.get(reference)) == whole


def test_no_more_is_held_than_it_takes_to_decide(root: Path):
    events: list[str] = []

    def chunks() -> Iterator[bytes]:
        for index in range(5):
            events.append(f"made {index}")
            yield b"x" * 10

    class Watching(Directory):
        def put(self, *arguments: object) -> object:
            events.append("put")
            return super().put(*arguments)

    store = Watching(f"file://{root}")
    Threshold({store.uri: store}, store.uri, 15).put(chunks(), COORDINATE, DESCRIPTION)
    assert events == ["made 0", "made 1", "put", "made 2", "made 3", "made 4"]


@pytest.mark.parametrize("how", ["list", "generator"])
def test_a_store_may_start_over_where_the_chunks_can(root: Path, how: str):
    made: list[bytes] = []
    one_shot = how == "generator"

    class Chunks:
        def __iter__(self) -> Iterator[bytes]:
            made.append(b"%d" % len(made) * 40)
            return iter([made[-1][:20], made[-1][20:]])

    class Twice(Directory):
        def put(self, name: str, chunks: Iterable[Buffer], described: dict[str, str]) -> object:
            assert isinstance(chunks, Iterator) == one_shot
            first = b"".join(chunks)
            assert first == made[0]
            return super().put(name, [first] if one_shot else chunks, described)

    store = Twice(f"file://{root}")
    layer = Threshold({store.uri: store}, store.uri, 10)
    reference = layer.put(iter(Chunks()) if one_shot else Chunks(), COORDINATE, DESCRIPTION)
    assert b"".join(layer.get(reference)) == made[-1]
    assert len(made) == (1 if one_shot else 2)


def test_two_writes_of_one_xcom_have_two_names(root: Path):
    layer = _layer(root, 0)
    one = layer.put([b"1"], COORDINATE, DESCRIPTION)
    two = layer.put([b"2"], COORDINATE, DESCRIPTION)
    assert b"".join(layer.get(one)) + b"".join(layer.get(two)) == b"12"
    assert len(_files(root)) == 2


def test_what_an_object_shows_is_the_version_and_the_kek():
    assert metadata(DESCRIPTION) == {"secure-xcom": "1", "kek": "local-kek:///k"}


def test_a_store_that_is_not_trusted_is_not_touched(root: Path, tmp_path: Path):
    foreign = Directory(f"file://{tmp_path}/foreign")
    stored = foreign.put(PREFIX + "x", [b"theirs"], {})
    layer = _layer(root, 0)
    for uri in (foreign.uri, f"file://{root}/", f"FILE://{root}", f"file://{root}/../foreign", ""):
        reference = Remote(uri, PREFIX + "x", stored.generation, stored.length_bytes, stored.crc32c)
        with pytest.raises(ConfigError, match="trusted_stores"):
            list(layer.get(reference))
        with pytest.raises(ConfigError, match="trusted_stores"):
            layer.delete(reference, Expected.exactly(COORDINATE))
    assert (tmp_path / "foreign" / PREFIX / "x").read_bytes() == b"theirs"


def test_a_store_that_is_trusted_is_read_and_not_written(root: Path, tmp_path: Path):
    old, new = Directory(f"file://{tmp_path}/old"), Directory(f"file://{root}")
    before = Threshold({old.uri: old}, old.uri, 0).put([b"1"], COORDINATE, DESCRIPTION)
    layer = Threshold({new.uri: new, old.uri: old}, new.uri, 0)
    assert b"".join(layer.get(before)) == b"1"
    after = layer.put([b"2"], COORDINATE, DESCRIPTION)
    assert isinstance(after, Remote)
    assert after.store_uri == new.uri
    layer.delete(before, Expected.exactly(COORDINATE))
    assert _files(tmp_path / "old") == []


@pytest.mark.parametrize(
    "name", ["", "../store2/x", "/etc/passwd", "a/../b", "a//b", ".hidden", "a b", "x" * 801]
)
def test_a_name_that_is_never_written_is_refused(root: Path, name: str):
    reference = Remote(f"file://{root}", name, "1", 1, 0)
    layer = _layer(root, 0)
    with pytest.raises(FormatError):
        list(layer.get(reference))
    with pytest.raises(FormatError):
        layer.delete(reference, Expected())


@pytest.mark.parametrize(
    ("expected", "left"),
    [
        (Expected.exactly(COORDINATE), 0),
        (Expected(dag_id="dag/1", run_id="run"), 0),
        # A field after a gap is not compared by name.
        (Expected(dag_id="dag/1", task_id="other"), 0),
        (Expected(), 0),
        (replace(Expected.exactly(COORDINATE), dag_id="dag"), 1),
        (replace(Expected.exactly(COORDINATE), dag_id="dag%2F1"), 1),
        (replace(Expected.exactly(COORDINATE), run_id="ru"), 1),
        (replace(Expected.exactly(COORDINATE), task_id="other"), 1),
        (replace(Expected.exactly(COORDINATE), map_index=-1), 1),
        (replace(Expected.exactly(COORDINATE), map_index=33), 1),
        (replace(Expected.exactly(COORDINATE), key="return"), 1),
    ],
)
def test_only_what_lies_under_the_coordinate_is_deleted(root: Path, expected: Expected, left: int):
    layer = _layer(root, 0)
    reference = layer.put([b"1"], COORDINATE, DESCRIPTION)
    with pytest.raises(AuthenticationError) if left else nullcontext():
        layer.delete(reference, expected)
    assert len(_files(root)) == left


def test_deleting_again_is_safe(root: Path):
    layer = _layer(root, 0)
    reference = layer.put([b"1"], COORDINATE, DESCRIPTION)
    again = layer.put([b"2"], COORDINATE, DESCRIPTION)
    for _ in range(3):
        layer.delete(reference, Expected.exactly(COORDINATE))
    with pytest.raises(ObjectNotFound):
        list(layer.get(reference))
    assert b"".join(layer.get(again)) == b"2"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"generation": "12345"}, GenerationMismatch),
        ({"length_bytes": 1}, AuthenticationError),
        ({"crc32c": 1}, AuthenticationError),
        ({"name": PREFIX + "0" * 32}, ObjectNotFound),
    ],
)
def test_what_a_reference_says_is_compared(
    root: Path, change: dict[str, object], error: type[Exception]
):
    layer = _layer(root, 0)
    reference: Reference = layer.put([b"12"], COORDINATE, DESCRIPTION)
    with pytest.raises(error):
        list(layer.get(replace(reference, **change)))
