"""The sealing layer: what it writes, what it opens, and in which order it refuses (section 8)."""

from __future__ import annotations

import dataclasses
import logging
import os
import threading
import time
from uuid import UUID

import pytest
from support.memory import FixedKek, MemoryStore
from vectors import construct, frames, reader
from vectors.case import Vector

from secure_xcom import audit
from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    KeyUnavailable,
    ObjectNotFound,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.format import body, envelope, names
from secure_xcom.format.about import about
from secure_xcom.format.reference import dumps, to_row
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import (
    CodecId,
    Compression,
    Coordinate,
    Expected,
    Inline,
    Offloaded,
    Payload,
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
            }
            | settings,
        )

    @property
    def calls(self):
        return [call for kek in self.keks.values() for call in kek.calls]

    def put(self, raw=VALUE, where=WHERE):
        payload = Payload(CodecId.BYTES, (raw,), "builtins.bytes")
        return self.sealed.put(payload, where, self.sealed.key_for(where))

    def get(self, reference, asked=ASKED):
        with audit.attempt("open", asked) as attempt:
            opened = self.sealed.get(reference, asked, attempt)
        assert opened.payload.codec is CodecId.BYTES
        return b"".join(opened.payload.buffers)

    def hold(self, made, stored=None):
        """Lay the body of an envelope, or other bytes, into the store."""
        data = made.body if stored is None else stored
        self.store.held[made.object_name] = ("7", data)
        return offloaded(made, length_bytes=len(data), crc32c=construct.google_crc32c.value(data))


@pytest.fixture
def deployment():
    return Deployment()


def offloaded(made, **members):
    """What the row of an envelope holds whose body is an object."""
    crc32c = construct.google_crc32c.value(made.body)
    reference = Offloaded(
        STORE_URI, made.object_name, "7", len(made.body), crc32c, preamble=made.preamble
    )
    return dataclasses.replace(reference, **members)


def row_of(reference):
    return dumps(to_row(reference, about(reference, KEK_URI)))


def stored_of(deployment, reference):
    if isinstance(reference, Inline):
        return reference.envelope
    return deployment.store.held[reference.name][1]


def preamble_of(reference):
    if isinstance(reference, Inline):
        return envelope.parse_preamble(reference.envelope)
    return envelope.parse_whole_preamble(reference.preamble)


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", VALUE, VALUE * 10_000, os.urandom(3_000_000)],
    ids=["empty", "one", "small", "compressed", "segments"],
)
def test_what_is_put_comes_back_and_nothing_of_it_is_readable_below(deployment, raw):
    reference = deployment.put(raw)
    assert deployment.get(reference) == raw
    stored = stored_of(deployment, reference)
    assert isinstance(reference, Inline) == (len(stored) < 4096)
    for needle in (VALUE, raw[100:150]):
        if needle:
            assert needle not in stored
            assert needle not in row_of(reference)


@pytest.mark.parametrize(
    "raw",
    [b"", VALUE, VALUE * 10_000, os.urandom(3_000_000)],
    ids=["empty", "small", "compressed", "segments"],
)
def test_the_reader_of_the_document_opens_what_is_put(deployment, raw):
    reference = deployment.put(raw)
    asked = {"dag": "payments", "run": "manual__1", "task": "load", "map_index": 2}
    vector = Vector("", "", "", row_of(reference).decode(), asked=asked, instances=["prod"])
    stored = stored_of(deployment, reference)
    if isinstance(reference, Offloaded):
        vector.object = (reference.name, reference.generation, stored)
    codec, _, found = reader.read(vector, stored)
    assert codec == CodecId.BYTES
    assert found == raw


def test_the_context_stands_in_the_header_and_nothing_of_it_in_the_store(deployment):
    reference = deployment.put(LONG)
    header = preamble_of(reference).unverified_header
    assert header.coordinate == WHERE
    assert header.instance == "prod"
    [(name, (_, data))] = deployment.store.held.items()
    for told in (WHERE.dag_id, WHERE.run_id, WHERE.task_id, WHERE.key, "prod", KEK_URI):
        assert told not in name
        assert told.encode() not in data
    assert header.salt not in data
    assert data[0] == 40


