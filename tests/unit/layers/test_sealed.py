"""The sealing layer: what it writes, what it opens, and in which order it refuses (section 8)."""

from __future__ import annotations

import dataclasses
import logging
import os
from uuid import UUID

import pytest
from support.memory import FixedKek, MemoryStore
from vectors import construct, frames, reader
from vectors.case import Vector

from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    KeyUnavailable,
    ObjectNotFound,
    StoreUnavailable,
)
from secure_xcom.format import envelope
from secure_xcom.format.reference import dumps
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import (
    CodecId,
    Compression,
    Coordinate,
    Expected,
    Inline,
    Payload,
    Remote,
)
from secure_xcom.stores.protocol import Damaged

KEK_URI = construct.KEK_URI
STORE_URI = construct.STORE_URI
WHERE = Coordinate("payments", "manual__1", "load", 2, "return_value", UUID(int=9))
ASKED = Expected.exactly(WHERE)
VALUE = b"4111 1111 1111 1111"
LONG = os.urandom(20_000)


class Deployment:
    """The layer over a store and a KEK in memory, with whatever a test wants otherwise."""

    def __init__(self, threshold_bytes=4096, keks=(KEK_URI,), **settings):
        self.keks = {uri: FixedKek(uri, construct.kek(uri)) for uri in keks}
        self.store = MemoryStore(STORE_URI, chunk_bytes=100_000)
        self.sealed = Sealed(
            Threshold({STORE_URI: self.store}, STORE_URI, threshold_bytes),
            DataKeys(self.keks, keks[0], 300),
            **{
                "instance": "prod",
                "trusted_instances": (),
                "compression": Compression.ZSTD,
                "max_value_bytes": 2**30,
                "describe": False,
            }
            | settings,
        )

    @property
    def calls(self):
        return [call for kek in self.keks.values() for call in kek.calls]

    def put(self, raw=VALUE, where=WHERE):
        return self.sealed.put(Payload(CodecId.BYTES, (raw,), "builtins.bytes"), where)

    def get(self, reference, asked=ASKED):
        payload = self.sealed.get(reference, asked)
        assert payload.codec is CodecId.BYTES
        return b"".join(payload.buffers)

    def hold(self, made):
        """Lay an envelope into the store."""
        self.store.objects["a/b"] = ("7", made)
        crc32c = construct.google_crc32c.value(made)
        return Remote(STORE_URI, "a/b", "7", len(made), crc32c)


@pytest.fixture
def deployment():
    return Deployment()


def envelope_of(deployment, reference):
    if isinstance(reference, Inline):
        return reference.envelope
    return deployment.store.objects[reference.name][1]


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", VALUE, VALUE * 10_000, os.urandom(3_000_000)],
    ids=["empty", "one", "small", "compressed", "segments"],
)
def test_what_is_put_comes_back_and_nothing_of_it_is_readable_below(deployment, raw):
    reference = deployment.put(raw)
    assert deployment.get(reference) == raw
    stored = envelope_of(deployment, reference)
    assert isinstance(reference, Inline) == (len(stored) < 4096)
    for needle in (VALUE, raw[100:150]):
        if needle:
            assert needle not in stored
            assert needle not in dumps(reference)


@pytest.mark.parametrize(
    "raw",
    [b"", VALUE, VALUE * 10_000, os.urandom(3_000_000)],
    ids=["empty", "small", "compressed", "segments"],
)
def test_the_reader_of_the_document_opens_what_is_put(deployment, raw):
    reference = deployment.put(raw)
    asked = {"dag": "payments", "run": "manual__1", "task": "load", "map_index": 2}
    vector = Vector("", "", "", dumps(reference).decode(), asked=asked, instances=["prod"])
    stored = envelope_of(deployment, reference)
    if isinstance(reference, Remote):
        vector.object = (reference.name, reference.generation, stored)
    codec, _, found = reader.read(vector, stored)
    assert codec == CodecId.BYTES
    assert found == raw


def test_the_context_stands_in_the_header_and_the_row_tells_only_the_kek(deployment):
    reference = deployment.put()
    header = envelope.parse_preamble(reference.envelope).unverified_header
    assert header.coordinate == WHERE
    assert header.instance == "prod"
    row = dumps(reference).decode()
    assert "bytes" not in row.replace("sealed_bytes", "")
    assert KEK_URI in row


