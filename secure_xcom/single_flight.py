"""A cache that makes each missing value once, however many threads ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, MutableMapping
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Generic, TypeVar

from secure_xcom.errors import SecureXComError

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class SingleFlight(Generic[_Key, _Value]):
    """Puts a lock around a cache, and lets one thread for each key make what it lacks.

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
        is the business of the thread that led, which may have been interrupted, and another one
        takes the lead.
        """
        while (value := self.held(key)) is None:
            mine: Future[_Value] = Future()
            try:
                flight = self._flights.setdefault(key, mine)
                if flight is mine:
                    self._fly(key, mine, make)
                return flight.result()
            except CancelledError:
                if not flight.cancelled():
                    raise
            finally:
                # Whatever became of the lead, nobody may wait for it any longer. Otherwise a no-op.
                mine.cancel()
                with self._lock:
                    if self._flights.get(key) is mine:
                        del self._flights[key]
        return value

    def discard(self, key: _Key, value: _Value) -> None:
        """Drop a value, unless another one has taken its place."""
        with self._lock:
            if self._cache.get(key) is value:
                del self._cache[key]

    def drop(self, key: _Key) -> None:
        """Forget a key: its value is not kept, nor is one that is being made for it now."""
        with self._lock:
            self._cache.pop(key, None)
            self._flights.pop(key, None)

    def held(self, key: _Key) -> _Value | None:
        """The cached value, if there is one."""
        with self._lock, suppress(KeyError):
            return self._cache[key]
        return None

    def _fly(self, key: _Key, mine: Future[_Value], make: Callable[[], _Value]) -> None:
        try:
            # An earlier flight may have landed after the look that found nothing.
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
