"""Google's client for Cloud Storage, and what a process needs of it.

It brings credentials, proxies, certificates and addresses. Nothing of Google's is imported before
the first call: it costs half a second of CPU.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

from secure_xcom import forks, google_errors

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Client  # type: ignore[import-untyped]
    from requests import Response, Session

    MakeClient: TypeAlias = Callable[[Credentials | None], Client]
    #: Adds what is needed to the headers of a request to an address, in so much time.
    Authorize: TypeAlias = Callable[[str, dict[str, Any], tuple[float, float]], None]

#: A batch of reads has no more threads than this (`stack.py`).
_CONNECTIONS = 32

#: What the first request imports: the client, and where default credentials come from.
_MODULES = (
    "google.cloud.storage",
    "google.auth.compute_engine",
    "google.oauth2.credentials",
    "google.oauth2.service_account",
    "secure_xcom.stores.gcs.sockets",
)


def load() -> None:
    """Import what the first request would.

    Raises:
        ImportError: the client is not installed.
    """
    # A fork in the middle of an import would leave the child a module lock that nobody opens.
    with forks.calls():
        for name in _MODULES:
            import_module(name)


def make_client(credentials: Credentials | None) -> Client:
    """The real client. Without credentials it looks for application default credentials."""
    with forks.calls():
        from google.cloud.storage import Client  # noqa: PLC0415

    # No request made here needs a project, which default credentials may lack.
    return Client(project=None, credentials=credentials)


class Connection:
    """What a process needs to reach the service: its client's session, and an address."""

    def __init__(self, client: Client) -> None:
        from secure_xcom.stores.gcs.sockets import pace  # noqa: PLC0415

        # None of these has had a public name in any version since the first.
        self.http: Session = client._http  # noqa: SLF001
        connection = client._connection  # noqa: SLF001
        self._credentials = client._credentials  # noqa: SLF001
        self.base_url = str(connection.get_api_base_url_for_mtls()).rstrip("/")
        pace(self.http, _CONNECTIONS)
        if tokens := getattr(self.http, "_auth_request_session", None):
            pace(tokens, _CONNECTIONS)
        _ask_environment_once(self.http, self.base_url)
        self.http.hooks["response"].append(_read_refusal)
        self._authorize, self._renew = _authorizer(self.http)

    @property
    def member(self) -> str:
        """Who asks, as IAM names it, as far as the credentials say it."""
        return google_errors.member(self._credentials)

    def get(self, url: str, headers: Mapping[str, str], timeout: tuple[float, float]) -> Response:
        """Ask for something with GET; the answer, its body unread, whatever its status.

        It goes over the session's own connections, with its proxies and certificates and the
        tokens of its credentials, but without what a session does for cookies and redirects, which
        takes as long as all the rest (`docs/decisions/0148`). Where a token is not accepted, the
        session itself asks again, and so it does if it is none of Google's.

        Args:
            url: the address, quoted.
            headers: what is sent besides the token.
            timeout: how long to wait to connect or send, and for an answer, in seconds.
        """
        if self._authorize is not None:
            response = self._get(url, headers, timeout, self._authorize)
            if response.status_code != HTTPStatus.UNAUTHORIZED:
                return response
            # Read, so that its connection can be used again.
            _ = response.content
            # As the session does: credentials that cannot be renewed say so.
            self._renew(timeout)
        return self.http.request(
            "GET", url, timeout=timeout, headers=headers, allow_redirects=False, stream=True
        )

    def _get(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout: tuple[float, float],
        authorize: Authorize,
    ) -> Response:
        from requests import PreparedRequest  # noqa: PLC0415
        from requests.structures import CaseInsensitiveDict  # noqa: PLC0415

        sent = {**self.http.headers, **headers}
        authorize(url, sent, timeout)
        request = PreparedRequest()
        request.method, request.url = "GET", url
        request.headers = CaseInsensitiveDict(sent)
        return self.http.get_adapter(url).send(
            request,
            stream=True,
            timeout=timeout,
            verify=self.http.verify,
            cert=self.http.cert,
            proxies=self.http.proxies,
        )


def _authorizer(http: Session) -> tuple[Authorize | None, Callable[[tuple[float, float]], None]]:
    """What adds a token to the headers of a request, and what fetches a new one.

    None in place of the first if the session is none of Google's.
    """
    from google.auth.transport.requests import AuthorizedSession, Request  # noqa: PLC0415

    tokens = getattr(http, "_auth_request_session", None)
    if type(http) is not AuthorizedSession or tokens is None:
        return None, lambda _timeout: None
    credentials, ask = http.credentials, Request(tokens)

    def authorize(url: str, headers: dict[str, Any], timeout: tuple[float, float]) -> None:
        credentials.before_request(partial(ask, timeout=timeout), "GET", url, headers)

    def renew(timeout: tuple[float, float]) -> None:
        credentials.refresh(partial(ask, timeout=timeout))

    return authorize, renew


def _read_refusal(response: Response, **_arguments: object) -> None:
    # google-auth drops such an answer to ask again with a new token. Unread, it would take its
    # connection with it, which stays open until the collector finds it.
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        _ = response.content


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


class SharedClient:
    """The way to the service, made at its first use in each process; threads may share it.

    Args:
        credentials: used instead of the application default credentials.
        make_client: used instead of `make_client`.
    """

    def __init__(
        self, credentials: Credentials | None, make_client: MakeClient | None = None
    ) -> None:
        self._credentials = credentials
        self._make_client = make_client
        self.forget()
        forks.run_in_children(self.forget)

    def forget(self) -> None:
        """Start afresh: a connection that two processes write to mixes up their requests."""
        self._lock = threading.Lock()
        self._made: Connection | None = None

    def connection(self) -> Connection:
        """The session of a client, and an address."""
        with self._lock:
            if self._made is None:
                self._made = Connection((self._make_client or make_client)(self._credentials))
            return self._made
