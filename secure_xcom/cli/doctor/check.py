"""A check: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeAlias, TypeVar

from secure_xcom.errors import KeyUnavailable, SecureXComError, StoreUnavailable

Status: TypeAlias = Literal["pass", "warn", "fail"]
T = TypeVar("T")

#: Every name that a check can have, in the order of the report. They are stable.
NAMES = (
    "airflow",
    "libraries",
    "backend",
    "variables",
    "settings",
    "instance",
    "unsealed_reads",
    "legacy_reads",
    "clear_keys",
    "policy",
    "rendered_fields",
    "masking",
    "state_store",
    "strict",
    "credentials",
    "key.kind",
    "key.round_trip",
    "key.permissions",
    "key.metadata",
    "key.purpose",
    "key.algorithm",
    "key.protection_level",
    "key.rotation",
    "key.primary_version",
    "trusted_keks",
    "store.kind",
    "store.round_trip",
    "store.folder",
    "store.metadata",
    "store.location",
    "store.uniform_access",
    "store.public_access",
    "store.encryption",
    "store.retention_policy",
    "store.soft_delete",
    "store.versioning",
    "store.lifecycle",
    "trusted_stores",
    "clock",
)

#: How long one probe may take whatever hangs: longer than the clients' own patience, so that their
#: errors, which say more, come first.
PROBE_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Check:
    """What was found; `fix` is empty where nothing has to be done."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def passed(name: str, detail: str) -> Check:
    """All is well."""
    return Check(name, "pass", detail)


def warned(name: str, detail: str, fix: str) -> Check:
    """It works, and somebody should know."""
    return Check(name, "warn", detail, fix)


def failed(name: str, detail: str, fix: str) -> Check:
    """Values are not sealed, cannot be read, or can be lost."""
    return Check(name, "fail", detail, fix)


def refused(name: str, error: SecureXComError) -> Check:
    """What a worker would run into; the message says what to do."""
    page = f"docs/errors.md#{type(error).__name__.lower()}"
    return failed(name, f"{type(error).__name__}: {error}", f"See {page}.")


def within(act: Callable[[], T]) -> T:
    """Do something that waits for a service, and do not wait for ever.

    Raises:
        SecureXComError: it took longer than `PROBE_SECONDS`; it is left behind.
        BaseException: whatever `act` raises.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def probe() -> None:
        try:
            outcome.append(act())
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread
            errors.append(error)

    thread = threading.Thread(target=probe, name="secure-xcom-doctor", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if errors:
        raise errors[0]
    if not outcome:
        raise SecureXComError(f"There was no answer within {PROBE_SECONDS:g} seconds.")
    return outcome[0]


def is_out_of_reach(error: SecureXComError) -> bool:
    """Whether a service gave no answer of its own, so that nothing else need be asked of it."""
    cause = error.__cause__
    # A retry that gave up has the last attempt's error for its own cause.
    cause = getattr(cause, "cause", None) or cause
    if cause is None:
        return type(error) is SecureXComError or isinstance(
            error, (KeyUnavailable, StoreUnavailable)
        )
    # Answers have a status; what credentials, connections and imports raise has none.
    status = getattr(cause, "code", None)
    return (
        not isinstance(status, int)
        or status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )
