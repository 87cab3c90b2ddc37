"""`docs/format.md`, section 5."""

from __future__ import annotations

import array
import os
import struct
import tracemalloc

import numpy as np
import pytest
from vectors import frames, library_frames

from secure_xcom.errors import AuthenticationError, FormatError
from secure_xcom.format import payload
from secure_xcom.model import CodecId, Compression, Payload

GIB = 2**30


def marshalled(raw, compression=Compression.NONE):
    return b"".join(payload.marshal_payload(Payload(CodecId.BYTES, (raw,)), compression))


def framed(data, raw_len, compression=1):
    """A payload around any data."""
    length = 14 + len(data)
    pad = -length % 256 if length <= 4096 else 0
    head = struct.pack(">HBBQ", 5, compression, 0, raw_len)
    return head + data + bytes(pad) + struct.pack(">H", pad)


def parsed(*chunks, limit=GIB):
    return payload.parse_payload(iter(chunks), sum(map(len, chunks)), limit)


def contents(found):
    return b"".join(found.buffers)


@pytest.mark.parametrize(
    ("raw_bytes", "payload_bytes"),
    [(0, 256), (242, 256), (243, 512), (4081, 4096), (4082, 4096), (4083, 4097), (10_000, 10_014)],
)
def test_lengths_are_those_of_the_document(raw_bytes, payload_bytes):
    raw = os.urandom(raw_bytes)
    assert len(marshalled(raw)) == payload_bytes
    assert contents(parsed(marshalled(raw))) == raw


def test_the_bytes_are_those_of_the_document():
    expected = struct.pack(">HBBQ", 5, 0, 0, 3) + b"abc" + bytes(239) + b"\x00\xef"
    assert marshalled(b"abc") == expected


@pytest.mark.parametrize("chunk_bytes", [1, 2, 11, 12, 13, 255, 4096, 5000])
@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("raw_bytes", [0, 100, 4082, 4083, 9000])
def test_how_the_payload_is_cut_makes_no_difference(chunk_bytes, compression, raw_bytes):
    raw = (b"%08d" * 1200 % tuple(range(1200)))[:raw_bytes]
    data = marshalled(raw, compression)
    chunks = [data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes)]
    found = parsed(b"", *chunks, b"")
    assert contents(found) == raw
    assert found.codec is CodecId.BYTES


def test_a_value_in_many_buffers_is_one():
    buffers = [
        b"abc",
        memoryview(b"def"),
        bytearray(b"ghi"),
        b"",
        array.array("d"),
        np.zeros((0, 3)),
    ]
    buffers += [array.array("H", [1, 2]), np.ones((2, 3))]
    made = Payload(CodecId.ARROW, buffers)
    raw = b"abcdefghi" + array.array("H", [1, 2]).tobytes() + np.ones(6).tobytes()
    assert made.raw_bytes == len(raw)
    found = parsed(b"".join(payload.marshal_payload(made, Compression.ZSTD)))
    assert contents(found) == raw
    assert found.codec is CodecId.ARROW


@pytest.mark.parametrize(
    ("raw", "compressed"),
    [
        (b"x" * 4095, False),
        (b"x" * 4096, True),
        (os.urandom(100_000), False),
        (library_frames.LARGE_RECORDS, True),
        (os.urandom(200_000) + b"x" * 200_000 + os.urandom(200_000), True),
    ],
    ids=["short", "long-enough", "random", "records", "middle-gains"],
)
def test_what_gains_is_compressed(raw, compressed):
    data = marshalled(raw, Compression.ZSTD)
    assert data[2] == compressed
    assert (len(data) < len(raw)) == compressed
    assert contents(parsed(data)) == raw
    assert marshalled(raw)[2] == 0


@pytest.mark.parametrize("at", range(3))
def test_samples_are_from_all_buffers(at):
    buffers = [os.urandom(300_000), os.urandom(5000), os.urandom(300_001)]
    made = Payload(CodecId.ARROW, tuple(buffers))
    assert b"".join(payload.marshal_payload(made, Compression.ZSTD))[2] == 0
    buffers.insert(at, b"x" * 200_000)
    made = Payload(CodecId.ARROW, tuple(buffers))
    data = b"".join(payload.marshal_payload(made, Compression.ZSTD))
    assert data[2] == 1
    assert contents(parsed(data)) == b"".join(made.buffers)


