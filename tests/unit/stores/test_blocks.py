from __future__ import annotations

import os
from collections.abc import Iterator

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_xcom.stores.blocks import (
    Checksummed,
    HeldBody,
    StreamedBody,
    errors_of_source_first,
    parts,
)

PIECES = st.lists(st.binary(max_size=30), max_size=12)


@given(PIECES, st.sampled_from([bytes, bytearray, memoryview]))
def test_a_tally_counts_and_sums_what_passes(pieces: list[bytes], kind: type):
    whole = b"".join(pieces)
    tally = Checksummed(lambda: (kind(piece) for piece in pieces))
    blocks = list(tally)
    assert all(type(block) is bytes and block for block in blocks)
    assert b"".join(blocks) == whole
    assert (tally.length_bytes, tally.crc32c) == (len(whole), google_crc32c.value(whole))
    assert tally.ended


@given(PIECES, st.integers(0, 60))
def test_taking_stops_as_soon_as_there_is_more_than_asked(pieces: list[bytes], count: int):
    tally = Checksummed(lambda: pieces)
    taken = tally.take(count)
    whole = b"".join(pieces)
    if len(whole) <= count:
        assert tally.ended
        assert b"".join(taken) == whole
    else:
        assert not tally.ended
        assert len(b"".join(taken[:-1])) <= count < len(b"".join(taken))
    assert b"".join([*taken, *tally]) == whole


@given(PIECES, st.integers(1, 20))
def test_parts_are_full_but_the_last(pieces: list[bytes], size: int):
    cut = [(b"".join(part), len(part), last) for part, last in parts(iter(pieces), size)]
    assert b"".join(data for data, _, _ in cut) == b"".join(pieces)
    assert all(len(data) == length for data, length, _ in cut)
    assert [last for _, _, last in cut] == [False] * (len(cut) - 1) + [True]
    assert all(length == size for _, length, _ in cut[:-1])
    # The last is never empty, but where all is.
    assert 0 < cut[-1][1] <= size or not b"".join(pieces)


@given(PIECES, st.integers(0, 400))
def test_what_follows_some_bytes(pieces: list[bytes], count: int):
    whole = b"".join(pieces)
    count = min(count, len(whole))
    after = HeldBody(pieces).after(count)
    assert b"".join(after) == whole[count:]
    assert len(after) == len(whole) - count
    assert b"".join(after) == whole[count:]


def test_what_was_passed_through_is_not_sent_again():
    body = StreamedBody([b"a", b"b"])
    assert list(body) == [b"a", b"b"]
    with pytest.raises(ConnectionError, match="cannot be sent again"):
        iter(body)


class SourceError(Exception):
    pass


def test_the_error_of_the_source_comes_out():
    def failing() -> Iterator[bytes]:
        yield b"a"
        raise SourceError

    def upload(tally: Checksummed) -> None:
        try:
            list(tally)
        except SourceError as error:
            raise ConnectionError("what a library made of it") from error

    tally = Checksummed(failing)
    with pytest.raises(SourceError) as caught, errors_of_source_first([Checksummed(list), tally]):
        upload(tally)
    assert caught.value is tally.error
    assert not tally.ended


def test_other_errors_stay():
    with pytest.raises(ConnectionError), errors_of_source_first([Checksummed(lambda: [b"a"])]):
        raise ConnectionError("lost")


def test_what_is_passed_through_is_cut_small_and_not_copied():
    block = os.urandom(600_000)
    pieces = list(StreamedBody([b"head", block, b"tail"]))
    assert b"".join(pieces) == b"head" + block + b"tail"
    assert [len(piece) for piece in pieces] == [4, 262_144, 262_144, 75_712, 4]
    assert [piece.obj is block for piece in pieces] == [False, True, True, True, False]
