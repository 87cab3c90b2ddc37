"""Where an envelope goes: into the row while it is small, into a store when it is not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from secure_xcom.errors import AuthenticationError, ConfigError
from secure_xcom.model import Buffer, Coordinate, Description, Expected, Inline, Reference, Remote
from secure_xcom.stores.names import coordinate_prefix, new_token, object_name
from secure_xcom.stores.protocol import Store


class Threshold:
    """Places envelopes by their length.

    An object tells whoever lists the store that it is an envelope of this package, of which
    format version, and the KEK that opens it (`metadata`); beyond that, its name tells the
    coordinate. The envelope's own header tells all of these in clear as well.

    Args:
        stores: those that references may name, by their URIs. Compared as exact strings.
        store_uri: the one that is written to.
        threshold_bytes: an envelope that is at least this long goes to the store; 0 sends all
            there, -1 none.
    """

    def __init__(self, stores: Mapping[str, Store], store_uri: str, threshold_bytes: int) -> None:
        self._stores = stores
        self._store_uri = store_uri
        self._threshold_bytes = threshold_bytes

    def put(
        self, chunks: Iterable[Buffer], coordinate: Coordinate, description: Description
    ) -> Reference:
        """Place an envelope.

        Args:
            chunks: its bytes. Each is good until the next one is asked for. If they can be
                iterated over again, a failed upload may start over with them.
            coordinate: whose envelope it is.
            description: what its row shows.

        Raises:
            ConfigError: the store is not among those that were given.
            StoreError: the store did not take it.
        """
        rest = iter(chunks)
        head: list[Buffer] = []
        head_bytes = 0
        while head_bytes < self._threshold_bytes or self._threshold_bytes < 0:
            chunk = next(rest, None)
            if chunk is None:
                return Inline(b"".join(head), description)
            head.append(bytes(chunk))
            head_bytes += len(head[-1])
        begun = chain(head, rest)
        name = object_name(coordinate, new_token())
        stored = self._store(self._store_uri).put(
            name,
            begun if isinstance(chunks, Iterator) else _Begun(begun, chunks),
            metadata(description),
        )
        return Remote(
            store_uri=self._store_uri,
            name=name,
            generation=stored.generation,
            length_bytes=stored.length_bytes,
            crc32c=stored.crc32c,
            description=description,
        )

    def get(self, reference: Reference) -> Iterator[Buffer]:
        """Yield an envelope; nothing of it counts before the iteration has ended.

        Raises:
            ConfigError: its store is not trusted.
            FormatError: its name has a form that is never written.
            StoreError: the store did not give it.
            AuthenticationError: length or checksum differ from the reference's.
        """
        if isinstance(reference, Inline):
            yield reference.envelope
            return
        yield from self._store(reference.store_uri).get(
            reference.name,
            generation=reference.generation,
            length_bytes=reference.length_bytes,
            crc32c=reference.crc32c,
        )

    def delete(self, reference: Reference, expected: Expected) -> None:
        """Delete the object of a reference, if it has one. One that is gone is no error.

        Args:
            reference: what the row holds. Its writer may not be who wrote the object.
            expected: what is known of the coordinate that is deleted; the object's name must lie
                under it, so that a row cannot have another XCom's object deleted.

        Raises:
            ConfigError: its store is not trusted.
            FormatError: its name has a form that is never written.
            AuthenticationError: it is the object of another coordinate.
            StoreError: the store did not delete it.
        """
        if isinstance(reference, Inline):
            return
        store = self._store(reference.store_uri)
        if not reference.name.startswith(coordinate_prefix(expected)):
            raise AuthenticationError
        store.delete(reference.name, generation=reference.generation)

    def _store(self, uri: str) -> Store:
        store = self._stores.get(uri)
        if store is None:
            raise ConfigError(
                f"The row names an object in {uri!r}, which is not a store that this deployment "
                "trusts. If it is one of yours, from before a move, add it to `trusted_stores`; "
                "it must be spelled the same."
            )
        return store


def metadata(description: Description) -> dict[str, str]:
    """What an object shows to who may list the store: the format's version, and the KEK."""
    return {"secure-xcom": "1", "kek": description.kek_uri}


class _Begun:
    """Chunks that were begun upon: the first iteration goes on, each further one starts over."""

    def __init__(self, begun: Iterator[Buffer], chunks: Iterable[Buffer]) -> None:
        self._begun: Iterator[Buffer] | None = begun
        self._chunks = chunks

    def __iter__(self) -> Iterator[Buffer]:
        begun, self._begun = self._begun, None
        return begun if begun is not None else iter(self._chunks)