def test_an_object_has_the_name_that_the_header_gives(deployment):
    reference = deployment.put(LONG)
    made = preamble_of(reference)
    assert reference.name == names.object_name("prod", made.header_bytes)
    again = deployment.put(LONG)
    assert again.name != reference.name
    assert again.name[:17] == reference.name[:17] == f"{names.deployment('prod')}/"
    assert set(deployment.store.held) == {reference.name, again.name}


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
        with pytest.raises(ConfigError, match=r"not verified.*trusted_instances"):
            refusing.get(refused)
        assert refusing.calls == []


def test_a_deployment_is_trusted_by_its_name_without_a_mark():
    """Neither trust in states nor a name with a mark in it lets an XCom be read as one."""
    marked = Deployment(instance="prod#task-state").put()
    with pytest.raises(AuthenticationError):
        Deployment(instance="prod").get(marked)
    with pytest.raises(AuthenticationError):
        Deployment(instance="prod", mark="#asset-state").get(marked)
    assert Deployment(instance="prod", mark="#task-state").get(marked) == VALUE


def test_a_value_over_the_limit_is_refused_before_anything_is_placed():
    deployment = Deployment(threshold_bytes=0, max_value_bytes=100)
    assert deployment.get(deployment.put(bytes(100))) == bytes(100)
    deployment.store.held.clear()
    with pytest.raises(CodecError, match="max_value_bytes"):
        deployment.put(bytes(101))
    assert deployment.store.held == {}


@pytest.mark.parametrize("raw_bytes", [0, 100, 4096, 200_000])
def test_a_value_at_the_limit_is_read_whatever_its_envelope_needs(raw_bytes):
    where = Coordinate("d" * 2500, "r" * 2500, "t" * 2500, 2, "k" * 500)
    deployment = Deployment(max_value_bytes=raw_bytes)
    raw = os.urandom(raw_bytes)
    assert deployment.get(deployment.put(raw, where), Expected()) == raw


def test_an_id_that_does_not_fit_writes_nothing(deployment):
    with pytest.raises(FormatError):
        deployment.put(LONG, dataclasses.replace(WHERE, key="k" * 8192))
    assert deployment.store.held == {}


def test_a_failing_store_is_an_error_and_never_an_inline_row(deployment):
    def refuse(*_):
        raise StoreUnavailable("The bucket is out of reach.")

    deployment.store.create = refuse
    with pytest.raises(StoreUnavailable):
        deployment.put(LONG)


def test_an_upload_that_starts_over_seals_afresh_under_one_header(deployment):
    """Two bodies under one salt and nonce would show what differs between them."""
    uploads = []
    create = deployment.store.create

    def create_at_the_third(name, make_chunks, metadata):
        uploads.extend(b"".join(make_chunks()) for _ in range(3))
        return create(name, lambda: [uploads[-1]], metadata)

    deployment.store.create = create_at_the_third
    reference = deployment.put(LONG)
    assert deployment.get(reference) == LONG
    assert len({upload[:40] for upload in uploads}) == 3
    for upload in uploads:
        crc32c = construct.google_crc32c.value(upload)
        deployment.store.held[reference.name] = (reference.generation, upload)
        assert deployment.get(dataclasses.replace(reference, crc32c=crc32c)) == LONG


# The wrap beside the upload (section 8.1).


class Wrapping:
    """A KEK's `wrap` that begins, goes on and fails when a test says so."""

    def __init__(self, deployment, error=None):
        self.begun, self.may_end = threading.Event(), threading.Event()
        self._kek, self._error = deployment.keks[KEK_URI], error
        self._wrap, self._kek.wrap = self._kek.wrap, self.wrap

    def wrap(self, data_key, aad):
        self.begun.set()
        assert self.may_end.wait(20)
        if self._error:
            raise self._error
        return self._wrap(data_key, aad)


