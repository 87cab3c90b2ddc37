"""A push, on every version of Airflow; `v2` and `v3` say what a call knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from secure_xcom import audit
from secure_xcom.airflow import clear_keys, overwriting, rendered
from secure_xcom.airflow.naming import named
from secure_xcom.airflow.process import process
from secure_xcom.errors import CodecError, ConfigError, FormatError, SecureXComError
from secure_xcom.format.reference import TAG, is_tagged
from secure_xcom.model import Coordinate, Expected

if TYPE_CHECKING:
    from secure_xcom.settings import Settings


def write(
    value: object,
    where: Expected,
    serialize: Callable[[object], object],
    *,
    ti_id: UUID | None = None,
) -> object:
    """Give what the row is to hold: the value sealed, or in clear under a clear key.

    Args:
        value: what the task pushed.
        where: the coordinate; only a clear key may do without the rest of it.
        serialize: Airflow's own serialisation, to parsed JSON.
        ti_id: the task instance's id, where Airflow tells it.

    Raises:
        SecureXComError: any of the tree; nothing readable was written.
    """
    with audit.failure("seal", where):
        if clear_keys.is_clear(where.key, clear_keys.first()):
            return _in_clear(value, where, serialize)
        coordinate = _coordinate(where, ti_id)
        settings, stack = process.current()
        if clear_keys.is_clear(where.key, settings.clear_keys):
            return _in_clear(value, where, serialize)
        if settings.strict:
            _check_measures(settings)
    row = stack.put(value, coordinate)
    overwriting.note(coordinate, row)
    return row


def _check_measures(settings: Settings) -> None:
    """Check what `strict` needs of this process, beside the settings."""
    from secure_xcom.airflow import policy, states  # noqa: PLC0415 - for strict alone

    if not policy.is_active():
        raise ConfigError(
            "strict is on, but Airflow has not loaded the cluster policy of secure_xcom, which "
            "keeps return values out of logs. Nothing is written. Install the package with its "
            "entry points (pip install secure-xcom), on every worker, and not as files on a path."
        )
    rendered.ensure()
    if settings.uses_state_store and not states.are_sealed():
        raise ConfigError(states.CLEAR_STATES)


def _in_clear(value: object, where: Expected, serialize: Callable[[object], object]) -> object:
    try:
        row = serialize(value)
        if not (is_tagged(value) or is_tagged(row)):
            return row
        reason = f"must not carry the member {TAG}"
    except SecureXComError:
        raise
    except Exception as error:  # noqa: BLE001 - a value's own methods run here, and quote contents
        reason = f"has to be one that Airflow serialises ({type(error).__name__})"
    raise CodecError(
        f"XCom {named(where)} has a clear key (`clear_keys`) and passes in clear, where a value "
        f"{reason}. Push it under another key."
    )


def _coordinate(where: Expected, ti_id: UUID | None) -> Coordinate:
    fields = {name: getattr(where, name) for name in ("dag_id", "run_id", "task_id", "key")}
    if missing := [name for name, value in fields.items() if value is None]:
        raise FormatError(
            f"A value is sealed for one place, and serialize_value was not told its "
            f"{', '.join(missing)}. Push with ti.xcom_push, or hand in the whole coordinate."
        )
    if empty := [name for name, value in fields.items() if not value]:
        raise FormatError(
            f"The {', '.join(empty)} of this XCom is empty. It has to have a character at least: "
            "in places, Airflow gives any XCom for an empty key. Push it under another one."
        )
    map_index = -1 if where.map_index is None else where.map_index
    return Coordinate(**fields, map_index=map_index, ti_id=ti_id)
