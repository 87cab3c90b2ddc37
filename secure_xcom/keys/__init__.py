"""Key encryption keys and the data keys they wrap."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.errors import ConfigError
from secure_xcom.keys import cloud_kms, local

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.keys.protocol import Kek


def open_kek(uri: str, *, credentials: Credentials | None = None) -> Kek:
    """The KEK that a URI names. Nothing is read or called before its first use.

    Args:
        uri: `gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K`, or `local-kek:///path`.
        credentials: for Cloud KMS, instead of the application default credentials.

    Raises:
        ConfigError: the URI names no KEK.
    """
    if uri.startswith(cloud_kms.SCHEME):
        return cloud_kms.CloudKms(uri, credentials=credentials)
    if uri.startswith(local.SCHEME):
        return local.LocalKek(uri)
    raise ConfigError(
        f"{uri!r} names no key encryption key. Allowed are "
        "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K, and local-kek:///absolute/path "
        "on a laptop."
    )