def test_an_upload_does_not_wait_for_the_wrap_and_the_row_does(deployment):
    wrapping = Wrapping(deployment)
    create = deployment.store.create

    def create_and_let_go(*arguments):
        stored = create(*arguments)
        assert wrapping.begun.wait(20)
        wrapping.may_end.set()
        return stored

    deployment.store.create = create_and_let_go
    assert deployment.get(deployment.put(LONG)) == LONG


def test_an_object_whose_key_was_not_wrapped_is_deleted(deployment):
    wrapping = Wrapping(deployment, KeyUnavailable("The key is disabled."))
    create, written = deployment.store.create, []

    def create_and_let_go(*arguments):
        stored = create(*arguments)
        written.extend(deployment.store.held)
        wrapping.may_end.set()
        return stored

    deployment.store.create = create_and_let_go
    with pytest.raises(KeyUnavailable, match="disabled"):
        deployment.put(LONG)
    assert len(written) == 1
    assert deployment.store.held == {}


def test_the_object_of_another_row_of_the_same_key_stays(deployment):
    reference = deployment.put(LONG)
    deployment.keks[KEK_URI].wrap = lambda *_: pytest.fail("the key is held")
    with pytest.raises(StoreError):
        deployment.store.create(reference.name, lambda: [b"x"], {})
    assert deployment.get(deployment.put(LONG)) == LONG
    assert deployment.get(reference) == LONG


def test_an_upload_breaks_off_once_its_key_was_not_wrapped(deployment):
    """It is not sent to its end, and the error is the key's, whatever becomes of the upload."""
    wrapping = Wrapping(deployment, KeyUnavailable("The key is disabled."))
    sent = []

    def create(_name, make_chunks, _metadata):
        chunks = make_chunks()
        for chunk in chunks:
            sent.append(len(chunk))
            wrapping.may_end.set()
            time.sleep(0.2)
        raise StoreError("It came too late.")

    deployment.store.create = create
    with pytest.raises(KeyUnavailable, match="disabled"):
        deployment.put(os.urandom(5_000_000))
    assert sum(sent) < 3_000_000


def test_the_error_of_the_wrap_is_reported_and_an_object_in_doubt_stays(deployment):
    wrapping = Wrapping(deployment, KeyUnavailable("The key is disabled."))
    create = deployment.store.create

    def create_in_doubt(*arguments):
        create(*arguments)
        wrapping.may_end.set()
        time.sleep(0.1)
        raise StoreUnavailable("The answer was lost.")

    deployment.store.create = create_in_doubt
    with pytest.raises(KeyUnavailable, match="disabled"):
        deployment.put(LONG)
    assert len(deployment.store.held) == 1


def test_a_failed_upload_does_not_wait_for_the_wrap(deployment):
    wrapping = Wrapping(deployment)

    def refuse(*_):
        raise StoreUnavailable("The bucket is out of reach.")

    deployment.store.create = refuse
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        deployment.put(LONG)
    assert time.monotonic() - started < 5
    wrapping.may_end.set()


def test_an_object_is_deleted_where_what_the_key_service_gave_does_not_fit(deployment):
    kek = deployment.keks[KEK_URI]
    wrap = kek.wrap
    kek.wrap = lambda *arguments: dataclasses.replace(wrap(*arguments), ciphertext=bytes(2049))
    with pytest.raises(FormatError):
        deployment.put(LONG)
    assert deployment.store.held == {}


def test_what_cannot_be_deleted_again_is_told_and_the_error_is_the_wrap_s(deployment, caplog):
    wrapping = Wrapping(deployment, KeyUnavailable("The key is disabled."))
    create = deployment.store.create

    def create_and_let_go(*arguments):
        stored = create(*arguments)
        wrapping.may_end.set()
        return stored

    def refuse(*_, **__):
        raise StoreUnavailable("The bucket is out of reach.")

    deployment.store.create, deployment.store.delete = create_and_let_go, refuse
    with pytest.raises(KeyUnavailable, match="disabled"):
        deployment.put(LONG)
    [name] = deployment.store.held
    assert f"{STORE_URI}/{name} belongs to no row" in caplog.text


