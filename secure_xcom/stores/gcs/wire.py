"""One bucket, as Google's client reaches it, and the exchanges that a store makes with it.

The client brings credentials and addresses. But its downloads write into a file object, its
uploads of unknown length hold each part twice and hide the session that a failure leaves open, and
no call of it bounds how long an answer may take to come in. So the JSON API is spoken here, in its
session: https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import random
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from http import HTTPStatus
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Blocks, Once
from secure_xcom.stores.gcs.errors import Doubtful, Kind, kind_of, raised_by_handler
from secure_xcom.stores.protocol import Stored

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client  # type: ignore[import-untyped]
    from requests import Response, Session

    MakeClient: TypeAlias = Callable[[Credentials | None], Client]

#: What the service knows of an object: `generation`, `size`, `crc32c`, ….
Resource: TypeAlias = Mapping[str, Any]

CONTENT_TYPE = "application/vnd.secure-xcom.envelope"
#: How long an attempt waits without progress to connect, and then to send; and for an answer, and
#: then for its body (`gcs_sockets.py` says what progress is).
TIMEOUT_SECONDS = (20.0, 60.0)
#: How long attempts go on that make no progress, unless the setting says otherwise.
DEADLINE_SECONDS = 120.0
#: As much as this counts as progress, in attempts and across them.
PROGRESS_BYTES = 65_536
#: How often a call is repeated that failed in a way which seldom passes.
DOUBTFUL_RETRIES = 2
#: The last attempt has this long in any case.
_LEAST_SECONDS = 1.0
#: The waits between attempts: random, up to a bound that doubles from the first to the second.
BACKOFF_SECONDS = (0.25, 16.0)
#: A batch of reads has no more threads than this (`stack.py`).
_CONNECTIONS = 32

#: What is asked of the service about an object.
_MEMBERS = "generation,size,crc32c"
_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
_CRC32C = re.compile(r"(?:^|[,\s])crc32c=([A-Za-z0-9+/=]+)")
_T = TypeVar("_T")

#: What the first request imports: the client, and where default credentials come from.
_MODULES = (
    "google.cloud.storage",
    "google.auth.compute_engine",
    "google.oauth2.credentials",
    "google.oauth2.service_account",
    "secure_xcom.stores.gcs.sockets",
)

#: Held while Google's modules are imported: a fork in the middle of it would leave the child a
#: module lock that nobody opens.
_importing = threading.RLock()
os.register_at_fork(
    before=_importing.acquire,
    after_in_parent=_importing.release,
    after_in_child=_importing.release,
)

_log = logging.getLogger(__name__)


def load() -> None:
    """Import what the first request would.

    Raises:
        ImportError: the client is not installed.
    """
    with _importing:
        for name in _MODULES:
            import_module(name)


def make_client(credentials: Credentials | None) -> Client:
    """The real client. Without credentials it looks for application default credentials."""
    with _importing:
        from google.cloud.storage import Client  # noqa: PLC0415

    # No request made here needs a project, which default credentials may lack.
    return Client(project=None, credentials=credentials)


class Patience:
    """How long a call of a store goes on without real progress, and how often it asks again.

    Time counts that is spent on the wire or between attempts, not what the caller takes to make
    or to use the bytes. Progress is what the other side has for good: `PROGRESS_BYTES` that a
    download gave out or the service kept, or a page of a listing.
    """

    def __init__(self, deadline_seconds: float) -> None:
        self.retries = 0
        self._deadline_seconds = deadline_seconds
        self._outer = sys.exc_info()[1]
        self._doubts = 0
        self._moved_bytes = 0
        self.renew()

    def renew(self) -> None:
        """There was progress: start again."""
        self._spent_seconds = 0.0
        self._since = time.monotonic()
        self._bound_seconds = BACKOFF_SECONDS[0]

    def moved(self, count: int) -> None:
        """So many bytes are where they belong."""
        self._moved_bytes += count
        if self._moved_bytes >= PROGRESS_BYTES:
            self._moved_bytes = 0
            self.renew()

    @contextmanager
    def spent(self) -> Iterator[None]:
        """What is done meanwhile takes time that counts."""
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._spent_seconds += time.monotonic() - self._since

    def timeouts(self) -> tuple[float, float]:
        """How long the next attempt may wait to connect or send, and for an answer, in seconds."""
        left_seconds = max(self._deadline_seconds - self._spent_seconds, _LEAST_SECONDS)
        connect_seconds, answer_seconds = TIMEOUT_SECONDS
        return min(connect_seconds, left_seconds), min(answer_seconds, left_seconds)

    def attempt(self, attempt: Callable[[], _T]) -> _T:
        """Attempt it until it succeeds, cannot succeed, or has taken too long."""
        while True:
            try:
                with self.spent():
                    return attempt()
            except Exception as error:  # noqa: BLE001 - raised again, or tried again
                failure = error
            self.wait(failure)

    def own(self, error: Exception) -> BaseException | None:
        """What a signal handler of the caller raised, if that is what a failure is made of."""
        return raised_by_handler(error, self._outer)

    def kind_of(self, error: Exception) -> Kind:
        """What a failure says of another try."""
        return kind_of(error, self._outer)

    def wait(self, error: Exception, kind: Kind | None = None) -> None:
        """Wait for the next attempt, or raise what ended the last one."""
        if own := self.own(error):
            raise own
        kind = kind or self.kind_of(error)
        if kind is Kind.DOUBTFUL:
            self._doubts += 1
            if self._doubts > DOUBTFUL_RETRIES:
                raise error
        if kind is Kind.FINAL or self._spent_seconds >= self._deadline_seconds:
            raise error
        _log.info("Cloud Storage: %s; trying again", type(error).__name__)
        self.retries += 1
        with self.spent():
            # Jitter keeps many workers from coming back at once; nothing secret depends on it.
            time.sleep(random.uniform(0, self._bound_seconds))  # noqa: S311
        self._bound_seconds = min(2 * self._bound_seconds, BACKOFF_SECONDS[1])


class Connection:
    """What a process needs to reach the service: its client's session, and an address."""

    def __init__(self, client: Client) -> None:
        from secure_xcom.stores.gcs.sockets import pace  # noqa: PLC0415

        # None of these has had a public name in any version since the first.
        self.http: Session = client._http  # noqa: SLF001
        connection = client._connection  # noqa: SLF001
        self.base_url = str(connection.get_api_base_url_for_mtls()).rstrip("/")
        pace(self.http, _CONNECTIONS)
        if tokens := getattr(self.http, "_auth_request_session", None):
            pace(tokens, _CONNECTIONS)
        _ask_environment_once(self.http, self.base_url)


