"""The composition root: settings become the pile of layers of `docs/index.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

from secure_xcom import audit, codecs
from secure_xcom.errors import FormatError, SecureXComError
from secure_xcom.format.reference import from_row, to_row
from secure_xcom.keys import open_kek
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.cached import Cached
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.states import States
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Remote
from secure_xcom.stores import open_store

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.model import Coordinate, Expected, Payload, Reference
    from secure_xcom.settings import Settings


#: What gets an encoded value, and what was asked for.
Keep: TypeAlias = "Callable[[Payload, Expected], None]"

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

    def get(self, row: object, expected: Expected, keep: Keep | None = None) -> object:
        """The value that a tagged row stands for, if it is what was asked for.

        Args:
            row: the parsed row.
            expected: the coordinate, as far as it is known.
            keep: gets the encoded value before it is decoded.

        Raises:
            SecureXComError: any of the tree; nothing of the value was released.
        """
        payload = self._opened(row, expected)
        if keep is not None:
            keep(payload, expected)
        return codecs.decode(payload)

    def open(self, reference: Reference, expected: Expected) -> object:
        """The value of a reference, if it is what was asked for.

        Raises:
            SecureXComError: any of the tree; nothing of the value was released.
        """
        return codecs.decode(self._sealed.get(reference, expected))

    def _opened(self, row: object, expected: Expected) -> Payload:
        try:
            reference = from_row(row)
        except FormatError as error:
            audit.record("open", expected, error=error)
            raise
        return self._sealed.get(reference, expected)

    def get_many(
        self, reads: Mapping[int, tuple[object, Expected]], keep: Keep | None = None
    ) -> dict[int, object]:
        """The values of many tagged rows, in order, fetched and opened side by side.

        Args:
            reads: by the element's number, which an error names.
            keep: gets each encoded value before it is decoded, in this thread.

        Raises:
            SecureXComError: the first failure, with a note that names its element; reads that
                have not begun by then never begin.
        """
        values: dict[int, object] = {}
        failures: list[tuple[int, Exception]] = []

        def opened(index: int) -> Payload | None:
            try:
                return None if failures else self._opened(*reads[index])
            except Exception as error:  # noqa: BLE001 - raised below, in the calling thread
                failures.append((index, error))
                return None

        with ThreadPoolExecutor(_READERS, "secure-xcom-read") as pool:
            # Whatever ends this loop, one of Airflow's timeouts too, cancels what has not begun.
            for index, payload in zip(reads, pool.map(opened, reads), strict=True):
                if payload is None:
                    break
                try:
                    if keep is not None:
                        keep(payload, reads[index][1])
                    values[index] = codecs.decode(payload)
                except SecureXComError as error:
                    failures.append((index, error))
                    break
        if failures:
            index, first = failures[0]
            first.add_note(f"This was element {index}.")
            raise first
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


def build(settings: Settings, credentials: Credentials | None = None) -> Stack:
    """Build the layers. Nothing is called yet: keys and stores connect at first use.

    Raises:
        ConfigError: a KEK or a store cannot be used as it is set.
    """
    stores = {
        uri: Cached(open_store(uri, credentials=credentials), settings.cache_max_bytes)
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
    store_uri = f"{settings.store_uri}/~state/{kind}"
    stores = {
        uri: open_store(uri, credentials=credentials)
        for uri in (store_uri, *(f"{one}/~state/{kind}" for one in settings.trusted_stores))
    }
    keys = _data_keys(settings, credentials)
    inline, offloaded = (
        _sealed(settings, Threshold(stores, store_uri, threshold_bytes), keys, f"#{kind}-state")
        for threshold_bytes in (settings.threshold_bytes, 0)
    )
    return States(inline, offloaded, stores, store_uri)


def _data_keys(settings: Settings, credentials: Credentials | None) -> DataKeys:
    keks = {
        uri: open_kek(uri, credentials=credentials)
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
