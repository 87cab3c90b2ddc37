"""The backend on Airflow 2, where scheduler, webserver, triggerer and tasks all read through it.

A row is the JSON object of `docs/format.md` as UTF-8 bytes. `enable_xcom_pickling` is ignored:
nothing is ever pickled or unpickled here.
"""
# ruff: noqa: ANN401 - the base class takes and gives Any

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from airflow.models.xcom import BaseXCom
from airflow.utils.json import XComDecoder, XComEncoder
from sqlalchemy import select
from sqlalchemy.orm import Query, reconstructor

from secure_xcom import audit
from secure_xcom.airflow import committing, deleting, overwriting, preload, versions
from secure_xcom.airflow.deferred import Deferred, deferring, is_deferring
from secure_xcom.airflow.places import place
from secure_xcom.airflow.reading import read
from secure_xcom.airflow.writing import write
from secure_xcom.errors import FormatError, SecureXComError, UnsealedError
from secure_xcom.format.reference import claimed, from_row, is_tagged
from secure_xcom.model import Expected
from secure_xcom.text import escaped

#: The columns that say which XCom a row is.
_COORDINATE = ("dag_id", "run_id", "task_id", "map_index", "key")


class SecureXComBackend(BaseXCom):  # type: ignore[misc] # Airflow 3 has no such class
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
        where = place(
            "seal",
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            map_index=map_index,
            key=_as_stored(key),
        )
        return json.dumps(write(value, where, _serialized)).encode()

    @staticmethod
    def deserialize_value(result: Any) -> Any:
        """Open a row, or the part of one that Airflow selected."""
        if is_deferring():
            return Deferred(result)
        return _read(result.value, _expected(result))

    def orm_deserialize_value(self) -> Any:
        """Describe the value for a listing: no key is used, and no store is called."""
        try:
            row = _parse(self.value)
            if is_tagged(row):
                return _about(row)
            return _deserialized(self.value, XComDecoder.orm_object_hook)
        except SecureXComError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a listing goes on; what it says may be contents
            return f"Not what Airflow's serialisation reads here ({type(error).__name__})."

    @reconstructor
    def init_on_load(self) -> None:
        """Keep the row that `purge` needs, since the value becomes its description."""
        self.stored = self.value
        super().init_on_load()

    @staticmethod
    def get_many(*args: Any, **kwargs: Any) -> Any:
        """Have those who then select values only get the coordinates of their rows, too."""
        query = BaseXCom.get_many(*args, **kwargs)
        located = _Located.__new__(_Located)
        located.__dict__ = query.__dict__.copy()
        return located

    @staticmethod
    def get_one(*args: Any, **kwargs: Any) -> Any:
        """Open the one row that is asked for, though it comes without its coordinate."""
        asked = inspect.signature(BaseXCom.get_one).bind_partial(*args, **kwargs).arguments
        with deferring():
            found = BaseXCom.get_one(*args, **kwargs)
        if not isinstance(found, Deferred):
            return found
        expected = place(
            "open",
            dag_id=_one(asked.get("dag_id")),
            run_id=None if asked.get("include_prior_dates") else asked.get("run_id"),
            task_id=_one(asked.get("task_id")),
            map_index=_one(asked.get("map_index")),
            # For an empty key, Airflow gives an XCom of any.
            key=_as_stored(asked.get("key")) or None,
        )
        return _read(found.result.value, expected)

    @staticmethod
    def get_value(*, ti_key: Any, key: str | None = None, **session: Any) -> Any:
        """Open the row of one task instance."""
        return SecureXComBackend.get_one(
            key=key,
            task_id=ti_key.task_id,
            dag_id=ti_key.dag_id,
            run_id=ti_key.run_id,
            map_index=ti_key.map_index,
            **session,
        )

    @classmethod
    def set(cls, *args: Any, **kwargs: Any) -> None:
        """Store a value; the object of the one that it replaces goes once its row is committed."""
        session = (
            inspect.signature(BaseXCom.set).bind_partial(*args, **kwargs).arguments.get("session")
        )
        with overwriting.pushing() as pushes:
            super().set(*args, **kwargs)
        if pushes:
            # Without a session, Airflow has had one of its own, and has committed it.
            committing.once_committed(session, partial(overwriting.committed, pushes))

    @staticmethod
    def purge(xcom: Any, session: Any = None, *_: Any) -> None:
        """Delete the object of a row that is about to go, once it is gone; never raises.

        Args:
            xcom: the row.
            session: the one that deletes the row. Without one, the row counts as gone.
        """
        # What `XCom.clear` loads are instances of the base class, with a value already parsed.
        row = _parse_quietly(getattr(xcom, "stored", getattr(xcom, "value", None)))
        if deleting.has_object(row):
            where = _expected(xcom)
            committing.once_committed(session, partial(deleting.delete_object, row, where))


