"""`[workers] state_store_backend = secure_xcom.airflow.state_store.SecureStateStoreBackend`.

The task and asset state stores of Airflow 3.3 and later, sealed like XComs under the settings of
XComs, in a room of their own (`docs/decisions/0100-state-stores.md`). The accessors through which
tasks reach their state know what they read; Airflow does not hand it on, so they are made to.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from airflow.sdk.execution_time.context import AssetStateStoreAccessor, TaskStateStoreAccessor
from airflow.sdk.state import AssetScope, BaseStoreBackend, TaskScope

from secure_xcom import audit
from secure_xcom.airflow import policy, reading, versions
from secure_xcom.airflow.asynchronous import in_thread
from secure_xcom.airflow.places import place
from secure_xcom.airflow.process import process
from secure_xcom.airflow.states import CLEAR_STATES, states
from secure_xcom.codecs.deep import with_stack
from secure_xcom.errors import CodecError, ConfigError, FormatError
from secure_xcom.format.reference import claimed, is_tagged
from secure_xcom.layers.states import States, text_of
from secure_xcom.model import Coordinate, Expected

Scope: TypeAlias = TaskScope | AssetScope
JsonValue: TypeAlias = Any


class SecureStateStoreBackend(BaseStoreBackend):
    """Seals the states of tasks and assets on the worker.

    Every method raises errors of `secure_xcom.errors`; on any of them nothing readable was
    written, and nothing of a value released.
    """

    def serialize_task_state_store_to_ref(
        self, *, value: JsonValue, key: str, scope: TaskScope
    ) -> str:
        """Seal a task's state: the row, or the folder of the object, as JSON."""
        where = _coordinate(scope, key, "seal")
        return _states(scope).to_row(_text(value, where), where)

    def deserialize_task_state_store_from_ref(self, stored: str) -> JsonValue:
        """Open a task's state, which is compared with what its accessor was asked for."""
        return _opened("task", stored)

    def serialize_asset_state_store_to_ref(
        self, *, value: JsonValue, key: str, scope: AssetScope
    ) -> str:
        """Seal an asset's state: the row, or the folder of the object, as JSON."""
        where = _coordinate(scope, key, "seal")
        return _states(scope).to_row(_text(value, where), where)

    def deserialize_asset_state_store_from_ref(self, stored: str) -> JsonValue:
        """Open an asset's state, which is compared as far as name and URI can be."""
        return _opened("asset", stored)

    def get(self, scope: Scope, key: str, *, session: object = None) -> str | None:
        """The JSON text that `set` wrote last; None if there is none."""
        del session
        return _states(scope).get(_coordinate(scope, key))

    def set(
        self,
        scope: Scope,
        key: str,
        value: str,
        *,
        expires_at: datetime | None = None,
        session: object = None,
    ) -> None:
        """Seal a JSON text into the store; expiry is for the bucket's lifecycle to see to."""
        del expires_at, session
        _states(scope).set(value, _coordinate(scope, key, "seal"))

    def delete(self, scope: Scope, key: str, *, session: object = None) -> None:
        """Delete the objects of a key; a state that was short has none."""
        del session
        _states(scope).delete(_coordinate(scope, key, "delete"))

    def clear(self, scope: Scope, *, all_map_indices: bool = False, session: object = None) -> None:
        """Delete the objects of a task instance, of all its map indexes, or of an asset."""
        del session
        every_index = all_map_indices and isinstance(scope, TaskScope)
        _states(scope).clear(_coordinate(scope, ""), every_index=every_index)

    async def aget(self, scope: Scope, key: str, *, session: object = None) -> str | None:
        """Do as `get`, in a thread."""
        del session
        return await in_thread(self.get, scope, key)

    async def aset(
        self,
        scope: Scope,
        key: str,
        value: str,
        *,
        expires_at: datetime | None = None,
        session: object = None,
    ) -> None:
        """Do as `set`, in a thread."""
        del session
        await in_thread(self.set, scope, key, value, expires_at=expires_at)

    async def adelete(self, scope: Scope, key: str, *, session: object = None) -> None:
        """Do as `delete`, in a thread."""
        del session
        await in_thread(self.delete, scope, key)

    async def aclear(
        self, scope: Scope, *, all_map_indices: bool = False, session: object = None
    ) -> None:
        """Do as `clear`, in a thread."""
        del session
        await in_thread(self.clear, scope, all_map_indices=all_map_indices)


def _states(scope: Scope) -> States:
    settings, _ = process.current()
    return states(settings, "task" if isinstance(scope, TaskScope) else "asset")


def _coordinate(scope: Scope, key: str, operation: audit.Operation = "open") -> Coordinate:
    """Where a state belongs; an asset's has no dag, run or task, and stands in their fields."""
    if isinstance(scope, TaskScope):
        # A loop of Airflow 3.4 runs the same task instance in regions.
        region = getattr(scope, "region_id", None)
        run_id = scope.run_id if region is None or not region.int else f"{scope.run_id}/{region}"
        fields = (scope.dag_id, run_id, scope.task_id, scope.map_index)
    else:
        identity = scope.name or scope.uri or str(scope.asset_id)
        kind = "name" if scope.name else "uri" if scope.uri else "id"
        fields = ("asset", kind, identity, -1)
    where = place(
        operation,
        dag_id=fields[0],
        run_id=fields[1],
        task_id=fields[2],
        map_index=fields[3],
        key=key,
    )
    return Coordinate(*fields, where.key or "")


