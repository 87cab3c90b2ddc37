"""Every vector, through `secure_xcom` and through the reader that knows the document only."""

from __future__ import annotations

import hashlib
import importlib
import threading
import traceback
from concurrent.futures import wait

import pytest
from support.memory import FixedKek, MemoryStore
from support.sameness import difference
from vectors import generate, reader
from vectors.case import Vector, load

from secure_xcom import audit, codecs, errors
from secure_xcom.format.reference import STATE_MARKS, from_row, loads
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers import download
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.states import States, text_of
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Expected, Payload

NAMES = sorted(path.stem for path in generate.FILES.glob("*.txt"))


def vector_and_object(name: str) -> tuple[Vector, bytes | None]:
    vector = load(name, (generate.FILES / f"{name}.txt").read_text(encoding="utf-8"))
    if vector.object is None:
        return vector, None
    data = vector.object[2] or generate.objects()[name]
    assert hashlib.sha256(data).hexdigest() == vector.object_sha256
    return vector, data


def deployment(vector: Vector, data: bytes | None) -> tuple[Sealed, States]:
    """A deployment with the vector's settings; its stores hold the vector's object."""
    keks = {uri: FixedKek(uri, bytes.fromhex(key)) for uri, key in vector.keks.items()}
    below = f"/~state/{vector.state}" if vector.state else ""
    stores = {uri + below: MemoryStore(uri + below) for uri in vector.stores}
    if vector.object:
        name, generation, _ = vector.object
        for store in stores.values():
            store.held[name] = (generation, data or b"")
    placing = Threshold(stores, vector.stores[0] + below, 49_152)
    sealed = Sealed(
        placing,
        DataKeys(keks, next(iter(keks)), 300),
        instance=vector.instances[0],
        trusted_instances=vector.instances[1:],
        mark=STATE_MARKS.get(vector.state, ""),
        compression=Compression.ZSTD,
        max_value_bytes=vector.max_value_bytes,
    )
    return sealed, States(sealed, placing, 49_152)


def expected(vector: Vector) -> Expected:
    members = ("dag", "run", "task", "map_index", "key")
    return Expected(*(vector.asked.get(member) for member in members))


def opened(vector: Vector, data: bytes | None) -> Payload:
    sealed, states = deployment(vector, data)
    if vector.state:
        return states.from_row(vector.row, expected(vector)).payload
    with audit.attempt("open", expected(vector)) as attempt:
        return sealed.get(from_row(loads(vector.row)), expected(vector), attempt).payload


def decoded(vector: Vector, data: bytes | None) -> object:
    payload = opened(vector, data)
    return text_of(payload) if vector.state else codecs.decode(payload)


def encoded(codec, compression, raw):
    """The line `encoded` of a vector."""
    return {
        "codec": codec,
        "compression": compression,
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


def with_attributes(frame, **attributes):
    frame.attrs.update(attributes)
    return frame


def spelled(value):
    """What a vector's `value` stands for."""
    names = {
        name: importlib.import_module(name)
        for name in (
            *("collections", "datetime", "decimal", "functools", "numpy", "pandas", "pathlib"),
            *("polars", "pyarrow", "uuid", "zoneinfo"),
        )
        if name in value
    }
    return eval(value, names | {"with_attributes": with_attributes})  # noqa: S307 - our own file


@pytest.fixture
def both_answer(request, monkeypatch):
    """In the vectors of the order, both services have answered before the reader decides."""
    name = request.getfixturevalue("name")
    vector = vector_and_object(name)[0]
    if not name.startswith("bad-order-") or vector.state or "offloaded" not in vector.row:
        return
    asked = threading.Event()
    get, unwrap = MemoryStore.get, FixedKek.unwrap

    def get_and_tell(self, name, **pinned):
        asked.set()
        yield from get(self, name, **pinned)

    def unwrap_once_the_store_was_asked(self, wrapped, aad):
        assert asked.wait(20)
        return unwrap(self, wrapped, aad)

    monkeypatch.setattr(MemoryStore, "get", get_and_tell)
    monkeypatch.setattr(FixedKek, "unwrap", unwrap_once_the_store_was_asked)
    wait_for_key = download.Download.wait_for_key

    def wait_for_both(self, key):
        wait((key, self._ended), 20)
        return wait_for_key(self, key)

    monkeypatch.setattr(download.Download, "wait_for_key", wait_for_both)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("both_answer")
def test_a_vector_gives_what_it_says(name):
    vector, data = vector_and_object(name)
    if vector.encoded and not vector.state:
        payload = opened(vector, data)
        raw = b"".join(payload.buffers)
        assert vector.encoded == encoded(payload.codec, vector.encoded["compression"], raw)
    if vector.expect == "success":
        value = spelled(vector.value) if vector.value else raw
        assert difference(decoded(vector, data), value) is None
    else:
        with pytest.raises(errors.SecureXComError) as caught:
            decoded(vector, data)
        assert type(caught.value) is getattr(errors, vector.expect)
        chain = "".join(traceback.format_exception(caught.value))
        for secret in ("4111", vector.data_key or "no data key"):
            assert secret not in chain


@pytest.mark.parametrize("name", NAMES)
def test_the_document_alone_gives_what_a_vector_says(name):
    vector, data = vector_and_object(name)
    if vector.encoded:
        assert vector.encoded == encoded(*reader.read(vector, data))
    else:
        with pytest.raises(reader.Refused) as caught:
            reader.read(vector, data)
        assert caught.value.args == (vector.expect,)


def test_no_vector_was_edited_or_removed():
    listed = dict(reversed(line.split("  ")) for line in generate.MANIFEST.read_text().splitlines())
    there = {path.name: generate.digest(path) for path in generate.FILES.glob("*.txt")}
    assert there == listed


def test_the_generator_makes_the_files_that_are_there():
    made = {vector.name: vector.dump() for vector in generate.vectors()}
    assert sorted(made) == NAMES
    for name, text in made.items():
        assert (generate.FILES / f"{name}.txt").read_text(encoding="utf-8") == text, name
