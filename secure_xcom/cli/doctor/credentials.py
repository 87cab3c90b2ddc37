"""Checks the credentials: whether there are any, and whose they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from secure_xcom import google_errors
from secure_xcom.cli.doctor.check import Check, failed, passed, within
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.uris import CLOUD_KMS, GCS, scheme

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.settings import Settings

_NAME = "credentials"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def default_credentials() -> Any:  # noqa: ANN401 - of whichever kind there is
    """Find the application default credentials, as Google's clients do.

    Raises:
        ConfigError: there are none, or they cannot be used.
    """
    from google.auth import default  # noqa: PLC0415 - only where Google is called
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    try:
        found, _ = default(scopes=[_SCOPE])
    except GoogleAuthError as error:
        raise ConfigError(google_errors.about_credentials(error)) from error
    return found


class InUse(NamedTuple):
    """What the checks call Google with."""

    check: Check
    #: As workers have them; None stands for application default credentials.
    given: Credentials | None = None
    #: Whichever these are; None where none are needed, or there are none.
    resolved: Credentials | None = None


def look(settings: Settings, credentials_of: Callable[[], Credentials | None]) -> InUse:
    """Look for the credentials of `gcp_conn_id`, or for those that are found without it.

    Only their place is looked at: whether the services take them is seen by the round trips.
    """
    uris = (settings.kek_uri, *settings.trusted_keks, settings.store_uri, *settings.trusted_stores)
    if not any(scheme(uri) in (CLOUD_KMS, GCS) for uri in uris):
        return InUse(passed(_NAME, "none are needed: no key and no store is in Google Cloud"))
    try:
        given = credentials_of()
        resolved: Credentials = given or within(default_credentials)
    except SecureXComError as error:
        return InUse(
            failed(
                _NAME,
                str(error),
                "Start workers under a service account, or set gcp_conn_id to a connection that "
                "has one (docs/settings.md#gcp_conn_id).",
            )
        )
    found = (
        f"of the connection {settings.gcp_conn_id}"
        if settings.gcp_conn_id
        else "application default credentials"
    )
    member = google_errors.member(resolved)
    whose = "" if member == google_errors.NO_MEMBER else f", {member}"
    return InUse(passed(_NAME, f"{found}{whose}"), given, resolved)