class Wire:
    """A bucket, for one call of a store. Its errors are those of Google's libraries."""

    def __init__(self, connection: Connection, bucket: str, patience: Patience) -> None:
        self.patience = patience
        self._connection = connection
        self._bucket = bucket
        self._http = connection.http
        self._base_url = connection.base_url
        self._path = f"storage/v1/b/{quote(bucket, safe='')}/o"

    def within(self, patience: Patience) -> Wire:
        """The same, for something that has a patience of its own."""
        return Wire(self._connection, self._bucket, patience)

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
        body = Once(self._taken(framed)) if once else Blocks(framed)

        def attempt() -> Stored:
            response = self._ask(
                "POST",
                f"upload/{self._path}?uploadType=multipart&ifGenerationMatch={generation}",
                data=body,
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            )
            return stored_of(resource_of(response))

        if once:
            with self.patience.spent():
                return attempt()
        return self.patience.attempt(attempt)

    def _taken(self, blocks: Iterable[Buffer]) -> Iterator[Buffer]:
        """Blocks that are made while they are sent: the service waits for the caller."""
        for block in blocks:
            self.patience.renew()
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

    def download(self, name: str, generation: str | None = None, first_byte: int = 0) -> Response:
        """The answer that carries an object, from `first_byte` on, its body unread; one attempt.

        Args:
            name: of the object.
            generation: which one; None for the live one.
            first_byte: where to begin.
        """
        # The object shall come as it is stored: unless gzip is accepted, the service unpacks what
        # is marked as packed. `Response.raw` does not.
        headers = {"Accept-Encoding": "gzip"}
        if first_byte:
            headers["Range"] = f"bytes={first_byte}-"
        path = f"download/{self._object(name)}?alt=media"
        if generation is not None:
            path += f"&generation={quote(generation)}"
        return self._ask("GET", path, headers=headers, stream=True)

    def find(self, name: str) -> Stored | None:
        """What the service knows of the object that has that name now."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        path = f"{self._object(name)}?projection=noAcl&fields={_MEMBERS}"
        try:
            return self.patience.attempt(lambda: stored_of(resource_of(self._ask("GET", path))))
        except NotFound:
            return None

    def objects(self, prefix: str) -> Iterator[tuple[str, Stored]]:
        """What the service knows of the objects whose names begin with `prefix`, by name."""
        query = {
            "prefix": prefix,
            "projection": "noAcl",
            "fields": f"items(name,{_MEMBERS}),nextPageToken",
        }
        while True:
            path = f"{self._path}?{urlencode(query)}"
            page, token = self.patience.attempt(partial(self._page, path))
            yield from page
            if not token:
                return
            query["pageToken"] = token
            self.patience.renew()

    def _page(self, path: str) -> tuple[list[tuple[str, Stored]], str]:
        listing = resource_of(self._ask("GET", path))
        items, token = listing.get("items", []), listing.get("nextPageToken", "")
        if not isinstance(items, list) or not isinstance(token, str):
            raise Doubtful("the answer does not list objects")
        return [(_name_of(item), stored_of(item)) for item in items], token

    def has_bucket(self) -> bool:
        """Whether the bucket exists, as far as the caller may know."""
        from google.api_core.exceptions import Forbidden, NotFound  # noqa: PLC0415

        path = f"{self._path}?maxResults=1&fields=kind"
        try:
            self.patience.attempt(lambda: self._ask("GET", path))
        except NotFound:
            return False
        except Forbidden:
            pass
        return True

    def bucket(self) -> Resource:
        """What the service knows of the bucket itself; takes storage.buckets.get."""
        path = f"{self._path.removesuffix('/o')}?projection=noAcl"
        return self.patience.attempt(lambda: resource_of(self._ask("GET", path)))

    def date(self) -> str:
        """What time it is for the service, as its answers say it, those that refuse as well."""
        url = f"{self._base_url}/{self._path}?maxResults=1&prefix=~&fields=kind"

        def attempt() -> str:
            with closing(self.request("GET", url)) as response:
                return str(response.headers.get("Date", ""))

        return self.patience.attempt(attempt)

    def delete(self, name: str, generation: str) -> bool:
        """Delete one generation of an object; whether it was there."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        path = f"{self._object(name)}?generation={int(generation)}"
        try:
            self.patience.attempt(lambda: self._ask("DELETE", path))
        except NotFound:
            return False
        return True

    def request(self, method: str, url: str, **arguments: Any) -> Response:  # noqa: ANN401
        """One request, and its answer, whatever its status."""
        return self._http.request(
            method, url, timeout=self.patience.timeouts(), allow_redirects=False, **arguments
        )

    def _object(self, name: str) -> str:
        return f"{self._path}/{quote(name, safe='')}"

    def _ask(self, method: str, path: str, **arguments: Any) -> Response:  # noqa: ANN401
        return checked(
            self.request(method, f"{self._base_url}/{path}", **arguments),
            HTTPStatus.OK,
            HTTPStatus.NO_CONTENT,
            HTTPStatus.PARTIAL_CONTENT,
        )


def _ask_environment_once(http: Session, url: str) -> None:
    """Take a session's proxies and certificates from the environment now, for all its requests.

    Left to itself it goes through the whole environment for each one, which takes some
    microseconds for each variable that is set.
    """
    from requests.utils import get_environ_proxies  # noqa: PLC0415

    if not http.trust_env:
        return
    http.proxies = {**get_environ_proxies(url), **http.proxies}
    if http.verify is True:
        bundles = (os.environ.get("REQUESTS_CA_BUNDLE"), os.environ.get("CURL_CA_BUNDLE"))
        http.verify = next(filter(None, bundles), True)
    http.trust_env = False


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


def base64_of(crc32c: int) -> str:
    """A checksum as Cloud Storage writes it."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()


def _name_of(resource: object) -> str:
    name = resource.get("name") if isinstance(resource, dict) else None
    if not isinstance(name, str):
        raise Doubtful("the answer lists an object without a name")
    return name
