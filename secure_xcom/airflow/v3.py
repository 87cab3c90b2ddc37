"""The backend on Airflow 3.

Up to 3.3 the worker calls `serialize_value` and `deserialize_value`; from 3.4 on, `store_value` and
`load_value`. Neither of the reading ones is told which XCom it reads. The methods around them know,
so they let the stored rows come through Airflow's own code unopened, and open them afterwards.
"""
# ruff: noqa: ANN401 - the base class takes and gives Any

from __future__ import annotations

import functools
import operator
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk.bases.xcom import BaseXCom
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

from secure_xcom.airflow import deleting, order, overwriting, preload, versions
from secure_xcom.airflow.asynchronous import in_thread
from secure_xcom.airflow.deferred import Deferred, deferring, is_deferring
from secure_xcom.airflow.places import place
from secure_xcom.airflow.reading import read, read_many
from secure_xcom.airflow.writing import write
from secure_xcom.model import Coordinate, Expected

if TYPE_CHECKING:
    from airflow.sdk.bases.xcom import XComCoordinate  # type: ignore[attr-defined]

    from secure_xcom.airflow.read_ahead import ReadAhead


class _Result(NamedTuple):
    value: Any


class _Serialized(NamedTuple):
    """What `serialize_value` made, on its way through it a second time."""

    row: Any


#: The rows that go while `delete` is under way.
_going: ContextVar[list[object] | None] = ContextVar("secure_xcom_going", default=None)
_map_index: ContextVar[int | None] = ContextVar("secure_xcom_map_index", default=None)


