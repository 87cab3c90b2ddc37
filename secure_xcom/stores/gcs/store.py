"""Objects in Google Cloud Storage: `gs://bucket/prefix`.

What the service holds is compared with what was sent, and what it gives with what the reference
says, here and not in Google's client, which compares on some ways only. Nothing of Google's is
imported before the first call: it costs half a second of CPU.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import google_crc32c

from secure_xcom.errors import (
    ConfigError,
    FormatError,
    SecureXComError,
)
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Tally, errors_of_source_first, parts
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs import wire as gcs_wire
from secure_xcom.stores.gcs.errors import (
    DELETE,
    LIST,
    READ,
    REPLACE,
    WRITE,
    Interrupted,
    Kind,
    Operation,
    SessionGone,
)
from secure_xcom.stores.gcs.session import UploadSession
from secure_xcom.stores.gcs.wire import (
    Connection,
    Patience,
    Resource,
    Wire,
    base64_of,
    make_client,
    stored_of_headers,
)
from secure_xcom.stores.names import is_name
from secure_xcom.stores.protocol import Damaged, Stored
from secure_xcom.uris import BucketPrefix, parse_store

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response

    from secure_xcom.stores.gcs.wire import MakeClient

#: Up to here an object is collected, and goes out in one request that can be repeated.
COLLECTED_BYTES = 8_388_608
#: How much of a longer one is held until the service has it, once sending it as it comes failed.
PART_BYTES = 8_388_608
#: The size of the blocks that reads give out.
BLOCK_BYTES = 1_048_576
#: What a write asks for that is to replace nothing.
NO_GENERATION = "0"
#: How long a write that failed may look for what it has left behind, or delete it.
_TIDYING_SECONDS = 5.0


class Gcs:
    """A prefix of a bucket; threads may share it.

    Args:
        uri: `gs://bucket` or `gs://bucket/prefix`.
        credentials: used instead of the application default credentials.
        make_client: used instead of `gcs_wire.make_client`, at the first call in each process.
        deadline_seconds: how long a call goes on without real progress; None for
            `gcs_wire.DEADLINE_SECONDS`.

    Raises:
        ConfigError: the URI does not name a place for objects.
    """

    def __init__(
        self,
        uri: str,
        *,
        credentials: Credentials | None = None,
        make_client: MakeClient = make_client,
        deadline_seconds: float | None = None,
    ) -> None:
        self._uri = uri
        place = parse_store(uri)
        if not isinstance(place, BucketPrefix):
            raise ConfigError(f"{uri!r} names no bucket; gs://bucket/prefix does.")
        self._place = place
        self._credentials = credentials
        self._make_client = make_client
        self._deadline_seconds = deadline_seconds
        self._process = _Process()

    def __repr__(self) -> str:
        return f"Gcs({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the store was opened by."""
        return self._uri

    def create(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        metadata: Mapping[str, str],
    ) -> Stored:
        """Write a new object (`Store.create`).

        Up to `COLLECTED_BYTES` it goes out in one request. A longer one goes out in one request
        too, as it comes; should that fail, it is made again and goes out in parts, each of them
        held until the service has it.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed  # noqa: PLC0415

        resource: Resource = {"name": self._object_name(name), "metadata": dict(metadata)}
        attempts: list[Tally] = []

        def begin() -> Tally:
            attempts.append(Tally(make_chunks))
            return attempts[-1]

        with errors_of_source_first(attempts), self.wire(WRITE, name) as wire:
            try:
                stored = _send(wire, resource, begin)
            except PreconditionFailed:
                # An attempt whose answer was lost has written it, or somebody else has.
                found = wire.find(resource["name"])
                if found and _is_sent(found, attempts):
                    return found
                raise gcs_errors.exists(self._of(name)) from None
            except NotFound:
                if wire.has_bucket():
                    raise
                raise gcs_errors.no_bucket(self._place.bucket) from None
            except Exception as error:
                found = _left_behind(wire, resource, error)
                if found and _is_sent(found, attempts):
                    return found
                raise
            if not _is_sent(stored, attempts):
                _discard(wire, resource, stored)
                raise gcs_errors.other_bytes(self._of(name), "It was deleted, if that was possible")
            return stored

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write an object in the place of the one that has its name (`Store.replace`).

        It goes out in one request, with its checksum and the generation that it is to replace.
        """
        from google.api_core.exceptions import NotFound, PreconditionFailed  # noqa: PLC0415

        object_name = self._object_name(name)
        tally = Tally(lambda: data)
        held = list(tally)
        resource = {
            "name": object_name,
            "metadata": dict(metadata),
            "crc32c": base64_of(tally.crc32c),
        }
        with self.wire(REPLACE, name) as wire:
            former = wire.find(object_name)
            generation = former.generation if former else NO_GENERATION
            while True:
                try:
                    stored = wire.upload(resource, held, once=False, generation=generation)
                except PreconditionFailed:
                    found = wire.find(object_name)
                    if found is None and generation != NO_GENERATION:
                        # It was deleted meanwhile, so there is nothing to replace.
                        generation = NO_GENERATION
                        continue
                    # Either an attempt whose answer was lost has written it, or another writer
                    # replaced the same generation; then this write came just before that one.
                    generation = found.generation if found else generation
                    return Stored(generation, tally.length_bytes, tally.crc32c)
                except NotFound:
                    if wire.has_bucket():
                        raise
                    raise gcs_errors.no_bucket(self._place.bucket) from None
                if not _is_sent(stored, [tally]):
                    raise gcs_errors.other_bytes(self._of(name), "It stays there")
                return stored

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object in blocks of `BLOCK_BYTES`, as it comes (`Store.get`)."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        object_name = self._object_name(name)
        asked = Stored(generation, length_bytes, crc32c)
        with self._reading(name) as wire:
            try:
                response = wire.patience.attempt(lambda: wire.download(object_name, generation))
            except NotFound:
                found = wire.find(object_name)
                if found is None:
                    raise
                if (found.length_bytes, found.crc32c) != (length_bytes, crc32c):
                    raise Damaged from None
                asked = found
                response = wire.patience.attempt(
                    lambda: wire.download(object_name, asked.generation)
                )
            yield from _receive(wire, object_name, asked, response)

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        """The live object of a name (`Store.fetch`), in one request."""
        fetched = self._fetch(name)
        return next(fetched), fetched

    def _fetch(self, name: str) -> Iterator[Any]:
        """Yield what the object is, and then its blocks."""
        object_name = self._object_name(name)

        def attempt() -> tuple[Stored, Response]:
            response = wire.download(object_name)
            try:
                return stored_of_headers(response.headers), response
            except Exception:
                response.close()
                raise

        with self._reading(name) as wire:
            stored, response = wire.patience.attempt(attempt)
            with closing(response):
                yield stored
                yield from _receive(wire, object_name, stored, response)

    @contextmanager
    def _reading(self, name: str) -> Iterator[Wire]:
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        with self.wire(READ, name) as wire:
            try:
                yield wire
            except NotFound:
                if not wire.has_bucket():
                    raise gcs_errors.no_bucket(self._place.bucket) from None
                raise gcs_errors.no_object(self._of(name)) from None

    def find(self, name: str) -> Stored | None:
        """What the service knows of the object that has that name now (`Store.find`)."""
        object_name = self._object_name(name)
        with self.wire(READ, name) as wire:
            return wire.find(object_name)

    def delete(self, name: str, *, generation: str) -> bool:
        """Delete one generation of an object (`Store.delete`)."""
        object_name = self._object_name(name)
        with self.wire(DELETE, name) as wire:
            return wire.delete(object_name, generation)

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder (`Store.objects`)."""
        folder = folder.removesuffix("/") + "/"
        prefix = self._object_name(folder.removesuffix("/")) + "/"
        with self.wire(LIST, folder) as wire:
            for name, stored in wire.objects(prefix):
                yield name[len(prefix) - len(folder) :], stored

    def _of(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _object_name(self, name: str) -> str:
        if not is_name(name):
            raise FormatError(f"{name[:200]!r} is not the name of an object.")
        return self._place.object_name(name)

    @contextmanager
    def wire(self, operation: Operation, name: str) -> Iterator[Wire]:
        """The bucket, for one call; what it raises becomes an error of this package.

        What a signal handler of the caller raised comes through as it is.
        """
        patience = Patience(self._deadline_seconds or gcs_wire.DEADLINE_SECONDS)
        try:
            yield Wire(self._connection(), self._place.bucket, patience)
        except SecureXComError:
            raise
        except Exception as error:
            if own := patience.own(error):
                raise own from own.__cause__
            raise gcs_errors.translate(
                error, operation, self._of(name), patience.retries
            ) from error

    def _connection(self) -> Connection:
        process = self._process
        if process.pid != os.getpid():
            # A connection that two processes write to mixes up their requests.
            process = self._process = _Process()
        with process.lock:
            if process.connection is None:
                process.connection = Connection(self._make_client(self._credentials))
            return process.connection


class _Process:
    """What a process has of a store, and a child that it forks has not."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.connection: Connection | None = None


