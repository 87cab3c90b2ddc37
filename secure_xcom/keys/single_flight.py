"""A cache that makes each missing value once, however many threads ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, MutableMapping
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

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

        An error goes to all who wait for it, and is not kept.
        """
        while True:
            mine: Future[_Value] | None = None
            try:
                with self._lock:
                    if (value := self._cache.get(key)) is not None:
                        return value
                    flight = self._flights.get(key)
                    if flight is None:
                        flight = mine = self._flights[key] = Future()
                if mine is None:
                    try:
                        return flight.result()
                    except CancelledError:
                        continue
                value = make()
                with self._lock:
                    if self._flights.get(key) is mine:
                        self._cache[key] = value
                mine.set_result(value)
                return value  # noqa: TRY300 - the `try` is here for its `finally`
            except Exception as error:
                if mine is not None:
                    mine.set_exception(error)
                raise
            finally:
                if mine is not None:
                    # Where a signal interrupted this thread, as Airflow's timeouts do, nobody
                    # may wait for it any longer: another takes the lead. Otherwise a no-op.
                    mine.cancel()
                    with self._lock:
                        if self._flights.get(key) is mine:
                            del self._flights[key]

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
