"""What the backend does on every version of Airflow; `v2` and `v3` say what a call knows.

Control keys, the ones that Airflow reads past every backend, are told apart first, so that they
work without keys, store or even valid settings. All else is sealed, or opened, by the stack of
the process.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from secure_xcom import audit
from secure_xcom.airflow import masking, rendered
from secure_xcom.airflow.process import process as _process
from secure_xcom.errors import (
    CodecError,
    ConfigError,
    FormatError,
    SecureXComError,
    UnsealedError,
)
from secure_xcom.format.reference import TAG, from_row, is_tagged
from secure_xcom.model import Coordinate, Expected, Inline, Reference

if TYPE_CHECKING:
    from secure_xcom.airflow.ahead import Ahead
    from secure_xcom.layers.states import States
    from secure_xcom.settings import Settings
    from secure_xcom.stack import Stack

log = logging.getLogger("secure_xcom")


class Read(NamedTuple):
    """One stored XCom to be opened."""

    #: What the row holds, as parsed JSON.
    row: object
    expected: Expected
    #: What the stock backend would make of the row.
    stock: Callable[[], object]


def write(
    value: object,
    where: Expected,
    stock: Callable[[object], object],
    *,
    ti_id: UUID | None = None,
) -> object:
    """Give what the row is to hold: the value sealed, or in clear under a control key.

    Args:
        value: what the task pushed.
        where: the coordinate; only a control key may do without the rest of it.
        stock: the stock backend's serialisation, to parsed JSON.
        ti_id: the task instance's id, where Airflow tells it.

    Raises:
        SecureXComError: any of the tree; nothing readable was written.
    """
    try:
        if _is_clear(where.key, _clear_keys()):
            return _in_clear(value, where, stock)
        coordinate = _coordinate(where, ti_id)
        settings, stack = _process.current()
        if _is_clear(where.key, settings.clear_keys):
            return _in_clear(value, where, stock)
        if settings.strict:
            _check_measures()
    except SecureXComError as error:
        audit.record("seal", where, error=error)
        raise
    return stack.put(value, coordinate)


def read(wanted: Read) -> object:
    """Give the value that a row stands for.

    Raises:
        UnsealedError: the row was not sealed, and `unsealed_reads` refuses it.
        SecureXComError: any of the tree.
    """
    return read_many([wanted])[0]


def read_many(wanted: Sequence[Read]) -> list[object]:
    """Give the values that rows stand for, in order, with the sealed ones fetched side by side.

    Raises:
        UnsealedError: a row was not sealed, and `unsealed_reads` refuses it.
        SecureXComError: any of the tree; no value at all was released.
    """
    values: list[object] = [None] * len(wanted)
    sealed: list[int] = []
    pulled: list[int] = []
    current: tuple[Settings, Stack] | None = None
    for position, one in enumerate(wanted):
        clear = _is_clear(one.expected.key, _clear_keys())
        if not clear:
            current = current or _ready(one.expected)
            clear = _is_clear(one.expected.key, current[0].clear_keys)
        if current and not clear:
            pulled.append(position)
            _check_coordinate(one.expected, current[0])
        if is_tagged(one.row) and not clear:
            sealed.append(position)
            continue
        if current and not clear:
            values[position] = _unsealed(one, current[0])
        else:
            values[position] = _plain(one)
    if current:
        settings, stack = current
        reads = {position: (wanted[position].row, wanted[position].expected) for position in sealed}
        for position, value in _opened(reads, settings, stack).items():
            values[position] = value
        rendered.note_opened()
        if settings.mask_pulled_values:
            for position in set(pulled).difference(sealed):
                masking.mask([values[position]], wanted[position].expected, settings)
    return values


def _opened(
    reads: dict[int, tuple[object, Expected]], settings: Settings, stack: Stack
) -> dict[int, object]:
    """Give the values of sealed rows by position; what they were made of is kept for the masker."""
    keep = partial(masking.keep, settings=settings) if settings.mask_pulled_values else None
    if len(reads) == 1:
        [(position, read)] = reads.items()
        return {position: stack.get(*read, keep)}
    return stack.get_many(reads, keep) if reads else {}


def _ready(where: Expected) -> tuple[Settings, Stack]:
    """Give what reads need: settings, the stack, and that rendered fields are guarded."""
    try:
        rendered.ensure()
        return _process.current()
    except SecureXComError as error:
        audit.record("open", where, error=error)
        raise


def ahead(row: object, rows: Callable[[int, int], list[object]]) -> Ahead | None:
    """Give what reads ahead in a sequence; None if this row of it has no object to fetch.

    At most half of the cache lies ahead of the reader, so that the other half serves repeated
    reads.
    """
    if not is_tagged(row):
        return None
    from secure_xcom.airflow.ahead import Ahead  # noqa: PLC0415 - for sequences only

    settings, stack = _process.current()
    if not stack.offloaded_bytes(row):
        return None
    return Ahead(stack, rows, settings.cache_max_bytes // 2)


def purge(row: object, expected: Expected) -> None:
    """Delete the object of a row that is about to go.

    Airflow purges at the start of every task, and whatever goes wrong here must not fail it: the
    object stays behind, and a warning says so.
    """
    try:
        if is_tagged(row) and not isinstance(_reference(row, expected), Inline):
            _, stack = _process.current()
            stack.delete(row, expected)
    except Exception as error:  # noqa: BLE001 - see above
        log.warning(
            "The object of XCom %s was not deleted: %s%s",
            _named(expected),
            type(error).__name__,
            f": {error}" if isinstance(error, SecureXComError) else "",
        )


def _reference(row: object, expected: Expected) -> Reference:
    try:
        return from_row(row)
    except FormatError as error:
        audit.record("delete", expected, error=error)
        raise


def describe(row: object) -> str:
    """Say what a tagged row is, to a person; nothing is looked up."""
    try:
        reference = from_row(row)
    except FormatError as error:
        return f"Not a valid sealed XCom. {error}"
    if isinstance(reference, Inline):
        return f"Sealed by secure_xcom: {len(reference.envelope)} bytes in this row."
    return (
        f"Sealed by secure_xcom: {reference.length_bytes} bytes in "
        f"{reference.store_uri}/{reference.name}."
    )


def _plain(one: Read) -> object:
    """Give what an unsealed row holds, which must not be taken for a sealed one anywhere."""
    try:
        value = None if is_tagged(one.row) else one.stock()
    except SecureXComError as error:
        raise refused(one.expected, error) from None
    if is_tagged(one.row) or is_tagged(value):
        raise refused(
            one.expected,
            FormatError(
                f"XCom {_named(one.expected)} is read in clear, by `clear_keys` or "
                f"`unsealed_reads`, but carries the member {TAG} of sealed ones. Clear the task "
                "that wrote it."
            ),
        )
    return value


def _unsealed(one: Read, settings: Settings) -> object:
    """Give the value of a row that a former backend wrote, or what the policy makes of it."""
    if settings.legacy_reads and not is_tagged(one.row):
        from secure_xcom.airflow import legacy  # noqa: PLC0415 - only while teams migrate

        value = one.stock()
        if isinstance(value, str) and legacy.is_reference(value, settings.legacy_reads):
            try:
                return legacy.read(value, one.expected, settings)
            except SecureXComError as error:
                raise refused(one.expected, error) from error.__cause__
    _check_policy(one.expected, settings.unsealed_reads)
    return _plain(one)


def _check_policy(where: Expected, unsealed_reads: str) -> None:
    if unsealed_reads == "deny":
        raise refused(
            where,
            UnsealedError(
                f"XCom {_named(where)} was not sealed by this backend: it was written before "
                "the switch, over the REST API, by Airflow itself, or by someone who can write "
                "to the database. `unsealed_reads` is deny, so it is not read. Clear the task "
                "that wrote it; or, for the time of a migration, set unsealed_reads = warn; or, "
                "if Airflow needs this key in clear, add it to clear_keys."
            ),
        )
    if unsealed_reads == "warn":
        _warn_once(where.dag_id, where.key)


@cache
def _warn_once(dag_id: str | None, key: str | None) -> None:
    log.warning(
        "XCom %s of DAG %s was not sealed by this backend, and was read because `unsealed_reads` "
        "is warn. Further ones of this DAG and key are not reported by this process.",
        key or "(key unknown)",
        dag_id or "(unknown)",
    )


def _check_measures() -> None:
    """Check what `strict` needs of this process, beside the settings."""
    from secure_xcom.airflow import policy  # noqa: PLC0415 - for strict alone

    if not policy.is_active():
        raise ConfigError(
            "strict is on, but Airflow has not loaded the cluster policy of secure_xcom, which "
            "keeps return values out of logs. Nothing is written. Install the package with its "
            "entry points (pip install secure-xcom), on every worker, and not as files on a path."
        )
    rendered.ensure()


def _check_coordinate(where: Expected, settings: Settings) -> None:
    if settings.strict and not (where.dag_id and where.task_id and where.key):
        raise refused(
            where,
            ConfigError(
                f"strict is on, and XCom {_named(where)} was read by code that does not say which "
                "dag, task and key it wants, so that a moved value could not be told. Pull it with "
                "ti.xcom_pull or an XComArg, or through the state stores of the context, and not "
                "with deserialize_value and its like."
            ),
        )


def _in_clear(value: object, where: Expected, stock: Callable[[object], object]) -> object:
    row = stock(value)
    if is_tagged(value) or is_tagged(row):
        raise CodecError(
            f"XCom {_named(where)} has a control key (`clear_keys`) and passes in clear, where a "
            f"value must not carry the member {TAG}. Push it under another key."
        )
    return row


def refused(where: Expected, error: SecureXComError) -> SecureXComError:
    """Take note in the audit log of a read that is refused, and give its error back."""
    audit.record("open", where, error=error)
    return error


def _coordinate(where: Expected, ti_id: UUID | None) -> Coordinate:
    if where.dag_id and where.run_id and where.task_id and where.key:
        map_index = -1 if where.map_index is None else where.map_index
        return Coordinate(where.dag_id, where.run_id, where.task_id, map_index, where.key, ti_id)
    missing = [name for name in ("dag_id", "run_id", "task_id", "key") if not getattr(where, name)]
    raise FormatError(
        f"A value is sealed for one place, and serialize_value was not told its "
        f"{', '.join(missing)}. Push with ti.xcom_push, or hand in the whole coordinate."
    )


def _named(where: Expected) -> str:
    task = f"{where.dag_id or '?'}.{where.task_id or '?'}"
    index = "" if where.map_index in (None, -1) else f"[{where.map_index}]"
    return f"{where.key or '(key unknown)'} of {task}{index} in run {where.run_id or '?'}"


def _is_clear(key: str | None, patterns: tuple[str, ...]) -> bool:
    return key is not None and _compiled(patterns).fullmatch(key) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile(
        "|".join(
            re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns
        ),
        re.DOTALL,
    )


@cache
def _clear_keys() -> tuple[str, ...]:
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    return configuration.clear_keys()


def states(kind: str) -> States:
    """Give the states of this process's settings: those of tasks, or of assets."""
    settings, _ = _process.current()
    return _built_states(settings, kind)