def _send(wire: Wire, resource: Resource, begin: Callable[[], Tally]) -> Stored:
    tally = begin()
    held = tally.take(COLLECTED_BYTES)
    if tally.ended:
        return wire.upload({**resource, "crc32c": base64_of(tally.crc32c)}, held, once=False)
    try:
        return wire.upload(resource, chain(_let_go(held), tally), once=True)
    except Exception as error:  # noqa: BLE001 - raised again, or tried again
        failure = error
    if tally.error is not None:
        raise failure
    wire.patience.wait(failure)
    while True:
        try:
            return _send_in_parts(wire, resource, begin())
        except SessionGone as gone:
            failure = gone
        wire.patience.wait(failure, Kind.DOUBTFUL)


def _send_in_parts(wire: Wire, resource: Resource, blocks: Iterable[bytes]) -> Stored:
    session = UploadSession(wire, resource)
    stored: Stored | None = None
    try:
        for part, last in parts(blocks, PART_BYTES):
            stored = session.send(part, last=last)
            # Or it would be held while the next one is collected.
            del part
    except BaseException:
        # What went wrong first is what counts.
        with suppress(Exception):
            session.cancel()
        raise
    # Of the last part there is always an answer.
    return cast("Stored", stored)


def _left_behind(wire: Wire, resource: Resource, error: Exception) -> Stored | None:
    """The object that a write has left behind whose last answer was lost, if it can be told."""
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415

    if wire.patience.own(error) or wire.patience.kind_of(error) is Kind.FINAL:
        return None
    if isinstance(error, GoogleAPICallError):
        # The last answer came. Had an earlier one been lost, it would say that the object exists.
        return None
    # What went wrong first is what counts.
    with suppress(Exception):
        return wire.within(Patience(_TIDYING_SECONDS)).find(resource["name"])
    return None


