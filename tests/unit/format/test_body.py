"""`docs/format.md`, section 4."""

from __future__ import annotations

import os
import struct
import tracemalloc

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from vectors import construct

from secure_xcom.errors import AuthenticationError, FormatError
from secure_xcom.format import body

KEY = bytes(range(32))
DATA = b"associated data"
RANDOM = bytes(range(body.RANDOM_BYTES))
FIRST = 1_048_520
FURTHER = 1_048_560
SEGMENT = 1_048_576


def sealed(payload):
    return b"".join(body.seal(KEY, DATA, [payload], RANDOM))


def opening(chunks, key=KEY, data=DATA):
    chunks = list(chunks)
    return body.open_(key, data, chunks, sum(map(len, chunks)))


def opened(chunks):
    """What came out, and the error that came after it, if one did."""
    pieces = []
    try:
        pieces.extend(opening(chunks))
    except AuthenticationError as error:
        return pieces, error
    return pieces, None


@pytest.mark.parametrize(
    ("payload_bytes", "body_bytes"),
    [
        (256, 312),
        (FIRST, SEGMENT),
        (FIRST + 1, SEGMENT + 17),
        (FIRST + FURTHER, 2 * SEGMENT),
        (FIRST + FURTHER + 1, 2 * SEGMENT + 17),
        (2**40, 1_099_528_405_304),
    ],
)
def test_lengths_are_those_of_the_document(payload_bytes, body_bytes):
    assert body.body_length(payload_bytes) == body_bytes
    assert body.payload_length(body_bytes) == payload_bytes


@pytest.mark.parametrize(
    "body_bytes",
    [
        -1,
        0,
        40,
        56,
        311,
        SEGMENT + 1,
        SEGMENT + 16,
        2 * SEGMENT + 16,
        body.body_length(2**40) + 1,
        2**64,
    ],
)
def test_lengths_that_no_payload_makes_are_refused(body_bytes):
    with pytest.raises(FormatError):
        body.payload_length(body_bytes)


@pytest.mark.parametrize("size", [1, 255, FIRST - 1, FIRST, FIRST + 1, FIRST + FURTHER])
def test_what_is_sealed_has_the_length_and_opens(size):
    payload = os.urandom(size)
    assert len(sealed(payload)) == body.body_length(size)
    assert b"".join(opening([sealed(payload)])) == payload


@pytest.mark.parametrize("chunk_bytes", [1000, 65_536, FIRST, FURTHER, 3 * SEGMENT])
def test_how_the_payload_is_cut_makes_no_difference(chunk_bytes):
    payload = os.urandom(FIRST + FURTHER + 5)
    chunks = [payload[at : at + chunk_bytes] for at in range(0, len(payload), chunk_bytes)]
    chunks.insert(1, b"")
    assert b"".join(body.seal(KEY, DATA, [*chunks, b""], RANDOM)) == sealed(payload)
    whole = sealed(payload)
    chunks = [whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes)]
    assert b"".join(opening([b"", *chunks, b""])) == payload


def test_a_payload_comes_byte_by_byte():
    payload = os.urandom(300)
    assert b"".join(body.seal(KEY, DATA, (payload[i : i + 1] for i in range(300)), RANDOM)) == (
        sealed(payload)
    )
    whole = sealed(payload)
    singly = (whole[i : i + 1] for i in range(len(whole)))
    assert b"".join(opening(singly)) == payload


def test_a_source_may_reuse_its_buffer():
    def source():
        buffer = bytearray(200_000)
        for byte in range(12):
            buffer[:] = bytes((byte,)) * len(buffer)
            yield buffer

    payload = b"".join(bytes((byte,)) * 200_000 for byte in range(12))
    assert b"".join(body.seal(KEY, DATA, source(), RANDOM)) == sealed(payload)


def test_opening_takes_a_source_that_reuses_its_buffer():
    payload = os.urandom(FIRST + FURTHER + 500)
    whole = sealed(payload)

    def source():
        buffer = bytearray(17)
        for at in range(0, len(whole), len(buffer)):
            piece = whole[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]

    assert b"".join(map(bytes, body.open_(KEY, DATA, source(), len(whole)))) == payload


@pytest.mark.parametrize("more", [b"x", bytes(SEGMENT)])
@pytest.mark.parametrize("apart", [True, False])
def test_what_follows_the_length_that_was_said_is_refused(more, apart):
    whole = sealed(os.urandom(500))
    chunks = [whole, b"", more] if apart else [whole + more]
    with pytest.raises(AuthenticationError):
        list(body.open_(KEY, DATA, chunks, len(whole)))
    assert list(body.open_(KEY, DATA, [whole, b""], len(whole)))


