"""The stores that `secure-xcom inspect` may look into, and what lies there."""

from __future__ import annotations

import os
from contextlib import closing
from functools import cache
from typing import TYPE_CHECKING, cast

from secure_xcom.airflow import versions
from secure_xcom.errors import ConfigError, ObjectNotFound
from secure_xcom.format.envelope import PREAMBLE_BYTES_MAX
from secure_xcom.format.reference import STATE_MARKS
from secure_xcom.layers.sealed import again_if_damaged
from secure_xcom.settings import SECTION, Settings, load
from secure_xcom.stores import open_store
from secure_xcom.uris import state_store

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.auth.credentials import Credentials

    from secure_xcom.model import Buffer
    from secure_xcom.stores.protocol import Store, Stored

_PREFIX = f"AIRFLOW__{SECTION.upper()}__"
#: Stands in where no key is set: none is used to look at what stands in clear.
NO_KEK = "gcp-kms://projects/no-project/locations/global/keyRings/none/cryptoKeys/none"


@cache
def settings(*, with_key: bool) -> Settings:
    """The deployment's settings; without Airflow, those of its environment variables.

    Args:
        with_key: whether a key has to be set. Else `kek_uri` may be `NO_KEK`.

    Raises:
        ConfigError: they are wrong, or not known.
    """
    if versions.is_installed():
        from secure_xcom.airflow import configuration  # noqa: PLC0415 - it takes its time

        versions.use_database()
        return configuration.read()
    section = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.startswith(_PREFIX)
    }
    if not with_key:
        section.setdefault("kek_uri", NO_KEK)
    return load(section, None, None, lambda name: f"{_PREFIX}{name.upper()}")


def credentials(of: Settings) -> Credentials | None:
    """The credentials that the settings name.

    Raises:
        ConfigError: there are none.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not for what needs no store

    return configuration.credentials(of)


def trusted(of: Settings) -> dict[str, str | None]:
    """The stores that may be looked into, with the kind of states in each; None for XComs."""
    uris = (of.store_uri, *of.trusted_stores)
    states = {state_store(uri, kind): kind for uri in uris for kind in STATE_MARKS}
    return dict.fromkeys(uris) | states


def store_of(uri: str) -> tuple[str, str]:
    """The trusted store that an object lies in, and the object's name there.

    Raises:
        ConfigError: it lies in none.
    """
    # The stores of states lie below those of XComs.
    for store in sorted(trusted(settings(with_key=False)), key=len, reverse=True):
        if uri.startswith(f"{store}/"):
            return store, uri.removeprefix(f"{store}/")
    raise ConfigError(
        f"{uri!r} does not lie in a store of this deployment, nor in one that it trusts. Set "
        f"store_uri or trusted_stores, such as {_PREFIX}STORE_URI; or, for a state, download the "
        "object and name the file."
    )


def find(store_uri: str, name: str) -> Stored:
    """What a trusted store holds under a name now.

    Raises:
        FormatError: the name could lead out of the store.
        ObjectNotFound: there is nothing.
        StoreError: the store did not tell.
    """
    stored = _open(store_uri).find(name)
    if stored is None:
        raise ObjectNotFound(f"There is no object {store_uri}/{name}.")
    return stored


def begin(store_uri: str, name: str) -> tuple[Stored, bytes]:
    """What a trusted store holds under a name now, and its first bytes, up to a preamble's.

    Raises:
        FormatError: the name could lead out of the store.
        ObjectNotFound: there is nothing.
        AuthenticationError: what came is not what the store said that it holds.
        StoreError: the store did not tell.
    """
    store = _open(store_uri)

    def read() -> tuple[Stored, bytes]:
        stored, chunks = store.fetch(name)
        start = b""
        # Or a connection stays open.
        with closing(cast("Generator[Buffer]", chunks)):
            for chunk in chunks:
                start += bytes(chunk[: PREAMBLE_BYTES_MAX - len(start)])
                if len(start) == PREAMBLE_BYTES_MAX:
                    break
        return stored, start

    return again_if_damaged(read)


def _open(store_uri: str) -> Store:
    known = settings(with_key=False)
    return open_store(
        store_uri, credentials=credentials(known), deadline_seconds=known.store_deadline_seconds
    )