def _discard(wire: Wire, resource: Resource, stored: Stored) -> None:
    with suppress(Exception):
        wire.within(Patience(_TIDYING_SECONDS)).delete(resource["name"], stored.generation)


def _receive(wire: Wire, object_name: str, stored: Stored, response: Response) -> Iterator[bytes]:
    """Yield an object, from an answer that begins with it and the further ones that it takes."""
    received_bytes, checksum = 0, 0
    patience = wire.patience
    while True:
        failure: Exception | None = None
        try:
            with closing(response):
                _check_length(response, stored.length_bytes - received_bytes)
                while block := _read(patience, response):
                    received_bytes += len(block)
                    if received_bytes > stored.length_bytes:
                        raise Damaged  # noqa: TRY301 - it passes
                    checksum = google_crc32c.extend(checksum, block)
                    patience.moved(len(block))
                    yield block
        except SecureXComError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, or tried again
            failure = error
        if failure is None and received_bytes < stored.length_bytes:
            failure = Interrupted("an object ended before its time")
        if failure is not None:
            patience.wait(failure)
        if received_bytes >= stored.length_bytes:
            break
        response = patience.attempt(
            partial(wire.download, object_name, stored.generation, received_bytes)
        )
    if checksum != stored.crc32c:
        raise Damaged


def _read(patience: Patience, response: Response) -> bytes:
    with patience.spent():
        block: bytes = response.raw.read(BLOCK_BYTES, decode_content=False)
    return block


def _check_length(response: Response, left_bytes: int) -> None:
    """Refuse what is longer or shorter than the reference says before any of it is used."""
    claimed = response.headers.get("Content-Length")
    if claimed is not None and claimed != str(left_bytes):
        raise Damaged


def _let_go(blocks: list[bytes]) -> Iterator[bytes]:
    """Yield blocks in order, and keep none that was yielded."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _is_sent(stored: Stored, attempts: Iterable[Tally]) -> bool:
    """Whether an object is what one of the attempts sent to its end."""
    return any(
        tally.ended and (stored.length_bytes, stored.crc32c) == (tally.length_bytes, tally.crc32c)
        for tally in attempts
    )
