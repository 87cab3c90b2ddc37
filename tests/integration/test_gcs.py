"""The store over Google's own client, and what it does when the service or the network fails."""

from __future__ import annotations

import gzip
import os
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import pytest
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Client
from servers.fault_proxy import FaultProxy, Link

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.stores.gcs import client, retry
from secure_xcom.stores.gcs.bucket import Bucket
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from servers.gcs import GcsServer

MIB = 1_048_576
METADATA = {"secure-xcom": "1", "kek": "gcp-kms://k"}
NAME = "dag/run/task/-1/key/0"
SMALL = os.urandom(100_000)
LARGE = os.urandom(18 * MIB + 5)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 3.0)
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (5.0, 5.0))


@dataclass
class Scene:
    """A store, the proxy before it, and a look at what truly lies in the bucket."""

    store: Gcs
    proxy: FaultProxy
    server: GcsServer
    bucket: str

    def names(self) -> list[str]:
        return self.server.names(self.bucket)

    def read(self) -> bytes:
        return self.server.read(self.bucket, f"p/{NAME}")

    def resource(self) -> dict[str, Any]:
        return self.server.resource(self.bucket, f"p/{NAME}")


@pytest.fixture
def scene(wire_proxy: FaultProxy, gcs_server: GcsServer, bucket: str) -> Scene:
    store = Gcs(f"gs://{bucket}/p", make_client=wire_proxy.make_client)
    return Scene(store, wire_proxy, gcs_server, bucket)


def _chunks(data: bytes) -> list[bytes]:
    return [data[i : i + MIB] for i in range(0, len(data), MIB)]


def _put(store: Gcs, way: str) -> tuple[bytes, Stored]:
    """Write in one of the three ways there are; in parts goes what failed to go in one request."""
    if way == "parts":
        with _no_streams():
            return LARGE, store.create(NAME, lambda: _chunks(LARGE), METADATA)
    data = {"collected": SMALL, "streamed": LARGE}[way]
    return data, store.create(NAME, lambda: _chunks(data), METADATA)


@contextmanager
def _no_streams() -> Iterator[None]:
    upload = Bucket.upload

    def failing(bucket: Bucket, *args: Any, once: bool, **more: Any) -> Stored:
        if once:
            raise ConnectionError("lost")
        return upload(bucket, *args, once=once, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Bucket, "upload", failing)
        yield


def _get(store: Gcs, stored: Stored) -> bytes:
    return b"".join(
        store.get(
            NAME,
            generation=stored.generation,
            length_bytes=stored.length_bytes,
            crc32c=stored.crc32c,
        )
    )


WAYS = pytest.mark.parametrize("way", ["collected", "streamed", "parts"])


# What it costs, and what is sent.


@pytest.mark.parametrize(
    ("way", "requests"),
    [
        ("collected", {"upload": 1}),
        ("streamed", {"upload": 1}),
        ("parts", {"start": 1, "part": 3}),
    ],
)
def test_one_request_a_write_a_read_and_a_deletion(
    scene: Scene, way: str, requests: dict[str, int]
):
    data, stored = _put(scene.store, way)
    assert scene.proxy.counts() == requests
    scene.proxy.reset()
    assert _get(scene.store, stored) == data
    assert scene.proxy.counts() == {"download": 1}
    scene.proxy.reset()
    scene.store.delete(NAME, generation=stored.generation)
    # A moment for whatever the client may do behind its back.
    time.sleep(0.1)
    assert scene.proxy.counts() == {"delete": 1}


@WAYS
def test_an_object_tells_an_operator_what_it_is(scene: Scene, way: str):
    _put(scene.store, way)
    resource = scene.resource()
    assert resource["metadata"] == METADATA
    if way == "parts":
        # The server drops this header of a resumable upload.
        [start] = scene.proxy.seen("start")
        assert start.headers["X-Upload-Content-Type"] == "application/vnd.secure-xcom.envelope"
    else:
        assert resource["contentType"] == "application/vnd.secure-xcom.envelope"
    assert "contentEncoding" not in resource


@WAYS
def test_every_write_is_create_only(scene: Scene, way: str):
    _put(scene.store, way)
    kind = "start" if way == "parts" else "upload"
    [seen] = scene.proxy.seen(kind)
    assert "ifGenerationMatch=0" in seen.path


def test_the_checksum_of_a_collected_object_is_sent(scene: Scene):
    scene.store.create(NAME, lambda: [b"123456789"], METADATA)
    [seen] = scene.proxy.seen("upload")
    # The check value of CRC-32/ISCSI, e3069283.
    assert b'"crc32c": "4waSgw=="' in seen.head


def test_reads_and_deletions_name_the_generation(scene: Scene):
    _, stored = _put(scene.store, "collected")
    _get(scene.store, stored)
    scene.store.delete(NAME, generation=stored.generation)
    for kind in ("download", "delete"):
        [seen] = scene.proxy.seen(kind)
        assert f"generation={stored.generation}" in seen.path


