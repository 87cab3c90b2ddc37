"""Large values on their way through all layers: what overlaps, what is held, what a failure leaves.

Order is told by events on both sides of the line, and never by time.
"""

from __future__ import annotations

import os
import threading
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from support.memory import FixedKek

from secure_xcom import audit
from secure_xcom.errors import CodecError
from secure_xcom.format import body
from secure_xcom.format.payload import marshal_payload
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers import sealed
from secure_xcom.layers.cached import Cached
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import CodecId, Compression, Coordinate, Expected, Payload
from secure_xcom.stores.gcs.store import Gcs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.fault_proxy import FaultProxy
    from servers.gcs import GcsServer

    from secure_xcom.model import Buffer, Reference

MIB = 2**20
KEK_URI = "gcp-kms://k"
WHERE = Coordinate("dag", "run", "task", -1, "return_value")
#: What is held on each side of a line: what is collected first, two segments, and buffers.
ROOM_BYTES = 16 * MIB


def stack_over(server: FaultProxy | GcsServer, bucket: str) -> Sealed:
    """All layers between a payload and the storage."""
    store = Cached(Gcs(f"gs://{bucket}", make_client=server.make_client), 4 * MIB)
    return Sealed(
        Threshold({store.uri: store}, store.uri, 49_152),
        DataKeys({KEK_URI: FixedKek(KEK_URI, bytes(32))}, KEK_URI, 300),
        instance="",
        trusted_instances=(),
        compression=Compression.ZSTD,
        max_value_bytes=2**33,
    )


def put(stack: Sealed, payload: Payload) -> Reference:
    return stack.put(payload, WHERE, stack.key_for(WHERE))


def get(stack: Sealed, reference: Reference) -> Payload:
    asked = Expected.exactly(WHERE)
    return stack.get(reference, asked, audit.Attempt(asked)).payload


class Meter:
    """One direction of the proxy's line, and what is done once so many bytes have passed."""

    def __init__(self, count: int, then: Callable[[], object]) -> None:
        self._left = count
        self._then = then

    def carry(self, count: int) -> None:
        self._left, before = self._left - count, self._left
        if self._left <= 0 < before:
            self._then()


RANDOM = os.urandom(24 * MIB)
COMPRESSED = b"".join(RANDOM[at : at + 1000] + bytes(1000) for at in range(0, len(RANDOM), 1000))


@pytest.mark.parametrize("value", [RANDOM, COMPRESSED], ids=["random", "compressed"])
def test_a_push_and_a_pull_overlap_with_the_line(
    gcs_proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch, value: bytes
):
    stack = stack_over(gcs_proxy, bucket)
    open_ = body.open_
    arrived, opened, in_time = threading.Event(), threading.Event(), []

    def slowly_made(payload: Payload, compression: Compression) -> Iterator[Buffer]:
        *pieces, last = marshal_payload(payload, compression)
        assert pieces[0][2] == (value is COMPRESSED)
        for piece in pieces:
            for at in range(0, len(piece), MIB):
                yield piece[at : at + MIB]
        in_time.append(arrived.wait(20))
        yield last

    def noticed(*arguments: object) -> Iterator[Buffer]:
        for piece in open_(*arguments):
            opened.set()
            yield piece

    monkeypatch.setattr(sealed, "marshal_payload", slowly_made)
    monkeypatch.setattr(gcs_proxy, "up", Meter(16 * MIB, arrived.set))
    reference = put(stack, Payload(CodecId.BYTES, (value,)))
    assert in_time == [True]

    monkeypatch.setattr(sealed.body, "open_", noticed)
    near_the_end = reference.length_bytes - 8 * MIB
    held_back = Meter(near_the_end, lambda: in_time.append(opened.wait(20)))
    monkeypatch.setattr(gcs_proxy, "down", held_back)
    assert get(stack, reference).buffers == (value,)
    assert in_time == [True, True]


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_held_does_not_grow_with_the_value(gcs_server: GcsServer, bucket: str, count: int):
    stack = stack_over(gcs_server, bucket)
    put(stack, Payload(CodecId.BYTES, (os.urandom(100_000),)))
    value = os.urandom(40 * MIB)
    size = len(value) // count
    buffers = [value[at : at + size] for at in range(0, len(value), size)]
    payload = Payload(CodecId.ARROW, buffers)
    references, found = [], []
    assert peak_bytes(lambda: references.append(put(stack, payload))) < ROOM_BYTES
    [reference] = references
    peak = peak_bytes(lambda: found.append(get(stack, reference)))
    assert found[0].buffers == (value,)
    assert peak < len(value) + ROOM_BYTES


def test_a_value_that_fails_on_its_way_leaves_nothing(
    gcs_proxy: FaultProxy, gcs_server: GcsServer, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    def failing(payload: Payload, compression: Compression) -> Iterator[Buffer]:
        pieces = marshal_payload(payload, compression)
        yield next(pieces)
        yield next(pieces)[: 20 * MIB]
        assert arrived.wait(20)
        raise CodecError("it cannot be had")

    arrived = threading.Event()
    monkeypatch.setattr(gcs_proxy, "up", Meter(10 * MIB, arrived.set))
    monkeypatch.setattr(sealed, "marshal_payload", failing)
    stack = stack_over(gcs_proxy, bucket)
    with pytest.raises(CodecError, match="it cannot be had"):
        put(stack, Payload(CodecId.BYTES, (os.urandom(24 * MIB),)))
    assert gcs_proxy.counts() == {"upload": 1}
    assert gcs_server.names(bucket) == []