# Section 8.2, "in this order": each pair has two faults, and the first one is the answer.


def made(raw=VALUE, **parts):
    where = {"dag": "payments", "run": "manual__1", "task": "load", "map_index": 2}
    return construct.envelope("sealed", raw, **({"instance": "prod"} | where | parts))


def test_step_1_length_before_store():
    deployment = Deployment(max_value_bytes=100)
    with pytest.raises(FormatError, match="max_value_bytes"):
        deployment.get(offloaded(made(), store_uri="file:///other", length_bytes=2**30))


def test_step_1_the_limit_is_that_of_the_document():
    deployment = Deployment(max_value_bytes=1000)
    most = 40 + (1000 + 3 + 270) + 16
    with pytest.raises(ObjectNotFound):
        deployment.get(offloaded(made(), length_bytes=most))
    with pytest.raises(FormatError, match="max_value_bytes"):
        deployment.get(offloaded(made(), length_bytes=most + 1))
    with pytest.raises(AuthenticationError):
        deployment.get(Inline(made().preamble + bytes(most)))
    inline_most = 12_329 + most
    with pytest.raises(FormatError, match=r"not start with|magic|SXCM"):
        deployment.get(Inline(bytes(inline_most)))
    with pytest.raises(FormatError, match="max_value_bytes"):
        deployment.get(Inline(bytes(inline_most + 1)))


def test_step_1_store_before_the_preamble(deployment):
    with pytest.raises(ConfigError, match="trusted_stores"):
        deployment.get(offloaded(made(), store_uri="file:///other", preamble=b"SXCX"))
    assert deployment.calls == []


def test_step_2_the_preamble_before_the_name(deployment):
    broken = offloaded(made(), preamble=made().preamble + b"x", name=f"{'0' * 16}/{'0' * 64}")
    with pytest.raises(FormatError):
        deployment.get(broken)


@pytest.mark.parametrize("part", [0, 1])
def test_step_2_the_name_before_the_kek(deployment, part):
    """Each part of the name is compared, and the object is not looked for."""
    reference = deployment.hold(made(kek_uri="local-kek:///other"))
    parts = reference.name.split("/")
    parts[part] = "0" * len(parts[part])
    with pytest.raises(AuthenticationError):
        deployment.get(dataclasses.replace(reference, name="/".join(parts)))
    with pytest.raises(ConfigError, match="trusted_keks"):
        deployment.get(reference)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"SXCN" + data[4:],
        lambda data: data[: made(kek_uri="local-kek:///other").at["body"] + 311],
        lambda data: data[:30],
    ],
)
def test_step_2_shape_before_the_kek(deployment, change):
    data = change(made(kek_uri="local-kek:///other").data)
    with pytest.raises(FormatError):
        deployment.get(Inline(data))


def test_step_3_the_kek_before_the_context(deployment):
    data = made(kek_uri="local-kek:///other", instance="test", task="other").data
    with pytest.raises(ConfigError, match="trusted_keks"):
        deployment.get(Inline(data))
    assert deployment.calls == []


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"instance": "test"}, ConfigError),
        ({"instance": "prod#task-state"}, AuthenticationError),
        ({"instance": "test#task-state"}, ConfigError),
        ({"task": "other"}, AuthenticationError),
        ({"map_index": 3}, AuthenticationError),
    ],
)
def test_step_4_the_context_before_either_service(deployment, parts, error):
    def fail(*_, **__):
        raise KeyUnavailable("This must not be called.")

    deployment.keks[KEK_URI].unwrap = fail
    deployment.store.get = fail
    for reference in (Inline(made(**parts).data), offloaded(made(LONG, **parts))):
        with pytest.raises(error):
            deployment.get(reference)
    for reference in (Inline(made().data), offloaded(made(LONG))):
        with pytest.raises(KeyUnavailable):
            deployment.get(reference)