def test_a_full_description_says_type_and_size():
    description = Deployment(describe=True).put().description
    assert (description.type_name, description.raw_bytes) == ("builtins.bytes", len(VALUE))
    description = Deployment().put().description
    assert (description.type_name, description.raw_bytes) == ("", None)


def test_no_two_envelopes_are_alike(deployment):
    one, other = (envelope.parse_preamble(deployment.put().envelope) for _ in range(2))
    assert one.unverified_header.salt != other.unverified_header.salt
    assert one.commitment != other.commitment
    assert one.unverified_wrapped == other.unverified_wrapped
    assert deployment.calls == ["wrap"]


@pytest.mark.parametrize(
    ("change", "shares_the_key"),
    [
        ({"key": "other"}, True),
        ({"ti_id": None}, True),
        ({"dag_id": "other"}, False),
        ({"run_id": "other"}, False),
        ({"task_id": "other"}, False),
        ({"map_index": -1}, False),
    ],
)
def test_a_data_key_serves_one_task_instance(deployment, change, shares_the_key):
    one = envelope.parse_preamble(deployment.put().envelope)
    other = envelope.parse_preamble(
        deployment.put(where=dataclasses.replace(WHERE, **change)).envelope
    )
    alike = one.unverified_header.key_id == other.unverified_header.key_id
    assert alike == shares_the_key
    assert deployment.calls == ["wrap"] * (1 if shares_the_key else 2)


def test_a_key_that_was_unwrapped_never_seals(deployment):
    reader_and_writer = Deployment()
    reference = deployment.put()
    assert reader_and_writer.get(reference) == VALUE
    read = envelope.parse_preamble(reference.envelope)
    written = envelope.parse_preamble(reader_and_writer.put().envelope)
    assert read.unverified_header.key_id != written.unverified_header.key_id
    assert read.unverified_wrapped.ciphertext != written.unverified_wrapped.ciphertext
    assert reader_and_writer.calls == ["unwrap", "wrap"]


@pytest.mark.parametrize("left_out", ["dag_id", "run_id", "task_id", "map_index", "key"])
def test_what_the_reader_is_not_told_is_not_compared(deployment, left_out):
    reference = deployment.put()
    assert deployment.get(reference, dataclasses.replace(ASKED, **{left_out: None})) == VALUE
    with pytest.raises(AuthenticationError):
        deployment.get(
            reference,
            dataclasses.replace(ASKED, **{left_out: 3 if left_out == "map_index" else "x"}),
        )


def test_the_task_instance_s_id_is_not_compared(deployment):
    reference = deployment.put(where=dataclasses.replace(WHERE, ti_id=UUID(int=1)))
    assert deployment.get(reference) == VALUE


def test_instances_that_are_trusted_are_read():
    reference = Deployment(instance="old").put()
    assert Deployment(instance="new", trusted_instances=("older", "old")).get(reference) == VALUE
    unnamed = Deployment(instance="").put()
    for refusing, refused in (
        (Deployment(instance="new"), reference),
        (Deployment(instance=""), reference),
        (Deployment(instance="new", trusted_instances=("old",)), unnamed),
    ):
        with pytest.raises(AuthenticationError):
            refusing.get(refused)
        assert refusing.calls == []


def test_a_value_over_the_limit_is_refused_before_a_key_is_made():
    deployment = Deployment(max_value_bytes=100)
    assert deployment.get(deployment.put(bytes(100))) == bytes(100)
    calls = list(deployment.calls)
    with pytest.raises(CodecError, match="max_value_bytes"):
        deployment.put(bytes(101))
    assert deployment.calls == calls
    assert deployment.store.objects == {}


@pytest.mark.parametrize("raw_bytes", [0, 100, 4096, 200_000])
def test_a_value_at_the_limit_is_read_whatever_its_envelope_needs(raw_bytes):
    where = Coordinate("d" * 2500, "r" * 2500, "t" * 2500, 2, "k" * 500)
    deployment = Deployment(max_value_bytes=raw_bytes)
    raw = os.urandom(raw_bytes)
    assert deployment.get(deployment.put(raw, where), Expected()) == raw


def test_an_id_that_does_not_fit_writes_nothing(deployment):
    with pytest.raises(FormatError):
        deployment.put(LONG, dataclasses.replace(WHERE, key="k" * 8192))
    assert deployment.store.objects == {}


