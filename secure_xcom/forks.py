"""What a fork means for keys and connections: a child starts with none of its parent's.

gRPC serves a forked child only if no thread of the parent was inside a call at the fork; its own
handlers are skipped otherwise, and the child's calls never return. So a fork waits for the calls
that pass through `calls`, and holds new ones back until it is over. (To close channels first would
be worse: gRPC was seen to abort, or to hold the fork up for a minute.)
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import WeakSet

#: How long a fork waits for calls under way: longer than one attempt at a call may take.
WAIT_SECONDS = 15.0


class Forgetful(Protocol):
    """What holds locks, caches or connections that a child must not use."""

    def forget(self) -> None:
        """Start afresh in a child, without touching what the parent held."""
        ...


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
        thread = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._forks or thread in self._inside)
            self._inside[thread] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= Counter((thread,))
                self._changed.notify_all()

    def hold(self) -> None:
        """Before a fork: wait for the calls of other threads, and keep new ones from starting."""
        # A signal handler that forks may have interrupted a call of its own thread.
        thread = threading.get_ident()
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self._inside.keys() - {thread}, WAIT_SECONDS)

    def let_go(self) -> None:
        """After a fork, in the parent."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def forget(self) -> None:
        """After a fork, in the child: its parent's locks are held for ever."""
        self._reset()


calls = Calls()
_forgetful: WeakSet[Forgetful] = WeakSet()


def forget_in_children(holder: Forgetful) -> None:
    """Call `holder.forget()` in every child that this process forks, as long as it lives."""
    _forgetful.add(holder)


def _forget() -> None:
    calls.forget()
    for holder in tuple(_forgetful):
        holder.forget()


os.register_at_fork(before=calls.hold, after_in_parent=calls.let_go, after_in_child=_forget)
