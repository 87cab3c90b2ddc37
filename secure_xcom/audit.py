"""The audit log: one JSON object a line on the logger `secure_xcom.audit`, never contents.

`docs/operations.md` documents the fields; their names are stable. Python's own logging
configuration says where the lines go; a logger that is disabled costs next to nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from secure_xcom import telemetry
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

logger = logging.getLogger("secure_xcom.audit")

#: `mask` is written by `exceeded` alone.
Operation: TypeAlias = Literal["seal", "open", "delete", "mask"]

#: Which command opens or deletes, and for which user; None where it is Airflow itself.
_actor: ContextVar[str | None] = ContextVar("secure_xcom_actor", default=None)

#: These say that what was read is not to be trusted; all other errors are failures of service.
_REFUSALS = (AuthenticationError, ConfigError, FormatError, UnsealedError)


@contextmanager
def acting(actor: str) -> Iterator[None]:
    """Have the lines say that a command does it, such as `inspect:alice`."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)


@dataclass(slots=True)
class Attempt:
    """What is known of an operation by the time that it ends."""

    where: Coordinate | Expected
    reference: Reference | StateObject | None = None
    wrapped: WrappedKey | None = None
    raw_bytes: int | None = None
    generation: str | None = None


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
def failure(operation: Operation, where: Coordinate | Expected) -> Iterator[None]:
    """Write a line only if what is done in this context ends with an error of ours."""
    try:
        yield
    except SecureXComError as error:
        _record(operation, Attempt(where), error)
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
    level = logging.INFO if error is None else logging.WARNING
    if not logger.isEnabledFor(level):
        return
    event = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "operation": command,
        "outcome": "ok" if error is None else "failed",
        "actor": _actor.get(),
        "what": what,
        "count": count,
        "digest": digest,
        "error": type(error).__name__ if error else None,
    }
    logger.log(level, "%s", json.dumps(event))


def _record(operation: Operation, tried: Attempt, error: SecureXComError | None) -> None:
    """Write one line. A read or a deletion that was not to be trusted is a `refuse`."""
    is_refused = isinstance(error, _REFUSALS)
    is_exceeded = operation == "mask"
    outcome = (
        "refused" if is_refused else "failed" if error else "exceeded" if is_exceeded else "ok"
    )
    if telemetry.is_observed():
        _count(operation, tried, outcome, error)
    level = logging.INFO if outcome == "ok" else logging.WARNING
    if not logger.isEnabledFor(level):
        return
    event: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "operation": "refuse" if is_refused and operation != "seal" else operation,
        "outcome": outcome,
        "actor": _actor.get(),
        "dag_id": tried.where.dag_id,
        "run_id": tried.where.run_id,
        "task_id": tried.where.task_id,
        "map_index": tried.where.map_index,
        "key": tried.where.key,
        "kek": tried.wrapped.kek_uri if tried.wrapped else None,
        "kek_version": tried.wrapped.unverified_version if tried.wrapped else None,
        "raw_bytes": tried.raw_bytes,
        **_placement(operation, tried),
        "error": type(error).__name__ if error else None,
    }
    logger.log(level, "%s", json.dumps(event))


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
        return dict.fromkeys(("placement", "store", "object", "generation", "sealed_bytes"))
    if isinstance(reference, Inline):
        return {
            "placement": "inline",
            "store": None,
            "object": None,
            "generation": None,
            "sealed_bytes": len(reference.envelope),
        }
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