def test_an_object_comes_as_it_is_stored(scene: Scene):
    """Somebody marks it as packed: neither the service nor the client may unpack it."""
    packed = gzip.compress(SMALL)
    blob = scene.server.make_client().bucket(scene.bucket).blob(f"p/{NAME}")
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    stored = Stored(str(blob.generation), len(packed), google_crc32c.value(packed))
    assert _get(scene.store, stored) == packed


# Faults that pass.


@WAYS
@pytest.mark.parametrize(
    ("what", "details"),
    [
        ("status", {"code": 503}),
        ("status", {"code": 429}),
        ("status", {"code": 500}),
        ("status", {"code": 408}),
        ("refuse", {"code": 503}),
        ("reset", {}),
        ("reset", {"after_bytes": 50_000}),
        ("lose_answer", {}),
        ("stall", {"seconds": 0.2}),
    ],
)
def test_a_write_survives_a_fault_that_passes(
    scene: Scene,
    way: str,
    what: str,
    details: dict[str, float],
):
    scene.proxy.fail("part" if way == "parts" else "upload", what, **details)
    data, stored = _put(scene.store, way)
    assert scene.names() == [f"p/{NAME}"]
    assert scene.read() == data
    assert scene.resource()["generation"] == stored.generation
    assert _get(scene.store, stored) == data


@pytest.mark.parametrize(
    ("kind", "what", "details"),
    [
        ("start", "status", {"code": 503}),
        ("start", "reset", {}),
        ("start", "lose_answer", {}),
        ("part", "keep_part", {"after_bytes": 0}),
        ("part", "keep_part", {"after_bytes": 262_144}),
        ("part", "keep_part", {"after_bytes": 5 * 262_144, "times": 3}),
        ("part", "reset", {"after_bytes": 3 * MIB, "skip": 1}),
        ("part", "lose_answer", {"skip": 1}),
        # The last part.
        ("part", "status", {"skip": 2, "code": 503}),
        ("part", "lose_answer", {"skip": 2}),
        ("part", "keep_part", {"skip": 2, "after_bytes": 262_144}),
    ],
)
def test_an_upload_in_parts_goes_on_where_it_was_broken_off(
    scene: Scene,
    kind: str,
    what: str,
    details: dict[str, float],
):
    scene.proxy.fail(kind, what, **details)
    scene.proxy.fail("status", "status", code=503)
    data, stored = _put(scene.store, "parts")
    assert scene.read() == data
    assert _get(scene.store, stored) == data
    assert "cancel" not in scene.proxy.counts()


def test_bytes_that_were_kept_are_not_sent_again(scene: Scene):
    scene.proxy.fail("part", "lose_answer", skip=1)
    _put(scene.store, "parts")
    sent = sum(int(seen.headers["Content-Length"]) for seen in scene.proxy.seen("part"))
    assert sent == len(LARGE)
    assert scene.proxy.counts() == {"start": 1, "part": 3, "status": 1}


def test_a_stream_that_failed_starts_over_in_parts(scene: Scene):
    scene.proxy.fail("upload", "reset", after_bytes=10 * MIB)
    _put(scene.store, "streamed")
    assert scene.proxy.counts() == {"upload": 1, "start": 1, "part": 3}


@pytest.mark.parametrize("what", ["reset", "lose_answer"])
def test_chunks_that_are_made_again_may_differ(scene: Scene, what: str):
    made: list[bytes] = []

    def fresh() -> list[bytes]:
        made.append(os.urandom(10 * MIB + len(made)))
        return _chunks(made[-1])

    scene.proxy.fail("upload", what, after_bytes=9 * MIB)
    stored = scene.store.create(NAME, fresh, METADATA)
    data = scene.read()
    # Where the answer alone was lost, what lies there is the first attempt's.
    assert data == made[0 if what == "lose_answer" else -1]
    assert len(made) == 2
    assert (len(data), google_crc32c.value(data)) == (stored.length_bytes, stored.crc32c)
    assert scene.resource()["generation"] == stored.generation
    assert _get(scene.store, stored) == data


def test_an_attempt_that_was_not_sent_to_its_end_is_not_what_lies_there(scene: Scene):
    """Somebody else's object has the bytes of the beginning."""
    beginning = os.urandom(9 * MIB)

    def chunks() -> Iterator[bytes]:
        yield from _chunks(beginning)
        if not scene.names():
            scene.server.write(scene.bucket, f"p/{NAME}", beginning)
        yield b"the end"

    with pytest.raises(StoreError, match="exists"):
        scene.store.create(NAME, chunks, METADATA)
    assert scene.read() == beginning