def test_nothing_is_written_without_a_key(deployment):
    def refuse(*_):
        raise KeyUnavailable("The key is disabled.")

    deployment.keks[KEK_URI].wrap = refuse
    with pytest.raises(KeyUnavailable):
        deployment.put(LONG)
    assert deployment.store.objects == {}


def test_a_failing_store_is_an_error_and_never_an_inline_row(deployment):
    def refuse(*_):
        raise StoreUnavailable("The bucket is out of reach.")

    deployment.store.put = refuse
    with pytest.raises(StoreUnavailable):
        deployment.put(LONG)


def test_an_upload_that_starts_over_seals_afresh(deployment):
    """Two bodies under one salt and nonce would show what differs between them."""
    uploads = []
    put = deployment.store.put

    def put_twice(name, chunks, metadata):
        uploads.append(b"".join(chunks))
        uploads.append(b"".join(chunks))
        return put(name, [uploads[-1]], metadata)

    deployment.store.put = put_twice
    assert deployment.get(deployment.put(LONG)) == LONG
    preambles = [envelope.parse_preamble(upload) for upload in uploads]
    assert len({preamble.unverified_header.salt for preamble in preambles}) == 2
    starts = {
        upload[preamble.length_bytes :][:40]
        for upload, preamble in zip(uploads, preambles, strict=True)
    }
    assert len(starts) == 2
    for upload in uploads:
        assert deployment.get(deployment.hold(upload)) == LONG


# Section 8, "in this order": each pair has two faults, and the first one is the answer.


def made(raw=VALUE, **parts):
    where = {"dag": "payments", "run": "manual__1", "task": "load", "map_index": 2}
    return construct.envelope("sealed", raw, **({"instance": "prod"} | where | parts))


def test_step_1_length_before_store():
    deployment = Deployment(max_value_bytes=100)
    with pytest.raises(FormatError, match="max_value_bytes"):
        deployment.get(Remote("file:///other", "a/b", "1", 2**30, 0))


def test_step_1_the_limit_is_that_of_the_document():
    deployment = Deployment(max_value_bytes=1000)
    most = 12_329 + 40 + (1000 + 3 + 270) + 16
    with pytest.raises(ObjectNotFound):
        deployment.get(Remote(STORE_URI, "a/b", "1", most, 0))
    with pytest.raises(FormatError):
        deployment.get(Remote(STORE_URI, "a/b", "1", most + 1, 0))


def test_step_1_store_before_object(deployment):
    with pytest.raises(ConfigError):
        deployment.get(Remote("file:///other", "a/b", "1", 1000, 0))
    assert deployment.calls == []


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"SXCN" + data[4:],
        lambda data: data[: made(kek_uri="local-kek:///other").at["body"] + 311],
        lambda data: data[:30],
    ],
)
def test_step_3_shape_before_the_kek(deployment, change):
    data = change(made(kek_uri="local-kek:///other").data)
    with pytest.raises(FormatError):
        deployment.get(Inline(data))


def test_step_4_the_kek_before_the_context(deployment):
    data = made(kek_uri="local-kek:///other", instance="test", task="other").data
    with pytest.raises(ConfigError, match="trusted_keks"):
        deployment.get(Inline(data))
    assert deployment.calls == []


@pytest.mark.parametrize("parts", [{"instance": "test"}, {"task": "other"}, {"map_index": 3}])
def test_step_5_the_context_before_the_key_service(deployment, parts):
    def fail(*_):
        raise KeyUnavailable("This must not be called.")

    deployment.keks[KEK_URI].unwrap = fail
    with pytest.raises(AuthenticationError):
        deployment.get(Inline(made(**parts).data))
    with pytest.raises(KeyUnavailable):
        deployment.get(Inline(made().data))


class Reads:
    """Counts what a store hands out."""

    def __init__(self, store):
        self.bytes = 0
        self._get = store.get
        store.get = self.get

    def get(self, name, **pinned):
        for chunk in self._get(name, **pinned):
            self.bytes += len(chunk)
            yield chunk


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ConfigError, {"kek_uri": "local-kek:///other"}),
        (AuthenticationError, {"task": "other"}),
        (AuthenticationError, {"wrapped": bytes(60)}),
        (AuthenticationError, {"dek": bytes(31)}),
        (AuthenticationError, {"commitment": bytes(32)}),
    ],
)
def test_steps_4_to_7_before_the_body(deployment, error, parts):
    reference = deployment.hold(made(os.urandom(4_000_000), **parts).data)
    reads = Reads(deployment.store)
    with pytest.raises(error):
        deployment.get(reference)
    assert reads.bytes == 100_000