class SecureXComBackend(BaseXCom):
    """Seals what tasks push, and opens it for the task that it was sealed for."""

    @staticmethod
    def serialize_value(  # noqa: PLR0913 - Airflow's own signature
        value: Any,
        *,
        key: str | None = None,
        task_id: str | None = None,
        dag_id: str | None = None,
        run_id: str | None = None,
        map_index: int | None = None,
    ) -> Any:
        """Give the row: a JSON object of `docs/format.md`, or the value under a clear key."""
        if isinstance(value, _Serialized):
            return value.row
        where = place(
            "seal",
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=map_index,
            key=key,
        )
        return write(value, where, BaseXCom.serialize_value)

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Open a row of which no more is known than the result tells: its key, at times."""
        if is_deferring():
            return Deferred(result)
        key = getattr(result, "key", None)
        where = Expected(key=key if isinstance(key, str) else None)
        return read(result.value, where, _deserialized).value

    @classmethod
    def get_one(cls, **wanted: Any) -> Any:
        """Open the one row that is asked for."""
        with deferring():
            found = super().get_one(**wanted)
        return _open_one(found, wanted)

    @classmethod
    def get_all(cls, **wanted: Any) -> Any:
        """Open the rows of all map indexes of a task, side by side."""
        with deferring():
            found = super().get_all(**wanted)
        return _open_all(found, wanted)

    @classmethod
    def purge(cls, xcom: Any, *_: Any) -> None:
        """Have `delete` delete the object of a row, once it is gone; never raises."""
        row = getattr(xcom, "value", None)
        going = _going.get()
        if going is None:
            # Of a row by itself nobody knows which one it is, so that this says what it leaves.
            deleting.delete_object(row, Expected())
        else:
            going.append(row)

    @classmethod
    def delete(
        cls, key: str, task_id: str, dag_id: str, run_id: str, map_index: int | None = None
    ) -> None:
        """Delete an XCom, and then its object if it is the one of this very XCom."""
        going: list[object] = []
        token = _going.set(going)
        try:
            super().delete(
                key=key, task_id=task_id, dag_id=dag_id, run_id=run_id, map_index=map_index
            )
        finally:
            _going.reset(token)
        where = place(
            "delete",
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=_asked(map_index),
            key=key,
        )
        for row in going:
            deleting.delete_object(row, where)

    @classmethod
    def set(cls, key: str, value: Any, **coordinate: Any) -> None:
        """Store a value, and then delete the object of the one that it has replaced."""
        with overwriting.pushing() as pushes:
            super().set(key, value, **coordinate)
        overwriting.committed(pushes)

    if hasattr(BaseXCom, "aget_one"):  # from 3.3 on

        @classmethod
        async def aget_one(cls, **wanted: Any) -> Any:
            """Open the one row that is asked for, in a thread."""
            with deferring():
                found = await super().aget_one(**wanted)
            return await in_thread(_open_one, found, wanted)

        @classmethod
        async def aget_all(cls, **wanted: Any) -> Any:
            """Open the rows of all map indexes of a task, in threads."""
            with deferring():
                found = await super().aget_all(**wanted)
            return await in_thread(_open_all, found, wanted)

    if hasattr(BaseXCom, "aset"):  # from 3.3 on

        @classmethod
        async def aset(cls, key: str, value: Any, **coordinate: Any) -> None:
            """Do as `set`; all that takes long in threads, so that the event loop goes on."""
            with overwriting.pushing() as pushes:
                if not hasattr(BaseXCom, "store_value"):  # 3.3 serialises on the event loop
                    value = _Serialized(
                        await in_thread(
                            cls.serialize_value,
                            value,
                            key=key,
                            task_id=coordinate.get("task_id"),
                            dag_id=coordinate.get("dag_id"),
                            run_id=coordinate.get("run_id"),
                            map_index=coordinate.get("map_index"),
                        )
                    )
                await super().aset(key, value, **coordinate)
            await _committed_in_thread(pushes)

    if hasattr(BaseXCom, "store_value"):  # from 3.4 on

        @classmethod
        def store_value(cls, coordinate: XComCoordinate, key: str, value: Any) -> Any:
            """Do the same for Airflow 3.4, which tells the task instance's id."""
            map_index = _map_index.get()
            if map_index is None:
                map_index = coordinate.region_index
            where = place(
                "seal",
                dag_id=coordinate.dag_id,
                run_id=coordinate.run_id,
                task_id=coordinate.task_id,
                map_index=map_index,
                key=key,
            )
            return write(value, where, BaseXCom.serialize_value, ti_id=coordinate.ti_id)

        @classmethod
        def load_value(cls, stored: Any) -> Any:
            """Open a row of which nothing else is known."""
            return cls.deserialize_value(_Result(stored))

        @classmethod
        def _store(cls, coordinate: XComCoordinate, map_index: int, key: str, value: Any) -> Any:
            # The coordinate has no map index: in a loop, what it has instead is the number of the
            # iteration, and readers ask by the map index.
            token = _map_index.set(map_index)
            try:
                return super()._store(  # type: ignore[misc]
                    coordinate, map_index, key, value
                )
            finally:
                _map_index.reset(token)

        @classmethod
        def _push(cls, ti: Any, key: str, value: Any, **rest: Any) -> None:
            # What a task pushes comes by here, and by `set` what names its XCom.
            with overwriting.pushing() as pushes:
                super()._push(ti, key, value, **rest)  # type: ignore[misc]
            overwriting.committed(pushes)

        @classmethod
        async def _apush(cls, ti: Any, key: str, value: Any, **rest: Any) -> None:
            with overwriting.pushing() as pushes:
                await super()._apush(ti, key, value, **rest)  # type: ignore[misc]
            await _committed_in_thread(pushes)


async def _committed_in_thread(pushes: list[overwriting.Push]) -> None:
    if any(push.former is not None for push in pushes):
        await in_thread(overwriting.committed, pushes)
    else:
        overwriting.committed(pushes)


def _asked(map_index: object) -> object:
    # Airflow 3 sends no negative index, and the server takes a missing one for -1.
    is_negative = isinstance(map_index, int) and map_index < 0
    return -1 if map_index is None or is_negative else map_index


def _deserialized(row: object) -> Any:
    return BaseXCom.deserialize_value(_Result(row))


def _open_one(found: Any, wanted: dict[str, Any]) -> Any:
    if not isinstance(found, Deferred):
        return found
    where = _wanted(wanted, _asked(wanted.get("map_index")))
    return read(found.result.value, where, _deserialized).value


def _open_all(found: Any, wanted: dict[str, Any]) -> Any:
    ascending = None if wanted.get("include_prior_dates") else True
    return _opened_in_order(found, _wanted(wanted, None), ascending=ascending)[0]


def _wanted(wanted: dict[str, Any], map_index: object) -> Expected:
    return place(
        "open",
        dag_id=wanted["dag_id"],
        run_id=None if wanted.get("include_prior_dates") else wanted["run_id"],
        task_id=wanted["task_id"],
        map_index=map_index,
        key=wanted["key"],
    )


