"""Bytes on their way into a store: counted, summed, cut and held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import google_crc32c

from secure_xcom.model import Buffer


class Checksummed:
    """The chunks of a write as `bytes`, counted and summed on their way.

    It tells an error of what makes the chunks from one of what takes them.

    Args:
        make_chunks: called when the first one is asked for.
    """

    def __init__(self, make_chunks: Callable[[], Iterable[Buffer]]) -> None:
        self.length_bytes = 0
        self.crc32c = 0
        self.ended = False
        self.error: Exception | None = None
        self._blocks = self._run(make_chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self._blocks

    def take(self, count: int) -> list[bytes]:
        """The next blocks, until they hold more than `count` bytes or the chunks end."""
        end = self.length_bytes + count
        taken = []
        for block in self._blocks:
            taken.append(block)
            if self.length_bytes > end:
                break
        return taken

    def _run(self, make_chunks: Callable[[], Iterable[Buffer]]) -> Iterator[bytes]:
        try:
            for chunk in make_chunks():
                # A chunk may be gone when the next one comes; and google-crc32c takes no other.
                block = chunk if type(chunk) is bytes else bytes(chunk)
                if block:
                    self.length_bytes += len(block)
                    self.crc32c = google_crc32c.extend(self.crc32c, block)
                    yield block
        except Exception as error:
            self.error = error
            raise
        self.ended = True


@contextmanager
def errors_of_source_first(attempts: Iterable[Checksummed]) -> Iterator[None]:
    """Let an error of what makes the chunks out as it is, whatever was made of it on the way."""
    try:
        yield
    except Exception:
        for attempt in attempts:
            if attempt.error is not None:
                raise attempt.error from None
        raise


class HeldBody:
    """Bytes in pieces, held; as the body of a request they can be sent again."""

    def __init__(self, blocks: Iterable[Buffer]) -> None:
        self._blocks = tuple(blocks)
        self._length_bytes = sum(len(block) for block in self._blocks)

    def __len__(self) -> int:
        return self._length_bytes

    def __iter__(self) -> Iterator[Buffer]:
        return iter(self._blocks)

    def after(self, count: int) -> HeldBody:
        """What follows the first `count` bytes."""
        if not count:
            return self
        return HeldBody((memoryview(b"".join(self._blocks))[count:],))


#: What a piece of a chunked request is cut into: `urllib3` copies each, and memory for longer ones
#: comes from the system, page by page, each time (measured: 57 of 90 ms of CPU for 64 MiB).
_SENT_BYTES = 262_144


class StreamedBody:
    """Bytes in pieces, passed through; as the body of a request they can be sent once."""

    def __init__(self, blocks: Iterable[Buffer]) -> None:
        self._blocks: Iterator[Buffer] | None = _cut(blocks)

    def __iter__(self) -> Iterator[Buffer]:
        blocks, self._blocks = self._blocks, None
        if blocks is None:
            # Google's session repeats a request whose credentials were refused.
            raise ConnectionError("a body that was passed through cannot be sent again")
        return blocks


def _cut(blocks: Iterable[Buffer]) -> Iterator[Buffer]:
    for block in blocks:
        view = memoryview(block)
        for start in range(0, len(view), _SENT_BYTES):
            yield view[start : start + _SENT_BYTES]


def parts(blocks: Iterable[bytes], part_bytes: int) -> Iterator[tuple[HeldBody, bool]]:
    """Cut a stream into parts of exactly `part_bytes`, and mark the last, shorter or full."""
    part: list[Buffer] = []
    room_bytes = part_bytes
    for block in blocks:
        rest = memoryview(block)
        while len(rest) > room_bytes:
            part.append(rest[:room_bytes])
            yield HeldBody(part), False
            rest = rest[room_bytes:]
            part, room_bytes = [], part_bytes
        part.append(rest)
        room_bytes -= len(rest)
    yield HeldBody(part), True
