"""What is sealed: the encoded value, compressed and padded (`docs/format.md`, section 5).

payload = u16 codec | u8 compression | 00 | u64 raw_len | data | zeros | u16 pad_len
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from io import BytesIO

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

_CODECS = {int(codec): codec for codec in CodecId}
_COMPRESSIONS = {int(compression): compression for compression in Compression}

_LEVEL = 1
_WINDOW_LOG_MAX = 23
_COMPRESS_FROM_BYTES = 4_096
#: What compression is judged by: so many pieces of so many bytes, from all over the value.
_SAMPLES = 8
_SAMPLE_BYTES = 8_192
_MAGIC = b"\x28\xb5\x2f\xfd"
_FRAME_BYTES_MIN = 9
_SINGLE_SEGMENT = 0x20
#: A sample that stays above this part of its size is not worth a reader's time.
_GAIN = 0.95
_PIECE_BYTES = 1_048_576
#: Memory is taken at once for so many times what there is of a payload, and beyond as it fills.
_AHEAD = 16


def longest(raw_bytes: int) -> int:
    """How long the payload of a value of `raw_bytes` can get, by zstd's own bound and padding."""
    return HEAD_BYTES + raw_bytes + (raw_bytes >> 8) + _PAD_TO_BYTES + TRAILER_BYTES


def _views(buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    """The same bytes, without a copy; an empty array of several dimensions cannot be cast."""
    return (memoryview(buffer).cast("B") for buffer in buffers if memoryview(buffer).nbytes)


def _pieces(buffers: Iterable[Buffer]) -> Iterator[memoryview]:
    """The same bytes in pieces of at most 1 MiB, without a copy."""
    for view in _views(buffers):
        for start in range(0, len(view), _PIECE_BYTES):
            yield view[start : start + _PIECE_BYTES]


def _gains(payload: Payload) -> bool:
    """Whether compression is worth it, judged by samples from all over the value."""
    raw_bytes = payload.raw_bytes
    if raw_bytes < _COMPRESS_FROM_BYTES:
        return False
    step = max(raw_bytes // _SAMPLES, _SAMPLE_BYTES)
    samples: list[memoryview] = []
    start = 0
    for view in _views(payload.buffers):
        samples += (view[at : at + _SAMPLE_BYTES] for at in range(-start % step, len(view), step))
        start += len(view)
    sample = b"".join(samples)
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
    for piece in _compressed(payload) if compress else _views(payload.buffers):
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
        first = memoryview(b"")
        while len(first) < min(payload_bytes, _PADDED_BELOW_BYTES):
            chunk = next(self._chunks, None)
            if chunk is None:
                raise FormatError("The payload is shorter than its envelope says.")
            first = memoryview(b"".join((first, chunk)) if first.nbytes else chunk).cast("B")
        self._first = first[HEAD_BYTES:]
        self.head = bytes(first[:HEAD_BYTES])
        pad_bytes = 0
        if payload_bytes <= _PADDED_BELOW_BYTES:
            pad_bytes = int.from_bytes(first[-TRAILER_BYTES:], "big")
        self._tail = pad_bytes + TRAILER_BYTES
        self.data_bytes = payload_bytes - HEAD_BYTES - self._tail
        if self.data_bytes < 0 or padding(payload_bytes - pad_bytes) != pad_bytes:
            raise FormatError("The payload's padding is not the one that its length asks for.")
        self.start = self._first[: self.data_bytes]

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
            tail += chunk[left : left + self._tail + 1 - len(tail)]
            left = max(0, left - len(chunk))
        pad_bytes = self._tail - TRAILER_BYTES
        if tail != bytes(pad_bytes) + pad_bytes.to_bytes(2, "big"):
            raise FormatError("The payload does not end with zeros and their number.")

    def _all(self) -> Iterator[memoryview]:
        yield self._first
        for chunk in self._chunks:
            yield memoryview(chunk).cast("B")


def _check_frame(start: memoryview) -> None:
    """Check what the zstd library checks in some modes only (RFC 8878, section 3.1.1.1).

    It takes a skippable frame for a frame without content, and looks at the window's size only
    where it does not decompress in one go.

    Raises:
        FormatError: this is not the start of a frame that the format allows.
    """
    if len(start) < _FRAME_BYTES_MIN or start[:4] != _MAGIC:
        raise FormatError("The payload is not a zstd frame.")
    descriptor, window = start[4:6]
    if not descriptor & _SINGLE_SEGMENT:
        exponent, mantissa = divmod(window, 8)
        if (8 + mantissa) << (7 + exponent) > 1 << _WINDOW_LOG_MAX:
            raise FormatError("The payload's zstd frame asks for a window of more than 8 MiB.")


def _decompressed(data: Iterator[memoryview], raw_bytes: int) -> Iterator[bytes]:
    """Decompress one frame, in pieces, and never more than `raw_bytes` and one byte of proof."""
    options = {int(zstd.DecompressionParameter.window_log_max): _WINDOW_LOG_MAX}
    decompressor = zstd.ZstdDecompressor(options=options)
    ended = False
    left = raw_bytes
    try:
        for chunk in data:
            if ended:
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
                ended = decompressor.eof
                if ended or decompressor.needs_input:
                    break
    except zstd.ZstdError:
        raise FormatError("The payload is not a zstd frame that this format allows.") from None
    if not ended or decompressor.unused_data:
        raise FormatError("The payload is not exactly one zstd frame.")


def parse_payload(chunks: Iterable[Buffer], payload_bytes: int, max_value_bytes: int) -> Payload:
    """Read a payload of `payload_bytes`, which come in pieces of any size.

    A piece may be gone when the next one is asked for. All of them are asked for, also where
    the first ones show a fault: what comes with a wrong end is not authentic, and that is what its
    reader has to hear.

    Raises:
        FormatError: it is not a payload, or declares more than `max_value_bytes`.
    """
    rest = iter(chunks)
    try:
        return _parse(rest, payload_bytes, max_value_bytes)
    except FormatError:
        for _ in rest:
            pass
        raise


def _parse(chunks: Iterator[Buffer], payload_bytes: int, max_value_bytes: int) -> Payload:
    framed = _Framed(chunks, payload_bytes)
    codec_id = int.from_bytes(framed.head[:2], "big")
    raw_bytes = int.from_bytes(framed.head[4:], "big")
    if codec_id not in _CODECS:
        raise FormatError(f"The payload names codec {codec_id}, which this version does not know.")
    if framed.head[2] not in _COMPRESSIONS or framed.head[3]:
        raise FormatError("The payload names a compression that this version does not know.")
    if raw_bytes > max_value_bytes:
        raise FormatError(
            f"The value has {raw_bytes} bytes; `max_value_bytes` allows {max_value_bytes}."
        )
    pieces: Iterator[Buffer] = framed.data()
    if _COMPRESSIONS[framed.head[2]] is Compression.ZSTD:
        _check_frame(framed.start)
        pieces = _decompressed(framed.data(), raw_bytes)
    # One run of memory for all: what is fetched from the system twice takes longer than all else.
    # It is not taken for a length that is only claimed.
    value = BytesIO(bytes(min(raw_bytes, _AHEAD * framed.data_bytes)))
    value_bytes = sum(map(value.write, pieces))
    if value_bytes != raw_bytes:
        raise FormatError("The payload's length is not the one that it declares.")
    return Payload(_CODECS[codec_id], (value.getvalue(),))
