"""The audit log: one JSON object a line, never contents.

`docs/operations.md` documents the fields; their names are stable. `configure` says where the lines
go.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

from secure_xcom import telemetry
from secure_xcom.audit import sinks
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    SecureXComError,
    UnsealedError,
)
from secure_xcom.model import (
    Coordinate,
    Expected,
    Inline,
    Offloaded,
    Reference,
    StateObject,
    WrappedKey,
)

logger = sinks.logger

#: `mask` is written by `exceeded` alone, and `probe` by `probe`.
Operation: TypeAlias = Literal["seal", "open", "delete", "mask", "probe"]

#: These say that what was read is not to be trusted; all other errors are failures of service.
_REFUSALS = (AuthenticationError, ConfigError, FormatError, UnsealedError)


class _Trail(NamedTuple):
    """Where lines go, how many places have to take one, and what each says of who does it."""

    places: tuple[str, ...] = (sinks.TASK_LOG,)
    needed: int = 0
    said: Mapping[str, str] = {}


#: That of the process, and that of a command, which has its own.
_of_process = _Trail()
_of_command: ContextVar[_Trail | None] = ContextVar("secure_xcom_audit", default=None)


def configure(places: Sequence[str], *, required: bool) -> None:
    """Say where the lines of this process go from now on.

    Args:
        places: the sinks, as the setting `audit_log` names them.
        required: whether what leaves no line anywhere is an error.
    """
    global _of_process  # noqa: PLW0603 - one for a process, as Python's logging is
    _of_process = _Trail(tuple(places), int(required))


@contextmanager
def acting(actor: str, places: Sequence[str], **said: str) -> Iterator[None]:
    """Have the lines say that a command does it, and have each of these places take them.

    Args:
        actor: the command and its user, such as `inspect:alice`.
        places: the sinks, as the setting `audit_log` names them.
        said: what else is known of it; empty texts are left out.
    """
    members = {"actor": actor} | {name: text for name, text in said.items() if text}
    token = _of_command.set(_Trail(tuple(places), len(places), members))
    try:
        yield
    finally:
        _of_command.reset(token)


def check() -> None:
    """Check that a line would be written, where it must be, before anything else is done.

    Raises:
        ConfigError: not enough sinks would take it.
    """
    trail = _trail()
    if trail.needed > sum(map(sinks.would_take, trail.places)):
        raise _silent(trail)


def _trail() -> _Trail:
    return _of_command.get() or _of_process


def _silent(trail: _Trail) -> ConfigError:
    return ConfigError(
        "The audit log cannot be written, and without its line nothing is sealed or opened here: "
        f"it goes to {', '.join(trail.places) or 'no place'} (`audit_log`), which takes no lines. "
        "Name a place that does, such as stderr or a file that this process may append to."
    )


@dataclass(slots=True)
class Attempt:
    """What is known of an operation by the time that it ends."""

    where: Coordinate | Expected
    reference: Reference | StateObject | None = None
    wrapped: WrappedKey | None = None
    raw_bytes: int | None = None
    generation: str | None = None
    #: What goes with the request to Cloud KMS, too.
    correlation_id: str | None = None
    #: Where an envelope says that it belongs. Only what was refused is named by it.
    unverified_claim: Coordinate | None = None


@contextmanager
def attempt(operation: Operation, where: Coordinate | Expected) -> Iterator[Attempt]:
    """Write one line when what is done in this context has ended, well or with an error of ours."""
    tried = Attempt(where)
    try:
        with telemetry.step(operation):
            yield tried
    except SecureXComError as error:
        _record(operation, tried, error)
        raise
    _record(operation, tried, None)


@contextmanager
def failure(
    operation: Operation,
    where: Coordinate | Expected,
    unverified_claim: Coordinate | None = None,
) -> Iterator[None]:
    """Write a line only if what is done in this context ends with an error of ours."""
    try:
        yield
    except SecureXComError as error:
        _record(operation, Attempt(where, unverified_claim=unverified_claim), error)
        raise


def refused(
    operation: Operation, where: Coordinate | Expected, error: SecureXComError
) -> SecureXComError:
    """Write the line of an operation that is refused before it begins, and give the error back."""
    _record(operation, Attempt(where), error)
    return error


def exceeded(where: Coordinate | Expected) -> None:
    """Write the line that more was opened than can be masked in logs."""
    _record("mask", Attempt(where), None)


@dataclass(slots=True)
class Run:
    """What a command has changed by the time that it ends."""

    count: int = 0
    digest: str = ""


@contextmanager
def run(command: str) -> Iterator[Run]:
    """Write the line of a whole command when it has ended, well or with an error of ours.

    Args:
        command: such as `gc`.
    """
    done = Run()
    try:
        yield done
    except SecureXComError as error:
        _changed(command, "run", done.count, done.digest, error)
        raise
    _changed(command, "run", done.count, done.digest)


def changed(command: str, what: str, count: int, digest: str) -> None:
    """Write a line of a command that changes many things, for some of them.

    Args:
        command: such as `gc`.
        what: was changed, such as `objects`.
        count: how many of it.
        digest: SHA-256, in hexadecimal digits, over what was changed.
    """
    _changed(command, what, count, digest)


def _changed(
    command: str, what: str, count: int, digest: str, error: SecureXComError | None = None
) -> None:
    trail = _trail()
    event = {
        "time": _now(),
        "operation": command,
        "outcome": "ok" if error is None else "failed",
        **trail.said,
        "what": what,
        "count": count,
        "digest": digest,
        **({"error": type(error).__name__} if error else {}),
    }
    level = logging.INFO if error is None else logging.WARNING
    taken = sinks.write(trail.places, level, event)
    if len(taken) < trail.needed and error is None:
        raise _silent(trail)


def nonce() -> str:
    """Give a random text to know a probe by."""
    return secrets.token_hex(16)


def probe(place: str, correlation_id: str) -> bool:
    """Write a line to one sink alone; whether it was taken."""
    event = {
        "time": _now(),
        "operation": "probe",
        "outcome": "ok",
        "correlation_id": correlation_id,
    }
    return bool(sinks.write((place,), logging.INFO, event))


def _record(operation: Operation, tried: Attempt, error: SecureXComError | None) -> None:
    """Write one line. A read or a deletion that was not to be trusted is a `refuse`.

    Raises:
        ConfigError: it went well, but too few sinks took the line.
    """
    is_refused = isinstance(error, _REFUSALS)
    is_exceeded = operation == "mask"
    trail = _trail()
    outcome = (
        "refused" if is_refused else "failed" if error else "exceeded" if is_exceeded else "ok"
    )
    if telemetry.is_observed():
        _count(operation, tried, outcome, error)
    event: dict[str, object] = {
        "time": _now(),
        "operation": "refuse" if is_refused and operation != "seal" else operation,
        "outcome": outcome,
        **trail.said,
        "dag_id": tried.where.dag_id,
        "run_id": tried.where.run_id,
        "task_id": tried.where.task_id,
        "map_index": tried.where.map_index,
        "key": tried.where.key,
        **(_claim(tried.unverified_claim) if error and tried.unverified_claim else {}),
        "kek": tried.wrapped.kek_uri if tried.wrapped else None,
        "kek_version": tried.wrapped.unverified_version if tried.wrapped else None,
        "correlation_id": tried.correlation_id,
        "raw_bytes": tried.raw_bytes,
        **_placement(operation, tried),
        "error": type(error).__name__ if error else None,
    }
    level = logging.INFO if outcome == "ok" else logging.WARNING
    # Airflow 2 paints lines red in which the word "error" stands, whatever follows it.
    said = {name: value for name, value in event.items() if value is not None}
    taken = sinks.write(trail.places, level, said)
    if len(taken) < trail.needed and error is None:
        raise _silent(trail)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _claim(claim: Coordinate) -> dict[str, object]:
    return {
        "unverified_dag_id": claim.dag_id,
        "unverified_run_id": claim.run_id,
        "unverified_task_id": claim.task_id,
        "unverified_map_index": claim.map_index,
        "unverified_key": claim.key,
    }


def _count(
    operation: Operation, tried: Attempt, outcome: str, error: SecureXComError | None
) -> None:
    known = {"dag_id": tried.where.dag_id, "task_id": tried.where.task_id}
    tags = {name: value for name, value in known.items() if value is not None}
    if operation == "mask":
        telemetry.count("masking_exceeded", tags=tags)
        return
    told = f"{operation}.{outcome}"
    telemetry.count(f"{told}.{type(error).__name__}" if error else told, tags=tags)
    if error is None and tried.raw_bytes is not None:
        telemetry.count(f"{operation}.bytes", tried.raw_bytes, tags)
    if error is None and operation == "seal":
        placed = "inline" if isinstance(tried.reference, Inline) else "offloaded"
        telemetry.count(f"seal.{placed}", tags=tags)


def _placement(operation: Operation, tried: Attempt) -> dict[str, object]:
    reference = tried.reference
    if reference is None:
        return {}
    if isinstance(reference, Inline):
        return {"placement": "inline", "sealed_bytes": len(reference.envelope)}
    written = reference if isinstance(reference, Offloaded) else None
    # A deletion says what it has found, which may be nothing, or another one than the row's.
    named = written.generation if written and operation != "delete" else None
    return {
        "placement": "offloaded",
        "store": reference.store_uri,
        "object": reference.name,
        "generation": tried.generation or named,
        "sealed_bytes": written.length_bytes if written else None,
    }