def _opened(kind: str, stored: str) -> JsonValue:
    asked = _asked.get() or _Asked(Expected())
    asked.has_opened = True
    where = asked.where
    with audit.failure("open", where):
        settings = reading.settings_for_states()
        reading.check_coordinate(where, settings)
        is_sealed = is_tagged(claimed(stored))
    if is_sealed:
        expected = _AssetState.of(where) if asked.of_asset and not settings.strict else where
        opened = states(settings, kind).from_row(stored, expected)
        with audit.failure("open", where):
            text = text_of(opened.payload)
    else:
        reading.check_policy(where, settings)
        text = stored
    value = _parsed(text, where)
    reading.note_opened([value], where, settings)
    return value


def _text(value: JsonValue, where: Coordinate) -> str:
    try:
        return json.dumps(value)
    except Exception as error:  # noqa: BLE001 - what these hold may be the state itself
        fault = type(error).__name__
    message = f"The state is nothing that JSON can hold ({fault}). Write plain data."
    raise audit.refused("seal", where, CodecError(message))


def _parsed(text: str, where: Expected) -> JsonValue:
    try:
        return with_stack(json.loads, text)
    except (ValueError, RecursionError):
        # What these errors hold is the state itself.
        pass
    error = FormatError("The state is not JSON. Write the key again.")
    raise audit.refused("open", where, error)


class _Missing:
    """Stands in for a default, so that a missing state can be told from one that is equal to it."""


@dataclass
class _Asked:
    """What an accessor was asked for, and whether its answer came through this backend."""

    where: Expected
    of_asset: bool = False
    has_opened: bool = False


class _AssetState(Expected):
    """An asset's state, of which the name or the URI is known.

    Only the server knows which URI is which name, so what was sealed by the one and is asked for by
    the other cannot be compared; `strict` does not take that.
    """

    @classmethod
    def of(cls, where: Expected) -> _AssetState:
        """Expect this state, as far as it can be told."""
        return cls(where.dag_id, where.run_id, where.task_id, where.map_index, where.key)

    def matches(self, coordinate: Coordinate) -> bool:
        """Whether it can be the one that is asked for."""
        if coordinate.run_id == self.run_id:
            return super().matches(coordinate)
        return Expected(self.dag_id, None, None, -1, self.key).matches(coordinate)


_asked: ContextVar[_Asked | None] = ContextVar("secure_xcom_state", default=None)


@contextmanager
def _asking(asked: _Asked) -> Iterator[None]:
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def _of_task(accessor: Any, key: str) -> _Asked:  # noqa: ANN401 - Airflow's own, untyped
    return _Asked(Expected.exactly(_coordinate(versions.scope_of(accessor), key)))


def _of_asset(accessor: Any, key: str) -> _Asked:  # noqa: ANN401
    name, uri = versions.asset_of(accessor)
    where = _coordinate(AssetScope(name=name, uri=uri), key)
    return _Asked(Expected.exactly(where), of_asset=True)


def _bind(accessor: type, asking: Callable[[Any, str], _Asked]) -> None:
    """Have an accessor's reading say what it reads, and take nothing past this backend.

    What does not look like a reference of some backend Airflow hands out as it is. Nor does it
    write in clear where `strict` is on.
    """
    _bind_writing(accessor, asking)
    airflows_get = accessor.get  # type: ignore[attr-defined]

    @functools.wraps(airflows_get)
    def get(self: Any, key: str, default: JsonValue = None) -> JsonValue:  # noqa: ANN401
        asked = asking(self, key)
        with _asking(asked):
            return _checked(asked, airflows_get(self, key, _Missing), default)

    accessor.get = get  # type: ignore[attr-defined]
    if not hasattr(accessor, "aget"):  # from 3.3 on for assets, from 3.4 on for tasks
        return
    airflows_aget = accessor.aget

    @functools.wraps(airflows_aget)
    async def aget(self: Any, key: str, default: JsonValue = None) -> JsonValue:  # noqa: ANN401
        asked = asking(self, key)
        with _asking(asked):
            return _checked(asked, await airflows_aget(self, key, _Missing), default)

    accessor.aget = aget


def _bind_writing(accessor: type, asking: Callable[[Any, str], _Asked]) -> None:
    airflows_set = accessor.set  # type: ignore[attr-defined]

    @functools.wraps(airflows_set)
    def set_(self: Any, key: str, value: JsonValue, **more: Any) -> None:  # noqa: ANN401
        _check_sealed(asking(self, key).where)
        airflows_set(self, key, value, **more)

    accessor.set = set_  # type: ignore[attr-defined]
    if not hasattr(accessor, "aset"):
        return
    airflows_aset = accessor.aset

    @functools.wraps(airflows_aset)
    async def aset(self: Any, key: str, value: JsonValue, **more: Any) -> None:  # noqa: ANN401
        _check_sealed(asking(self, key).where)
        await airflows_aset(self, key, value, **more)

    accessor.aset = aset


def _check_sealed(where: Expected) -> None:
    """Check that what is written goes through this backend, where `strict` is on.

    Raises:
        ConfigError: it would be written in clear.
    """
    if _is_configured() or not policy.is_configured():
        return
    with audit.failure("seal", where):
        if process.current()[0].strict:
            raise ConfigError(CLEAR_STATES)


def _checked(asked: _Asked, value: JsonValue, default: JsonValue) -> JsonValue:
    if value is _Missing:
        return default
    if not asked.has_opened and _is_configured():
        with audit.failure("open", asked.where):
            settings = reading.settings_for_states()
        reading.check_policy(asked.where, settings)
        reading.note_opened([value], asked.where, settings)
    return value


def _is_configured() -> bool:
    """Whether the state store's backend is this one; tests and tools import it without that."""
    return isinstance(versions.worker_state_store(), SecureStateStoreBackend)


_bind(TaskStateStoreAccessor, _of_task)
_bind(AssetStateStoreAccessor, _of_asset)
