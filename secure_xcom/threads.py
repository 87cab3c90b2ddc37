"""Work in threads beside the caller's, which the caller may leave at any moment.

Airflow's timeouts are exceptions out of signal handlers, and an event loop cancels what it waits
for. Either must end a push or a pull at once, whatever its threads are waiting for. So these are
daemon threads: nobody waits for them, not even the end of the process. They are told to stop,
which those hear that wait by `pause`, `wait_for` or `result`, or look by `check`.
"""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from queue import Empty, SimpleQueue
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from weakref import WeakSet

from secure_xcom import forks

if TYPE_CHECKING:
    from types import TracebackType

_Result = TypeVar("_Result")
_Task: TypeAlias = tuple["Future[Any]", Context, Callable[[], Any]]

#: How long the end of the process waits for threads that were told to stop: as long as those take
#: that compute. A daemon thread that comes back from a library just then can abort the process.
_GRACE_SECONDS = 0.5
#: How often a thread that waits for another one looks whether it was told to stop.
_LISTEN_SECONDS = 0.1

#: What tells the running code to stop; more than one where a thread has started another.
_stops: ContextVar[tuple[Event, ...]] = ContextVar("secure_xcom_stops", default=())


class CalledOff(BaseException):
    """Raised in a thread whose result nobody waits for any longer."""


class Crew:
    """Up to so many daemon threads, for some calls side by side.

    As a context it waits for its calls when all goes well, and for none when an exception ends it.

    Args:
        threads_max: how many threads there are at most.
        name: what they are called.
    """

    def __init__(self, threads_max: int, name: str) -> None:
        self._threads_max = threads_max
        self._name = name
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._stop = Event()
        _crews.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.leave()
        self.close()
        if kind is None:
            for thread in self._threads:
                thread.join()

    def submit(self, call: Callable[[], _Result]) -> Future[_Result]:
        """Have a call made as soon as a thread is free; it sees the caller's context variables."""
        future: Future[_Result] = Future()
        context = copy_context()
        context.run(_stops.set, (*_stops.get(), self._stop))
        self._tasks.put((future, context, call))
        if len(self._threads) < self._threads_max:
            self._grow()
        return future

    def _grow(self) -> None:
        # The thread holds its crew, so that a crew which works is known at the end of the process.
        thread = Thread(target=self._work, name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more threads, or the interpreter is ending: fewer do as well.
            if not self._threads and (task := self._tasks.get_nowait()):
                _do(*task)
            return
        self._threads.append(thread)
        _threads.add(thread)

    def _work(self) -> None:
        while task := self._tasks.get():
            _do(*task)
            # A thread that waits for its next task keeps nothing of the last one.
            del task

    def close(self) -> None:
        """Let the threads end once the calls that were submitted are done."""
        for _ in self._threads:
            self._tasks.put(None)

    def leave(self) -> None:
        """Begin no further call, tell those under way to stop, and wait for none."""
        self._stop.set()
        with suppress(Empty):
            while task := self._tasks.get_nowait():
                task[0].cancel()
        for _ in self._threads:
            self._tasks.put(None)


_crews: WeakSet[Crew] = WeakSet()
_threads: WeakSet[Thread] = WeakSet()


def start(call: Callable[[], _Result], name: str) -> Future[_Result]:
    """Begin a call in a thread of its own, which ends with it.

    It sees the caller's context variables, and goes on when the caller is told to stop: others may
    wait for it, too.
    """
    context = copy_context()
    context.run(_stops.set, ())
    crew = Crew(1, name)
    future = context.run(crew.submit, call)
    crew.close()
    return future


def outcome(
    call: Callable[[], _Result], name: str, seconds: float | None = None
) -> Future[_Result]:
    """Make a call in a thread of its own; after `seconds` its future may not be done yet.

    What is raised here is no error of the call: it came out of a signal handler of the caller's.
    """
    crew = Crew(1, name)
    try:
        future = crew.submit(call)
        wait((future,), seconds)
        return future
    finally:
        crew.leave()


def check() -> None:
    """Go on only if somebody waits for what this thread does.

    Raises:
        CalledOff: nobody does.
    """
    if any(stop.is_set() for stop in _stops.get()):
        raise CalledOff


def pause(seconds: float) -> None:
    """Sleep, as long as somebody waits for what this thread does.

    Raises:
        CalledOff: nobody does any longer.
    """
    stops = _stops.get()
    if stops:
        stops[-1].wait(seconds)
    else:
        time.sleep(seconds)
    check()


def wait_for(changed: Condition, is_so: Callable[[], bool]) -> None:
    """Wait until something is so, as long as somebody waits for what this thread does.

    Args:
        changed: held by the caller, and notified when it may have become so.
        is_so: whether it is.

    Raises:
        CalledOff: nobody waits any longer.
    """
    while not changed.wait_for(is_so, _LISTEN_SECONDS):
        check()


def result(future: Future[_Result]) -> _Result:
    """What a future gives, as long as somebody waits for what this thread does.

    Raises:
        CalledOff: nobody waits any longer.
        BaseException: what the future raises.
    """
    while not future.done():
        wait((future,), _LISTEN_SECONDS)
        check()
    return future.result()


def _do(future: Future[Any], context: Context, call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = context.run(call)
    except BaseException as error:  # noqa: BLE001 - it is raised where the result is asked for
        future.set_exception(error)
    else:
        future.set_result(result)


def _end() -> None:
    for crew in tuple(_crews):
        crew.leave()
    until = time.monotonic() + _GRACE_SECONDS
    for thread in tuple(_threads):
        thread.join(max(0.0, until - time.monotonic()))


@forks.run_in_children
def _forget() -> None:
    # A child has none of its parent's threads.
    _crews.clear()
    _threads.clear()


atexit.register(_end)