def test_small_chunks_cost_no_memory():
    chunk = bytes(16)
    tracemalloc.start()
    try:
        for _ in body.seal(KEY, DATA, (chunk for _ in range(5 * SEGMENT // 64)), RANDOM):
            pass
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 6 * SEGMENT


def test_memory_does_not_grow_with_the_payload():
    chunk = bytes(SEGMENT)
    tracemalloc.start()
    try:
        sealing = body.seal(KEY, DATA, (chunk for _ in range(32)), RANDOM)
        opened_bytes = sum(
            len(piece) for piece in body.open_(KEY, DATA, sealing, body.body_length(32 * SEGMENT))
        )
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert opened_bytes == 32 * SEGMENT
    assert peak_bytes < 8 * SEGMENT


@pytest.mark.parametrize("way", ["seal", "open"])
def test_memory_is_used_again_but_not_while_it_is_held(way):
    payload = os.urandom(6 * SEGMENT)
    whole = sealed(payload)

    def pieces():
        if way == "seal":
            return body.seal(KEY, DATA, [payload], RANDOM)
        return opening([whole])

    addresses = [
        np.frombuffer(piece, np.uint8).ctypes.data for piece in pieces() if len(piece) > FIRST + 20
    ]
    assert len(addresses) == 5
    assert len(set(addresses)) == 2
    assert b"".join(list(pieces())) == (whole if way == "seal" else payload)


def test_a_payload_of_too_many_bytes_is_refused(monkeypatch):
    monkeypatch.setattr(body, "PAYLOAD_BYTES_MAX", FIRST + 5)
    assert len(sealed(bytes(FIRST + 5))) == body.body_length(FIRST + 5)
    with pytest.raises(FormatError):
        sealed(bytes(FIRST + 6))


@pytest.mark.parametrize("at", [0, 1, 32, 33, 39, 40, 100, SEGMENT - 1])
def test_a_fault_in_the_first_segment_releases_nothing(at):
    altered = bytearray(sealed(os.urandom(FIRST + 500)))
    altered[at] ^= 1
    pieces, error = opened([altered])
    assert type(error) is AuthenticationError
    assert pieces == []


def test_what_is_released_before_a_fault_is_what_was_sealed():
    payload = os.urandom(FIRST + FURTHER + 500)
    whole = sealed(payload)
    for length in (2 * SEGMENT, len(whole) - 1):
        pieces, error = opened([whole[:length]])
        assert type(error) is AuthenticationError
        assert payload.startswith(b"".join(pieces))
        assert len(b"".join(pieces)) < length
    pieces, error = opened([whole + bytes(SEGMENT)])
    assert type(error) is AuthenticationError
    assert payload.startswith(b"".join(pieces))


def test_an_empty_last_segment_is_refused_even_if_it_is_authentic():
    salt, prefix = RANDOM[:32], RANDOM[32:]
    key = construct.hkdf(KEY, salt, DATA)
    first, last = (
        AESGCM(key).encrypt(prefix + struct.pack(">IB", index, index), bytes(size), None)
        for index, size in enumerate((FIRST, 0))
    )
    pieces, error = opened([b"\x28" + RANDOM + first + last])
    assert type(error) is AuthenticationError
    assert b"".join(pieces) == bytes(FIRST)


@pytest.mark.parametrize("length", [0, 1, 39, 40, 41, 56])
def test_a_body_too_short_for_a_segment_is_refused(length):
    pieces, error = opened([sealed(b"x" * 300)[:length]])
    assert type(error) is AuthenticationError
    assert pieces == []


@pytest.mark.parametrize(("key", "data"), [(bytes(32), DATA), (KEY, b"other data")])
def test_another_key_or_other_data_opens_nothing(key, data):
    with pytest.raises(AuthenticationError):
        list(opening([sealed(b"x" * 300)], key, data))


@pytest.mark.parametrize("length", [256, 257, 4_096, body.SHORT_BYTES - 56, body.SHORT_BYTES])
def test_a_short_body_in_one_go_is_the_same(length):
    payload, random = os.urandom(length), os.urandom(body.RANDOM_BYTES)
    sealed = body.seal_short(KEY, b"aad", payload, random)
    assert sealed == b"".join(body.seal(KEY, b"aad", (payload,), random))
    assert len(sealed) == body.body_length(length)
    assert body.open_short(KEY, b"aad", sealed) == payload
    assert b"".join(body.open_(KEY, b"aad", (sealed,), len(sealed))) == payload


def test_a_short_body_that_was_changed_is_refused_in_one_go():
    sealed = body.seal_short(KEY, b"aad", bytes(256), os.urandom(body.RANDOM_BYTES))
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        with pytest.raises(AuthenticationError):
            body.open_short(KEY, b"aad", changed)
    for length in range(len(sealed)):
        with pytest.raises(AuthenticationError):
            body.open_short(KEY, b"aad", sealed[:length])
    for other in (
        (KEY, b"other", sealed),
        (bytes(32), b"aad", sealed),
        (KEY, b"aad", sealed + b"x"),
    ):
        with pytest.raises(AuthenticationError):
            body.open_short(*other)
