"""Reading ahead: while one value is used, the objects of the next ones come into the cache.

What is fetched is ciphertext, under the names that rows gave when they were looked at. Whatever is
then opened is what its own row names at that time; a row that has changed just misses the cache.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from secure_xcom.errors import SecureXComError
from secure_xcom.threads import Crew

if TYPE_CHECKING:
    from secure_xcom.stack import Stack

#: How many rows are asked for at once, and how many are looked at ahead of the reader.
_ROWS = 32
_FETCHERS = 8


class Ahead:
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
        self._known: deque[tuple[int, object]] = deque()
        self._asked = 0
        self._ended = False
        self._fetches: deque[tuple[int, int, Future[None]]] = deque()

    def read(self, position: int) -> None:
        """Take note that a position was read; two neighbours in order start the fetching."""
        in_order = self._last is not None and position == self._last + 1
        self._last = position
        while self._fetches and self._fetches[0][0] <= position:
            self._fetches.popleft()
        if not in_order:
            self.cancel()
            self._asked, self._ended = position + 1, False
            return
        self._fetch_after(position)

    def _fetch_after(self, position: int) -> None:
        while not self._ended or self._known:
            if not self._known:
                if self._asked > position + _ROWS:
                    return
                self._ask(position)
                continue
            at, row = self._known[0]
            ahead_bytes = sum(length_bytes for _, length_bytes, _ in self._fetches)
            length_bytes = self._stack.offloaded_bytes(row)
            if self._fetches and ahead_bytes + length_bytes > self._max_bytes:
                return
            self._known.popleft()
            if at > position and 0 < length_bytes <= self._max_bytes:
                fetch = _fetchers().submit(partial(self._fetch, row))
                self._fetches.append((at, length_bytes, fetch))

    def _ask(self, position: int) -> None:
        start = max(self._asked, position + 1)
        rows = self._rows(start, start + _ROWS)
        self._known.extend(enumerate(rows, start))
        self._asked = start + len(rows)
        self._ended = len(rows) < _ROWS

    def _fetch(self, row: object) -> None:
        # What is wrong with it is said when the row is read.
        with suppress(SecureXComError):
            self._stack.fetch(row)

    def cancel(self) -> None:
        """Begin no further fetch."""
        for _, _, fetch in self._fetches:
            fetch.cancel()
        self._fetches.clear()
        self._known.clear()


_crews: list[Crew] = []
# A child has none of its parent's threads.
os.register_at_fork(after_in_child=_crews.clear)


def _fetchers() -> Crew:
    if not _crews:
        _crews.append(Crew(_FETCHERS, "secure-xcom-ahead"))
    return _crews[0]