@pytest.mark.parametrize(
    ("what", "details", "resumed_at"),
    [
        ("status", {"code": 503}, [0]),
        ("status", {"code": 429, "times": 3}, [0, 0, 0]),
        ("refuse", {"code": 503}, [0]),
        ("reset", {}, [0]),
        ("lose_answer", {}, [0]),
        ("stall", {"seconds": 0.2}, [0]),
        ("truncate", {"after_bytes": 0}, [0]),
        ("truncate", {"after_bytes": 3 * MIB}, [3 * MIB]),
        ("truncate", {"after_bytes": 3 * MIB, "times": 2}, [3 * MIB, 6 * MIB]),
    ],
)
def test_a_read_goes_on_where_it_was_broken_off(
    scene: Scene,
    what: str,
    details: dict[str, float],
    resumed_at: list[int],
):
    data, stored = _put(scene.store, "streamed")
    scene.proxy.fail("download", what, **details)
    assert _get(scene.store, stored) == data
    ranges = [seen.headers.get("Range") for seen in scene.proxy.seen("download")]
    assert ranges == [None] + [f"bytes={first}-" if first else None for first in resumed_at]


def test_a_read_that_was_cut_within_a_block_goes_on(scene: Scene):
    data, stored = _put(scene.store, "streamed")
    scene.proxy.fail("download", "truncate", after_bytes=2 * MIB + 77)
    scene.proxy.fail("download", "truncate", after_bytes=1)
    assert _get(scene.store, stored) == data


@pytest.mark.parametrize("code", [500, 503])
def test_a_deletion_survives_a_fault_that_passes(scene: Scene, code: int):
    _, stored = _put(scene.store, "collected")
    scene.proxy.fail("delete", "status", code=code)
    scene.proxy.fail("delete", "lose_answer")
    assert scene.store.delete(NAME, generation=stored.generation) is True
    assert scene.names() == []
    assert scene.proxy.counts()["delete"] == 3
    # Nothing failed this time, so it was not this call.
    assert scene.store.delete(NAME, generation=stored.generation) is False


# Faults that do not.


@WAYS
def test_bytes_that_changed_on_their_way_in_are_noticed_and_removed(scene: Scene, way: str):
    kind = "part" if way == "parts" else "upload"
    scene.proxy.fail(kind, "corrupt_upload", after_bytes=90_000)
    with pytest.raises(StoreError, match="holds other bytes") as caught:
        _put(scene.store, way)
    assert type(caught.value) is StoreError
    assert scene.names() == []


@pytest.mark.parametrize("position", [0, 12_345, len(LARGE) - 1])
def test_bytes_that_changed_on_their_way_out_are_noticed(scene: Scene, position: int):
    _, stored = _put(scene.store, "streamed")
    scene.proxy.fail("download", "corrupt", after_bytes=position)
    with pytest.raises(AuthenticationError):
        _get(scene.store, stored)
    assert scene.proxy.counts()["download"] == 1


@WAYS
def test_a_write_gives_up_in_time_and_leaves_nothing(
    scene: Scene,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.3)
    for kind in ("upload", "part"):
        scene.proxy.fail(kind, "status", code=503, times=1_000_000)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="out of reach or failing"):
        _put(scene.store, way)
    assert time.monotonic() - started < 5
    assert scene.names() == []
    assert scene.proxy.counts().get("cancel", 0) == (way != "collected")


@pytest.mark.parametrize(("what", "code"), [("status", 503), ("reset", 0), ("stall", 0)])
def test_a_read_gives_up_in_time(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str, code: int
):
    _, stored = _put(scene.store, "collected")
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (0.2, 0.2))
    scene.proxy.fail("download", what, code=code, times=1_000_000, seconds=60)
    with pytest.raises(StoreUnavailable):
        _get(scene.store, stored)


def test_a_read_that_makes_progress_is_not_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    data, stored = _put(scene.store, "streamed")
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.15)
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.05, 0.05))
    # Eighteen waits of about 0.025 s.
    scene.proxy.fail("download", "truncate", after_bytes=MIB, times=1_000_000)
    assert _get(scene.store, stored) == data


@WAYS
@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (403, StoreAccessDenied, "storage.objects.create.*roles/storage.objectUser"),
        (400, StoreError, "BadRequest"),
        (413, StoreError, "did not write"),
        (501, StoreError, "MethodNotImplemented"),
    ],
)
def test_a_refused_write_says_what_is_missing_and_is_not_repeated(
    scene: Scene,
    way: str,
    code: int,
    error: type[StoreError],
    message: str,
):
    kind = "start" if way == "parts" else "upload"
    scene.proxy.fail(kind, "status", code=code, times=10)
    with pytest.raises(StoreError, match=message) as caught:
        _put(scene.store, way)
    assert type(caught.value) is error
    assert f"test says {code}" in str(caught.value)
    assert scene.proxy.counts() == {kind: 1}


