"""Whatever comes out of Google's client becomes an error of this package."""

from __future__ import annotations

import functools
import http.client
import inspect
import pickle
import signal
import ssl
from collections.abc import Callable
from types import ModuleType

import google.api_core.exceptions
import google.auth.exceptions
import google.cloud.exceptions
import google.cloud.storage
import google.resumable_media.common
import pytest
import requests
import requests.exceptions
import urllib3.exceptions
from google.api_core.exceptions import RetryError, from_http_status

from secure_xcom.errors import (
    ConfigError,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.signals import raised_by_handler
from secure_xcom.stores.gcs.errors import (
    DELETE,
    LIST,
    READ,
    WRITE,
    translate,
)
from secure_xcom.stores.gcs.retry import Doubtful, Failure, failure_of
from secure_xcom.stores.gcs.store import Gcs

URI = "gs://bucket/prefix/dag/run/task/-1/key/token"
MODULES: list[ModuleType] = [
    google.api_core.exceptions,
    google.auth.exceptions,
    google.cloud.exceptions,
    google.resumable_media.common,
    requests.exceptions,
    urllib3.exceptions,
    http.client,
]
if hasattr(google.cloud.storage, "exceptions"):
    MODULES.append(google.cloud.storage.exceptions)


def _all() -> list[type[Exception]]:
    found = {
        kind
        for module in MODULES
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        # Storage speaks HTTP.
        and not kind.__module__.startswith("grpc.")
    }
    # What the standard library raises below them.
    return [
        *sorted(found, key=lambda kind: (kind.__module__, kind.__name__)),
        OSError,
        TimeoutError,
    ]


def _make(kind: type[Exception]) -> Exception:
    """An instance; some constructors insist on more than a message."""
    response = requests.Response()
    response.status_code = 503
    for arguments in (
        ("message",),
        (response, "message"),
        ("message", None),
        (None, "url", "message"),
        (b"part", 3),
        ("message", b"data", 3, 4),
        (response, b"x"),
        (1, 2, 3, 4, 5),
        (),
    ):
        try:
            return kind(*arguments)
        except (TypeError, AttributeError, ValueError):
            continue
    error = kind.__new__(kind)
    Exception.__init__(error, "message")
    return error


@pytest.mark.parametrize("kind", _all(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_every_exception_of_the_client_is_mapped(kind: type[Exception]):
    error = _make(kind)

    def make_client(_credentials: object) -> None:
        raise error

    store = Gcs("gs://bucket/prefix", make_client=make_client)
    calls = (
        lambda: store.create("name", lambda: [b"sealed"], {}),
        lambda: store.replace("name", [b"sealed"], {}),
        lambda: store.fetch("name"),
        lambda: store.find("name"),
        lambda: list(store.get("name", generation="1", length_bytes=6, crc32c=0)),
        lambda: store.delete("name", generation="1"),
    )
    for call in calls:
        with pytest.raises(SecureXComError) as caught:
            call()
        assert isinstance(caught.value, (StoreError, ConfigError))
        assert caught.value.__cause__ is error
        assert "gs://bucket/prefix/name" in str(caught.value)
        again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - made here
        assert (type(again), str(again)) == (type(caught.value), str(caught.value))
    failure_of(error)


def test_the_list_is_not_empty():
    assert len(_all()) > 90


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, StoreError, "did not write"),
        (401, StoreAccessDenied, "credentials"),
        (403, StoreAccessDenied, "storage.objects.create"),
        (404, StoreError, "NotFound"),
        (408, StoreUnavailable, "out of reach"),
        (412, StoreError, "PreconditionFailed"),
        (413, StoreError, "did not write"),
        (429, StoreUnavailable, "too many requests"),
        (500, StoreUnavailable, "out of reach"),
        (501, StoreError, "MethodNotImplemented"),
        (502, StoreUnavailable, "out of reach"),
        (503, StoreUnavailable, "out of reach"),
        (504, StoreUnavailable, "out of reach"),
        (599, StoreError, "did not write"),
        (307, StoreError, "did not write"),
    ],
)
def test_what_a_status_means(status: int, kind: type[StoreError], message: str):
    error = from_http_status(status, "the service's words")
    translated = translate(error, WRITE, URI)
    assert type(translated) is kind
    assert message in str(translated)
    assert "the service's words" in str(translated)
    assert URI in str(translated)
    assert (failure_of(error) is Failure.TRANSIENT) == (status in {408, 429, 500, 502, 503, 504})


@pytest.mark.parametrize(
    ("operation", "permission"),
    [
        (WRITE, "storage.objects.create"),
        (READ, "storage.objects.get"),
        (LIST, "storage.objects.list"),
        (DELETE, "storage.objects.delete"),
    ],
)
def test_a_denial_names_permission_role_and_command(operation: object, permission: str):
    text = str(translate(from_http_status(403, "no"), operation, URI))
    assert permission in text
    assert "roles/storage.objectUser" in text
    assert "gcloud storage buckets add-iam-policy-binding gs://bucket " in text


def test_what_a_retry_gave_up_on_is_what_counts():
    error = RetryError("deadline", from_http_status(429, "slow down"))
    translated = translate(error, READ, URI)
    assert isinstance(translated, StoreUnavailable)
    assert "too many requests" in str(translated)


