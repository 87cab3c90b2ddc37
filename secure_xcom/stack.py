"""The composition root: settings become the pile of layers of `docs/index.md`."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from secure_xcom import audit, codecs
from secure_xcom.errors import FormatError, SecureXComError
from secure_xcom.format.reference import STATE_MARKS, STATE_STORES, from_row, to_row
from secure_xcom.keys import open_kek
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.cached import Cached
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.states import States
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Remote
from secure_xcom.stores import open_store
from secure_xcom.threads import Crew

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.model import Coordinate, Expected, Payload, Reference
    from secure_xcom.settings import Settings
    from secure_xcom.stores.protocol import Store


#: Reads of one batch wait for the network side by side, in at most this many threads.
_READERS = 32


class Stack:
    """Values on one side, rows on the other."""

    def __init__(self, sealed: Sealed) -> None:
        self._sealed = sealed

    def put(self, value: object, coordinate: Coordinate) -> dict[str, object]:
        """Encode, seal and place a value; the row that stands for it.

        Raises:
            SecureXComError: any of the tree; nothing readable was written.
        """
        try:
            payload = codecs.encode(value)
        except SecureXComError as error:
            audit.record("seal", coordinate, error=error)
            raise
        return to_row(self._sealed.put(payload, coordinate))

    def get(self, row: object, expected: Expected) -> object:
        """The value that a tagged row stands for, if it is what was asked for.

        Raises:
            SecureXComError: any of the tree; nothing of the value was released.
        """
        return _decoded(self._opened(row, expected), expected)

    def open(self, reference: Reference, expected: Expected) -> object:
        """The value of a reference, if it is what was asked for.

        Raises:
            SecureXComError: any of the tree; nothing of the value was released.
        """
        return _decoded(self._sealed.get(reference, expected), expected)

    def _opened(self, row: object, expected: Expected) -> Payload:
        try:
            reference = from_row(row)
        except FormatError as error:
            audit.record("open", expected, error=error)
            raise
        return self._sealed.get(reference, expected)

    def get_many(self, reads: Mapping[int, tuple[object, Expected]]) -> dict[int, object]:
        """The values of many tagged rows, in order, fetched and opened side by side.

        Args:
            reads: by the element's number, which an error names.

        Raises:
            SecureXComError: the first failure, with a note that names its element. Whatever is
                raised, by a signal's handler too, is raised at once: reads that have not begun by
                then never begin, and the others are told to stop.
        """
        values: dict[int, object] = {}
        failed: Future[tuple[int, Exception]] = Future()

        def opened(index: int) -> Payload:
            try:
                return self._opened(*reads[index])
            except Exception as error:
                with suppress(InvalidStateError):
                    failed.set_result((index, error))
                raise

        with Crew(_READERS, "secure-xcom-read") as readers:
            payloads = [readers.submit(partial(opened, index)) for index in reads]
            payloads.reverse()
            for index in reads:
                payload = payloads.pop()
                either: tuple[Future[Any], ...] = (payload, failed)
                wait(either, return_when=FIRST_COMPLETED)
                if failed.done():
                    failing, error = failed.result()
                    error.add_note(_element(failing))
                    raise error
                try:
                    values[index] = _decoded(payload.result(), reads[index][1])
                except SecureXComError as error:
                    error.add_note(_element(index))
                    raise
        return values

    def offloaded_bytes(self, row: object) -> int:
        """How long the object is that a row names; 0 where it names none, well-formed or not."""
        try:
            reference = from_row(row)
        except FormatError:
            return 0
        return reference.length_bytes if isinstance(reference, Remote) else 0

    def fetch(self, row: object) -> None:
        """Bring the object that a tagged row names into the cache, still sealed.

        Raises:
            SecureXComError: it could not be fetched.
        """
        self._sealed.fetch(from_row(row))

    def delete(self, row: object, expected: Expected) -> None:
        """Delete the object that a tagged row names, if it names one.

        Raises:
            SecureXComError: the row is malformed, or names what is not the coordinate's.
        """
        self._sealed.delete(from_row(row), expected)


def _decoded(payload: Payload, expected: Expected) -> object:
    held = [payload]
    del payload  # so that nobody here holds the bytes while the value is made of them
    try:
        return codecs.decode(held.pop())
    except SecureXComError as error:
        audit.record("open", expected, error=error)
        raise


def _element(index: int) -> str:
    return f"This was element {index}."


def build(settings: Settings, credentials: Credentials | None = None) -> Stack:
    """Build the layers. Nothing is called yet: keys and stores connect at first use.

    Raises:
        ConfigError: a KEK or a store cannot be used as it is set.
    """
    stores = {
        uri: Cached(_store(uri, settings, credentials), settings.cache_max_bytes)
        for uri in (settings.store_uri, *settings.trusted_stores)
    }
    return Stack(
        _sealed(
            settings,
            Threshold(stores, settings.store_uri, settings.threshold_bytes),
            _data_keys(settings, credentials),
        )
    )


def build_states(settings: Settings, kind: str, credentials: Credentials | None = None) -> States:
    """Build the layers for the states of tasks or of assets, apart from XComs and each other.

    Args:
        settings: those of the XComs.
        kind: `task` or `asset`. It stands in the store's URI and in the instance that is sealed
            in, in a form that neither an XCom's name nor the setting can have, so that what was
            sealed as one kind is never read as another.
        credentials: for Cloud KMS and Cloud Storage.

    Raises:
        ConfigError: a KEK or a store cannot be used as it is set.
    """
    store_uri = settings.store_uri + STATE_STORES[kind]
    trusted = [uri + STATE_STORES[kind] for uri in settings.trusted_stores]
    stores = {uri: _store(uri, settings, credentials) for uri in (store_uri, *trusted)}
    keys = _data_keys(settings, credentials)
    inline, offloaded = (
        _sealed(settings, Threshold(stores, store_uri, threshold_bytes), keys, STATE_MARKS[kind])
        for threshold_bytes in (settings.threshold_bytes, 0)
    )
    return States(inline, offloaded, stores, store_uri)


def _store(uri: str, settings: Settings, credentials: Credentials | None) -> Store:
    return open_store(
        uri, credentials=credentials, deadline_seconds=settings.store_deadline_seconds
    )


def _data_keys(settings: Settings, credentials: Credentials | None) -> DataKeys:
    keks = {
        uri: open_kek(uri, credentials=credentials, deadline_seconds=settings.kms_deadline_seconds)
        for uri in (settings.kek_uri, *settings.trusted_keks)
    }
    return DataKeys(keks, settings.kek_uri, settings.data_key_ttl_seconds)


def _sealed(settings: Settings, below: Threshold, keys: DataKeys, domain: str = "") -> Sealed:
    return Sealed(
        below,
        keys,
        instance=settings.instance + domain,
        trusted_instances=[instance + domain for instance in settings.trusted_instances],
        compression=Compression[settings.compression.upper()],
        max_value_bytes=settings.max_value_bytes,
        describe=settings.describe == "full",
    )