def test_a_stream_that_is_refused_before_its_end_says_why(scene: Scene):
    """A front end that hangs up on a body may break the connection before its answer is read."""
    scene.proxy.fail("upload", "refuse", code=403)
    scene.proxy.fail("start", "refuse", code=403)
    with pytest.raises(StoreAccessDenied, match=r"storage\.objects\.create"):
        _put(scene.store, "streamed")
    assert scene.names() == []


def test_a_refused_read_or_deletion_says_what_is_missing(scene: Scene):
    _, stored = _put(scene.store, "collected")
    scene.proxy.fail("download", "status", code=403)
    with pytest.raises(StoreAccessDenied, match=r"storage\.objects\.get"):
        _get(scene.store, stored)
    scene.proxy.fail("delete", "status", code=403)
    with pytest.raises(StoreAccessDenied, match=r"storage\.objects\.delete"):
        scene.store.delete(NAME, generation=stored.generation)


@WAYS
def test_a_bucket_that_does_not_exist(gcs_proxy: FaultProxy, way: str):
    store = Gcs("gs://no-such-bucket", make_client=gcs_proxy.make_client)
    with pytest.raises(StoreUnavailable, match="There is no bucket no-such-bucket"):
        _put(store, way)
    with pytest.raises(StoreUnavailable, match="There is no bucket no-such-bucket"):
        _get(store, Stored("1", 1, 1))
    store.delete(NAME, generation="1")


def test_who_may_not_list_is_told_of_the_object(scene: Scene):
    scene.proxy.fail("list", "status", code=403)
    with pytest.raises(StoreError, match="There is no object"):
        _get(scene.store, Stored("1", 1, 1))


def test_a_session_is_cancelled_when_the_chunks_fail(scene: Scene):
    def failing() -> Iterator[bytes]:
        yield from _chunks(LARGE)
        raise KeyError("k")

    with pytest.raises(KeyError), _no_streams():
        scene.store.create(NAME, failing, METADATA)
    assert scene.proxy.counts() == {"start": 1, "part": 2, "cancel": 1}
    assert scene.names() == []


@pytest.mark.parametrize("what", ["reset", "status", "stall"])
def test_no_error_has_the_address_of_an_upload_session(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (0.5, 0.2))
    scene.proxy.fail("part", what, times=1_000_000, seconds=60)
    with pytest.raises(StoreUnavailable) as caught:
        _put(scene.store, "parts")
    [part, *_] = scene.proxy.seen("part")
    assert "upload_id=" in part.path
    assert "upload_id" not in "".join(traceback.format_exception(caught.value))


def test_no_error_has_that_address_when_the_service_is_gone(
    gcs_server: GcsServer, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.2)
    proxy = FaultProxy(gcs_server.url)
    store = Gcs(f"gs://{bucket}/p", make_client=proxy.make_client)

    def chunks() -> Iterator[bytes]:
        yield from _chunks(LARGE)[:10]
        proxy.stop()
        yield from _chunks(LARGE)[10:]

    proxy.fail("part", "reset", skip=1, times=1_000_000)
    with pytest.raises(StoreUnavailable) as caught, _no_streams():
        store.create(NAME, chunks, METADATA)
    assert len(proxy.seen("part")) == 2
    assert "upload_id" not in "".join(traceback.format_exception(caught.value))


def test_a_foreign_object_of_the_name_is_left_alone(scene: Scene):
    scene.server.write(scene.bucket, f"p/{NAME}", b"theirs")
    for way in ("collected", "streamed", "parts"):
        with pytest.raises(StoreError, match="exists"):
            _put(scene.store, way)
    scene.proxy.fail("upload", "status", code=503)
    with pytest.raises(StoreError, match="exists"):
        _put(scene.store, "streamed")
    assert scene.read() == b"theirs"


@pytest.mark.parametrize("what", ["status", "stall"])
def test_other_bytes_are_named_although_they_cannot_be_deleted(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str
):
    monkeypatch.setattr("secure_xcom.stores.gcs.store._TIDYING_SECONDS", 0.2)
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (0.5, 0.5))
    scene.proxy.fail("upload", "corrupt_upload", after_bytes=90_000)
    scene.proxy.fail("delete", what, code=403, times=1_000, seconds=60)
    with pytest.raises(StoreError, match="holds other bytes") as caught:
        _put(scene.store, "collected")
    assert type(caught.value) is StoreError
    assert scene.names() == [f"p/{NAME}"]


# One name that is written over and over.


def _fetched(store: Gcs) -> bytes:
    return b"".join(store.fetch(NAME)[1])


