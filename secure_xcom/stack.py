"""The composition root: settings become the pile of layers of `docs/index.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, InvalidStateError, wait
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from secure_xcom import audit, codecs, telemetry, threads
from secure_xcom.errors import SecureXComError
from secure_xcom.format.about import about
from secure_xcom.format.reference import STATE_MARKS, STATE_STORES, from_row, to_row
from secure_xcom.keys import open_kek
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.cached import Cached
from secure_xcom.layers.sealed import Checked, Opened, Sealed
from secure_xcom.layers.states import States
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Coordinate, Expected, Offloaded
from secure_xcom.stores import open_store
from secure_xcom.threads import CalledOff, Crew

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.model import Payload
    from secure_xcom.settings import Settings
    from secure_xcom.stores.protocol import Store


#: What gets an encoded value, and whose it is, authenticated.
Keep: TypeAlias = "Callable[[Payload, Coordinate], None]"

#: Reads of one batch wait for the network side by side, in at most this many threads.
_READERS = 32
#: From an element that is read on, the keys of so many are unwrapped; each reader that comes to its
#: element asks for a few of them.
_UNWRAPS = 128
_UNWRAPS_AT_ONCE = 8


class Value(NamedTuple):
    """A value that was opened, and whose it is, authenticated."""

    value: object
    coordinate: Coordinate


class Stack:
    """Values on one side, rows on the other.

    Args:
        sealed: the layers.
        tells_type: whether rows show the type and the exact size of a value.
        is_exact: whether values come back as they are or are refused.
    """

    def __init__(self, sealed: Sealed, *, tells_type: bool, is_exact: bool) -> None:
        self._sealed = sealed
        self._is_exact = is_exact
        self._tells_type = tells_type

    def put(self, value: object, coordinate: Coordinate) -> dict[str, object]:
        """Encode, seal and place a value; the row that stands for it.

        Raises:
            SecureXComError: any of the tree; nothing readable was written.
        """
        with audit.attempt("seal", coordinate) as attempt:
            # A new key is wrapped while the value is encoded, sealed and uploaded.
            key = self._sealed.key_for(coordinate)
            attempt.correlation_id = key.correlation_id
            with telemetry.step("encode"):
                payload = codecs.encode(value, is_exact=self._is_exact)
            attempt.raw_bytes = payload.raw_bytes
            attempt.reference = reference = self._sealed.put(payload, coordinate, key)
            attempt.wrapped = wrapped = key.wrapped()
            told = payload if self._tells_type else None
            return to_row(reference, about(reference, wrapped.kek_uri, told))

    def get(self, row: object, expected: Expected, keep: Keep | None = None) -> Value:
        """The value that a tagged row stands for, if it is what was asked for.

        Args:
            row: the parsed row.
            expected: the coordinate, as far as it is known.
            keep: gets the encoded value before it is decoded.

        Raises:
            SecureXComError: any of the tree; nothing of the value was released.
        """
        with audit.attempt("open", expected) as attempt:
            opened = self._sealed.get(from_row(row), expected, attempt)
            attempt.where, attempt.raw_bytes = opened.coordinate, opened.payload.raw_bytes
        return _decoded(opened, expected, keep)

    def check(self, row: object, expected: Expected) -> None:
        """Open the value that a tagged row stands for, and let go of it before it is decoded.

        Args:
            row: the parsed row.
            expected: the coordinate, as far as it is known.

        Raises:
            SecureXComError: any of the tree: a reader would not get the value.
        """
        with audit.attempt("open", expected) as attempt:
            opened = self._sealed.get(from_row(row), expected, attempt)
            attempt.where, attempt.raw_bytes = opened.coordinate, opened.payload.raw_bytes

    def get_many(
        self, reads: Mapping[int, tuple[object, Expected]], keep: Keep | None = None
    ) -> dict[int, Value]:
        """The values of many tagged rows, in order, fetched and opened side by side.

        Args:
            reads: by the element's number, which an error names.
            keep: gets each encoded value before it is decoded, in this thread.

        Raises:
            SecureXComError: the first failure, with a note that names its element. Whatever is
                raised, by a signal's handler too, is raised at once: reads that have not begun by
                then never begin, and the others are told to stop.
        """
        values: dict[int, Value] = {}
        ahead = _Ahead(self._sealed, reads)
        failed: Future[tuple[int, Exception]] = Future()

        def opened(index: int) -> Opened:
            if failed.done():
                raise CalledOff
            row, expected = reads[index]
            try:
                with audit.attempt("open", expected) as attempt:
                    checked = ahead.come_to(index)
                    if checked is None:
                        checked = self._sealed.check(from_row(row), expected, attempt)
                    opened = self._sealed.open(checked, attempt)
                    attempt.where, attempt.raw_bytes = opened.coordinate, opened.payload.raw_bytes
                    return opened
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
                    values[index] = _decoded(payload.result(), reads[index][1], keep)
                except SecureXComError as error:
                    error.add_note(_element(index))
                    raise
        return values

    def fetch(self, reference: Offloaded) -> None:
        """Bring the object of a reference into the cache, still sealed, and have its key unwrapped.

        Raises:
            SecureXComError: it could not be fetched, or would be refused wherever it is read.
        """
        self._sealed.unwrap_ahead(
            self._sealed.check(reference, Expected(), audit.Attempt(Expected()))
        )
        self._sealed.fetch(reference)

    def delete(self, row: object, expected: Expected) -> None:
        """Delete the object that a tagged row names, if it names one.

        Args:
            row: what is gone from the database, or about to go.
            expected: its coordinate.

        Raises:
            SecureXComError: the row is malformed, or names what is not the coordinate's.
        """
        with audit.attempt("delete", expected) as attempt:
            attempt.reference = reference = from_row(row)
            if isinstance(reference, Offloaded):
                attempt.generation = self._sealed.delete(reference, expected)


class _Ahead:
    """Has data keys unwrapped for the elements that a batch comes to next.

    Args:
        sealed: the layers.
        reads: the batch.
    """

    def __init__(self, sealed: Sealed, reads: Mapping[int, tuple[object, Expected]]) -> None:
        self._sealed = sealed
        self._reads = reads
        self._order = list(reads)
        self._position = {index: position for position, index in enumerate(self._order)}
        #: Up to where keys were asked for.
        self._asked = 0
        self._checked: dict[int, Checked] = {}
        self._lock = Lock()

    def come_to(self, index: int) -> Checked | None:
        """Go on with an element: some more keys are asked for, its own among them.

        Returns:
            What was found of the element, if it was looked at before.
        """
        position = self._position[index]
        with self._lock:
            start = max(self._asked, position)
            end = min(start + _UNWRAPS_AT_ONCE, position + _UNWRAPS, len(self._order))
            self._asked = max(start, end)
        self._ask(start, end)
        return self._checked.pop(index, None)

    def _ask(self, start: int, end: int) -> None:
        for position in range(start, end):
            threads.check()
            # What is wrong with an element is said when it is read.
            with suppress(SecureXComError):
                checked = self._check(self._order[position])
                if not self._sealed.unwrap_ahead(checked):
                    with self._lock:
                        self._asked = min(self._asked, position)
                    return

    def _check(self, index: int) -> Checked:
        checked = self._checked.get(index)
        if checked is None:
            row, expected = self._reads[index]
            checked = self._sealed.check(from_row(row), expected, audit.Attempt(expected))
            self._checked[index] = checked
        return checked


def _decoded(opened: Opened, expected: Expected, keep: Keep | None) -> Value:
    held, coordinate = [opened.payload], opened.coordinate
    del opened  # so that nobody here holds the bytes while the value is made of them
    with audit.failure("open", expected):
        if keep is not None:
            keep(held[0], coordinate)
        with telemetry.step("decode"):
            return Value(codecs.decode(held.pop()), coordinate)


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
    below = Threshold(stores, settings.store_uri, settings.threshold_bytes)
    sealed = _sealed(settings, below, _data_keys(settings, credentials))
    return Stack(
        sealed,
        tells_type=settings.describe == "full",
        is_exact=settings.fidelity == "exact",
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
    below = Threshold(stores, store_uri, settings.threshold_bytes)
    sealed = _sealed(settings, below, _data_keys(settings, credentials), STATE_MARKS[kind])
    return States(sealed, below, settings.threshold_bytes)


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


def _sealed(settings: Settings, below: Threshold, keys: DataKeys, mark: str = "") -> Sealed:
    return Sealed(
        below,
        keys,
        instance=settings.instance,
        trusted_instances=settings.trusted_instances,
        mark=mark,
        compression=Compression[settings.compression.upper()],
        max_value_bytes=settings.max_value_bytes,
    )
