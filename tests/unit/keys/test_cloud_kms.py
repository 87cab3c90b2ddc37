"""Cloud KMS without a server: URIs, what is imported when, and what each exception becomes."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import traceback
from types import SimpleNamespace

import google.api_core.exceptions
import google.auth.exceptions
import grpc
import pytest

from secure_xcom import forks
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    KeyAccessDenied,
    KeyServiceError,
    KeyUnavailable,
    SecureXComError,
)
from secure_xcom.keys import open_kek
from secure_xcom.keys.cloud_kms import kek as cloud_kms
from secure_xcom.keys.cloud_kms.kek import CloudKms
from secure_xcom.model import WrappedKey

NAME = "projects/my-project/locations/europe-west3/keyRings/ring/cryptoKeys/key"
URI = f"gcp-kms://{NAME}"
DATA_KEY = bytes(range(32))
WRAPPED = WrappedKey(URI, b"ciphertext of a data key")


@pytest.mark.parametrize(
    "uri",
    [
        URI,
        "gcp-kms://projects/example.com:my-project/locations/global/keyRings/r/cryptoKeys/k",
        "gcp-kms://projects/p12345/locations/us/keyRings/A_b-9/cryptoKeys/" + "k" * 63,
    ],
)
def test_a_uri_that_names_a_key_opens(uri):
    assert open_kek(uri).uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "gcp-kms://",
        f"gcp-kms:///{NAME}",
        f"{URI}/",
        f"{URI}\n",
        f" {URI}",
        f"{URI}?x=1",
        URI.replace("cryptoKeys", "cryptokeys"),
        URI.replace("/ring/", "//"),
        URI.replace("/ring/", "/../"),
        URI.replace("/key", "/k%65y"),
        URI.replace("my-project", "My-Project"),
        URI.replace("my-project", "p"),
        URI.removesuffix("/cryptoKeys/key"),
        "gcp-kms://projects/p12345/locations/us/keyRings/r/cryptoKeys/" + "k" * 64,
        URI.replace("/key", "/kéy"),
    ],
)
def test_a_uri_that_names_none_is_refused(uri):
    with pytest.raises(ConfigError, match="gcp-kms://projects/P/locations/L"):
        CloudKms(uri)


def test_near_misses_are_told_what_to_change():
    with pytest.raises(ConfigError, match=r"Probably meant: .*without the version"):
        open_kek(f"{URI}/cryptoKeyVersions/1")
    with pytest.raises(ConfigError, match="by its id, not by its number"):
        open_kek(URI.replace("my-project", "123456789"))


def test_google_is_not_imported_before_the_first_call():
    program = f"""
import sys
from secure_xcom.keys import open_kek
open_kek({URI!r})
loaded = {{name for name in sys.modules if name.split(".")[0] in ("google", "grpc", "proto")}}
print(loaded - {{"google", "google.cloud"}})  # namespaces, which .pth files put there
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout == b"set()\n"


def kek_that_raises(error):
    """A key whose client raises `error` from both of its methods."""

    def fail(**_call):
        raise error

    def make_client(_credentials):
        return SimpleNamespace(encrypt=fail, decrypt=fail, transport=None)

    return CloudKms(URI, deadline_seconds=5, make_client=make_client)


@pytest.fixture
def _no_second_attempt(monkeypatch):
    # The first wait would be longer than the call may take.
    monkeypatch.setattr(cloud_kms, "BACKOFF_SECONDS", (1e9, 1e9))


def raised_by(act):
    with pytest.raises(SecureXComError) as caught:
        act()
    return caught.value


def instances():
    """One of each exception that Google's libraries define, and of some that Python does."""
    for module in (google.api_core.exceptions, google.auth.exceptions):
        for kind in vars(module).values():
            if inspect.isclass(kind) and issubclass(kind, Exception):
                arguments = (
                    ("why", ValueError("cause")) if kind.__name__ == "RetryError" else ("why",)
                )
                yield kind(*arguments)
    yield from (
        grpc.RpcError("why"),
        grpc.FutureTimeoutError("why"),
        grpc.FutureCancelledError("why"),
        ValueError("Cannot invoke RPC on closed channel!"),
        TypeError("why"),
        OSError("why"),
        ImportError("why"),
    )