def test_a_replacement_is_sent_with_its_checksum_and_names_what_it_replaces(scene: Scene):
    first = scene.store.replace(NAME, [b"1234", b"56789"], METADATA)
    second = scene.store.replace(NAME, [b"second"], METADATA)
    one, two = scene.proxy.seen("upload")
    assert b'"crc32c": "4waSgw=="' in one.head
    assert "ifGenerationMatch=0" in one.path
    assert f"ifGenerationMatch={first.generation}" in two.path
    assert scene.resource()["generation"] == second.generation
    assert scene.resource()["metadata"] == METADATA
    assert scene.proxy.counts() == {"stat": 2, "upload": 2}
    assert scene.read() == b"second"


@pytest.mark.parametrize("size", [100, 9 * MIB])
def test_a_replacement_whose_answer_was_lost_is_done(scene: Scene, size: int):
    scene.store.replace(NAME, [b"former"], METADATA)
    data = os.urandom(size)
    scene.proxy.fail("upload", "lose_answer")
    stored = scene.store.replace(NAME, [data], METADATA)
    assert scene.read() == data
    assert scene.resource()["generation"] == stored.generation
    assert scene.proxy.counts()["upload"] == 3


@pytest.mark.parametrize("theirs", [b"theirs", None])
def test_what_another_does_in_the_middle_of_a_replacement(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, theirs: bytes | None
):
    scene.store.replace(NAME, [b"former"], METADATA)
    find = Bucket.find

    def found(bucket: Bucket, name: str) -> Stored | None:
        stored = find(bucket, name)
        monkeypatch.undo()
        if theirs is None:
            scene.server.delete(scene.bucket, name)
        else:
            scene.server.write(scene.bucket, name, theirs)
        return stored

    monkeypatch.setattr(Bucket, "find", found)
    stored = scene.store.replace(NAME, [b"ours"], METADATA)
    # Another's write came after this one; a deletion came before it.
    assert scene.read() == (theirs or b"ours")
    assert scene.resource()["generation"] == stored.generation


def test_an_exchange_asks_for_one_generation_and_for_nothing_else(scene: Scene):
    first = scene.store.replace(NAME, [b"former"], METADATA)
    stored = scene.store.exchange(NAME, [b"ours"], METADATA, generation=first.generation)
    assert f"ifGenerationMatch={first.generation}" in scene.proxy.seen("upload")[-1].path
    assert scene.proxy.counts() == {"stat": 1, "upload": 2}
    assert scene.resource()["generation"] == stored.generation
    assert scene.resource()["metadata"] == METADATA


def test_an_exchange_whose_answer_was_lost_is_done(scene: Scene):
    first = scene.store.replace(NAME, [b"former"], METADATA)
    scene.proxy.fail("upload", "lose_answer")
    stored = scene.store.exchange(NAME, [b"ours"], METADATA, generation=first.generation)
    assert scene.read() == b"ours"
    assert stored is not None
    assert scene.resource()["generation"] == stored.generation


def test_an_exchange_that_is_wrongly_said_to_be_too_late_is_tried_again(scene: Scene):
    first = scene.store.replace(NAME, [b"former"], METADATA)
    scene.proxy.fail("upload", "status", code=412)
    assert scene.store.exchange(NAME, [b"ours"], METADATA, generation=first.generation)
    assert scene.read() == b"ours"


def test_the_beginning_of_an_object_is_a_range(scene: Scene):
    scene.store.replace(NAME, [os.urandom(9 * MIB)], METADATA)
    assert scene.store.beginning(NAME, 1000) == scene.read()[:1000]
    assert [seen.headers.get("Range") for seen in scene.proxy.seen("download")] == ["bytes=0-999"]


@pytest.mark.parametrize("former", [b"former", None])
def test_a_precondition_that_holds_and_is_said_to_fail_is_no_success(
    scene: Scene, former: bytes | None
):
    if former:
        scene.store.replace(NAME, [former], METADATA)
    scene.proxy.fail("upload", "status", code=412)
    scene.store.replace(NAME, [b"ours"], METADATA)
    assert scene.read() == b"ours"
    scene.proxy.fail("upload", "status", code=412, times=1_000)
    with pytest.raises(StoreError, match="PreconditionFailed"):
        scene.store.replace(NAME, [b"later"], METADATA)
    assert scene.read() == b"ours"