class Reads:
    """Counts what a store hands out, and tells of it."""

    def __init__(self, store, tell=lambda _: None):
        self.bytes = 0
        self._get, self._tell = store.get, tell
        store.get = self.get

    def get(self, name, **pinned):
        for chunk in self._get(name, **pinned):
            self.bytes += len(chunk)
            self._tell(self.bytes)
            yield chunk


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (ConfigError, {"kek_uri": "local-kek:///other"}),
        (AuthenticationError, {"task": "other"}),
    ],
)
def test_steps_3_and_4_before_the_object(deployment, error, parts):
    reference = deployment.hold(made(os.urandom(4_000_000), **parts))
    reads = Reads(deployment.store)
    with pytest.raises(error):
        deployment.get(reference)
    assert reads.bytes == 0


@pytest.mark.parametrize(
    "parts", [{"wrapped": bytes(60)}, {"dek": bytes(31)}, {"commitment": bytes(32)}]
)
def test_steps_5_and_6_before_the_body_is_opened(deployment, monkeypatch, parts):
    reference = deployment.hold(made(os.urandom(4_000_000), **parts))
    monkeypatch.setattr(body, "open_", lambda *_: pytest.fail("it must not be opened"))
    with pytest.raises(AuthenticationError):
        deployment.get(reference)


def test_step_5_before_step_6(deployment):
    """A key of a wrong length is never used to derive another."""
    with pytest.raises(AuthenticationError):
        deployment.get(Inline(made(dek=bytes(16)).data))
    assert deployment.calls == ["unwrap"]


def test_step_8_before_step_9(deployment):
    """A body that was cut is not authentic, though its payload also contradicts its length."""
    whole = made(os.urandom(3_000_000))
    for length in (1_048_576, 2 * 1_048_576, len(whole.body) - 1):
        with pytest.raises(AuthenticationError):
            deployment.get(deployment.hold(whole, whole.body[:length]))
    with pytest.raises(AuthenticationError):
        deployment.get(deployment.hold(whole, whole.body + bytes(100)))


def test_step_8_before_the_value_is_released(deployment):
    """The store tells of a wrong checksum at the end only, when all else was right."""
    reference = deployment.hold(made(LONG))
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


# Steps 5 and 7 side by side.


class Services:
    """What the key service and the store do, each for itself: answer, fail, or stall."""

    def __init__(self, deployment):
        self.let_go = threading.Event()
        self.asked = {"key": threading.Event(), "store": threading.Event()}
        kek, store = deployment.keks[KEK_URI], deployment.store
        self._unwrap, self._get = kek.unwrap, store.get
        kek.unwrap, store.get = self.unwrap, self.get
        self.key = self.store = self.late = None

    def unwrap(self, *arguments):
        self.asked["key"].set()
        assert self.asked["store"].wait(20)
        self._act(self.key)
        return self._unwrap(*arguments)

    def get(self, name, **pinned):
        self.asked["store"].set()
        self._act(self.store)
        *first, last = self._get(name, **pinned)
        yield from first
        self._act(self.late)
        yield last

    def _act(self, what):
        if what == "stall":
            assert self.let_go.wait(20)
        elif what:
            raise what


GONE = ObjectNotFound("The object is gone.")
AWAY = KeyUnavailable("The key is away.")


@pytest.fixture
def services(deployment):
    services = Services(deployment)
    yield services
    services.let_go.set()


@pytest.mark.parametrize(
    ("key", "parts", "error"),
    [
        ("stall", (GONE, None), ObjectNotFound),
        ("stall", (None, GONE), ObjectNotFound),
        ("stall", (StoreUnavailable("It is away."), None), StoreUnavailable),
        ("stall", (Damaged(), None), AuthenticationError),
        (AWAY, ("stall", None), KeyUnavailable),
        (AWAY, (None, "stall"), KeyUnavailable),
        (AuthenticationError(), ("stall", None), AuthenticationError),
        (None, (GONE, None), ObjectNotFound),
        (None, (None, GONE), ObjectNotFound),
    ],
)
def test_the_first_failure_is_reported_at_once(deployment, services, key, parts, error):
    services.key, (services.store, services.late) = key, parts
    reference = deployment.hold(made(os.urandom(300_000)))
    started = time.monotonic()
    with pytest.raises(error) as caught:
        deployment.get(reference)
    assert time.monotonic() - started < 1
    assert type(caught.value) is error


