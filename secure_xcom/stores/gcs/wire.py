"""One bucket, as Google's client reaches it, and the exchanges that its calls cannot stream.

The client brings credentials, connections, addresses and the plain calls. But its downloads write
into a file object, and its uploads of unknown length hold each part twice and hide the session
that a failure leaves open. So uploads and downloads speak the JSON API here, over its connections:
https://cloud.google.com/storage/docs/json_api/v1/objects.
"""

from __future__ import annotations

import json
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from http import HTTPStatus
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Blocks, Once
from secure_xcom.stores.gcs.errors import is_passing

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client  # type: ignore[import-untyped]
    from requests import Response, Session

    MakeClient: TypeAlias = Callable[[Credentials | None], Client]

#: What the service knows of an object: `generation`, `size`, `crc32c`, ….
Resource: TypeAlias = Mapping[str, Any]

CONTENT_TYPE = "application/vnd.secure-xcom.envelope"
#: To connect, which also bounds how long one block takes to be sent; and to wait for an answer,
#: or for more of it.
TIMEOUT_SECONDS = (20.0, 60.0)
#: How long attempts go on that make no progress.
DEADLINE_SECONDS = 120.0
#: The waits between attempts: random, up to a bound that doubles from the first to the second.
BACKOFF_SECONDS = (0.25, 16.0)
#: A batch of reads has no more threads than this (`stack.py`).
_CONNECTIONS = 32

