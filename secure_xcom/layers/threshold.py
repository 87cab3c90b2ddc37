"""Where a body goes: into the row while it is small, into a store when it is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat

from secure_xcom import telemetry
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.model import Buffer, Offloaded
from secure_xcom.stores.protocol import FORMAT_VERSION, Store, Stored

_log = logging.getLogger(__name__)

#: What an object tells whoever lists the store: the version of the format.
METADATA = {FORMAT_VERSION: "1"}


class Threshold:
    """Places bodies by their length.

    Args:
        stores: those that references may name, by their URIs. Compared as exact strings.
        store_uri: the one that is written to.
        threshold_bytes: a body that is at least this long goes to the store; 0 sends all there,
            -1 none.
    """

    def __init__(self, stores: Mapping[str, Store], store_uri: str, threshold_bytes: int) -> None:
        self._stores = stores
        self.store_uri = store_uri
        self._threshold_bytes = threshold_bytes

    def put(self, name: str, make_body: Callable[[], Iterator[Buffer]]) -> bytes | Stored:
        """Place a body: give it back if it is to stay in the row, or what the store has of it.

        Args:
            name: of the object, if it becomes one.
            make_body: makes the body, anew at each call. Each chunk is good until the next one is
                asked for. An upload that failed starts over with another one.

        Raises:
            StoreError: the store did not take it.
        """
        begun = make_body()
        head: list[Buffer] = []
        head_bytes = 0
        while head_bytes < self._threshold_bytes or self._threshold_bytes < 0:
            chunk = next(begun, None)
            if chunk is None:
                return b"".join(head)
            head.append(bytes(chunk))
            head_bytes += len(head[-1])
        bodies = chain((chain(head, begun),), (make() for make in repeat(make_body)))
        store = self.store(self.store_uri)
        with telemetry.step("upload"):
            return store.create(name, lambda: next(bodies), METADATA)

    def get(self, reference: Offloaded) -> Iterator[Buffer]:
        """Yield an offloaded body; nothing of it counts before the iteration has ended.

        Raises:
            StoreError: the store did not give it.
            AuthenticationError: length or checksum differ from the reference's.
        """
        return self.store(reference.store_uri).get(
            reference.name,
            generation=reference.generation,
            length_bytes=reference.length_bytes,
            crc32c=reference.crc32c,
        )

    def delete(self, reference: Offloaded) -> str | None:
        """Delete the object of a reference; one that is gone is no error.

        Returns:
            The generation that was deleted: the reference's, or where that is gone the live one's
            if it holds the same bytes; None where there is no such object.

        Raises:
            StoreError: the store did not delete it.
        """
        store = self.store(reference.store_uri)
        if store.delete(reference.name, generation=reference.generation):
            return reference.generation
        found = store.find(reference.name)
        held = (reference.length_bytes, reference.crc32c)
        if found is None or (found.length_bytes, found.crc32c) != held:
            return None
        deleted = store.delete(reference.name, generation=found.generation)
        return found.generation if deleted else None

    def discard(self, name: str, written: Stored) -> None:
        """Delete an object that was written in vain; what cannot be deleted is an orphan."""
        try:
            self.store(self.store_uri).delete(name, generation=written.generation)
        except SecureXComError as error:
            _log.warning(
                "The object %s/%s belongs to no row, and could not be deleted (%s).",
                *(self.store_uri, name, type(error).__name__),
            )

    def store(self, uri: str) -> Store:
        """The store of that URI.

        Raises:
            ConfigError: it is not trusted.
        """
        store = self._stores.get(uri)
        if store is None:
            raise ConfigError(
                f"The row names an object in {uri!r}, which is not a store that this deployment "
                "trusts. If it is one of yours, from before a move, add it to `trusted_stores`; "
                "it must be spelled the same."
            )
        return store
