"""What decoders read from: bytes in one or more buffers, taken from the front."""

from __future__ import annotations

from collections.abc import Iterable

from secure_xcom.errors import FormatError
from secure_xcom.model import Buffer


def as_bytes_view(buffer: object) -> memoryview:
    """A flat view of an object that exports a buffer, as unsigned bytes."""
    view = memoryview(buffer)  # type: ignore[arg-type]
    return view.cast("B") if view.nbytes else memoryview(b"")


class Source:
    """Takes bytes from the front, each time after a look at how many are left."""

    def __init__(self, buffers: Iterable[Buffer]) -> None:
        self._views = [view for view in map(as_bytes_view, buffers) if view]
        self._views.reverse()
        self.left_bytes = sum(map(len, self._views))

    def pieces(self, length: int) -> list[memoryview]:
        """Take `length` bytes, in as many pieces as they lie in; nothing is copied.

        Raises:
            FormatError: there are fewer, or the length is negative.
        """
        if not 0 <= length <= self.left_bytes:
            # Without the length: in a value that is not what it says, it is a piece of contents.
            raise FormatError("The encoded value claims more bytes than are left.")
        self.left_bytes -= length
        taken = []
        while length:
            view = self._views.pop()
            if len(view) > length:
                self._views.append(view[length:])
                view = view[:length]
            taken.append(view)
            length -= len(view)
        return taken

    def take(self, length: int) -> memoryview:
        """Take `length` bytes as one view; copied only where they lie in several buffers.

        Raises:
            FormatError: there are fewer.
        """
        pieces = self.pieces(length)
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def number(self, length: int) -> int:
        """Take an unsigned big-endian integer.

        Raises:
            FormatError: fewer than `length` bytes are left.
        """
        return int.from_bytes(self.take(length), "big")

    def check_end(self) -> None:
        """Check that all bytes were taken.

        Raises:
            FormatError: some are left.
        """
        if self.left_bytes:
            raise FormatError(f"{self.left_bytes} bytes follow the encoded value.")
