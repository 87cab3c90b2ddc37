"""Key encryption keys and the data keys they wrap."""
# ruff: noqa: PLC0415 - every call of Airflow's command line imports this, and uses none of it

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.uris import CLOUD_KMS, KmsKey, parse_kek, scheme

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.keys.protocol import Kek


def load(uri: str) -> None:
    """Import what the first use of a KEK would; nothing is read or called.

    Args:
        uri: the KEK's; the scheme is enough.

    Raises:
        ImportError: it is not installed.
    """
    if scheme(uri) == CLOUD_KMS:
        from secure_xcom.keys.cloud_kms import kek as cloud_kms

        cloud_kms.load()


def open_kek(
    uri: str, *, credentials: Credentials | None = None, deadline_seconds: float = 60.0
) -> Kek:
    """The KEK that a URI names. Nothing is read or called before its first use.

    Args:
        uri: `gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K`, or `local-kek:///path`.
        credentials: for Cloud KMS, instead of the application default credentials.
        deadline_seconds: for Cloud KMS, how long one call may take in all.

    Raises:
        ConfigError: the URI names no KEK.
    """
    if isinstance(parse_kek(uri), KmsKey):
        from secure_xcom.keys.cloud_kms.kek import CloudKms

        return CloudKms(uri, credentials=credentials, deadline_seconds=deadline_seconds)
    from secure_xcom.keys.local import LocalKek

    return LocalKek(uri)
