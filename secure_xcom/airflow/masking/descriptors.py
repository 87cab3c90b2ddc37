"""What leaves a process past Python's streams of texts: it is masked on its way out, too.

Programs that a task starts, C code and `os.write` write to file descriptors 1 and 2 by themselves.
While values are masked, each of the two leads into a file in memory; a thread takes lines from
there, masks them, and writes them to where the descriptor led. Decision 0094 says why it is no
pipe, and what is lost.
"""

from __future__ import annotations

import atexit
import fcntl
import logging
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from secure_xcom import signals

_DESCRIPTORS = (1, 2)
_POLL_SECONDS = 0.1
_WAIT_SECONDS = 5.0
_PIECE_BYTES = 1 << 20
#: A line that is longer is hidden whole.
_MOST_LINE_BYTES = 1 << 20
#: What waits to be masked holds no more memory than this; beyond it, output is dropped.
_MOST_WAITING_BYTES = 64 << 20
_HIDDEN_LINE = b"***\n"

_log = logging.getLogger("secure_xcom")


def check() -> None:
    """Check that what is written past Python's streams can be masked.

    Raises:
        OSError: this system has no files in memory, or none may be had.
    """
    os.close(_in_memory())


def _in_memory() -> int:
    if not hasattr(os, "memfd_create"):
        raise OSError("There are no files in memory on this system.")
    return os.memfd_create("secure-xcom-output", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


class Diverted:
    """Descriptors 1 and 2 of this process, with what is written to them masked.

    One that leads to a terminal is left alone: who sits there sees what the code shows.

    Args:
        mask: makes of a text what may be seen of it.

    Raises:
        OSError: this system has no files in memory, or none may be had.
    """

    def __init__(self, mask: Callable[[str], str]) -> None:
        self._mask = mask
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._channels: list[_Channel] = []
        self._undo: list[Callable[[], object]] = []
        self._is_delivering = False
        self._over = threading.Event()
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        try:
            for descriptor in _DESCRIPTORS:
                if _is_open(descriptor) and not os.isatty(descriptor):
                    self._channels.append(_Channel(descriptor))
        except BaseException:
            self.restore()
            raise
        if self._channels:
            self._deliver_at_the_end()
            name = "secure-xcom-output"
            threading.Thread(target=self._deliver_on, name=name, daemon=True).start()

    @property
    def is_ours(self) -> bool:
        """Whether this process began it, and not the one that it was forked from."""
        return self._pid == os.getpid()

    def deliver(self) -> None:
        """Mask the lines that were written, and pass them on, unless somebody is doing so."""
        self._deliver(0)

    def deliver_all(self) -> None:
        """Do so, and with what is no whole line yet."""
        self._deliver(_WAIT_SECONDS, rest=True)

    def _deliver(self, wait_seconds: float, *, rest: bool = False) -> None:
        # What a fork leaves in the child is its parent's to deliver.
        if not self.is_ours or not self._lock.acquire(timeout=wait_seconds):
            return
        try:
            if self._is_delivering:  # what masks has written something itself
                return
            self._is_delivering = True
            try:
                for channel in self._channels:
                    channel.deliver(self._masked, rest=rest)
            finally:
                self._is_delivering = False
                if self._over.is_set():
                    self._close()
        finally:
            self._lock.release()

    def restore(self) -> None:
        """Have the descriptors lead where they led."""
        while self._undo:
            self._undo.pop()()
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        self._over.set()
        if not self.is_ours:
            self._lock = threading.RLock()  # whoever held it is not in this process
            self._is_delivering = False
        with self._lock:
            for channel in self._channels:
                channel.restore()
            if not self._is_delivering:
                self._close()

    def _close(self) -> None:
        channels, self._channels = self._channels, []
        for channel in channels:
            if self.is_ours:
                channel.deliver(self._masked, rest=True)
            channel.close()

    def _masked(self, data: bytes) -> bytes:
        try:
            text = data.decode(errors="surrogateescape")
            return self._mask(text).encode(errors="surrogateescape")
        except Exception as error:
            if signals.is_callers(error):
                raise
            return _HIDDEN_LINE

    def _deliver_on(self) -> None:
        while not self._over.wait(_POLL_SECONDS):
            self.deliver()

    def _deliver_at_the_end(self) -> None:
        """Deliver where processes end: an interpreter by `atexit`, and what Airflow forks without.

        Those of Airflow 2 shut logging down before they exit, and those of Airflow 3 flush streams.
        """
        handler = _AtShutdown(self)
        self._undo.append(handler.close)
        atexit.register(self.deliver_all)
        self._undo.append(lambda: atexit.unregister(self.deliver_all))
        for stream in (sys.stdout, sys.stderr):
            self._deliver_with(stream)

    def _deliver_with(self, stream: Any) -> None:  # noqa: ANN401 - a stream of whatever make
        flush: Any = getattr(stream, "flush", None)
        try:
            is_diverted = flush is not None and stream.fileno() in _DESCRIPTORS
        except Exception:  # noqa: BLE001 - what is no file says so in several ways
            return

        def flushed() -> None:
            flush()
            self.deliver_all()

        def undo() -> None:
            if vars(stream).get("flush") is flushed:
                del stream.flush

        if is_diverted:
            with suppress(AttributeError, TypeError):
                stream.flush = flushed
                self._undo.append(undo)


class _AtShutdown(logging.Handler):
    """Delivers when logging is shut down, which is all that it does."""

    def __init__(self, diverted: Diverted) -> None:
        super().__init__()
        self._diverted = diverted

    def flush(self) -> None:
        """Deliver all."""
        self._diverted.deliver_all()


class _Channel:
    """One descriptor: where it led, and the file in memory where it leads now."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        #: How far the file is delivered, but for the beginning of a line.
        self._at_bytes = 0
        self._line = b""
        self._is_too_long = False
        #: How far its memory is given back.
        self._freed_bytes = 0
        self._memory = _in_memory()
        self._to = os.dup(descriptor)
        # Programs that are started write to the same file, each at its end, and may not empty it.
        flags = fcntl.fcntl(self._memory, fcntl.F_GETFL)
        fcntl.fcntl(self._memory, fcntl.F_SETFL, flags | os.O_APPEND)
        fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        os.dup2(self._memory, descriptor)

    def restore(self) -> None:
        # Somebody else may have led it elsewhere since.
        if _is_open(self._descriptor) and os.path.sameopenfile(self._memory, self._descriptor):
            os.dup2(self._to, self._descriptor)

    def close(self) -> None:
        os.close(self._memory)
        os.close(self._to)

    def deliver(self, masked: Callable[[bytes], bytes], *, rest: bool) -> None:
        # How far it is counts on only when it is done: what a time-out interrupts comes again.
        self._drop()
        while data := os.pread(self._memory, _PIECE_BYTES, self._at_bytes):
            whole, newline, line = (self._line + data).rpartition(b"\n")
            if self._is_too_long and newline:
                whole = whole.partition(b"\n")[2]
                self._write(_HIDDEN_LINE)
            if newline and whole:
                self._write(masked(whole + newline))
            self._at_bytes += len(data)
            self._is_too_long = len(line) > _MOST_LINE_BYTES or (self._is_too_long and not newline)
            self._line = b"" if self._is_too_long else line
            self._free()
        if rest and self._line:
            self._write(masked(self._line))
            self._line = b""

    def _drop(self) -> None:
        """Drop what waits, where it is more than may."""
        size = os.fstat(self._memory).st_size
        if size - self._at_bytes <= _MOST_WAITING_BYTES:
            return
        self._at_bytes, self._line, self._is_too_long = size, b"", True
        self._free()
        _log.warning(
            "Output to descriptor %d has been dropped: more than %d bytes waited to be masked.",
            self._descriptor,
            _MOST_WAITING_BYTES,
        )

    def _free(self) -> None:
        """Give back the memory of what is delivered; the file only seems to grow."""
        page = mmap.ALLOCATIONGRANULARITY
        end = self._at_bytes // page * page
        if end - self._freed_bytes >= _PIECE_BYTES:
            length = end - self._freed_bytes
            with mmap.mmap(self._memory, length, offset=self._freed_bytes) as delivered:
                delivered.madvise(mmap.MADV_REMOVE)
            self._freed_bytes = end

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        # Nobody reads any more, and nobody can be told.
        with suppress(OSError):
            while left:
                try:
                    left = left[os.write(self._to, left) :]
                except BlockingIOError:
                    time.sleep(_POLL_SECONDS)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _flush(stream: Any) -> None:  # noqa: ANN401 - a stream of whatever make
    with suppress(Exception):
        stream.flush()
