"""One bucket: the exchanges that a store makes with it.

The downloads of Google's client write into a file object, its uploads of unknown length hold each
part twice and hide the session that a failure leaves open, and no call of it bounds how long an
answer may take to come in. So the JSON API is spoken here, in the client's session:
https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from secure_xcom import google_errors
from secure_xcom.errors import SecureXComError
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import HeldBody, StreamedBody
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs.errors import BucketOperation
from secure_xcom.stores.gcs.retry import Doubtful, Retries
from secure_xcom.stores.protocol import FORMAT_VERSION, Entry, Stored

if TYPE_CHECKING:
    from requests import Response

    from secure_xcom.stores.gcs.client import Connection

#: What the service knows of an object: `generation`, `size`, `crc32c`, ….
Resource: TypeAlias = Mapping[str, Any]

_Listed = TypeVar("_Listed")

CONTENT_TYPE = "application/vnd.secure-xcom.envelope"
#: What is asked of the service about an object.
_MEMBERS = "generation,size,crc32c"
_LISTED_MEMBERS = "generation,timeCreated,metadata"
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_CRC32C = re.compile(r"(?:^|[,\s])crc32c=([A-Za-z0-9+/=]+)")


@contextmanager
def calling(
    connect: Callable[[], Connection],
    name: str,
    operation: BucketOperation,
    what: str,
    deadline_seconds: float,
) -> Iterator[Bucket]:
    """A bucket, for one call of a store; what is raised becomes an error of this package.

    What a signal handler of the caller raised comes through as it is.

    Args:
        connect: gives the way to the service.
        name: the bucket's.
        operation: what is asked of it.
        what: the object's URI, for messages.
        deadline_seconds: how long it goes on without real progress.
    """
    retries = Retries(deadline_seconds)
    member = google_errors.NO_MEMBER
    try:
        connection = connect()
        member = connection.member
        yield Bucket(connection, name, retries)
    except SecureXComError:
        raise
    except Exception as error:
        if own := retries.own(error):
            raise own from own.__cause__
        raise gcs_errors.translate(error, operation, what, retries.count, member) from error


class Bucket:
    """A bucket, for one call of a store. Its errors are those of Google's libraries."""

    def __init__(self, connection: Connection, bucket: str, retries: Retries) -> None:
        self.retries = retries
        self._connection = connection
        self._bucket = bucket
        self._http = connection.http
        self._base_url = connection.base_url
        self._path = f"storage/v1/b/{quote(bucket, safe='')}/o"

    def within(self, retries: Retries) -> Bucket:
        """The same, for something that has a retries of its own."""
        return Bucket(self._connection, self._bucket, retries)

    def upload(
        self,
        resource: Resource,
        blocks: Iterable[Buffer],
        *,
        once: bool,
        generation: str = "0",
    ) -> Stored:
        """Write an object in one request, which fails if another generation has its name.

        Args:
            resource: its name, and what is to be known of it.
            blocks: its bytes.
            once: send them as they come, in chunked transfer encoding. Otherwise all of them are
                held, and sent again where an attempt failed that may pass.
            generation: the one that is replaced; 0 for none.
        """
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n"
        )
        framed = chain((head.encode(),), blocks, (f"\r\n--{boundary}--\r\n".encode(),))
        body = StreamedBody(self._taken(framed)) if once else HeldBody(framed)

        def attempt() -> Stored:
            response = self._ask(
                "POST",
                f"upload/{self._path}?uploadType=multipart&ifGenerationMatch={generation}",
                data=body,
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            )
            return stored_of(resource_of(response))

        if once:
            with self.retries.spent():
                return attempt()
        return self.retries.attempt(attempt)

    def _taken(self, blocks: Iterable[Buffer]) -> Iterator[Buffer]:
        """HeldBody that are made while they are sent: the service waits for the caller."""
        for block in blocks:
            self.retries.progressed()
            yield block

    def start_upload(self, resource: Resource) -> str:
        """Begin an upload in parts, which fails if there is an object of that name; one attempt.

        Returns:
            The address of the session, which is all that it takes to write the object.
        """
        response = self._ask(
            "POST",
            f"upload/{self._path}?uploadType=resumable&ifGenerationMatch=0",
            json=resource,
            headers={"X-Upload-Content-Type": CONTENT_TYPE},
        )
        address = response.headers.get("Location")
        if not address:
            raise Doubtful("the answer does not say where the upload goes on")
        return address

    def download(
        self,
        name: str,
        generation: str | None = None,
        first_byte: int = 0,
        bytes_max: int | None = None,
    ) -> Response:
        """The answer that carries an object, from `first_byte` on, its body unread; one attempt.

        Args:
            name: of the object.
            generation: which one; None for the live one.
            first_byte: where to begin.
            bytes_max: how many bytes are wanted; None for all that follow.
        """
        # The object shall come as it is stored: unless gzip is accepted, the service unpacks what
        # is marked as packed. `Response.raw` does not.
        headers = {"Accept-Encoding": "gzip"}
        if first_byte or bytes_max is not None:
            last_byte = "" if bytes_max is None else first_byte + bytes_max - 1
            headers["Range"] = f"bytes={first_byte}-{last_byte}"
        path = f"download/{self._object(name)}?alt=media"
        if generation is not None:
            path += f"&generation={quote(generation)}"
        url = f"{self._base_url}/{path}"
        return _expected(self._connection.get(url, headers, self.retries.timeouts()))

    def find(self, name: str) -> Stored | None:
        """What the service knows of the object that has that name now."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        path = f"{self._object(name)}?projection=noAcl&fields={_MEMBERS}"
        try:
            return self.retries.attempt(lambda: stored_of(resource_of(self._ask("GET", path))))
        except NotFound:
            return None

    def objects(self, prefix: str) -> Iterator[tuple[str, Stored]]:
        """What the service knows of the objects whose names begin with `prefix`, by name."""
        return self._listed(prefix, _MEMBERS, lambda item: (_name_of(item), stored_of(item)))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """What the service lists of the objects whose names begin with `prefix`, by name."""
        return self._listed(prefix, _LISTED_MEMBERS, _entry_of)

    def _listed(
        self, prefix: str, members: str, of: Callable[[object], _Listed]
    ) -> Iterator[_Listed]:
        query = {
            "prefix": prefix,
            "projection": "noAcl",
            "fields": f"items(name,{members}),nextPageToken",
        }
        while True:
            path = f"{self._path}?{urlencode(query)}"
            page, token = self.retries.attempt(partial(self._page, path, of))
            yield from page
            if not token:
                return
            query["pageToken"] = token
            self.retries.progressed()

    def _page(self, path: str, of: Callable[[object], _Listed]) -> tuple[list[_Listed], str]:
        listing = resource_of(self._ask("GET", path))
        items, token = listing.get("items", []), listing.get("nextPageToken", "")
        if not isinstance(items, list) or not isinstance(token, str):
            raise Doubtful("the answer does not list objects")
        return [of(item) for item in items], token

    def exists(self) -> bool:
        """Whether the bucket exists, as far as the caller may know."""
        from google.api_core.exceptions import Forbidden, NotFound  # noqa: PLC0415

        path = f"{self._path}?maxResults=1&fields=kind"
        try:
            self.retries.attempt(lambda: self._ask("GET", path))
        except NotFound:
            return False
        except Forbidden:
            pass
        return True

    def resource(self) -> Resource:
        """What the service knows of the bucket itself; takes storage.buckets.get."""
        path = f"{self._path.removesuffix('/o')}?projection=noAcl"
        return self.retries.attempt(lambda: resource_of(self._ask("GET", path)))

    def date(self) -> str:
        """What time it is for the service, as its answers say it, those that refuse as well."""
        url = f"{self._base_url}/{self._path}?maxResults=1&prefix=~&fields=kind"

        def attempt() -> str:
            with closing(self.request("GET", url)) as response:
                return str(response.headers.get("Date", ""))

        return self.retries.attempt(attempt)

    def delete(self, name: str, generation: str) -> bool:
        """Delete one generation of an object; whether it was there, or may have been."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        path = f"{self._object(name)}?generation={int(generation)}"
        retries = self.retries.count
        try:
            self.retries.attempt(lambda: self._ask("DELETE", path))
        except NotFound:
            # An attempt that failed, such as one whose answer was lost, may have deleted it.
            return self.retries.count > retries
        return True

    def request(self, method: str, url: str, **arguments: Any) -> Response:  # noqa: ANN401
        """One request, and its answer, whatever its status."""
        return self._http.request(
            method, url, timeout=self.retries.timeouts(), allow_redirects=False, **arguments
        )

    def _object(self, name: str) -> str:
        return f"{self._path}/{quote(name, safe='')}"

    def _ask(self, method: str, path: str, **arguments: Any) -> Response:  # noqa: ANN401
        return _expected(self.request(method, f"{self._base_url}/{path}", **arguments))


