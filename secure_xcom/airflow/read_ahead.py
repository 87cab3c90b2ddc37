"""Reading ahead: while one value is used, the objects of the next ones come into the cache.

What is fetched is ciphertext, under the names that rows gave when they were looked at. Whatever is
then opened is what its own row names at that time; a row that has changed just misses the cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from secure_xcom import forks
from secure_xcom.airflow.process import process
from secure_xcom.errors import FormatError, SecureXComError
from secure_xcom.format.reference import from_row
from secure_xcom.model import Offloaded
from secure_xcom.threads import Crew

if TYPE_CHECKING:
    from secure_xcom.stack import Stack

#: How many rows are asked for at once, and how many are looked at ahead of the reader.
_ROWS = 32
_FETCHERS = 8


class _Fetch(NamedTuple):
    """An object on its way into the cache."""

    position: int
    length_bytes: int
    done: Future[None]


class ReadAhead:
    """The fetches ahead of one reader of a sequence.

    Args:
        stack: what fetches.
        rows: the parsed rows from one position up to another; fewer at the end.
        max_bytes: how many bytes of objects may lie ahead of the reader.
    """

    def __init__(
        self, stack: Stack, rows: Callable[[int, int], Sequence[object]], max_bytes: int
    ) -> None:
        self._stack = stack
        self._rows = rows
        self._max_bytes = max_bytes
        self._last: int | None = None
        #: The next rows with what they name, if it is an object.
        self._next: deque[tuple[int, Offloaded | None]] = deque()
        #: Up to which position rows were asked for.
        self._asked = 0
        self._has_all_rows = False
        self._fetches: deque[_Fetch] = deque()

    def read(self, position: int) -> None:
        """Take note that a position was read; two neighbours in order start the fetching."""
        in_order = self._last is not None and position == self._last + 1
        self._last = position
        while self._fetches and self._fetches[0].position <= position:
            self._fetches.popleft()
        if not in_order:
            self.cancel()
            self._asked, self._has_all_rows = position + 1, False
            return
        self._fetch_after(position)

    def _fetch_after(self, position: int) -> None:
        while not self._has_all_rows or self._next:
            if not self._next:
                if self._asked > position + _ROWS:
                    return
                self._ask(position)
                continue
            at, reference = self._next[0]
            length_bytes = reference.length_bytes if reference else 0
            ahead_bytes = sum(fetch.length_bytes for fetch in self._fetches)
            if self._fetches and ahead_bytes + length_bytes > self._max_bytes:
                return
            self._next.popleft()
            if reference and at > position and length_bytes <= self._max_bytes:
                done = _fetchers().submit(partial(self._fetch, reference))
                self._fetches.append(_Fetch(at, length_bytes, done))

    def _ask(self, position: int) -> None:
        start = max(self._asked, position + 1)
        rows = self._rows(start, start + _ROWS)
        self._next.extend(enumerate(map(_object_of, rows), start))
        self._asked = start + len(rows)
        self._has_all_rows = len(rows) < _ROWS

    def _fetch(self, reference: Offloaded) -> None:
        # What is wrong with it is said when the row is read.
        with suppress(SecureXComError):
            self._stack.fetch(reference)

    def cancel(self) -> None:
        """Begin no further fetch."""
        for fetch in self._fetches:
            fetch.done.cancel()
        self._fetches.clear()
        self._next.clear()


def behind(row: object, rows: Callable[[int, int], list[object]]) -> ReadAhead | None:
    """Give what reads ahead in the sequence of a row; None if the row has no object.

    At most half of the cache lies ahead of the reader, so that the other half serves repeated
    reads.
    """
    if _object_of(row) is None:
        return None
    settings, stack = process.current()
    return ReadAhead(stack, rows, settings.cache_max_bytes // 2)


def _object_of(row: object) -> Offloaded | None:
    try:
        reference = from_row(row)
    except FormatError:
        return None
    return reference if isinstance(reference, Offloaded) else None


_crews: list[Crew] = []
# A child has none of its parent's threads.
forks.run_in_children(_crews.clear)


def _fetchers() -> Crew:
    if not _crews:
        _crews.append(Crew(_FETCHERS, "secure-xcom-ahead"))
    return _crews[0]