def test_a_commitment_that_is_wrong_does_not_wait_for_the_store(deployment, services):
    services.late = "stall"
    started = time.monotonic()
    with pytest.raises(AuthenticationError):
        deployment.get(deployment.hold(made(os.urandom(300_000), commitment=bytes(32))))
    assert time.monotonic() - started < 1


def test_a_body_is_fetched_while_its_key_is_awaited(deployment):
    """More than is held at once, so the fetching pauses and goes on; and all of it is opened."""
    arrived = threading.Event()
    raw = os.urandom(20_000_000)
    reference = deployment.put(raw)
    reader = Deployment()
    reader.store = deployment.store
    reader.sealed._below = deployment.sealed._below
    reads = Reads(deployment.store, lambda count: count > 7_000_000 and arrived.set())
    kek = reader.keks[KEK_URI]
    unwrap = kek.unwrap

    def unwrap_late(*arguments):
        assert arrived.wait(20)
        time.sleep(0.2)
        assert reads.bytes < 9_000_000, "more was fetched than may be held"
        return unwrap(*arguments)

    kek.unwrap = unwrap_late
    assert reader.get(reference) == raw


def threads_named(name):
    return [thread for thread in threading.enumerate() if thread.name == name]


@pytest.mark.parametrize("fault", ["key", "commitment", "segment", None])
def test_no_thread_outlives_its_read(deployment, services, fault):
    whole = made(
        os.urandom(12_000_000), **({"commitment": bytes(32)} if fault == "commitment" else {})
    )
    data = bytearray(whole.body)
    data[100_000] ^= fault == "segment"
    reference = deployment.hold(whole, bytes(data))
    services.key = AWAY if fault == "key" else None
    for _ in range(3):
        try:
            deployment.get(reference)
        except (AuthenticationError, KeyUnavailable):
            assert fault
    deadline = time.monotonic() + 3
    while threads_named("secure-xcom-download") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threads_named("secure-xcom-download") == []


# Deletion (section 8.3).


def test_what_is_deleted_is_gone(deployment):
    reference = deployment.put(LONG)
    assert deployment.sealed.delete(reference, ASKED) == reference.generation
    assert deployment.store.held == {}
    assert deployment.sealed.delete(reference, ASKED) is None


@pytest.mark.parametrize("left_out", ["dag_id", "run_id", "task_id", "map_index", "key"])
def test_an_object_is_deleted_only_where_all_of_its_coordinate_is_known_and_right(
    deployment, left_out
):
    reference = deployment.put(LONG)
    other = 3 if left_out == "map_index" else "other"
    for value in (None, other):
        with pytest.raises(AuthenticationError, match="left as it is"):
            deployment.sealed.delete(reference, dataclasses.replace(ASKED, **{left_out: value}))
    with pytest.raises(AuthenticationError):
        deployment.sealed.delete(reference, Expected())
    assert deployment.get(reference) == LONG


def test_a_copied_environment_does_not_delete_the_objects_of_the_original(deployment):
    """It reads them, since it trusts the original; the rows that it deletes are its own copies."""
    reference = deployment.put(LONG)
    copy = Deployment(instance="copy", trusted_instances=("prod",))
    copy.sealed._below = deployment.sealed._below
    assert copy.get(reference) == LONG
    with pytest.raises(ConfigError, match=r"deployment 'prod'.*not verified"):
        copy.sealed.delete(reference, ASKED)
    assert deployment.get(reference) == LONG


def test_an_object_in_a_store_that_is_only_trusted_is_not_deleted(deployment):
    reference = deployment.put(LONG)
    moved = Deployment()
    new = MemoryStore("file:///new")
    moved.sealed._below = Threshold({STORE_URI: deployment.store, new.uri: new}, new.uri, 0)
    assert moved.get(reference) == LONG
    with pytest.raises(ConfigError, match="store_uri"):
        moved.sealed.delete(reference, ASKED)
    assert deployment.get(reference) == LONG


