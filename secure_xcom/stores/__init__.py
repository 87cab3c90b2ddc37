"""Stores: objects under unguessable names, created once and never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.errors import ConfigError
from secure_xcom.stores import file, gcs

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.stores.protocol import Store


def open_store(uri: str, *, credentials: Credentials | None = None) -> Store:
    """The store that a URI names. Nothing is read or called before its first use.

    Args:
        uri: `gs://bucket`, `gs://bucket/prefix`, or `file:///absolute/directory`.
        credentials: for Cloud Storage, instead of the application default credentials.

    Raises:
        ConfigError: the URI names no store.
    """
    if uri.startswith(gcs.SCHEME):
        return gcs.Gcs(uri, credentials=credentials)
    if uri.startswith(file.SCHEME):
        return file.Directory(uri)
    raise ConfigError(
        f"{uri!r} names no store. Allowed are gs://bucket/prefix, and file:///absolute/directory "
        "on a laptop."
    )
