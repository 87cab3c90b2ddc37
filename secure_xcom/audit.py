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
from datetime import UTC, datetime
from typing import Literal, TypeAlias

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    SecureXComError,
    UnsealedError,
)
from secure_xcom.model import Coordinate, Expected, Inline, Reference, WrappedKey

logger = logging.getLogger("secure_xcom.audit")

#: `mask` is written only where more was opened than can be masked in logs.
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


def record(  # noqa: PLR0913 - what an auditor asks for
    operation: Operation,
    where: Coordinate | Expected,
    *,
    reference: Reference | None = None,
    wrapped: WrappedKey | None = None,
    raw_bytes: int | None = None,
    error: SecureXComError | None = None,
) -> None:
    """Write one line. A read or a deletion that was not to be trusted is a `refuse`."""
    refused = isinstance(error, _REFUSALS)
    exceeded = operation == "mask"
    outcome = "refused" if refused else "failed" if error else "exceeded" if exceeded else "ok"
    level = logging.INFO if outcome == "ok" else logging.WARNING
    if not logger.isEnabledFor(level):
        return
    event: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "operation": "refuse" if refused and operation != "seal" else operation,
        "outcome": outcome,
        "actor": _actor.get(),
        "dag_id": where.dag_id,
        "run_id": where.run_id,
        "task_id": where.task_id,
        "map_index": where.map_index,
        "key": where.key,
        "kek": wrapped.kek_uri if wrapped else None,
        "kek_version": wrapped.unverified_version if wrapped else None,
        "raw_bytes": raw_bytes,
        **_placement(reference),
        "error": type(error).__name__ if error else None,
    }
    logger.log(level, "%s", json.dumps(event))


def _placement(reference: Reference | None) -> dict[str, object]:
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
    return {
        "placement": "offloaded",
        "store": reference.store_uri,
        "object": reference.name,
        "generation": reference.generation,
        "sealed_bytes": reference.length_bytes,
    }