@lru_cache(maxsize=4)
def _built_states(settings: Settings, kind: str) -> States:
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import
    from secure_xcom.stack import build_states  # noqa: PLC0415 - it imports the cryptography

    return build_states(settings, kind, configuration.credentials(settings))


os.register_at_fork(after_in_child=_built_states.cache_clear)


def note_opened(value: object) -> None:
    """Keep a state that a task gets out of rendered fields and logs, as what it pulls.

    Raises:
        ConfigError: it could not be kept out of rendered fields.
    """
    rendered.ensure()
    settings, _ = _process.current()
    rendered.note_opened()
    if settings.mask_pulled_values:
        masking.mask([value], Expected(), settings)


def check_policy(where: Expected) -> None:
    """Check that a row that was not sealed may be read.

    Raises:
        UnsealedError: `unsealed_reads` refuses it.
    """
    settings, _ = _process.current()
    _check_policy(where, settings.unsealed_reads)


def check_coordinate(where: Expected) -> None:
    """Check that a read says what it wants, where `strict` asks for that.

    Raises:
        ConfigError: it does not.
    """
    settings, _ = _process.current()
    _check_coordinate(where, settings)


def is_strict() -> bool:
    """Whether `strict` is on."""
    settings, _ = _process.current()
    return settings.strict