def test_one_name_that_is_written_too_often_is_waited_for(scene: Scene):
    scene.proxy.fail("upload", "status", code=429, times=4)
    scene.store.replace(NAME, [b"ours"], METADATA)
    assert scene.read() == b"ours"
    assert scene.proxy.counts()["upload"] == 5


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ({"code": 429}, StoreUnavailable, "about once a second"),
        ({"code": 503}, StoreUnavailable, "out of reach or failing"),
        ({"code": 400}, StoreError, "did not replace"),
        ({"code": 403}, StoreAccessDenied, r"storage\.objects\.delete"),
        (
            {"code": 403, "reason": "retentionPolicyNotMet"},
            StoreError,
            "a retention policy of the bucket",
        ),
        ({"what": "reset"}, StoreUnavailable, "out of reach"),
    ],
)
def test_a_replacement_that_fails_leaves_the_former(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
    error: type[StoreError],
    message: str,
):
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.3)
    former = scene.store.replace(NAME, [b"former"], METADATA)
    scene.proxy.fail("upload", **{"what": "status", "times": 1_000_000} | fault)
    with pytest.raises(error, match=message) as caught:
        scene.store.replace(NAME, [b"later"], METADATA)
    assert type(caught.value) is error
    assert scene.read() == b"former"
    assert scene.resource()["generation"] == former.generation
    assert "delete" not in scene.proxy.counts()


def test_a_retention_policy_is_named_where_it_forbids_a_deletion(scene: Scene):
    stored = scene.store.create(NAME, lambda: [b"kept"], METADATA)
    scene.proxy.fail("delete", "status", code=403, reason="retentionPolicyNotMet")
    with pytest.raises(StoreError, match="retention policy") as caught:
        scene.store.delete(NAME, generation=stored.generation)
    assert type(caught.value) is StoreError


def test_a_replacement_that_changed_on_its_way_is_an_error_and_nothing_is_deleted(scene: Scene):
    scene.store.replace(NAME, [b"former"], METADATA)
    scene.proxy.fail("upload", "corrupt_upload", after_bytes=90_000)
    with pytest.raises(StoreError):
        scene.store.replace(NAME, [SMALL], METADATA)
    assert scene.names() == [f"p/{NAME}"]
    assert "delete" not in scene.proxy.counts()


def test_a_fetch_takes_one_request(scene: Scene):
    stored = scene.store.replace(NAME, _chunks(LARGE), METADATA)
    scene.proxy.reset()
    found, chunks = scene.store.fetch(NAME)
    assert found == stored
    assert b"".join(chunks) == LARGE
    assert scene.proxy.counts() == {"download": 1}


@pytest.mark.parametrize(
    ("what", "details"),
    [
        ("status", {"code": 503}),
        ("reset", {}),
        ("truncate", {"after_bytes": 3 * MIB}),
        ("truncate", {"after_bytes": 0}),
    ],
)
def test_a_fetch_that_broke_off_goes_on_with_the_same_generation(
    scene: Scene, what: str, details: dict[str, int]
):
    stored = scene.store.replace(NAME, _chunks(LARGE), METADATA)
    scene.proxy.fail("download", what, **details)
    assert _fetched(scene.store) == LARGE
    last = scene.proxy.seen("download")[-1]
    assert (f"generation={stored.generation}" in last.path) == (what == "truncate")


def test_a_fetch_that_broke_off_while_another_object_came_never_mixes_them(scene: Scene):
    scene.store.replace(NAME, _chunks(LARGE), METADATA)
    scene.proxy.fail("download", "truncate", after_bytes=3 * MIB)
    _, chunks = scene.store.fetch(NAME)
    next(chunks)
    scene.server.write(scene.bucket, f"p/{NAME}", bytes(len(LARGE)))
    with pytest.raises(StoreUnavailable, match="was replaced while it was read"):
        b"".join(chunks)
    assert _fetched(scene.store) == bytes(len(LARGE))


@pytest.mark.parametrize("header", ["X-Goog-Generation", "X-Goog-Hash"])
def test_an_answer_that_does_not_say_what_it_carries_is_not_used(scene: Scene, header: str):
    scene.store.replace(NAME, [b"state"], METADATA)
    scene.proxy.headers[header] = "nothing"
    with pytest.raises(StoreUnavailable, match="ended in doubt"):
        scene.store.fetch(NAME)


def test_a_read_whose_generation_is_gone_is_pinned_to_the_live_one(scene: Scene):
    data, stored = _put(scene.store, "streamed")
    restored = scene.server.write(scene.bucket, f"p/{NAME}", data)
    scene.proxy.reset()
    scene.proxy.fail("download", "truncate", skip=1, after_bytes=3 * MIB)
    assert _get(scene.store, stored) == data
    asked, *live = [seen.path for seen in scene.proxy.seen("download")]
    assert f"generation={stored.generation}" in asked
    assert len(live) == 2
    assert all(f"generation={restored['generation']}" in path for path in live)


# Credentials, processes, memory.


