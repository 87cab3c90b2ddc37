"""Arrow IPC streams, checked before Arrow reads them (`docs/codecs.md`, section 3).

Arrow believes a stream that says it is compressed, and rows that take no bytes. So the head of each
message is read here first: the framing of Arrow's columnar format (section "Serialization and
interprocess communication"), the tables of its `Message.fbs`, and as much of FlatBuffers as they
take. No body is looked into, and nothing is copied but what lies across two buffers.
"""

from __future__ import annotations

import struct

from secure_xcom.codecs.source import Source
from secure_xcom.errors import FormatError

#: So many rows, or elements of nested arrays, may take no bytes: columns of nulls do not.
ROWS_WITHOUT_BYTES = 1 << 20

_CONTINUATION = b"\xff\xff\xff\xff"
_LENGTH_BYTES = 4
#: `MetadataVersion.V5`. What version 4 says in its custom metadata may be compression as well.
_VERSION = 4
#: `MessageHeader`.
_SCHEMA, _DICTIONARY_BATCH, _RECORD_BATCH = 1, 2, 3
#: Two signed integers of 64 bits.
_PAIR_BYTES = 16


def check(source: Source) -> None:
    """Check the streams that make up all of `source`, one after the other.

    Raises:
        FormatError: `source` holds something else, a buffer is compressed or lies outside its
            message, or an array claims more elements than its message has bits, and more than
            `ROWS_WITHOUT_BYTES`.
    """
    while source.left_bytes:
        kinds = {_SCHEMA}
        while head := _head(source):
            message = _FlatTable.root(head)
            kind = message.number(1, 1)
            if message.number(0, 2) != _VERSION or kind not in kinds:
                raise FormatError("A message of the encoded table is of another version or kind.")
            body_bytes = message.number(3, 8)
            source.pieces(body_bytes)
            batch = message.table(2)
            if kind == _DICTIONARY_BATCH:
                batch = batch.table(1)
            if kind != _SCHEMA:
                _check_batch(batch, body_bytes)
            kinds = {_DICTIONARY_BATCH, _RECORD_BATCH}


def _head(source: Source) -> memoryview:
    """The head of the next message; none at the end of a stream."""
    if source.take(_LENGTH_BYTES) != _CONTINUATION:
        raise FormatError("The encoded table is not a sequence of Arrow IPC streams.")
    return source.take(int.from_bytes(source.take(_LENGTH_BYTES), "little"))


def _check_batch(batch: _FlatTable, body_bytes: int) -> None:
    if batch.has(3):
        raise FormatError("The encoded table is compressed once more, which is never written.")
    rows_max = max(ROWS_WITHOUT_BYTES, 8 * body_bytes)
    lengths = [batch.number(0, 8), *(length for length, _ in batch.pairs(1))]
    if not 0 <= min(lengths) <= max(lengths) <= rows_max:
        raise FormatError("The encoded table claims rows that it does not hold.")
    left_bytes = body_bytes
    for start, length in batch.pairs(2):
        left_bytes -= length
        if start < 0 or length < 0 or start + length > body_bytes or left_bytes < 0:
            raise FormatError("The encoded table claims more bytes than it holds.")


class _FlatTable:
    """A table of FlatBuffers; every offset in it is checked before it is followed."""

    def __init__(self, data: memoryview, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _number(data, at, 4)
        self._vtable_bytes = _number(data, self._vtable, 2) & 0xFFFF
        if self._vtable_bytes % 2:
            raise FormatError("A message of the encoded table is malformed.")

    @classmethod
    def root(cls, data: memoryview) -> _FlatTable:
        """The table that a buffer begins with."""
        return cls(data, _offset(data, 0))

    def _field(self, position: int) -> int | None:
        entry = 4 + 2 * position
        if entry >= self._vtable_bytes:
            return None
        offset = _number(self._data, self._vtable + entry, 2) & 0xFFFF
        return self._at + offset if offset else None

    def has(self, position: int) -> bool:
        """Whether a field is there."""
        return self._field(position) is not None

    def number(self, position: int, length: int) -> int:
        """A field of `length` bytes as a signed integer; 0 where it is left out."""
        at = self._field(position)
        return 0 if at is None else _number(self._data, at, length)

    def table(self, position: int) -> _FlatTable:
        """A field that is a table."""
        at = self._field(position)
        if at is None:
            raise FormatError("A message of the encoded table is malformed.")
        return _FlatTable(self._data, at + _offset(self._data, at))

    def pairs(self, position: int) -> list[tuple[int, int]]:
        """A field that is a vector of pairs of signed integers of 64 bits."""
        at = self._field(position)
        if at is None:
            return []
        at += _offset(self._data, at)
        length = _offset(self._data, at) * _PAIR_BYTES
        vector = self._data[at + 4 : at + 4 + length]
        if len(vector) != length:
            raise FormatError("A message of the encoded table is malformed.")
        return list(struct.iter_unpack("<qq", vector))


def _offset(data: memoryview, at: int) -> int:
    return _number(data, at, 4) & 0xFFFFFFFF


def _number(data: memoryview, at: int, length: int) -> int:
    if not 0 <= at <= len(data) - length:
        raise FormatError("A message of the encoded table is malformed.")
    return int.from_bytes(data[at : at + length], "little", signed=True)