#: What the first request imports: the client, and where default credentials come from.
_MODULES = (
    "google.cloud.storage",
    "google.auth.compute_engine",
    "google.oauth2.credentials",
    "google.oauth2.service_account",
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


def retrying() -> Retry:
    """Attempts that go on while a failure may pass and the deadline has not."""
    from google.api_core.retry import Retry  # noqa: PLC0415

    return Retry(
        predicate=is_passing,
        initial=BACKOFF_SECONDS[0],
        maximum=BACKOFF_SECONDS[1],
        multiplier=2.0,
        timeout=DEADLINE_SECONDS,
        on_error=lambda error: _log.info("Cloud Storage: %s; trying again", type(error).__name__),
    )


class Patience:
    """Waits between attempts at one exchange, until the deadline has passed without progress."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """There was progress: start again."""
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        self._bound_seconds = BACKOFF_SECONDS[0]

    def wait(self, error: Exception) -> None:
        """Wait for the next attempt, or raise what ended the last one."""
        if time.monotonic() > self._deadline:
            raise error
        _log.info("Cloud Storage: %s; trying again", type(error).__name__)
        # Jitter keeps many workers from coming back at once; nothing secret depends on it.
        time.sleep(random.uniform(0, self._bound_seconds))  # noqa: S311
        self._bound_seconds = min(2 * self._bound_seconds, BACKOFF_SECONDS[1])


class Wire:
    """A bucket, by the client of this process. Its errors are those of Google's libraries."""

    def __init__(self, client: Client, bucket: str) -> None:
        from requests.adapters import HTTPAdapter  # noqa: PLC0415

        self._client = client
        self._bucket = client.bucket(bucket)
        # Newer clients fetch the bucket's metadata, in a thread, to put them into traces.
        client._bucket_metadata_cache = None  # noqa: SLF001
        # Neither of these has had a public name in any version since the first.
        self.http: Session = client._http  # noqa: SLF001
        connection = client._connection  # noqa: SLF001
        self._base_url = str(connection.get_api_base_url_for_mtls()).rstrip("/")
        self._path = f"storage/v1/b/{quote(bucket, safe='')}/o"
        if not getattr(self.http, "is_mtls", False):
            self.http.mount(self._base_url, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        _ask_environment_once(self.http, self._base_url)

    def upload(self, resource: Resource, blocks: Iterable[Buffer], *, once: bool) -> Resource:
        """Create an object in one request, which fails if there is one of its name.

        Args:
            resource: its name, and what is to be known of it.
            blocks: its bytes.
            once: send them as they come, in chunked transfer encoding. Otherwise all of them are
                held, and sent again where an attempt failed that may pass.
        """
        boundary = secrets.token_hex(16)
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n"
            f"--{boundary}\r\nContent-Type: {CONTENT_TYPE}\r\n\r\n"
        )
        framed = chain((head.encode(),), blocks, (f"\r\n--{boundary}--\r\n".encode(),))
        body = Once(framed) if once else Blocks(framed)

        def attempt() -> Resource:
            response = self._request(
                "POST",
                f"upload/{self._path}?uploadType=multipart&ifGenerationMatch=0",
                data=body,
                headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            )
            return resource_of(response)

        return attempt() if once else retrying()(attempt)()

    def start_upload(self, resource: Resource) -> str:
        """Begin an upload in parts, which fails if there is an object of that name.

        Returns:
            The address of the session, which is all that it takes to write the object.
        """

        def attempt() -> str:
            response = self._request(
                "POST",
                f"upload/{self._path}?uploadType=resumable&ifGenerationMatch=0",
                json=resource,
                headers={"X-Upload-Content-Type": CONTENT_TYPE},
            )
            return response.headers["Location"]

        return retrying()(attempt)()

    def download(self, name: str, generation: str, first_byte: int) -> Response:
        """The answer that carries an object, from `first_byte` on; its body is not yet read."""
        # The object shall come as it is stored: unless gzip is accepted, the service unpacks what
        # is marked as packed. `Response.raw` does not.
        headers = {"Accept-Encoding": "gzip"}
        if first_byte:
            headers["Range"] = f"bytes={first_byte}-"
        path = f"download/{self._path}/{quote(name, safe='')}?alt=media&generation={generation}"
        return self._request("GET", path, headers=headers, stream=True)

    def find(self, name: str) -> Resource | None:
        """What the service knows of the object that has that name now."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        blob = self._bucket.blob(name)
        try:
            blob.reload(timeout=TIMEOUT_SECONDS, retry=retrying())
        except NotFound:
            return None
        return {"generation": blob.generation, "size": blob.size, "crc32c": blob.crc32c}

    def objects(self, prefix: str) -> Iterator[Resource]:
        """What the service knows of the objects whose names begin with `prefix`."""
        for blob in self._client.list_blobs(
            self._bucket, prefix=prefix, timeout=TIMEOUT_SECONDS, retry=retrying()
        ):
            yield {
                "name": blob.name,
                "generation": blob.generation,
                "size": blob.size,
                "crc32c": blob.crc32c,
            }

    def has_bucket(self) -> bool:
        """Whether the bucket exists, as far as the caller may know."""
        from google.api_core.exceptions import Forbidden, NotFound  # noqa: PLC0415

        try:
            next(
                iter(
                    self._client.list_blobs(
                        self._bucket, max_results=1, timeout=TIMEOUT_SECONDS, retry=retrying()
                    )
                ),
                None,
            )
        except NotFound:
            return False
        except Forbidden:
            pass
        return True

    def bucket(self) -> Resource:
        """What the service knows of the bucket itself; takes storage.buckets.get."""
        return resource_of(
            self._request("GET", f"{self._path.removesuffix('/o')}?projection=noAcl")
        )

    def date(self) -> str:
        """What time it is for the service, as its answers say it, those that refuse as well."""
        path = f"{self._path}?maxResults=1&prefix=~&fields=kind"
        url = f"{self._base_url}/{path}"
        with closing(
            self.http.request("GET", url, timeout=TIMEOUT_SECONDS, allow_redirects=False)
        ) as response:
            return response.headers.get("Date", "")

    def delete(self, name: str, generation: str) -> None:
        """Delete one generation of an object; one that is gone is no error."""
        from google.api_core.exceptions import NotFound  # noqa: PLC0415

        blob = self._bucket.blob(name, generation=int(generation))
        try:
            blob.delete(timeout=TIMEOUT_SECONDS, retry=retrying())
        except NotFound:
            _log.debug("Cloud Storage: the object was gone already")

    def _request(self, method: str, path: str, **arguments: Any) -> Response:  # noqa: ANN401
        response = self.http.request(
            method,
            f"{self._base_url}/{path}",
            timeout=TIMEOUT_SECONDS,
            allow_redirects=False,
            **arguments,
        )
        return checked(response, HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)


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
    with suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    # `from_http_response` would put the address into the message.
    raise from_http_status(  # type: ignore[no-untyped-call]
        response.status_code, text[:500]
    )


def resource_of(response: Response) -> Resource:
    """The object that an answer describes."""
    resource = response.json()
    if not isinstance(resource, dict):
        raise TypeError("the answer does not describe an object")
    return resource
