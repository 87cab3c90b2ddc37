"""What is sealed: the encoded value, compressed and padded (`docs/format.md`, section 5).

payload = u16 codec | u8 compression | 00 | u64 raw_len | data | zeros | u16 pad_len
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from secure_xcom.errors import FormatError
from secure_xcom.model import Buffer, CodecId, Compression, Payload

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HEAD_BYTES = 12
TRAILER_BYTES = 2
_PADDED_BELOW_BYTES = 4_096
_PAD_TO_BYTES = 256

_LEVEL = 1
_WINDOW_LOG_MAX = 23
_COMPRESS_FROM_BYTES = 4_096
_SAMPLE_BYTES = 65_536
#: A sample that stays above this part of its size is not worth a reader's time.
_GAIN = 0.95
_PIECE_BYTES = 1_048_576


def _pieces(buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    """The same bytes in pieces of at most 1 MiB, without a copy."""
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]


def _gains(payload: Payload) -> bool:
    """Whether compression is worth it, judged by a sample from the middle of the value."""
    if payload.raw_bytes < _COMPRESS_FROM_BYTES:
        return False
    largest = memoryview(max(payload.buffers, key=lambda buffer: memoryview(buffer).nbytes))
    middle = max(0, largest.nbytes - _SAMPLE_BYTES) // 2
    sample = largest.cast("B")[middle : middle + _SAMPLE_BYTES]
    return len(zstd.compress(sample, level=_LEVEL)) < len(sample) * _GAIN


def _compressed(payload: Payload) -> Iterator[bytes]:
    compressor = zstd.ZstdCompressor(level=_LEVEL)
    for piece in _pieces(payload.buffers):
        if data := compressor.compress(piece):
            yield data
    yield compressor.flush()


def marshal_payload(payload: Payload, compression: Compression) -> Iterator[Buffer]:
    """Yield the payload; compressed where `compression` says so and the value gains by it."""
    compress = compression is Compression.ZSTD and _gains(payload)
    used = Compression.ZSTD if compress else Compression.NONE
    yield (
        payload.codec.to_bytes(2, "big") + bytes((used, 0)) + payload.raw_bytes.to_bytes(8, "big")
    )
    data_bytes = 0
    for piece in _compressed(payload) if compress else _pieces(payload.buffers):
        data_bytes += len(piece)
        yield piece
    pad_bytes = padding(HEAD_BYTES + data_bytes + TRAILER_BYTES)
    yield bytes(pad_bytes) + pad_bytes.to_bytes(2, "big")


def padding(length_bytes: int) -> int:
    """How many zero bytes a payload of `length_bytes` without padding gets."""
    return -length_bytes % _PAD_TO_BYTES if length_bytes <= _PADDED_BELOW_BYTES else 0


class _Framed:
    """The data of a payload, with head and trailer taken off and checked as they come by."""

    def __init__(self, chunks: Iterable[Buffer], payload_bytes: int) -> None:
        self._chunks = iter(chunks)
        if payload_bytes < _PAD_TO_BYTES:
            raise FormatError(f"The payload has {payload_bytes} bytes; {_PAD_TO_BYTES} is least.")
        first = memoryview(next(self._chunks)).cast("B")
        while len(first) < min(payload_bytes, _PADDED_BELOW_BYTES):
            first = memoryview(b"".join((first, next(self._chunks))))
        self._first = first[HEAD_BYTES:]
        self.head = bytes(first[:HEAD_BYTES])
        pad_bytes = 0
        if payload_bytes <= _PADDED_BELOW_BYTES:
            pad_bytes = int.from_bytes(first[-TRAILER_BYTES:], "big")
        self._tail = pad_bytes + TRAILER_BYTES
        self.data_bytes = payload_bytes - HEAD_BYTES - self._tail
        if self.data_bytes < 0 or padding(payload_bytes - pad_bytes) != pad_bytes:
            raise FormatError("The payload's padding is not the one that its length asks for.")

    def data(self) -> Iterator[memoryview]:
        """Yield the data.

        Raises:
            FormatError: the padding is not zeros and its length.
        """
        left = self.data_bytes
        tail = bytearray()
        for chunk in self._all():
            if left:
                yield chunk[:left]
            if len(chunk) > left:
                tail += chunk[left:]
            left = max(0, left - len(chunk))
        pad_bytes = self._tail - TRAILER_BYTES
        if tail != bytes(pad_bytes) + pad_bytes.to_bytes(2, "big"):
            raise FormatError("The payload's padding is not zeros.")

    def _all(self) -> Iterator[memoryview]:
        yield self._first
        for chunk in self._chunks:
            yield memoryview(chunk).cast("B")


def _decompressed(data: Iterator[memoryview], raw_bytes: int) -> Iterator[bytes]:
    """Decompress one frame, in pieces, and never more than `raw_bytes` and one byte of proof."""
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_MAX}
    decompressor = zstd.ZstdDecompressor(options=options)
    left = raw_bytes
    try:
        for chunk in data:
            if decompressor.eof:
                raise FormatError("Bytes follow the payload's zstd frame.")
            source: Buffer = chunk
            while True:
                piece = decompressor.decompress(source, max_length=min(left + 1, _PIECE_BYTES))
                source = b""
                left -= len(piece)
                if left < 0:
                    raise FormatError("The payload decompresses to more than it declares.")
                if piece:
                    yield piece
                if decompressor.eof or decompressor.needs_input:
                    break
    except zstd.ZstdError:
        raise FormatError("The payload is not a zstd frame that this format allows.") from None
    if not decompressor.eof or decompressor.unused_data:
        raise FormatError("The payload is not exactly one zstd frame.")


def parse_payload(chunks: Iterable[Buffer], payload_bytes: int, max_value_bytes: int) -> Payload:
    """Read a payload of `payload_bytes`, which come in pieces of any size.

    Raises:
        FormatError: it is not a payload, or declares more than `max_value_bytes`.
    """
    framed = _Framed(chunks, payload_bytes)
    codec_id = int.from_bytes(framed.head[:2], "big")
    raw_bytes = int.from_bytes(framed.head[4:], "big")
    if codec_id not in set(CodecId):
        raise FormatError(f"The payload names codec {codec_id}, which this version does not know.")
    if framed.head[2] not in set(Compression) or framed.head[3]:
        raise FormatError("The payload names a compression that this version does not know.")
    if raw_bytes > max_value_bytes:
        raise FormatError(
            f"The value has {raw_bytes} bytes; `max_value_bytes` allows {max_value_bytes}."
        )
    if Compression(framed.head[2]) is Compression.NONE:
        if framed.data_bytes != raw_bytes:
            raise FormatError("The payload's length is not the one that it declares.")
        raw = _collect(framed.data(), raw_bytes)
    else:
        raw = _collect(_decompressed(framed.data(), raw_bytes), raw_bytes)
    return Payload(CodecId(codec_id), (raw,))


def _collect(pieces: Iterator[Buffer], raw_bytes: int) -> Buffer:
    """Join the pieces into one buffer; a value in a single piece is not copied.

    The buffer grows as data arrives, so that a false length costs nothing.
    """
    first = list(islice(pieces, 2))
    if len(first) == 1 and len(first[0]) == raw_bytes:
        return first[0]
    joined = bytearray()
    for piece in first:
        joined += piece
    for piece in pieces:
        joined += piece
    if len(joined) != raw_bytes:
        raise FormatError("The payload's length is not the one that it declares.")
    return joined