def test_addresses_are_left_out():
    secret = "https://storage.googleapis.com/upload?upload_id=AbCdEf"  # noqa: S105
    error = from_http_status(503, f"PUT {secret}: try again later")
    text = str(translate(error, WRITE, URI))
    assert "upload_id" not in text
    assert "AbCdEf" not in text
    assert "try again later" in text


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (google.auth.exceptions.RefreshError("gone"), StoreAccessDenied),
        (google.auth.exceptions.DefaultCredentialsError("none"), StoreAccessDenied),
        (google.auth.exceptions.TransportError("metadata server"), StoreUnavailable),
        (google.auth.exceptions.RefreshError("later", retryable=True), StoreUnavailable),
        (requests.exceptions.SSLError("certificate"), StoreUnavailable),
        (requests.exceptions.ReadTimeout("slow"), StoreUnavailable),
        (urllib3.exceptions.ProtocolError("broken"), StoreUnavailable),
        (ImportError("no module named google"), ConfigError),
        (ValueError("not JSON"), StoreError),
    ],
)
def test_what_the_layers_below_mean(error: Exception, kind: type[SecureXComError]):
    assert type(translate(error, READ, URI)) is kind


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.InvalidURL("url"),
        google.auth.exceptions.RefreshError("gone"),
        from_http_status(403, "no"),
        FileNotFoundError("a"),
        ValueError("v"),
    ],
)
def test_what_does_not_pass_is_not_repeated(error: Exception):
    assert failure_of(error) is Failure.FINAL


def _tls(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] it failed")
    error.reason = reason
    return error


def _wrapped(innermost: Exception) -> list[Exception]:
    """An error as each of the layers above hands it on."""
    pool = urllib3.HTTPSConnectionPool("storage.example")
    of_urllib3 = urllib3.exceptions.SSLError(innermost)
    of_urllib3.__cause__ = innermost
    given_up = urllib3.exceptions.MaxRetryError(pool, "/path", of_urllib3)
    of_requests = requests.exceptions.SSLError(given_up)
    broken = urllib3.exceptions.ProtocolError("Connection aborted.", innermost)
    return [
        innermost,
        of_urllib3,
        of_requests,
        requests.exceptions.ConnectionError(broken),
        requests.exceptions.ProxyError(urllib3.exceptions.ProxyError("no way", innermost)),
        requests.exceptions.ChunkedEncodingError(broken),
        google.auth.exceptions.TransportError(of_requests),
    ]


@pytest.mark.parametrize(
    ("innermost", "kind"),
    [
        (ssl.SSLCertVerificationError(1, "unable to get local issuer certificate"), Failure.FINAL),
        (_tls("WRONG_VERSION_NUMBER"), Failure.FINAL),
        (_tls("TLSV1_ALERT_UNKNOWN_CA"), Failure.FINAL),
        (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), Failure.FINAL),
        (OSError("Tunnel connection failed: 503 Service Unavailable"), Failure.TRANSIENT),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Failure.TRANSIENT),
        (ssl.SSLZeroReturnError(6, "TLS/SSL connection has been closed"), Failure.TRANSIENT),
        (_tls("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"), Failure.TRANSIENT),
        (ConnectionResetError(104, "Connection reset by peer"), Failure.TRANSIENT),
        (TimeoutError("The handshake operation timed out"), Failure.TRANSIENT),
    ],
    ids=str,
)
def test_the_innermost_decides_whatever_it_is_wrapped_in(innermost: Exception, kind: Failure):
    layers = _wrapped(innermost)
    if type(innermost) is OSError and kind is Failure.TRANSIENT:
        # Bare, it could be anything.
        del layers[0]
    assert [failure_of(layer) for layer in layers] == [kind] * len(layers)


def test_what_the_caller_was_handling_is_no_layer():
    certificate = ssl.SSLCertVerificationError(1, "another service's")

    def retrying() -> None:
        try:
            raise certificate
        except ssl.SSLError:
            raise ConnectionResetError  # noqa: B904 - as libraries do

    with pytest.raises(ConnectionResetError) as caught:
        retrying()
    assert failure_of(caught.value) is Failure.FINAL
    assert failure_of(caught.value, certificate) is Failure.TRANSIENT


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_more_tries_are_claimed_where_there_were_some(retries: int):
    for error in (
        ConnectionResetError(),
        from_http_status(503, "no"),
        from_http_status(429, "no"),
        google.auth.exceptions.TransportError("metadata server"),
        Doubtful("half an answer"),
    ):
        text = str(translate(error, WRITE, URI, retries))
        assert (f"after {retries} more" in text) == bool(retries)
        assert "also" not in text or retries


class _Callable:
    def __call__(self, *_: object) -> None:
        raise TimeoutError("mine")

    def method(self, *_: object) -> None:
        raise TimeoutError("mine")


def _function(*_: object) -> None:
    raise TimeoutError("mine")


@pytest.mark.parametrize(
    "handler",
    [_function, functools.partial(_function), _Callable(), _Callable().method],
    ids=["function", "partial", "callable", "method"],
)
def test_what_a_signal_handler_raised_is_told_from_the_same_of_the_network(
    handler: Callable[..., None],
):
    def wrapped() -> Exception:
        try:
            try:
                handler(signal.SIGUSR1, None)
            except TimeoutError as error:
                raise urllib3.exceptions.ReadTimeoutError(None, "url", "slow") from error
        except urllib3.exceptions.ReadTimeoutError as error:
            return requests.exceptions.ReadTimeout(error)

    assert raised_by_handler(wrapped()) is None
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        own = raised_by_handler(wrapped())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert str(own) == "mine"