@pytest.mark.usefixtures("_no_second_attempt")
@pytest.mark.parametrize("error", [*instances()], ids=lambda error: type(error).__qualname__)
@pytest.mark.parametrize("operation", ["wrap", "unwrap"])
def test_each_exception_becomes_one_of_ours(error, operation):
    kek = kek_that_raises(error)
    act = (
        (lambda: kek.wrap(DATA_KEY, b""))
        if operation == "wrap"
        else (lambda: kek.unwrap(WRAPPED, b""))
    )
    ours = raised_by(act)
    causes = []
    cause = ours.__cause__
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    assert error in causes
    assert isinstance(ours, (KeyServiceError, AuthenticationError, ConfigError))
    assert NAME in str(ours) or isinstance(ours, (AuthenticationError, ConfigError))
    assert not isinstance(ours, (ValueError, TypeError, OSError))
    copy = pickle.loads(pickle.dumps(ours))  # noqa: S301 - of our own making
    assert (type(copy), str(copy)) == (type(ours), str(ours))
    printed = "".join(traceback.format_exception(ours))
    assert repr(DATA_KEY)[2:-1] not in printed
    assert DATA_KEY.hex() not in printed


api, auth = google.api_core.exceptions, google.auth.exceptions


@pytest.mark.usefixtures("_no_second_attempt")
@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (api.PermissionDenied("x"), KeyAccessDenied),
        (api.Forbidden("x"), KeyAccessDenied),
        (api.Unauthenticated("x"), KeyAccessDenied),
        (api.NotFound("x"), KeyUnavailable),
        (api.FailedPrecondition("x"), KeyUnavailable),
        (api.ResourceExhausted("x"), KeyUnavailable),
        (api.ServiceUnavailable("x"), KeyUnavailable),
        (api.DeadlineExceeded("x"), KeyUnavailable),
        (api.InternalServerError("x"), KeyUnavailable),
        (api.RetryError("x", api.NotFound("y")), KeyUnavailable),
        (api.RetryError("x", None), KeyServiceError),
        (api.Unknown("x"), KeyUnavailable),
        (api.Aborted("x"), KeyUnavailable),
        (api.Cancelled("x"), KeyUnavailable),
        (api.DataLoss("x"), KeyServiceError),
        (auth.DefaultCredentialsError("x"), KeyAccessDenied),
        (auth.RefreshError("x"), KeyAccessDenied),
        (auth.RefreshError("x", retryable=True), KeyUnavailable),
        (auth.TransportError("x"), KeyUnavailable),
        (auth.TimeoutError("x"), KeyUnavailable),
        (ImportError("x"), ConfigError),
        (RuntimeError("x"), KeyServiceError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_the_class_says_what_kind_of_trouble_it_is(error, ours):
    kek = kek_that_raises(error)
    assert type(raised_by(lambda: kek.wrap(DATA_KEY, b""))) is ours
    assert type(raised_by(lambda: kek.unwrap(WRAPPED, b""))) is ours


def test_an_invalid_argument_is_tampering_only_where_something_is_opened():
    kek = kek_that_raises(api.InvalidArgument("x"))
    assert type(raised_by(lambda: kek.unwrap(WRAPPED, b""))) is AuthenticationError
    assert type(raised_by(lambda: kek.wrap(DATA_KEY, b""))) is KeyServiceError


def test_an_interruption_is_not_translated():
    with pytest.raises(KeyboardInterrupt):
        kek_that_raises(KeyboardInterrupt()).wrap(DATA_KEY, b"")


def test_the_words_of_others_are_bounded_and_on_one_line():
    kek = kek_that_raises(api.NotFound("line\nafter line " + "x" * 10_000))
    message = str(raised_by(lambda: kek.wrap(DATA_KEY, b"")))
    assert "\n" not in message
    assert len(message) < 1_000


def test_clients_are_made_once_and_by_what_stands_in_the_module(monkeypatch):
    made = []

    def make_client(credentials):
        made.append(credentials)
        raise RuntimeError

    monkeypatch.setattr(cloud_kms, "make_client", make_client)
    raised_by(lambda: open_kek(URI, credentials="the connection's").wrap(DATA_KEY, b""))
    assert made == ["the connection's"]


def test_the_bounds_are_those_of_the_decisions():
    assert (cloud_kms.ATTEMPT_SECONDS, cloud_kms.DEADLINE_SECONDS) == (10, 60)
    assert (cloud_kms.BACKOFF_SECONDS, cloud_kms.RARELY_TRANSIENT_RETRIES) == ((0.1, 8), 2)
    assert forks.WAIT_SECONDS == 15