def _opened_in_order(
    found: Any, expected: Expected, *, ascending: bool | None
) -> tuple[Any, list[Coordinate | None]]:
    """Give the values, and for each of them whose it is, if it was sealed."""
    if not isinstance(found, list) or not all(isinstance(row, Deferred) for row in found):
        return found, []
    pulled = read_many([row.result.value for row in found], expected, _deserialized)
    owners = [coordinate for _, coordinate in pulled]
    order.check_distinct([owner for owner in owners if owner], ascending=ascending)
    return [value for value, _ in pulled], owners


def _bind_lazy_sequences() -> None:
    """Have lazy sequences of mapped tasks say which XCom they read.

    They ask `deserialize_value` to open rows without a word of where these are from, though they
    know; without this, a row moved among tasks would be opened wherever a sequence finds it.
    """
    airflows_getitem = LazyXComSequence.__getitem__

    @functools.wraps(airflows_getitem)
    def getitem(self: Any, key: Any) -> Any:
        # First, so that rows which come in the meantime do not put others in the wrong place.
        positions = _positions(self, key)
        with deferring():
            found = airflows_getitem(self, key)
        if not isinstance(found, Deferred):
            return _open_slice(found, self, positions)
        row = found.result.value
        value, owner = read(row, _of_sequence(self), _deserialized)
        reader = _reader_of(self)
        order.check_position(reader.positions, positions[0], owner)
        reader.read_ahead(row, positions[0], functools.partial(rows, self))
        return value

    def rows(self: Any, start: int, stop: int) -> list[object]:
        with deferring():
            return [row.result.value for row in airflows_getitem(self, slice(start, stop))]

    airflows_iter = LazyXComSequence.__iter__

    @functools.wraps(airflows_iter)
    def iterate(self: Any) -> Any:
        iterator = airflows_iter(self)
        weakref.finalize(iterator, _reader_of(self).cancel)
        return iterator

    LazyXComSequence.__getitem__ = getitem  # type: ignore[method-assign]
    LazyXComSequence.__iter__ = iterate  # type: ignore[method-assign]


def _positions(sequence: Any, key: Any) -> range:
    """Where the rows of an index or a slice stand, and possibly more of them at the end.

    Airflow is asked for the length, once for a sequence, if something is counted from the end.
    """
    if not isinstance(key, slice):
        position = operator.index(key)
        if position < 0:
            position = max(0, len(sequence) + position)
        return range(position, position + 1)
    start = 0 if key.start is None else operator.index(key.start)
    step = 1 if key.step is None else operator.index(key.step)
    if start >= 0 and step > 0:
        return range(start, sys.maxsize, step)
    return range(len(sequence))[key]


def _open_slice(found: Any, sequence: Any, positions: range) -> Any:
    values, owners = _opened_in_order(found, _of_sequence(sequence), ascending=positions.step > 0)
    known = _reader_of(sequence).positions
    for position, owner in zip(positions, owners, strict=False):
        order.check_position(known, position, owner)
    return values


def _of_sequence(sequence: Any) -> Expected:
    source = versions.source_of(sequence)
    return Expected(source.dag_id, source.run_id, source.task_id, None, source.key)


class _SequenceReader:
    """What is remembered of the reading of one sequence."""

    def __init__(self) -> None:
        #: Which task instance stood at which position, as far as it was read.
        self.positions: order.Positions = {}
        self._ahead: ReadAhead | None = None

    def read_ahead(
        self, row: object, position: int, rows: Callable[[int, int], list[object]]
    ) -> None:
        """Go on behind a row that was read, if it is one that takes fetching."""
        if self._ahead is None and deleting.has_object(row):
            from secure_xcom.airflow import read_ahead  # noqa: PLC0415 - for sequences only

            self._ahead = read_ahead.behind(row, rows)
        if self._ahead is not None:
            self._ahead.read(position)

    def cancel(self) -> None:
        """Fetch no more: the reader has stopped."""
        if self._ahead is not None:
            self._ahead.cancel()


_readers: dict[int, _SequenceReader] = {}


def _reader_of(sequence: Any) -> _SequenceReader:
    # Not a WeakKeyDictionary: to hash a sequence is to read all of it.
    if id(sequence) not in _readers:
        reader = _readers[id(sequence)] = _SequenceReader()
        weakref.finalize(sequence, _forget_reader, id(sequence), reader)
    return _readers[id(sequence)]


def _forget_reader(key: int, reader: _SequenceReader) -> None:
    reader.cancel()
    _readers.pop(key, None)


_bind_lazy_sequences()
preload.install()
