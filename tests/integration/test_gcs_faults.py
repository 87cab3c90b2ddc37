"""What the network and the service may do to a call, over plain HTTP and over TLS.

Whatever it is, the call works or fails with one of the package's errors, within a bound.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from servers.fault_proxy import FaultProxy
from support.observed import observed

from secure_xcom.errors import StoreError, StoreUnavailable
from secure_xcom.stores.gcs import retry
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from servers.gcs import GcsServer

MIB = 1_048_576
NAME = "dag/run/task/-1/key/0"
SMALL = os.urandom(100_000)
LARGE = os.urandom(18 * MIB + 5)
PARTS = [LARGE[i : i + MIB] for i in range(0, len(LARGE), MIB)]

#: How a write goes out: collected, as it comes, and in parts once that has failed.
WAYS: dict[str, list[bytes]] = {"upload": [SMALL], "stream": PARTS, "part": PARTS}
FOREVER = 1_000_000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.01, 0.05))
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (5.0, 5.0))


@dataclass
class Scene:
    store: Gcs
    proxy: FaultProxy
    server: GcsServer
    bucket: str

    def put(self, way: str, name: str = NAME) -> Stored:
        if way == "part":
            self.proxy.fail("upload", "status", code=503)
        return self.store.create(name, lambda: WAYS[way], {})

    def get(self, stored: Stored) -> bytes:
        read = self.store.get(
            NAME,
            generation=stored.generation,
            length_bytes=stored.length_bytes,
            crc32c=stored.crc32c,
        )
        return b"".join(read)

    def held(self) -> list[bytes]:
        """What truly lies in the bucket."""
        return [self.server.read(self.bucket, name) for name in self.server.names(self.bucket)]


@pytest.fixture
def scene(wire_proxy: FaultProxy, gcs_server: GcsServer, bucket: str) -> Scene:
    store = Gcs(f"gs://{bucket}", make_client=wire_proxy.make_client, deadline_seconds=10)
    return Scene(store, wire_proxy, gcs_server, bucket)


def _hasty(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "TIMEOUT_SECONDS", (0.4, 0.4))
    monkeypatch.setattr(retry, "_LEAST_SECONDS", 0.1)
    monkeypatch.setattr(scene.store, "_deadline_seconds", 1.0)


# Connections.


@pytest.mark.parametrize("what", ["hang_up", "reset"])
def test_a_connection_that_ends_before_a_word_is_made_again(scene: Scene, what: str):
    scene.proxy.fail("connection", what, times=4)
    with observed() as seen:
        stored = scene.put("upload")
    assert scene.proxy.connections() == 5
    assert seen.counts == {"store_retries": 4}
    assert scene.held() == [SMALL]
    again = Gcs(scene.store.uri, make_client=scene.proxy.make_client)
    scene.proxy.fail("connection", what)
    again.delete(NAME, generation=stored.generation)
    assert scene.held() == []


def test_a_certificate_that_is_not_trusted_is_no_reason_to_try_again(
    gcs_server: GcsServer, bucket: str
):
    with FaultProxy(gcs_server.url, tls=True) as proxy:
        store = Gcs(f"gs://{bucket}", make_client=proxy.make_client)
        with pytest.raises(StoreUnavailable, match="REQUESTS_CA_BUNDLE") as caught:
            store.create(NAME, lambda: [SMALL], {})
        assert "more tr" not in str(caught.value)
        assert proxy.connections() == 1


# A success that cannot be read.


@pytest.mark.parametrize("after_bytes", [0, 25])
@pytest.mark.parametrize(("way", "kind"), [("upload", "upload"), ("stream", "upload")])
def test_a_write_whose_answer_is_cut_is_done_and_said_to_be(
    scene: Scene, way: str, kind: str, after_bytes: int
):
    scene.proxy.fail(kind, "cut", after_bytes=after_bytes)
    stored = scene.put(way)
    [held] = scene.held()
    assert scene.get(stored) == held == b"".join(WAYS[way])


def test_a_write_in_parts_whose_last_answer_is_cut_is_done_and_said_to_be(scene: Scene):
    scene.proxy.fail("part", "cut", skip=2, after_bytes=25)
    stored = scene.put("part")
    assert scene.get(stored) == LARGE
    assert scene.held() == [LARGE]


def test_a_write_all_of_whose_answers_are_cut_is_found_by_its_name(scene: Scene):
    scene.proxy.fail("upload", "cut", times=FOREVER, after_bytes=25)
    stored = scene.put("upload")
    assert scene.get(stored) == SMALL


def test_answers_that_are_never_readable_are_an_error_soon(scene: Scene):
    for kind in ("upload", "stat"):
        scene.proxy.fail(kind, "cut", times=FOREVER, after_bytes=25)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="ended in doubt, also after 2 more tries"):
        scene.put("upload")
    assert time.monotonic() - started < 5


def test_a_session_without_an_address_is_begun_again(scene: Scene):
    scene.proxy.fail("start", "unnamed")
    stored = scene.put("part")
    assert scene.get(stored) == LARGE
    assert scene.proxy.counts()["start"] == 2


# Sessions that are gone.


@pytest.mark.parametrize("code", [404, 410])
def test_a_session_that_is_gone_is_begun_anew(scene: Scene, code: int):
    scene.proxy.fail("part", "status", code=code)
    stored = scene.put("part")
    assert scene.held() == [LARGE]
    assert scene.get(stored) == LARGE
    assert scene.proxy.counts()["start"] == 2


@pytest.mark.parametrize("code", [404, 410])
def test_a_session_that_is_gone_later_is_begun_anew(scene: Scene, code: int):
    scene.proxy.fail("part", "status", code=code, skip=1)
    scene.put("part")
    assert scene.held() == [LARGE]
    assert scene.proxy.counts()["start"] == 2


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("code", [404, 410])
def test_sessions_that_are_always_gone_are_an_error_and_not_a_missing_bucket(
    scene: Scene, code: int, skip: int
):
    scene.proxy.fail("part", "status", code=code, skip=skip, times=FOREVER)
    with pytest.raises(StoreError, match="no longer knows the upload session") as caught:
        scene.put("part")
    assert "no bucket" not in str(caught.value)
    assert scene.proxy.counts()["start"] == 3
    assert scene.held() == []


# The caller's own exceptions.


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TimeoutError("mine")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["connection", "upload", "start", "part", "download", "delete"])
def test_what_the_callers_signal_handler_raises_comes_through_at_once(scene: Scene, kind: str):
    stored = Stored("1", 1, 1)
    if kind != "connection":
        stored = scene.put("upload")
    scene.proxy.fail(kind, "stall", times=FOREVER, seconds=60)
    calls: dict[str, Callable[[], object]] = {
        "download": lambda: scene.get(stored),
        "delete": lambda: scene.store.delete(NAME, generation=stored.generation),
        "start": lambda: scene.put("part", f"{NAME}1"),
        "part": lambda: scene.put("part", f"{NAME}1"),
    }
    call = calls.get(kind, lambda: scene.put("upload", f"{NAME}1"))
    started = time.monotonic()
    with _alarm(0.3), pytest.raises(TimeoutError, match="mine"):
        call()
    assert time.monotonic() - started < 2


# Bounds.


@pytest.mark.parametrize("what", ["stall", "drip", "drip_body"])
@pytest.mark.parametrize("way", WAYS)
def test_a_write_without_progress_ends(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, way: str, what: str
):
    _hasty(scene, monkeypatch)
    for kind in ("upload", "start", "part", "status", "stat", "cancel"):
        scene.proxy.fail(kind, what, times=FOREVER, seconds=0.05 if what != "stall" else 60)
    monkeypatch.setattr("secure_xcom.stores.gcs.store._TIDYING_SECONDS", 0.4)
    monkeypatch.setattr("secure_xcom.stores.gcs.session._CANCEL_SECONDS", 0.4)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="more tr"):
        scene.put(way)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("what", ["stall", "drip", "drip_body"])
def test_a_read_without_progress_ends(scene: Scene, monkeypatch: pytest.MonkeyPatch, what: str):
    stored = scene.put("stream")
    _hasty(scene, monkeypatch)
    scene.proxy.fail(
        "download",
        what,
        times=FOREVER,
        seconds=0.05 if what != "stall" else 60,
        after_bytes=50_000,
    )
    started = time.monotonic()
    with pytest.raises(StoreUnavailable, match="more tr"):
        scene.get(stored)
    assert time.monotonic() - started < 5


def test_a_line_that_is_slow_and_goes_on_is_waited_for(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    stored = scene.store.create(NAME, lambda: [LARGE[: 3 * MIB]], {})
    _hasty(scene, monkeypatch)
    scene.proxy.shape(0, 1_500_000)
    started = time.monotonic()
    assert scene.get(stored) == LARGE[: 3 * MIB]
    # More than the deadline, and much more than the wait for progress.
    assert time.monotonic() - started > 1.5


def test_the_callers_own_pauses_do_not_count(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    stored = scene.put("stream")
    _hasty(scene, monkeypatch)
    scene.proxy.fail("download", "truncate", after_bytes=3 * MIB)
    read = scene.store.get(
        NAME, generation=stored.generation, length_bytes=stored.length_bytes, crc32c=stored.crc32c
    )
    blocks = [next(read)]
    time.sleep(1.5)
    blocks.extend(read)
    assert b"".join(blocks) == LARGE
