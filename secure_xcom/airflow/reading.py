"""A pull, on every version of Airflow; `v2`, `v3` and `state_store` say what a call knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from secure_xcom import audit
from secure_xcom.airflow import clear_keys, masking, rendered
from secure_xcom.airflow.naming import named
from secure_xcom.airflow.process import process
from secure_xcom.errors import (
    CodecError,
    ConfigError,
    FormatError,
    SecureXComError,
    UnsealedError,
)
from secure_xcom.format.reference import TAG, is_tagged
from secure_xcom.model import Coordinate, Expected
from secure_xcom.text import escaped

if TYPE_CHECKING:
    from secure_xcom.settings import Settings
    from secure_xcom.stack import Keep, Stack

log = logging.getLogger("secure_xcom")

#: Airflow's own deserialisation of a row.
Deserialize: TypeAlias = Callable[[object], object]


class Pulled(NamedTuple):
    """The value of a row; and whose it is, authenticated, if the row was sealed."""

    value: object
    coordinate: Coordinate | None


def read(row: object, where: Expected, deserialize: Deserialize) -> Pulled:
    """Give the value that a row stands for.

    Args:
        row: what the row holds, as parsed JSON.
        where: its coordinate, as far as it is known.
        deserialize: what makes the value of a row that was not sealed.

    Raises:
        UnsealedError: the row was not sealed, and `unsealed_reads` refuses it.
        SecureXComError: any of the tree.
    """
    current = _current(where)
    if current is None:
        return Pulled(_in_clear(row, where, deserialize), None)
    settings, stack = current
    if is_tagged(row):
        pulled, unsealed = Pulled(*stack.get(row, where, _keep(settings))), []
    else:
        pulled = Pulled(_unsealed(row, where, deserialize, settings), None)
        unsealed = [pulled.value]
    note_opened(unsealed, where, settings)
    return pulled


def read_many(rows: Sequence[object], where: Expected, deserialize: Deserialize) -> list[Pulled]:
    """Give the values that rows stand for, in order, with the sealed ones fetched side by side.

    Args:
        rows: what they hold, as parsed JSON.
        where: what is known of their coordinates, the same for all of them.
        deserialize: what makes the value of a row that was not sealed.

    Raises:
        UnsealedError: a row was not sealed, and `unsealed_reads` refuses it.
        SecureXComError: any of the tree; no value at all was released.
    """
    current = _current(where)
    if current is None:
        return [Pulled(_in_clear(row, where, deserialize), None) for row in rows]
    settings, stack = current
    pulled = {
        position: Pulled(_unsealed(row, where, deserialize, settings), None)
        for position, row in enumerate(rows)
        if not is_tagged(row)
    }
    unsealed = [value for value, _ in pulled.values()]
    sealed = {position: (row, where) for position, row in enumerate(rows) if position not in pulled}
    for position, opened in stack.get_many(sealed, _keep(settings)).items():
        pulled[position] = Pulled(*opened)
    note_opened(unsealed, where, settings)
    return [pulled[position] for position in range(len(rows))]


def of_row(result: object) -> Expected:
    """What a row, or the part of one that was selected, says of which XCom it is."""

    def known(name: str, kind: type) -> Any:  # noqa: ANN401 - a member of that type, or None
        value = getattr(result, name, None)
        return value if isinstance(value, kind) else None

    return Expected(
        known("dag_id", str),
        known("run_id", str),
        known("task_id", str),
        known("map_index", int),
        known("key", str),
    )


def _current(where: Expected) -> tuple[Settings, Stack] | None:
    """Give settings and stack, once what is opened will be kept out of rendered fields.

    None: the XCom has a clear key.
    """
    if clear_keys.is_clear(where.key, clear_keys.first()):
        return None
    with audit.failure("open", where):
        rendered.ensure()
        settings, stack = process.current()
        if clear_keys.is_clear(where.key, settings.clear_keys):
            return None
        check_coordinate(where, settings)
        audit.check()
    return settings, stack


def settings_for_states() -> Settings:
    """Give the settings, once what is opened will be kept out of rendered fields.

    Raises:
        ConfigError: a setting is wrong, or nothing can be kept out of rendered fields.
    """
    rendered.ensure()
    settings = process.current()[0]
    audit.check()
    return settings


def note_opened(unsealed: list[object], where: Expected, settings: Settings) -> None:
    """Keep what a task gets out of rendered fields, and what the stack did not open out of logs."""
    rendered.note_opened()
    if unsealed and settings.mask_pulled_values:
        with audit.failure("open", where):
            masking.mask(unsealed, where, settings)


def _keep(settings: Settings) -> Keep | None:
    """Give what keeps encoded values for the masker, if it is to mask them."""
    return partial(masking.keep, settings=settings) if settings.mask_pulled_values else None


def _in_clear(row: object, where: Expected, deserialize: Deserialize) -> object:
    """Give what an unsealed row holds, which must not be taken for a sealed one anywhere."""
    error: SecureXComError
    try:
        value = None if is_tagged(row) else deserialize(row)
        if not (is_tagged(row) or is_tagged(value)):
            return value
        error = FormatError(
            f"XCom {named(where)} is read in clear, by `clear_keys` or `unsealed_reads`, but "
            f"carries the member {TAG} of sealed ones. Clear the task that wrote it."
        )
    except SecureXComError as known:
        error = known
    except Exception as unknown:  # noqa: BLE001 - a class's own methods run here, and quote contents
        error = CodecError(
            f"XCom {named(where)} was not sealed, and Airflow's serialisation could not "
            f"restore it ({type(unknown).__name__}; what it says may quote the value and is left "
            "out). `[core] allowed_deserialization_classes` says what it may restore."
        )
    raise audit.refused("open", where, error)


def _unsealed(row: object, where: Expected, deserialize: Deserialize, settings: Settings) -> object:
    """Give the value of a row that a former backend wrote, or what the policy makes of it."""
    if settings.legacy_reads:
        from secure_xcom.airflow import legacy  # noqa: PLC0415 - only while teams migrate

        value = _in_clear(row, where, deserialize)
        if isinstance(value, str) and legacy.is_reference(value, settings.legacy_reads):
            try:
                return legacy.read(value, where, settings)
            except SecureXComError as error:
                raise audit.refused("open", where, error) from error.__cause__
    check_policy(where, settings)
    return _in_clear(row, where, deserialize)


def check_policy(where: Expected, settings: Settings) -> None:
    """Check that a row that was not sealed may be read.

    Raises:
        UnsealedError: `unsealed_reads` refuses it.
    """
    if settings.unsealed_reads == "deny":
        raise audit.refused(
            "open",
            where,
            UnsealedError(
                f"XCom {named(where)} was not sealed by this backend: it was written before "
                "the switch, over the REST API, by Airflow itself, or by someone who can write "
                "to the database. `unsealed_reads` is deny, so it is not read. Clear the task "
                "that wrote it; or, for the time of a migration, set unsealed_reads = warn; or, "
                "if Airflow needs this key in clear, add it to clear_keys."
            ),
        )
    if settings.unsealed_reads == "warn":
        _warn_once(where.dag_id, where.key)


@cache
def _warn_once(dag_id: str | None, key: str | None) -> None:
    log.warning(
        "XCom %s of DAG %s was not sealed by this backend, and was read because `unsealed_reads` "
        "is warn. Further ones of this DAG and key are not reported by this process.",
        escaped(key or "(key unknown)"),
        escaped(dag_id or "(unknown)"),
    )


def check_coordinate(where: Expected, settings: Settings) -> None:
    """Check that a read says what it wants, where `strict` asks for that.

    Raises:
        ConfigError: it does not.
    """
    if settings.strict and not (where.dag_id and where.task_id and where.key):
        raise ConfigError(
            f"strict is on, and XCom {named(where)} was read by code that does not say which "
            "dag, task and key it wants, so that a moved value could not be told. Pull it with "
            "ti.xcom_pull or an XComArg, or through the state stores of the context, and not "
            "with deserialize_value and its like."
        )
