"""State: values under a key that are written over and over, and read without a word of context.

A short one is a row like any other (`docs/format.md`, section 7). A long one is an object in the
key's folder, and its row names the folder: the same for every write, so that whoever deletes the
key knows where to look. The newest object counts; a write removes the older ones once its own is
there, so at no time is there none. From then on the write is done: that the older ones could not be
removed is a warning, and the next write removes them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from secure_xcom import audit, codecs
from secure_xcom.errors import ConfigError, FormatError, ObjectNotFound, SecureXComError
from secure_xcom.format.reference import (
    dumps,
    dumps_folder,
    folder_from_row,
    from_row,
    is_folder,
    loads,
)
from secure_xcom.layers.sealed import Sealed
from secure_xcom.model import Coordinate, Expected, Inline, Payload, Reference, Remote
from secure_xcom.stores.names import coordinate_prefix
from secure_xcom.stores.protocol import Store, Stored

_log = logging.getLogger(__name__)


class States:
    """The states of tasks, or those of assets.

    Args:
        sealed: seals, and places by length.
        offloaded: seals, and places in the store whatever the length.
        stores: those that rows may name, by their URIs.
        store_uri: the one that is written to.
    """

    def __init__(
        self, sealed: Sealed, offloaded: Sealed, stores: Mapping[str, Store], store_uri: str
    ) -> None:
        self._sealed = sealed
        self._offloaded = offloaded
        self._stores = stores
        self._store_uri = store_uri

    def to_row(self, text: str, coordinate: Coordinate) -> str:
        """Seal a text; the row that stands for it, as JSON.

        Raises:
            SecureXComError: any of the tree; nothing readable was written.
        """
        reference = self._sealed.put(codecs.encode(text), coordinate)
        if isinstance(reference, Inline):
            return dumps(reference).decode()
        self._remove_older(reference, coordinate)
        return dumps_folder(self._store_uri, coordinate_prefix(Expected.exactly(coordinate)))

    def from_row(self, row: str, expected: Expected) -> str:
        """The text that a row stands for, if it is what was asked for.

        Raises:
            ObjectNotFound: the row names a folder, and nothing is in it.
            SecureXComError: any of the tree; nothing of the text was released.
        """
        try:
            reference = self._named(row)
        except SecureXComError as error:
            audit.record("open", expected, error=error)
            raise
        return self.open(reference, expected)

    def open(self, reference: Reference, expected: Expected) -> str:
        """The text of a reference, if it is what was asked for.

        Raises:
            SecureXComError: any of the tree; nothing of the text was released.
        """
        return _text(self._sealed.get(reference, expected))

    def _named(self, row: str) -> Reference:
        """What a row stands for now."""
        parsed = loads(row)
        if not is_folder(parsed):
            return from_row(parsed)
        store_uri, folder = folder_from_row(parsed)
        newest = self._newest(store_uri, folder)
        if newest is None:
            raise ObjectNotFound(
                f"There is no object under {store_uri}/{folder}: the state was deleted while its "
                "row remained. Write the key again."
            )
        return newest

    def set(self, text: str, coordinate: Coordinate) -> None:
        """Write a text as the newest object of its folder."""
        reference = self._offloaded.put(codecs.encode(text), coordinate)
        self._remove_older(reference, coordinate)

    def get(self, coordinate: Coordinate) -> str | None:
        """The text of the newest object of a folder; None if there is none."""
        expected = Expected.exactly(coordinate)
        newest = self._newest(self._store_uri, coordinate_prefix(expected))
        return None if newest is None else self.open(newest, expected)

    def delete(self, expected: Expected) -> None:
        """Delete all objects of the folder that the leading known fields name."""
        store = self._stores[self._store_uri]
        try:
            for name, stored in store.objects(coordinate_prefix(expected)):
                store.delete(name, generation=stored.generation)
                audit.record("delete", expected, reference=_remote(self._store_uri, name, stored))
        except SecureXComError as error:
            audit.record("delete", expected, error=error)
            raise

    def _newest(self, store_uri: str, folder: str) -> Remote | None:
        store = self._stores.get(store_uri)
        if store is None:
            raise ConfigError(
                f"The row names a state in {store_uri!r}, which is not a store that this "
                "deployment trusts. If it is one of yours, from before a move, add its store to "
                "`trusted_stores`."
            )
        found = max(store.objects(folder), key=lambda one: int(one[1].generation), default=None)
        if found is None:
            return None
        return _remote(store_uri, *found)

    def _remove_older(self, reference: Reference, coordinate: Coordinate) -> None:
        if not isinstance(reference, Remote):
            return
        store = self._stores[self._store_uri]
        folder = coordinate_prefix(Expected.exactly(coordinate))
        try:
            for name, stored in store.objects(folder):
                if int(stored.generation) < int(reference.generation):
                    store.delete(name, generation=stored.generation)
                    older = _remote(self._store_uri, name, stored)
                    audit.record("delete", coordinate, reference=older)
        except SecureXComError as error:
            audit.record("delete", coordinate, error=error)
            _log.warning(
                "A state was written, but those before it under %s/%s were not all removed; the "
                "next write of the key removes them. %s: %s",
                self._store_uri,
                folder,
                type(error).__name__,
                error,
            )


def _remote(store_uri: str, name: str, stored: Stored) -> Remote:
    return Remote(store_uri, name, stored.generation, stored.length_bytes, stored.crc32c)


def _text(payload: Payload) -> str:
    text = codecs.decode(payload)
    if not isinstance(text, str):
        raise FormatError("The sealed value is not a state.")
    return text