def _expected(response: Response) -> Response:
    return checked(response, HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT)


def checked(response: Response, *allowed: int) -> Response:
    """The response, if its status is one of those allowed; otherwise Google's error for it."""
    from google.api_core.exceptions import from_http_status  # noqa: PLC0415

    if response.status_code in allowed:
        return response
    with closing(response):
        text = response.content.decode(errors="replace")
    faults: object = ()
    with suppress(ValueError, LookupError, TypeError):
        faults = json.loads(text)["error"]["errors"]
    with suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    # `from_http_response` would put the address into the message.
    raise from_http_status(  # type: ignore[no-untyped-call]
        response.status_code, text[:500], errors=faults if isinstance(faults, list) else ()
    )


def resource_of(response: Response) -> Resource:
    """What an answer describes.

    Raises:
        Doubtful: it cannot be read.
    """
    try:
        resource = json.loads(response.content)
    except (ValueError, RecursionError):
        raise Doubtful("the answer is not JSON, or not all of it") from None
    if not isinstance(resource, dict):
        raise Doubtful("the answer does not describe an object")
    return resource


def stored_of(resource: object) -> Stored:
    """The object that a resource describes (`_MEMBERS`).

    Raises:
        Doubtful: members are missing, or are not what they are documented to be.
    """
    try:
        generation, size, crc32c = (str(resource[name]) for name in _MEMBERS.split(","))  # type: ignore[index]
    except (LookupError, TypeError):
        raise Doubtful("the answer lacks what describes an object") from None
    return _described(generation, size, crc32c)


