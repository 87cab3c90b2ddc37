"""Forks: a child starts without its parent's keys, connections and locks.

gRPC serves a forked child only if no thread of the parent was inside a call at the fork; its own
handlers are skipped otherwise, and the child's calls never return. So a fork waits for the calls
that pass through `calls`, and holds new ones back until it is over. (To close channels first would
be worse: gRPC was seen to abort, or to hold the fork up for a minute.)
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from types import MethodType
from typing import Any, TypeVar
from weakref import WeakMethod

#: How long a fork waits for calls under way: longer than one attempt at a call may take.
WAIT_SECONDS = 15.0
#: Stands for a thread where none waits for a call; no thread is called so.
_NO_THREAD = 0

_Function = TypeVar("_Function", bound=Callable[[], Any])


class Calls:
    """Lets calls run side by side, but none across a fork."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._inside: Counter[int] = Counter()
        self._forks = 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold this for one attempt at a call: a fork in another thread waits for its end."""
        end = self._begin(threading.get_ident())
        try:
            yield
        finally:
            end()

    def begin(self) -> Callable[[], None]:
        """Note a call that no thread waits for: a fork in any thread waits for its end.

        Returns:
            What is to be called at its end, once, by whichever thread learns of it.
        """
        return self._begin(_NO_THREAD)

    def _begin(self, thread: int) -> Callable[[], None]:
        with self._changed:
            # A thread that is inside may go further in, or it would never come out.
            further = thread != _NO_THREAD
            self._changed.wait_for(lambda: not self._forks or (further and thread in self._inside))
            self._inside[thread] += 1
        return partial(self._end, thread)

    def _end(self, thread: int) -> None:
        with self._changed:
            self._inside -= Counter((thread,))
            self._changed.notify_all()

    def wait(self) -> None:
        """Wait for the calls that no thread waits for. Others may begin meanwhile."""
        # Nothing is held: what prepares for the fork after this may wait for a thread with a call.
        with self._changed:
            self._changed.wait_for(lambda: not self._inside[_NO_THREAD], WAIT_SECONDS)

    def hold(self) -> None:
        """Before a fork: wait for the calls of other threads, and keep new ones from starting."""
        # A signal handler that forks may have interrupted a call of its own thread.
        thread = threading.get_ident()
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self._inside.keys() - {thread}, WAIT_SECONDS)

    def release(self) -> None:
        """After a fork, in the parent."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def forget(self) -> None:
        """After a fork, in the child: a lock that the parent held would never be released there."""
        self._reset()


calls = Calls()
#: A dict for its order. A key gives the function, or None once the object of a method is gone.
_in_children: dict[Callable[[], Callable[[], Any] | None], None] = {}


def run_in_children(function: _Function) -> _Function:
    """Call a function in every child that this process forks, in the order of registration.

    For what must not outlive a fork: locks, caches and connections. An object's method is called
    only as long as the object lives, which this does not prolong. Serves as a decorator, too.
    """
    # Not in a callback of the weak reference: a `WeakMethod` that is dropped there complains on
    # standard error when the interpreter ends.
    for reference in tuple(_in_children):
        if reference() is None:
            _in_children.pop(reference, None)
    is_method = isinstance(function, MethodType)
    _in_children[WeakMethod(function) if is_method else lambda: function] = None
    return function


def _start_child() -> None:
    calls.forget()
    for reference in tuple(_in_children):
        if (function := reference()) is not None:
            function()


os.register_at_fork(before=calls.hold, after_in_parent=calls.release, after_in_child=_start_child)


@cache
def wait_before_others() -> None:
    """Have forks wait for `begin`'s calls before libraries loaded by now prepare for the fork.

    gRPC with `GRPC_ENABLE_FORK_SUPPORT` answers nothing from then on; what is registered last goes
    first. Once for a process and its children.
    """
    os.register_at_fork(before=calls.wait)