class _Located(Query):  # type: ignore[type-arg] # SQLAlchemy 1.4 takes none
    """A query whose rows say which XCom they are, when values alone are selected.

    `xcom_pull` selects a value without its key, or nothing but the values of a mapped task, so
    that an envelope in the wrong row could not be told from one in its own.
    """

    def with_entities(self, *entities: Any, **kwargs: Any) -> Any:
        """Add what is missing of the coordinate behind the columns that were asked for."""
        keys = [getattr(entity, "key", None) for entity in entities]
        named = {key for key in keys if isinstance(key, str)}
        missing = [name for name in _COORDINATE if name not in named] if "value" in named else []
        return super().with_entities(
            *entities, *(getattr(BaseXCom, name) for name in missing), **kwargs
        )


def _select_located(statement: Any) -> Any:
    columns = [getattr(SecureXComBackend, name) for name in ("value", *_COORDINATE)]
    return select(*columns).from_statement(statement)


# A lazy sequence that was pickled, for a task in a virtual environment of its own, selects anew.
versions.select_rows_by(_select_located)


def _as_stored(key: object) -> object:
    """Give a key as the database gives it back: of a number, its digits."""
    return str(key) if type(key) is int else key


def _one(asked: object) -> object:
    """Give what is asked for; None where Airflow may choose among several."""
    return None if isinstance(asked, Iterable) and not isinstance(asked, str) else asked


def _expected(result: Any) -> Expected:
    def known(name: str, kind: type) -> Any:
        value = getattr(result, name, None)
        return value if isinstance(value, kind) else None

    return Expected(
        known("dag_id", str),
        known("run_id", str),
        known("task_id", str),
        known("map_index", int),
        known("key", str),
    )


def _read(stored: Any, expected: Expected) -> object:
    with audit.failure("open", expected):
        row = _parse(stored)
    return read(row, expected, lambda _: _deserialized(stored, None)).value


def _about(row: Any) -> str:
    """Give the sentence by which a tagged row says to a person what it is.

    Whoever may write to the database may write another one; it is shown, and nothing goes by it.
    """
    try:
        from_row(row)
    except FormatError as error:
        return f"Not a valid sealed XCom. {error}"
    return escaped(row["about"])


def _parse(stored: Any) -> object:
    return claimed(stored) if isinstance(stored, bytes | str) else stored


def _parse_quietly(stored: Any) -> object:
    try:
        return _parse(stored)
    except FormatError:
        return None


def _serialized(value: Any) -> object:
    return json.loads(json.dumps(value, cls=XComEncoder))


def _deserialized(stored: Any, object_hook: Any) -> Any:
    """Read what the stock backend wrote, as it would, but for pickles."""
    if stored is None:
        return None
    try:
        return json.loads(stored, cls=XComDecoder, object_hook=object_hook)
    except (ValueError, RecursionError):
        raise UnsealedError(
            "The XCom is not JSON. It may be a pickle of the time when enable_xcom_pickling was "
            "on: those are never read, because a pickle runs code. Clear the task that wrote it."
        ) from None


preload.install()