class Token(Credentials):
    """Credentials whose tokens are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.refreshes = 0

    def refresh(self, _request: object) -> None:
        self.refreshes += 1
        self.token = f"token-{self.refreshes}"


def _store_with(credentials: Credentials, proxy: FaultProxy, bucket: str) -> Gcs:
    return Gcs(
        f"gs://{bucket}/p",
        credentials=credentials,
        make_client=lambda given: Client(
            project=None, credentials=given, client_options={"api_endpoint": proxy.url}
        ),
    )


@WAYS
def test_the_given_credentials_are_used_and_refreshed(
    gcs_proxy: FaultProxy, gcs_server: GcsServer, bucket: str, way: str
):
    credentials = Token()
    store = _store_with(credentials, gcs_proxy, bucket)
    gcs_proxy.fail("part" if way == "parts" else "upload", "status", code=401)
    data, stored = _put(store, way)
    assert gcs_server.read(bucket, f"p/{NAME}") == data
    assert _get(store, stored) == data
    assert credentials.refreshes == 2
    [download] = gcs_proxy.seen("download")
    assert download.headers["authorization"] == "Bearer token-2"


def test_a_token_that_is_refused_once_is_fetched_anew_for_a_download(
    gcs_proxy: FaultProxy, bucket: str
):
    credentials = Token()
    store = _store_with(credentials, gcs_proxy, bucket)
    data, stored = _put(store, "collected")
    gcs_proxy.fail("download", "status", code=401, times=2)
    assert _get(store, stored) == data
    seen = [request.headers["authorization"] for request in gcs_proxy.seen("download")]
    assert seen == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]
    gcs_proxy.fail("download", "status", code=401, times=1_000)
    with pytest.raises(StoreAccessDenied, match="did not accept the worker's credentials"):
        _get(store, stored)


def test_a_session_that_is_none_of_google_s_makes_its_requests_itself(
    gcs_server: GcsServer, bucket: str
):
    asked: list[str] = []

    class Session(AuthorizedSession):
        def request(self, method: str, url: str, **rest: object) -> object:
            asked.append(method)
            return super().request(method, url, **rest)

    def make_client(given: object) -> Client:
        client = gcs_server.make_client(given)
        client._http_internal = Session(client._credentials)
        return client

    store = Gcs(f"gs://{bucket}/p", make_client=make_client)
    data, stored = _put(store, "collected")
    assert _get(store, stored) == data
    assert asked == ["POST", "GET"]


def test_a_download_that_was_refused_for_its_token_keeps_its_connection(
    gcs_proxy: FaultProxy, bucket: str
):
    store = _store_with(Token(), gcs_proxy, bucket)
    data, stored = _put(store, "collected")
    before = gcs_proxy.connections()
    gcs_proxy.fail("download", "status", code=401)
    assert _get(store, stored) == data
    assert len(gcs_proxy.seen("download")) == 2
    assert gcs_proxy.connections() == before


@WAYS
def test_credentials_that_are_not_accepted(gcs_proxy: FaultProxy, bucket: str, way: str):
    store = _store_with(Token(), gcs_proxy, bucket)
    for kind in ("upload", "start", "part"):
        gcs_proxy.fail(kind, "status", code=401, times=1_000)
    with pytest.raises(StoreAccessDenied, match="did not accept the worker's credentials"):
        _put(store, way)


def test_the_emulator_that_the_environment_names_is_used(
    gcs_server: GcsServer, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in gcs_server.environment.items():
        monkeypatch.setenv(name, value)
    store = Gcs(f"gs://{bucket}/p")
    _, stored = _put(store, "collected")
    assert _get(store, stored) == SMALL
    assert gcs_server.read(bucket, f"p/{NAME}") == SMALL


def test_credentials_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    store = Gcs("gs://bucket")
    with pytest.raises(StoreAccessDenied, match="no usable credentials"):
        store.create(NAME, lambda: [SMALL], METADATA)


def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 0.2)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    store = Gcs("gs://bucket")
    for call in (
        lambda: store.create(NAME, lambda: [SMALL], METADATA),
        lambda: store.create(NAME, lambda: _chunks(LARGE), METADATA),
        lambda: store.replace(NAME, [SMALL], METADATA),
        lambda: store.fetch(NAME),
        lambda: store.find(NAME),
        lambda: _get(store, Stored("1", 1, 1)),
        lambda: store.delete(NAME, generation="1"),
    ):
        with pytest.raises(StoreUnavailable, match="out of reach"):
            call()


def test_a_child_makes_connections_of_its_own(gcs_server: GcsServer, bucket: str):
    clients: list[int] = []

    def make_client(credentials: object) -> Client:
        clients.append(os.getpid())
        return gcs_server.make_client(credentials)

    store = Gcs(f"gs://{bucket}/p", make_client=make_client)
    _, stored = _put(store, "collected")
    # A child that waited for the parent's lock would wait for ever.
    with store._client._lock:
        child = os.fork()
        if not child:
            ok = _get(store, stored) == SMALL and clients == [os.getppid(), os.getpid()]
            os._exit(0 if ok else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert _get(store, stored) == SMALL
    assert clients == [os.getpid()]


def test_a_fork_waits_for_an_import(monkeypatch: pytest.MonkeyPatch):
    started, events = threading.Event(), []

    def slow_import(_name: str) -> None:
        started.set()
        time.sleep(0.1)
        events.append("imported")

    monkeypatch.setattr(client, "_MODULES", ("a module",))
    monkeypatch.setattr(client, "import_module", slow_import)
    thread = threading.Thread(target=client.load)
    thread.start()
    started.wait()
    child = os.fork()
    if not child:
        # In the child nothing is held.
        client.load()
        os._exit(0 if events == ["imported"] * 2 else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    thread.join()


def test_threads_share_a_client_and_its_connections(gcs_server: GcsServer, bucket: str):
    clients: list[object] = []

    def make_client(credentials: object) -> Client:
        time.sleep(0.05)
        clients.append(gcs_server.make_client(credentials))
        return clients[-1]

    store = Gcs(f"gs://{bucket}/p", make_client=make_client)
    results: list[bytes] = []

    def work(index: int) -> None:
        name = f"{NAME}{index}"
        stored = store.create(name, lambda: [SMALL], METADATA)
        results.extend(
            store.get(
                name,
                generation=stored.generation,
                length_bytes=stored.length_bytes,
                crc32c=stored.crc32c,
            )
        )

    threads = [threading.Thread(target=work, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 1
    assert results == [SMALL] * 16


def _peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("way", ["streamed", "parts"])
def test_a_large_object_is_never_held_whole(gcs_server: GcsServer, bucket: str, way: str):
    store = Gcs(f"gs://{bucket}/p", make_client=gcs_server.make_client)
    store.create("warm", lambda: [b"x"], METADATA)
    block = bytes(MIB)

    def made() -> Iterator[bytearray]:
        return (bytearray(block) for _ in range(40))

    stored: list[Stored] = []
    with _no_streams() if way == "parts" else nullcontext():
        peak = _peak(lambda: stored.append(store.create(NAME, made, METADATA)))
    # What is collected, or a part, with the chunks at its ends.
    assert peak < 12.5 * MIB
    [object_] = stored

    def read() -> None:
        for _ in store.get(
            NAME,
            generation=object_.generation,
            length_bytes=object_.length_bytes,
            crc32c=object_.crc32c,
        ):
            pass

    assert _peak(read) < 4 * MIB


@pytest.mark.parametrize(
    "uri",
    [
        "gs://",
        "gs://b",
        "gs://Bucket",
        "gs://bucket/",
        "gs://bucket//a",
        "gs://bucket/a/",
        "gs://bucket/../a",
        "gs://bucket/a/.",
        "gs://bucket/a b",
        "gs://bucket/a?x=1",
        "gs://bucket/a%2Fb",
        "gs://user@bucket/a",
        "file:///directory",
        "gcs://bucket",
        "s3://bucket",
        "gs://bucket\n",
    ],
)
def test_a_uri_that_names_no_place(uri: str):
    with pytest.raises(ConfigError, match="names no"):
        Gcs(uri)


def test_the_longest_name_fits(gcs_server: GcsServer, bucket: str):
    store = Gcs(f"gs://{bucket}/" + "x" * 199, make_client=gcs_server.make_client)
    name_800 = "/".join(["n" * 159] * 5) + "n"
    stored = store.create(name_800, lambda: [b"x"], METADATA)
    [name] = gcs_server.names(bucket)
    assert len(name) == 1000
    store.delete(name_800, generation=stored.generation)
    assert gcs_server.names(bucket) == []


def test_the_proxys_line_is_as_slow_as_it_says():
    link = Link(1_000_000)
    started = time.monotonic()
    threads = [threading.Thread(target=link.carry, args=(50_000,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started >= 0.19


def test_the_environments_proxy_and_certificates_are_used(
    gcs_server, gcs_proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    """The store is at the server's own address; that its requests pass the proxy is the setting."""
    monkeypatch.setenv("HTTP_PROXY", gcs_proxy.url)
    monkeypatch.setenv("NO_PROXY", "elsewhere.example")
    store = Gcs(f"gs://{bucket}", make_client=gcs_server.make_client)
    stored = store.create("a", lambda: [b"sealed"], {})
    assert gcs_proxy.counts() == {"upload": 1}
    assert gcs_server.read(bucket, "a") == b"sealed"
    asked = {"generation": stored.generation, "length_bytes": 6, "crc32c": stored.crc32c}
    assert b"".join(store.get("a", **asked)) == b"sealed"
    assert gcs_proxy.counts() == {"upload": 1, "download": 1}

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    beside = Gcs(f"gs://{bucket}", make_client=gcs_server.make_client)
    assert b"".join(beside.get("a", **asked)) == b"sealed"
    assert gcs_proxy.counts() == {"upload": 1, "download": 1}

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/company.pem")
    connection = client.Connection(gcs_server.make_client())
    assert connection.http.verify == "/etc/ssl/company.pem"
