"""Stores: objects under unguessable names, created once and never changed."""
# ruff: noqa: PLC0415 - every call of Airflow's command line imports this, and uses none of it

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.errors import ConfigError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.stores.protocol import Store

#: What the URIs of stores in Cloud Storage, and of directories, begin with.
CLOUD_SCHEME = "gs://"
LOCAL_SCHEME = "file://"


def load(uri: str) -> None:
    """Import what the first use of a store would; nothing is read or called.

    Raises:
        ImportError: it is not installed.
    """
    if uri.startswith(CLOUD_SCHEME):
        from secure_xcom.stores.gcs import store, wire  # noqa: F401

        wire.load()


def open_store(
    uri: str, *, credentials: Credentials | None = None, deadline_seconds: float | None = None
) -> Store:
    """The store that a URI names. Nothing is read or called before its first use.

    Args:
        uri: `gs://bucket`, `gs://bucket/prefix`, or `file:///absolute/directory`.
        credentials: for Cloud Storage, instead of the application default credentials.
        deadline_seconds: how long a call of Cloud Storage goes on without real progress; None
            for the default.

    Raises:
        ConfigError: the URI names no store.
    """
    if uri.startswith(CLOUD_SCHEME):
        from secure_xcom.stores.gcs.store import Gcs

        return Gcs(uri, credentials=credentials, deadline_seconds=deadline_seconds)
    if uri.startswith(LOCAL_SCHEME):
        from secure_xcom.stores.file import Directory

        return Directory(uri)
    raise ConfigError(
        f"{uri!r} names no store. Allowed are gs://bucket/prefix, and file:///absolute/directory "
        "on a laptop."
    )