@pytest.mark.parametrize("raw_bytes", [0, 1, 242, 243, 4096, 200_000, 2_000_000])
def test_no_payload_is_longer_than_the_longest(raw_bytes):
    raw = os.urandom(raw_bytes // 3) + b"x" * (raw_bytes // 3)
    raw += os.urandom(raw_bytes - len(raw))
    for compression in Compression:
        assert len(marshalled(raw, compression)) <= payload.longest(raw_bytes)


@pytest.mark.parametrize("raw_bytes", [0, 10**5, 10**6, 10**9, 2**40])
def test_the_longest_payload_has_room_for_what_zstd_can_add(raw_bytes):
    """A frame's header has 18 bytes at most, and each block of 128 KiB a header of three."""
    frame_bytes = 18 + raw_bytes + 3 * -(-raw_bytes // 131_072)
    assert payload.longest(raw_bytes) >= 14 + frame_bytes


def test_a_large_value_is_passed_on_without_a_copy():
    raw = bytes(5_000_000)
    pieces = list(payload.marshal_payload(Payload(CodecId.BYTES, (raw,)), Compression.NONE))
    assert [piece.obj is raw for piece in pieces if isinstance(piece, memoryview)] == [True]


@pytest.mark.parametrize("compression", Compression)
def test_a_value_takes_no_memory_but_its_own_and_no_piece_of_its_source(compression):
    raw = (os.urandom(100_000) + b"x" * 900_000) * 32
    data = marshalled(raw, compression)
    assert data[2] == compression

    def pieces():
        buffer = bytearray(1_000_003)
        for at in range(0, len(data), len(buffer)):
            piece = data[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]
        buffer[:] = bytes(len(buffer))

    found = []
    peak = peak_bytes(lambda: found.append(payload.parse_payload(pieces(), len(data), GIB)))
    assert found[0].buffers == (raw,)
    assert peak < len(raw) * 9 // 8 + 6_000_000


@pytest.mark.parametrize("size", [0, 1, 255])
def test_a_payload_shorter_than_any_is_refused(size):
    with pytest.raises(FormatError):
        parsed(marshalled(b"abc")[:size])


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("raw", [b"abc", b"x" * 5000, b"x" * 3_000_000])
def test_a_stream_of_another_length_than_announced_is_refused(raw, compression):
    data = marshalled(raw, compression)
    for chunks, length in (
        ((data[:-1],), len(data)),
        ((data[: len(data) // 2],), len(data)),
        ((), len(data)),
        ((data, b"\0"), len(data)),
        ((data, b"\0" * 256), len(data)),
        ((data, data), len(data)),
    ):
        with pytest.raises(FormatError):
            payload.parse_payload(iter(chunks), length, GIB)


@pytest.mark.parametrize(
    "data",
    [
        framed(b"abc", 4, compression=0),
        framed(b"abc", 3, compression=2),
        framed(b"abc", 2 * GIB, compression=0),
        framed(frames.skippable(b""), 0),
        framed(b"nothing like a frame", 3),
        b"\0" * 256,
        framed(b"x" * 5000, 4, compression=0),
    ],
)
def test_a_fault_of_shape_never_hides_a_wrong_end(data):
    """What was cut short is not authentic; that its length is wrong as well says nothing."""

    def stream():
        yield data
        raise AuthenticationError

    with pytest.raises(AuthenticationError):
        payload.parse_payload(stream(), len(data), GIB)


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [0, 1])
@pytest.mark.parametrize("raw_len", [2**32, 2**40, 2**64 - 1])
def test_a_false_length_costs_nothing(compression, raw_len):
    data = framed(frames.frame(frames.raw_blocks(b"abc")), raw_len, compression)

    def work():
        with pytest.raises(FormatError):
            parsed(data, limit=2**64)

    assert peak_bytes(work) < 2_000_000


@pytest.mark.parametrize("declared", [0, 3, 1_000_000])
def test_a_bomb_is_left_at_what_it_declares(declared):
    data = framed(frames.frame(frames.run(b"\0", 2**32)), declared)
    chunks = [data[at : at + 1000] for at in range(0, len(data), 1000)]

    def work():
        with pytest.raises(FormatError, match="more than it declares"):
            parsed(*chunks)

    assert peak_bytes(work) < 2_000_000 + 2 * declared


@pytest.mark.parametrize("chunk_bytes", [200, 100_000])
def test_what_comes_after_the_end_is_not_kept(chunk_bytes):
    data = marshalled(b"abc")
    more = (bytes(chunk_bytes) for _ in range(4_000_000 // chunk_bytes))

    def stream():
        yield data
        yield from more

    def work():
        with pytest.raises(FormatError):
            payload.parse_payload(stream(), len(data), GIB)

    assert peak_bytes(work) < 3_000_000
    assert next(more, None) is None


@pytest.mark.parametrize("more", [b"\0", b"x" * 100, frames.frame(frames.raw_blocks(b""))])
def test_bytes_after_the_frame_may_come_in_a_piece_of_their_own(more):
    frame = frames.frame(frames.raw_blocks(b"x" * 6000))
    data = framed(frame + more, 6000)
    split = 12 + len(frame)
    with pytest.raises(FormatError):
        parsed(data[:split], data[split:])


def test_a_value_over_the_limit_is_never_decompressed():
    raw = 64 * 2**20
    data = framed(frames.frame(frames.run(b"\0", raw)), raw)

    def work():
        with pytest.raises(FormatError, match="max_value_bytes"):
            parsed(data, limit=raw - 1)

    assert peak_bytes(work) < 100_000
    assert len(contents(parsed(data, limit=raw))) == raw


@pytest.mark.parametrize("split", [1, 3, 5, 6, 8, 9, 12, 15])
def test_a_frame_s_start_may_come_in_pieces(split):
    data = marshalled(library_frames.LARGE_RECORDS, Compression.ZSTD)
    assert contents(parsed(data[: 12 + split], data[12 + split :])) == library_frames.LARGE_RECORDS


def test_decompression_continues_where_a_piece_ends_in_the_frame():
    raw = b"x" * 5_000_000
    data = framed(frames.frame(frames.run(b"x", len(raw))), len(raw))
    found = parsed(*(data[at : at + 1] for at in range(len(data))))
    assert contents(found) == raw


def test_contents_are_not_printed():
    assert "secret" not in repr(Payload(CodecId.BYTES, (b"secret",)))