def test_step_6_before_step_7(deployment):
    """A key of a wrong length is never used to derive another."""
    with pytest.raises(AuthenticationError):
        deployment.get(Inline(made(dek=bytes(16)).data))
    assert deployment.calls == ["unwrap"]


def test_step_8_before_step_9(deployment):
    """A body that was cut is not authentic, though its payload also contradicts its length."""
    whole = made(os.urandom(3_000_000)).data
    at_body = made().at["body"]
    for length in (at_body + 1_048_576, at_body + 2 * 1_048_576, len(whole) - 1):
        with pytest.raises(AuthenticationError):
            deployment.get(deployment.hold(whole[:length]))
    with pytest.raises(AuthenticationError):
        deployment.get(deployment.hold(whole + bytes(100)))


def test_step_2_before_the_value_is_released(deployment):
    """The store tells of a wrong checksum at the end only, when all else was right."""
    reference = deployment.hold(made(LONG).data)
    with pytest.raises(AuthenticationError):
        deployment.get(dataclasses.replace(reference, crc32c=reference.crc32c ^ 1))
    assert deployment.get(reference) == LONG


@pytest.mark.parametrize(
    "parts", [{"codec": 9}, {"compression": 1}, {"raw_len": 5}, {"reserved": 1}]
)
def test_step_9_a_fault_in_what_was_sealed_is_one_of_format(deployment, parts):
    with pytest.raises(FormatError):
        deployment.get(Inline(made(**parts).data))


def test_a_bomb_in_what_was_sealed_is_refused():
    deployment = Deployment(max_value_bytes=1_000_000)
    bomb = frames.frame(frames.run(b"\0", 2**30))
    with pytest.raises(FormatError):
        deployment.get(Inline(made(b"abc", compression=1, data=bomb).data))


def test_errors_and_logs_hold_nothing_of_the_value(deployment, caplog):
    caplog.set_level(logging.DEBUG)
    deployment.get(deployment.put())
    altered = bytearray(deployment.put().envelope)
    altered[-1] ^= 1
    with pytest.raises(AuthenticationError) as caught:
        deployment.get(Inline(bytes(altered)))
    error = caught.value
    while error:
        assert "4111" not in repr(error) + str(error)
        error = error.__cause__ or error.__context__
    assert "4111" not in caplog.text
    assert caplog.records


def test_what_is_deleted_is_gone(deployment):
    reference = deployment.put(LONG)
    deployment.sealed.delete(reference, ASKED)
    assert deployment.store.objects == {}
    deployment.sealed.delete(reference, ASKED)


class Line:
    """A store whose bytes change on their way out, as often as it is told; counts the ways."""

    def __init__(self, store, times, position):
        self.store = store
        self.times = times
        self.position = position
        self.gets = 0

    def get(self, name, **pinned):
        self.gets += 1
        data = bytearray(b"".join(self.store.get(name, **pinned)))
        if self.gets <= self.times:
            data[self.position] ^= 1
        for place in range(0, len(data), 1000):
            yield bytes(data[place : place + 1000])
        if construct.google_crc32c.value(bytes(data)) != pinned["crc32c"]:
            raise Damaged


@pytest.mark.parametrize("position", [5_000, -1])
@pytest.mark.parametrize("times", [0, 1, 2, 3])
def test_an_object_that_came_damaged_is_fetched_again_twice(deployment, times, position):
    raw = os.urandom(20_000)
    reference = deployment.put(raw)
    line = Line(deployment.store, times, position)
    below = Threshold({STORE_URI: line}, STORE_URI, 4096)
    deployment.sealed._below = below
    if times < 3:
        assert deployment.get(reference) == raw
        assert line.gets == times + 1
        line.gets = 0
        deployment.sealed.fetch(reference)
    else:
        with pytest.raises(AuthenticationError) as caught:
            deployment.get(reference)
        assert type(caught.value) is AuthenticationError
        assert line.gets == 3
