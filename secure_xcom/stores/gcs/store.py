"""Objects in Google Cloud Storage: `gs://bucket/prefix`.

What the service holds is compared with what was sent, and what it gives with what the reference
says, here and not in Google's client, which compares on some ways only. Nothing of Google's is
imported before the first call: it costs half a second of CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from secure_xcom.errors import (
    ConfigError,
    FormatError,
    StoreError,
)
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Checksummed, errors_of_source_first, parts
from secure_xcom.stores.gcs import download, retry
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs.bucket import Bucket, Resource, calling
from secure_xcom.stores.gcs.client import SharedClient
from secure_xcom.stores.gcs.errors import DELETE, LIST, READ, REPLACE, WRITE, BucketOperation
from secure_xcom.stores.gcs.retry import Failure, Retries, SessionGone
from secure_xcom.stores.gcs.session import UploadSession
from secure_xcom.stores.names import is_name
from secure_xcom.stores.protocol import Entry, Stored
from secure_xcom.text import crc32c_base64
from secure_xcom.uris import BucketPrefix, parse_store

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.stores.gcs.client import MakeClient

#: Up to here an object is collected, and goes out in one request that can be repeated.
COLLECTED_BYTES = 8_388_608
#: How much of a longer one is held until the service has it, once sending it as it comes failed.
PART_BYTES = 8_388_608
#: What a write asks for that is to replace nothing.
NO_GENERATION = "0"
#: How long a write that failed may look for what it has left behind, or delete it.
_TIDYING_SECONDS = 5.0


class Gcs:
    """A prefix of a bucket; threads may share it.

    Args:
        uri: `gs://bucket` or `gs://bucket/prefix`.
        credentials: used instead of the application default credentials.
        make_client: used instead of `client.make_client`, at the first call in each process.
        deadline_seconds: how long a call goes on without real progress; None for
            `DEADLINE_SECONDS`.

    Raises:
        ConfigError: the URI does not name a place for objects.
    """

    def __init__(
        self,
        uri: str,
        *,
        credentials: Credentials | None = None,
        make_client: MakeClient | None = None,
        deadline_seconds: float | None = None,
    ) -> None:
        self._uri = uri
        place = parse_store(uri)
        if not isinstance(place, BucketPrefix):
            raise ConfigError(f"{uri!r} names no bucket; gs://bucket/prefix does.")
        self._place = place
        self._client = SharedClient(credentials, make_client)
        self._deadline_seconds = deadline_seconds

    def __repr__(self) -> str:
        return f"Gcs({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the store was opened by."""
        return self._uri

    def member(self) -> str:
        """Who asks, as IAM names it, as far as the credentials say it; nobody is asked."""
        return self._client.connection().member

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
        resource: Resource = {"name": self._object_name(name), "metadata": dict(metadata)}
        attempts: list[Checksummed] = []

        def begin() -> Checksummed:
            attempts.append(Checksummed(make_chunks))
            return attempts[-1]

        with errors_of_source_first(attempts), self.bucket(WRITE, name) as bucket:
            try:
                stored = _send(bucket, resource, begin)
            except gcs_errors.precondition_failed():
                # An attempt whose answer was lost has written it, or somebody else has.
                found = bucket.find(resource["name"])
                if found and _is_sent(found, attempts):
                    return found
                raise gcs_errors.exists(self._of(name)) from None
            except gcs_errors.not_found():
                if bucket.exists():
                    raise
                raise gcs_errors.no_bucket(self._place.bucket) from None
            except Exception as error:
                found = _left_behind(bucket, resource, error)
                if found and _is_sent(found, attempts):
                    return found
                raise
            if not _is_sent(stored, attempts):
                _discard(bucket, resource, stored)
                raise gcs_errors.other_bytes(self._of(name), "It was deleted, if that was possible")
            return stored

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write an object in the place of the one that has its name (`Store.replace`)."""
        return cast("Stored", self._replace(name, data, metadata, None))

    def exchange(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], *, generation: str
    ) -> Stored | None:
        """Write an object in the place of one generation (`Store.exchange`)."""
        return self._replace(name, data, metadata, generation)

    def _replace(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], only: str | None
    ) -> Stored | None:
        """Write an object in another's place: that of the generation `only`, if there is one.

        It goes out in one request, with its checksum and the generation that it is to replace.
        """
        object_name = self._object_name(name)
        attempt = Checksummed(lambda: data)
        held = list(attempt)
        resource = {
            "name": object_name,
            "metadata": dict(metadata),
            "crc32c": crc32c_base64(attempt.crc32c),
        }
        with self.bucket(REPLACE, name) as bucket:
            former = bucket.find(object_name) if only is None else None
            generation = only or (former.generation if former else NO_GENERATION)
            while True:
                try:
                    stored = bucket.upload(resource, held, once=False, generation=generation)
                except gcs_errors.precondition_failed() as error:
                    found = bucket.find(object_name)
                    if only is not None and (found is None or found.generation != only):
                        # An attempt whose answer was lost has written it, or somebody was faster.
                        return found if found and _is_sent(found, [attempt]) else None
                    if found and found.generation != generation:
                        # Either an attempt whose answer was lost has written it, or another
                        # writer replaced the same generation: this write came just before that.
                        return Stored(found.generation, attempt.length_bytes, attempt.crc32c)
                    # Nobody has: the former was deleted meanwhile, or the answer was wrong.
                    generation = found.generation if found else NO_GENERATION
                    bucket.retries.wait(error, Failure.DOUBTFUL)
                    continue
                except gcs_errors.not_found():
                    if bucket.exists():
                        raise
                    raise gcs_errors.no_bucket(self._place.bucket) from None
                except Exception as error:
                    found = _left_behind(bucket, resource, error)
                    if found and found.generation != generation and _is_sent(found, [attempt]):
                        return found
                    raise
                if not _is_sent(stored, [attempt]):
                    raise gcs_errors.other_bytes(self._of(name), "It stays there")
                return stored

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object in blocks of `download.BLOCK_BYTES`, as it comes (`Store.get`)."""
        object_name = self._object_name(name)
        with self._reading(name) as bucket:
            yield from download.get(bucket, object_name, Stored(generation, length_bytes, crc32c))

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        """The live object of a name (`Store.fetch`), in one request."""
        fetched = self._fetch(name)
        return next(fetched), fetched

    def _fetch(self, name: str) -> Iterator[Any]:
        """Yield what the object is, and then its blocks."""
        object_name = self._object_name(name)
        with self._reading(name) as bucket:
            stored, response = download.open_live(bucket, object_name)
            with closing(response):
                yield stored
                try:
                    yield from download.receive(bucket, object_name, stored, response)
                except gcs_errors.not_found():
                    raise gcs_errors.replaced(self._of(name)) from None

    @contextmanager
    def _reading(self, name: str) -> Iterator[Bucket]:
        with self.bucket(READ, name) as bucket:
            try:
                yield bucket
            except gcs_errors.not_found():
                if not bucket.exists():
                    raise gcs_errors.no_bucket(self._place.bucket) from None
                raise gcs_errors.no_object(self._of(name)) from None

    def beginning(self, name: str, length_bytes: int) -> bytes:
        """The first bytes of an object (`Store.beginning`), by a range."""
        object_name = self._object_name(name)
        with self._reading(name) as bucket:
            return download.beginning(bucket, object_name, length_bytes)

    def find(self, name: str) -> Stored | None:
        """What the service knows of the object that has that name now (`Store.find`)."""
        object_name = self._object_name(name)
        with self.bucket(READ, name) as bucket:
            return bucket.find(object_name)

    def delete(self, name: str, *, generation: str) -> bool:
        """Delete one generation of an object (`Store.delete`)."""
        object_name = self._object_name(name)
        with self.bucket(DELETE, name) as bucket:
            return bucket.delete(object_name, generation)

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder (`Store.objects`)."""
        folder = folder.removesuffix("/") + "/"
        prefix = self._object_name(folder.removesuffix("/")) + "/"
        with self.bucket(LIST, folder) as bucket:
            for name, stored in bucket.objects(prefix):
                yield name[len(prefix) - len(folder) :], stored

    def entries(self, beginning: str) -> Iterator[Entry]:
        """Yield what the service lists (`Store.entries`)."""
        folder, _, rest = beginning.rpartition("/")
        prefix = f"{self._object_name(folder)}/{self._checked(rest)}"
        with self.bucket(LIST, beginning) as bucket:
            for entry in bucket.entries(prefix):
                yield replace(entry, name=entry.name[len(prefix) - len(beginning) :])

    def now(self) -> float:
        """The service's clock, as its answers tell it to the second (`Store.now`)."""
        with self.bucket(LIST, "") as bucket:
            date = bucket.date()
        try:
            return parsedate_to_datetime(date).timestamp()
        except ValueError:
            raise StoreError(
                f"{self._uri} does not say what time it is: a proxy on the way may have taken the "
                "header Date from its answer."
            ) from None

    def _checked(self, rest: str) -> str:
        if rest:
            self._object_name(rest)
        return rest

    def _of(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _object_name(self, name: str) -> str:
        if not is_name(name):
            raise FormatError(f"{name[:200]!r} is not the name of an object.")
        return self._place.object_name(name)

    @contextmanager
    def bucket(self, operation: BucketOperation, name: str) -> Iterator[Bucket]:
        """The bucket, for one call; what it raises becomes an error of this package."""
        deadline_seconds = self._deadline_seconds or retry.DEADLINE_SECONDS
        connect = self._client.connection
        with calling(
            connect, self._place.bucket, operation, self._of(name), deadline_seconds
        ) as bucket:
            yield bucket


def _send(bucket: Bucket, resource: Resource, begin: Callable[[], Checksummed]) -> Stored:
    attempt = begin()
    held = attempt.take(COLLECTED_BYTES)
    if attempt.ended:
        return bucket.upload(
            {**resource, "crc32c": crc32c_base64(attempt.crc32c)}, held, once=False
        )
    try:
        return bucket.upload(resource, chain(_drained(held), attempt), once=True)
    except Exception as error:  # noqa: BLE001 - raised again, or tried again
        failure = error
    if attempt.error is not None:
        raise failure
    # What was not sent is made again; the error's traceback would hold it.
    held.clear()
    bucket.retries.wait(failure)
    while True:
        try:
            return _send_in_parts(bucket, resource, begin())
        except SessionGone as gone:
            failure = gone
        bucket.retries.wait(failure, Failure.DOUBTFUL)


def _send_in_parts(bucket: Bucket, resource: Resource, blocks: Iterable[bytes]) -> Stored:
    session = UploadSession(bucket, resource)
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


def _left_behind(bucket: Bucket, resource: Resource, error: Exception) -> Stored | None:
    """The object that a write has left behind whose last answer was lost, if it can be told."""
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415

    if bucket.retries.own(error) or bucket.retries.failure_of(error) is Failure.FINAL:
        return None
    if isinstance(error, GoogleAPICallError):
        # The last answer came. Had an earlier one been lost, it would say that the object exists.
        return None
    # What went wrong first is what counts.
    with suppress(Exception):
        return bucket.within(Retries(_TIDYING_SECONDS)).find(resource["name"])
    return None


def _discard(bucket: Bucket, resource: Resource, stored: Stored) -> None:
    with suppress(Exception):
        bucket.within(Retries(_TIDYING_SECONDS)).delete(resource["name"], stored.generation)


def _drained(blocks: list[bytes]) -> Iterator[bytes]:
    """Yield blocks in order, and keep none that was yielded."""
    blocks.reverse()
    while blocks:
        yield blocks.pop()


def _is_sent(stored: Stored, attempts: Iterable[Checksummed]) -> bool:
    """Whether an object is what one of the attempts sent to its end."""
    held = stored.length_bytes, stored.crc32c
    return any(
        attempt.ended and (attempt.length_bytes, attempt.crc32c) == held for attempt in attempts
    )