def test_an_object_is_not_deleted_by_a_row_that_only_names_it(deployment):
    theirs = deployment.put(LONG, dataclasses.replace(WHERE, task_id="other"))
    ours = deployment.put(LONG)
    pointers = ("name", "generation", "length_bytes", "crc32c")
    doctored = dataclasses.replace(ours, **{one: getattr(theirs, one) for one in pointers})
    with pytest.raises(AuthenticationError):
        deployment.sealed.delete(doctored, ASKED)
    with pytest.raises(FormatError):
        deployment.sealed.delete(dataclasses.replace(ours, preamble=b""), ASKED)
    assert set(deployment.store.held) == {ours.name, theirs.name}


def restore(deployment, reference, data=None):
    """What a restored bucket has: the same name and bytes under a new generation."""
    _, held = deployment.store.held.pop(reference.name)
    deployment.store.held[reference.name] = ("99", held if data is None else data)


def test_a_restored_object_is_read_and_deleted_under_its_new_generation(deployment):
    reference = deployment.put(LONG)
    restore(deployment, reference)
    assert deployment.get(reference) == LONG
    assert deployment.sealed.delete(reference, ASKED) == "99"
    assert deployment.store.held == {}


@pytest.mark.parametrize("length", [20_000, 10])
def test_a_live_object_of_other_bytes_is_not_deleted(deployment, length):
    reference = deployment.put(LONG)
    restore(deployment, reference, os.urandom(length))
    assert deployment.sealed.delete(reference, ASKED) is None
    assert reference.name in deployment.store.held


def test_deleting_calls_neither_key_nor_more_of_the_store_than_it_must(deployment):
    reference = deployment.put(LONG)
    other = Deployment()
    other.sealed._below = deployment.sealed._below
    deployment.store.get = lambda *_, **__: pytest.fail("nothing is read to be deleted")
    other.sealed.delete(reference, ASKED)
    assert other.calls == []


# The row ends an XCom (section 9).


def test_with_the_row_gone_the_body_opens_for_nobody(deployment):
    """What is left: the bucket, the KEK, and the data key, which other rows still wrap.

    Whoever has them all, and knows or guesses everything in the header but its salt, derives
    other keys: the salt has 256 random bits and stands nowhere else.
    """
    reference = deployment.put(LONG)
    sibling = deployment.put(LONG, dataclasses.replace(WHERE, key="other"))
    body_bytes = deployment.store.held[reference.name][1]
    gone, left = preamble_of(reference), preamble_of(sibling)
    assert gone.unverified_wrapped == left.unverified_wrapped, "they share one data key"

    aad = envelope.key_aad(envelope.scope_bytes("prod", WHERE), left.unverified_header.key_id)
    data_key = deployment.keks[KEK_URI].unwrap(left.unverified_wrapped, aad)

    def open_with(salt):
        header = dataclasses.replace(gone.unverified_header, salt=salt)
        header_bytes = envelope.marshal_header(header)
        keys = envelope.derive(data_key, header_bytes, salt)
        opened = body.open_(keys.content_key, keys.header_hash, [body_bytes], len(body_bytes))
        return b"".join(opened)

    assert LONG in open_with(gone.unverified_header.salt), "with the salt, it would open"
    salt = gone.unverified_header.salt
    guesses = [
        left.unverified_header.salt,
        bytes(32),
        body_bytes[1:33],
        bytes((salt[0] ^ 1,)) + salt[1:],
    ]
    for guess in guesses:
        with pytest.raises(AuthenticationError):
            open_with(guess)
    # And the salt stands in nothing that is left.
    remains = [sibling.preamble, *(data for _, data in deployment.store.held.values())]
    remains += [name.encode() for name in deployment.store.held]
    for remaining in remains:
        assert salt not in remaining
        assert salt.hex().encode() not in remaining


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
