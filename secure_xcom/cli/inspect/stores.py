"""The stores that `secure-xcom inspect` may look into, and what lies there."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

from secure_xcom.errors import ConfigError, ObjectNotFound
from secure_xcom.format.envelope import PREAMBLE_BYTES_MAX
from secure_xcom.format.reference import STATE_STORES
from secure_xcom.model import Remote
from secure_xcom.settings import SECTION, Settings, load
from secure_xcom.stores import open_store

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.auth.credentials import Credentials

    from secure_xcom.model import Buffer
    from secure_xcom.stores.protocol import Store, Stored

_PREFIX = f"AIRFLOW__{SECTION.upper()}__"
#: Stands in where no key is set: none is used to look at what stands in clear.
_NO_KEK = "gcp-kms://projects/no-project/locations/global/keyRings/none/cryptoKeys/none"


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object as it lies there now."""

    reference: Remote
    #: Its first bytes, with all that stands in clear.
    start: bytes = field(repr=False)


@cache
def settings(*, with_key: bool) -> Settings:
    """Give the deployment's settings; without Airflow, those of its environment variables.

    Args:
        with_key: whether a key has to be set.

    Raises:
        ConfigError: they are wrong, or not known.
    """
    if find_spec("airflow") is not None:
        from secure_xcom.airflow import configuration  # noqa: PLC0415 - it takes its time

        # Airflow 3 reads Variables from the database only in what calls itself a server.
        os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
        return configuration.read()
    section = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX)
    }
    if not with_key:
        section.setdefault("kek_uri", _NO_KEK)
    return load(section, None, None)


def credentials(of: Settings) -> Credentials | None:
    """Give the credentials that the settings name.

    Raises:
        ConfigError: there are none.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not for what needs no store

    return configuration.credentials(of)


def trusted() -> list[str]:
    """Give the URIs of all stores that may be looked into, the longest first.

    Raises:
        ConfigError: the settings are not known.
    """
    known = settings(with_key=False)
    stores = (known.store_uri, *known.trusted_stores)
    uris = {store + states for store in stores for states in ("", *STATE_STORES.values())}
    return sorted(uris, key=lambda uri: (-len(uri), uri))


def store_of(uri: str) -> tuple[str, str]:
    """Take an object's URI apart: the trusted store that it lies in, and its name there.

    Raises:
        ConfigError: it lies in none.
    """
    for store in trusted():
        if uri.startswith(f"{store}/"):
            return store, uri.removeprefix(f"{store}/")
    raise ConfigError(
        f"{uri!r} does not lie in a store of this deployment, nor in one that it trusts. Set "
        f"store_uri or trusted_stores, such as {_PREFIX}STORE_URI; or download the object and name "
        "the file."
    )


def find(store_uri: str, name: str) -> FoundObject:
    """Look for an object of a trusted store, and read its beginning.

    Raises:
        FormatError: the name has a form that is never written.
        ObjectNotFound: there is none.
        StoreError: the store did not tell.
    """
    store = open_store(store_uri, credentials=credentials(settings(with_key=False)))
    folder = name.rpartition("/")[0] + "/"
    for other, stored in store.objects(folder):
        if other == name:
            return _begun(store, name, stored)
    raise ObjectNotFound(f"There is no object {store_uri}/{name}.")


def newest(store_uri: str, folder: str) -> FoundObject:
    """Look for the newest object of a state's folder.

    Raises:
        ObjectNotFound: there is none.
        StoreError: the store did not tell.
    """
    store = open_store(store_uri, credentials=credentials(settings(with_key=False)))
    newest_object = max(
        store.objects(folder), key=lambda named: int(named[1].generation), default=None
    )
    if newest_object is None:
        raise ObjectNotFound(f"There is no object under {store_uri}/{folder}.")
    return _begun(store, *newest_object)


def _begun(store: Store, name: str, stored: Stored) -> FoundObject:
    reference = Remote(store.uri, name, stored.generation, stored.length_bytes, stored.crc32c)
    chunks = store.get(
        name,
        generation=stored.generation,
        length_bytes=stored.length_bytes,
        crc32c=stored.crc32c,
    )
    start = b""
    # Or a connection stays open.
    with closing(cast("Generator[Buffer]", chunks)):
        for chunk in chunks:
            start += bytes(chunk[: PREAMBLE_BYTES_MAX - len(start)])
            if len(start) == PREAMBLE_BYTES_MAX:
                break
    return FoundObject(reference, start)
