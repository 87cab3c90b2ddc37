"""A cache that makes each missing value once, however many threads ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, MutableMapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from secure_xcom.errors import SecureXComError

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class SingleFlight(Generic[_Key, _Value]):
    """Puts a lock around a cache, and has each value that it lacks made by a single thread.

    Args:
        cache: where values are kept, by its own rules. Nothing else may touch it.
    """

    def __init__(self, cache: MutableMapping[_Key, _Value]) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._flights: dict[_Key, Future[_Value]] = {}

    def get(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """The cached value, or what one call of `make` gives to all who wait for it.

        An error of this package goes to all who wait for it, and is not kept. Any other exception
        is raised only in the thread that called `make`, which may have been interrupted, and one of
        those that wait calls it again.
        """
        while (value := self.held(key)) is None:
            mine: Future[_Value] = Future()
            try:
                flight = self._flights.setdefault(key, mine)
                if flight is mine:
                    self._make(key, mine, make)
                return flight.result()
            except CancelledError:
                if not flight.cancelled():
                    raise
            finally:
                # If there is no result, nobody may wait for it any longer. Otherwise a no-op.
                mine.cancel()
                with self._lock:
                    if self._flights.get(key) is mine:
                        del self._flights[key]
        return value

    def expect(self, key: _Key, begin: Callable[[Future[_Value]], bool]) -> bool:
        """Have a value made by something that no thread waits for, unless it is there or coming.

        Args:
            key: whose value it is.
            begin: begins to make the value, and says whether it has. The future gets the value
                from whichever thread has it then; or it is cancelled, and whoever waits for the
                value makes it.

        Returns:
            Whether the value is there, or on its way.
        """
        mine: Future[_Value] = Future()
        if self.held(key) is not None or self._flights.setdefault(key, mine) is not mine:
            return True
        mine.add_done_callback(partial(self._arrived, key))
        begun = False
        try:
            begun = begin(mine)
        finally:
            if not begun:
                mine.cancel()
        return begun

    def _arrived(self, key: _Key, flight: Future[_Value]) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]
                if not flight.cancelled():
                    self._cache[key] = flight.result()

    def discard(self, key: _Key, value: _Value) -> None:
        """Drop a value, unless another one has taken its place."""
        with self._lock:
            if self._cache.get(key) is value:
                del self._cache[key]

    def drop(self, is_meant: Callable[[_Key], bool]) -> None:
        """Forget some keys: their values are not kept, nor are those being made for them now."""
        with self._lock:
            for known in (self._cache, self._flights):
                for key in list(filter(is_meant, tuple(known))):
                    known.pop(key, None)

    def held(self, key: _Key) -> _Value | None:
        """The cached value, if there is one."""
        with self._lock, suppress(KeyError):
            return self._cache[key]
        return None

    def _make(self, key: _Key, mine: Future[_Value], make: Callable[[], _Value]) -> None:
        try:
            # Another thread may have made it since the cache was asked.
            value = self.held(key)
            if value is None:
                value = make()
                with self._lock:
                    if self._flights.get(key) is mine:
                        self._cache[key] = value
        except SecureXComError as error:
            mine.set_exception(error)
        else:
            mine.set_result(value)
