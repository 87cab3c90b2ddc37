"""A check: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from secure_xcom.errors import KeyUnavailable, SecureXComError, StoreUnavailable

#: `unseen`: nobody could look, so that it is neither well nor known not to be.
Status: TypeAlias = Literal["pass", "warn", "unseen", "fail"]
T = TypeVar("T")


class Declared(NamedTuple):
    """A check that can be made; its name is stable."""

    name: str
    #: Whether the profile `regulated` wants it passed, and not only not failed.
    regulated: bool = False


#: Every check, in the order of the report.
DECLARED = (
    Declared("airflow"),
    Declared("libraries"),
    Declared("crypto.module"),
    Declared("backend"),
    Declared("variables"),
    Declared("settings"),
    Declared("instance", regulated=True),
    Declared("unsealed_reads", regulated=True),
    Declared("legacy_reads", regulated=True),
    Declared("clear_keys", regulated=True),
    Declared("links"),
    Declared("policy", regulated=True),
    Declared("rendered_fields", regulated=True),
    Declared("masking", regulated=True),
    Declared("state_store", regulated=True),
    Declared("audit_log", regulated=True),
    Declared("strict", regulated=True),
    Declared("credentials"),
    Declared("key.kind", regulated=True),
    Declared("key.round_trip"),
    Declared("key.permissions"),
    Declared("key.metadata", regulated=True),
    Declared("key.purpose"),
    Declared("key.algorithm"),
    Declared("key.protection_level", regulated=True),
    Declared("key.rotation", regulated=True),
    Declared("key.destroy_duration", regulated=True),
    Declared("key.primary_version"),
    Declared("key.versions"),
    Declared("key.iam", regulated=True),
    Declared("key.audit_logs", regulated=True),
    Declared("trusted_keks"),
    Declared("store.kind", regulated=True),
    Declared("store.round_trip"),
    Declared("store.folder"),
    Declared("store.metadata", regulated=True),
    Declared("store.location", regulated=True),
    Declared("store.uniform_access", regulated=True),
    Declared("store.public_access", regulated=True),
    Declared("store.encryption", regulated=True),
    Declared("store.retention_policy", regulated=True),
    Declared("store.soft_delete", regulated=True),
    Declared("store.versioning", regulated=True),
    Declared("store.lifecycle", regulated=True),
    Declared("residency", regulated=True),
    Declared("erasure", regulated=True),
    Declared("trusted_stores"),
    Declared("clock"),
)
NAMES = tuple(one.name for one in DECLARED)
REGULATED = tuple(one.name for one in DECLARED if one.regulated)

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


def unseen(name: str, detail: str, fix: str) -> Check:
    """It could not be looked at, because a permission is missing or a service did not answer."""
    return Check(name, "unseen", detail, fix)


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
