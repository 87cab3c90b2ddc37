"""Deleting what a push replaces: Airflow purges nothing when a row is written over.

A process remembers the rows that it pushed. Once a newer row of the same coordinate is in the
database, the object of the former one is deleted. What another process pushed is not known here;
its object is left to the collector.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from secure_xcom import forks
from secure_xcom.airflow import deleting
from secure_xcom.model import Coordinate, Expected

#: How many rows a process remembers, of a few hundred bytes each.
ROWS_MAX = 1024


@dataclass(frozen=True, slots=True)
class Push:
    """A row on its way to the database."""

    where: Coordinate
    row: object
    #: What was in the database before this push began, as far as this process wrote it. What comes
    #: there beside this push may come after it, and is not replaced by it.
    former: object


class _Pushed:
    """The rows with objects that this process has brought into the database."""

    def __init__(self) -> None:
        self._rows: OrderedDict[Coordinate, object] = OrderedDict()
        self._lock = threading.Lock()

    def unlock(self) -> None:
        """Have a lock of one's own, as a forked child must."""
        self._lock = threading.Lock()

    def row(self, where: Coordinate) -> object:
        """Give the row of a coordinate; None where it is not known to have an object."""
        with self._lock:
            return self._rows.get(where)

    def put(self, where: Coordinate, row: object) -> None:
        """Remember a row, and forget the one that was there."""
        with self._lock:
            self._rows.pop(where, None)
            if deleting.has_object(row):
                self._rows[where] = row
            if len(self._rows) > ROWS_MAX:
                self._rows.popitem(last=False)


_pushed = _Pushed()
forks.run_in_children(_pushed.unlock)

#: The pushes of the call that is under way.
_pushes: ContextVar[list[Push] | None] = ContextVar("secure_xcom_pushes", default=None)


@contextmanager
def pushing() -> Iterator[list[Push]]:
    """Collect what is written in this context, in threads that it starts too."""
    pushes: list[Push] = []
    token = _pushes.set(pushes)
    try:
        yield pushes
    finally:
        _pushes.reset(token)


def note(where: Coordinate, row: object) -> None:
    """Take note of a row that was made, in a context of `pushing`."""
    pushes = _pushes.get()
    if pushes is not None:
        pushes.append(Push(where, row, _pushed.row(where)))


def committed(pushes: list[Push]) -> None:
    """Delete the objects of the rows that these have replaced in the database; never raises."""
    for push in pushes:
        _pushed.put(push.where, push.row)
        if push.former is not None:
            deleting.delete_object(push.former, Expected.exactly(push.where))
