"""Stores: they keep objects under names, and give back the very same bytes."""
# ruff: noqa: PLC0415 - every call of Airflow's command line imports this, and uses none of it

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.uris import GCS, BucketPrefix, parse_store, scheme

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.stores.protocol import Store


def load(uri: str) -> None:
    """Import what the first use of a store would; nothing is read or called.

    Args:
        uri: the store's; the scheme is enough.

    Raises:
        ImportError: it is not installed.
    """
    if scheme(uri) == GCS:
        from secure_xcom.stores.gcs import client, store  # noqa: F401

        client.load()


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
    if isinstance(parse_store(uri), BucketPrefix):
        from secure_xcom.stores.gcs.store import Gcs

        return Gcs(uri, credentials=credentials, deadline_seconds=deadline_seconds)
    from secure_xcom.stores.file import Directory

    return Directory(uri)