def stored_of_headers(headers: Mapping[str, str]) -> Stored:
    """The object that comes with an answer's headers, none of which speaks of a part of it.

    https://cloud.google.com/storage/docs/xml-api/reference-headers lists them; the JSON API has
    them with media.

    Raises:
        Doubtful: some are missing, or are not what they are documented to be.
    """
    length = headers.get("X-Goog-Stored-Content-Length") or headers.get("Content-Length", "")
    checksum = _CRC32C.search(headers.get("X-Goog-Hash", ""))
    return _described(headers.get("X-Goog-Generation", ""), length, checksum[1] if checksum else "")


def _described(generation: str, length: str, crc32c: str) -> Stored:
    try:
        checksum = base64.b64decode(crc32c, validate=True)
    except ValueError:
        checksum = b""
    if not (_NUMBER.fullmatch(generation) and _NUMBER.fullmatch(length)) or len(checksum) != 4:  # noqa: PLR2004 - CRC-32
        raise Doubtful("the answer does not describe an object")
    return Stored(generation, int(length), int.from_bytes(checksum, "big"))


def _entry_of(resource: object) -> Entry:
    name = _name_of(resource)
    try:
        generation, created = (str(resource[name]) for name in ("generation", "timeCreated"))  # type: ignore[index]
        metadata = resource.get("metadata") or {}  # type: ignore[attr-defined]
        version = metadata.get(FORMAT_VERSION)
        seconds = datetime.fromisoformat(created).timestamp()
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Doubtful("the answer lacks what describes an object") from None
    if not _NUMBER.fullmatch(generation):
        raise Doubtful("the answer does not describe an object")
    return Entry(name, generation, seconds, None if version is None else str(version))


def _name_of(resource: object) -> str:
    name = resource.get("name") if isinstance(resource, dict) else None
    if not isinstance(name, str):
        raise Doubtful("the answer lists an object without a name")
    return name
