"""Objects in Google Cloud Storage: `gs://bucket/prefix`.

What the service holds is compared with what was sent, and what it gives with what the reference
says, here and not in Google's client, which compares on some ways only. Nothing of Google's is
imported before the first call: it costs half a second of CPU.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, cast

import google_crc32c

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    SecureXComError,
    StoreError,
)
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Passes, errors_of_source_first, parts
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs import wire as gcs_wire
from secure_xcom.stores.gcs.errors import (
    DELETE,
    LIST,
    READ,
    WRITE,
    Interrupted,
    Kind,
    Operation,
    SessionGone,
)
from secure_xcom.stores.gcs.session import UploadSession
from secure_xcom.stores.gcs.wire import Connection, Patience, Resource, Wire, make_client
from secure_xcom.stores.names import PREFIX_BYTES_MAX, is_name
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response

    from secure_xcom.stores.gcs.wire import MakeClient

SCHEME = "gs://"
#: Up to here an object is collected, and goes out in one request that can be repeated.
COLLECTED_BYTES = 8_388_608
#: How much of a longer one is held until the service has it, where it cannot be made again.
PART_BYTES = 8_388_608
#: The size of the blocks that reads give out.
BLOCK_BYTES = 1_048_576
#: How long a write that failed may look for what it has left behind.
_LOOK_SECONDS = 5.0

# https://cloud.google.com/storage/docs/buckets#naming; names below a store begin with a prefix of
# the same plain characters that settings allow.
_URI = re.compile(
    r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])"
    r"(?:/(?P<prefix>(?!\.{1,2}(?:/|$))[A-Za-z0-9._~=+@-]+"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~=+@-]+)*))?"
)


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
        self._bucket, self._prefix = _parse(uri)
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

    def put(self, name: str, chunks: Iterable[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Create an object (`Store.put`).

        Up to `COLLECTED_BYTES` it goes out in one request. A longer one goes out in one request
        too, as it comes, if its chunks can be made again; should that fail, and otherwise from
        the start, it goes out in parts, each of them held until the service has it.
        """
        resource = {"name": self._object_name(name), "metadata": dict(metadata)}
        passes = Passes(chunks)
        with errors_of_source_first(passes.tallies), self.wire(WRITE, name) as wire:
            return self._put(wire, name, resource, passes)

    def _put(self, wire: Wire, name: str, resource: Resource, passes: Passes) -> Stored:
        from google.api_core.exceptions import NotFound, PreconditionFailed  # noqa: PLC0415

        try:
            stored = _send(wire, resource, passes)
        except PreconditionFailed:
            # An attempt whose answer was lost has written it, or somebody else has.
            found = wire.find(resource["name"])
            if found and _is_sent(found, passes):
                return found
            raise gcs_errors.exists(self._of(name)) from None
        except NotFound:
            if wire.has_bucket():
                raise
            raise gcs_errors.no_bucket(self._bucket) from None
        except Exception as error:
            found = _left_behind(wire, resource, error)
            if found and _is_sent(found, passes):
                return found
            raise
        if _is_sent(stored, passes):
            return stored
        wire.delete(resource["name"], stored.generation)
        raise StoreError(
            f"Cloud Storage holds other bytes under {self._of(name)} than were sent (their length "
            "or CRC-32C differs). The object was deleted; clear the task to write it again."
        )

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object in blocks of `BLOCK_BYTES`, as it comes (`Store.get`)."""
        object_name = self._object_name(name)
        with self.wire(READ, name) as wire:
            from google.api_core.exceptions import NotFound  # noqa: PLC0415

            try:
                yield from _receive(wire, object_name, generation, length_bytes, crc32c)
            except NotFound:
                if wire.find(object_name):
                    raise gcs_errors.other_generation(self._of(name), generation) from None
                if not wire.has_bucket():
                    raise gcs_errors.no_bucket(self._bucket) from None
                raise gcs_errors.no_object(self._of(name)) from None

    def delete(self, name: str, *, generation: str) -> None:
        """Delete one generation of an object (`Store.delete`)."""
        with self.wire(DELETE, name) as wire:
            wire.delete(self._object_name(name), generation)

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder (`Store.objects`)."""
        prefix = f"{self._object_name(folder.removesuffix('/'))}/"
        with self.wire(LIST, folder) as wire:
            for name, stored in wire.objects(prefix):
                yield name.removeprefix(self._prefix), stored

    def _of(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _object_name(self, name: str) -> str:
        if not is_name(name):
            raise FormatError(f"{name[:200]!r} is not the name of an object.")
        return self._prefix + name

    @contextmanager
    def wire(self, operation: Operation, name: str) -> Iterator[Wire]:
        """The bucket, for one call; what it raises becomes an error of this package.

        What a signal handler of the caller raised comes through as it is.
        """
        patience = Patience(self._deadline_seconds or gcs_wire.DEADLINE_SECONDS)
        try:
            yield Wire(self._connection(), self._bucket, patience)
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


def _parse(uri: str) -> tuple[str, str]:
    match = _URI.fullmatch(uri)
    prefix = f"{match['prefix']}/" if match and match["prefix"] else ""
    if match is None or len(prefix) > PREFIX_BYTES_MAX:
        raise ConfigError(
            f"{uri!r} does not name a place in Cloud Storage; gs://bucket and gs://bucket/prefix "
            "do, with no slash at the end, no segment that is empty or of dots, and at most "
            f"{PREFIX_BYTES_MAX - 1} characters in the prefix."
        )
    return match["bucket"], prefix


def _send(wire: Wire, resource: Resource, passes: Passes) -> Stored:
    tally = passes.begin()
    held = tally.take(COLLECTED_BYTES)
    if tally.ended:
        return wire.upload({**resource, "crc32c": _base64(tally.crc32c)}, held, once=False)
    if passes.has_more:
        try:
            return wire.upload(resource, chain(_let_go(held), tally), once=True)
        except Exception as error:  # noqa: BLE001 - raised again, or tried again
            failure = error
        if tally.error is not None:
            raise failure
        wire.patience.wait(failure)
        tally, held = passes.begin(), []
    while True:
        try:
            return _send_in_parts(wire, resource, chain(_let_go(held), tally))
        except SessionGone as gone:
            failure = gone
        if not passes.has_more:
            raise failure
        wire.patience.wait(failure, Kind.DOUBTFUL)
        tally, held = passes.begin(), []


def _send_in_parts(wire: Wire, resource: Resource, blocks: Iterable[bytes]) -> Stored:
    session = UploadSession(wire, resource)
    stored: Stored | None = None
    try:
        for part, last in parts(blocks, PART_BYTES):
            stored = session.send(part, last=last)
            # Or it would be held while the next one is collected.
            del part
    finally:
        if stored is None:
            session.cancel()
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
    patience = Patience(_LOOK_SECONDS)
    try:
        return wire.within(patience).find(resource["name"])
    except Exception as second:  # noqa: BLE001 - the first one counts
        own = patience.own(second)
    if own:
        raise own
    return None


def _receive(
    wire: Wire, object_name: str, generation: str, length_bytes: int, crc32c: int
) -> Iterator[bytes]:
    received_bytes, checksum = 0, 0
    patience = wire.patience
    failure: Exception
    while received_bytes < length_bytes or not received_bytes:
        try:
            with patience.spent():
                response = wire.download(object_name, generation, received_bytes)
            with closing(response):
                _check_length(response, length_bytes - received_bytes)
                while block := _read(patience, response):
                    received_bytes += len(block)
                    if received_bytes > length_bytes:
                        raise AuthenticationError(damaged=True)  # noqa: TRY301 - it passes
                    checksum = google_crc32c.extend(checksum, block)
                    patience.moved(len(block))
                    yield block
        except SecureXComError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, or tried again
            failure = error
        else:
            if received_bytes >= length_bytes:
                break
            failure = Interrupted("an object ended before its time")
        patience.wait(failure)
    if checksum != crc32c:
        raise AuthenticationError(damaged=True)


def _read(patience: Patience, response: Response) -> bytes:
    with patience.spent():
        block: bytes = response.raw.read(BLOCK_BYTES, decode_content=False)
    return block


def _check_length(response: Response, left_bytes: int) -> None:
    """Refuse what is longer or shorter than the reference says before any of it is used."""
    claimed = response.headers.get("Content-Length")
    if claimed is not None and claimed != str(left_bytes):
        raise AuthenticationError(damaged=True)


def _let_go(blocks: list[bytes]) -> Iterator[bytes]:
    """Yield blocks in order, and keep none that was yielded."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _is_sent(stored: Stored, passes: Passes) -> bool:
    """Whether an object is what one of the passes sent."""
    return any(
        tally.ended and (stored.length_bytes, stored.crc32c) == (tally.length_bytes, tally.crc32c)
        for tally in passes.tallies
    )


def _base64(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
