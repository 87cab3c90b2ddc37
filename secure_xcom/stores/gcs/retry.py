"""When a request to Cloud Storage is made again, and how long that goes on.

Whatever is asked of the service goes by this policy, and by no other: the client's own attempts
are switched off by not being used.
"""

from __future__ import annotations

import http.client
import logging
import random
import re
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TypeVar

from secure_xcom import google_errors, telemetry
from secure_xcom.signals import layers_of, raised_by_handler

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
#: What may pass, by the service's own retry strategy:
#: https://cloud.google.com/storage/docs/retry-strategy
_TRANSIENT_STATUSES = frozenset((408, 429, 500, 502, 503, 504))
#: How TLS fails where it is set up wrongly on one side: nothing of it passes by itself.
_FINAL_TLS = frozenset(
    (
        "CERTIFICATE_VERIFY_FAILED",
        "NO_CIPHERS_AVAILABLE",
        "NO_PROTOCOLS_AVAILABLE",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "UNSAFE_LEGACY_RENEGOTIATION_DISABLED",
        "UNSUPPORTED_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    )
)
#: What an answer of a proxy to CONNECT becomes, in the standard library.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Failure(Enum):
    """What a failed request says of the next one."""

    #: It may go through a little later.
    TRANSIENT = "transient"
    #: It may go through, but what fails in this way seldom does; the request may have been obeyed.
    DOUBTFUL = "doubtful"
    #: It will fail in the same way.
    FINAL = "final"


class Interrupted(Exception):  # noqa: N818 - raised and handled in this package only
    """An exchange broke off; another try may go through."""


class Doubtful(Exception):  # noqa: N818 - raised and handled in this package only
    """An answer says success, but not of what; what was asked for may have been done."""


class SessionGone(Exception):  # noqa: N818 - raised and handled in this package only
    """An upload session is no longer there, and with it parts that are not held any more."""


class Retries:
    """How long a call of a store goes on without real progress, and how often it asks again.

    Time counts that is spent on the wire or between attempts, not what the caller takes to make
    or to use the bytes. Progress is what the other side has for good: `PROGRESS_BYTES` that a
    download gave out or the service kept, or a page of a listing.
    """

    def __init__(self, deadline_seconds: float) -> None:
        self.count = 0
        self._deadline_seconds = deadline_seconds
        self._outer = sys.exc_info()[1]
        self._doubts = 0
        self._moved_bytes = 0
        self.progressed()

    def progressed(self) -> None:
        """There was progress: start again."""
        self._spent_seconds = 0.0
        self._since = time.monotonic()
        self._bound_seconds = BACKOFF_SECONDS[0]

    def moved(self, count: int) -> None:
        """So many bytes are where they belong."""
        self._moved_bytes += count
        if self._moved_bytes >= PROGRESS_BYTES:
            self._moved_bytes = 0
            self.progressed()

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

    def failure_of(self, error: Exception) -> Failure:
        """What a failure says of another try."""
        return failure_of(error, self._outer)

    def wait(self, error: Exception, kind: Failure | None = None) -> None:
        """Wait for the next attempt, or raise what ended the last one."""
        if own := self.own(error):
            raise own
        kind = kind or self.failure_of(error)
        if kind is Failure.DOUBTFUL:
            self._doubts += 1
            if self._doubts > DOUBTFUL_RETRIES:
                raise error
        if kind is Failure.FINAL or self._spent_seconds >= self._deadline_seconds:
            raise error
        telemetry.count("store_retries")
        _log.info("Cloud Storage: %s; trying again", type(error).__name__)
        self.count += 1
        with self.spent():
            # Jitter keeps many workers from coming back at once; nothing secret depends on it.
            time.sleep(random.uniform(0, self._bound_seconds))  # noqa: S311
        self._bound_seconds = min(2 * self._bound_seconds, BACKOFF_SECONDS[1])


def failure_of(error: BaseException, outer: BaseException | None = None) -> Failure:
    """What an error of Google's client, or of a layer below it, says of another try.

    What a wrapper is called says little: `requests.exceptions.SSLError` is a certificate that is
    refused, and a connection that ends in a handshake. So the layers are looked through, down to
    the innermost.

    Args:
        error: what an attempt raised.
        outer: what the caller was handling before (`layers_of`).
    """
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error, Doubtful):
        return Failure.DOUBTFUL
    layers = list(layers_of(error, outer))
    if isinstance(error, GoogleAPICallError) and error.code is not None:
        passes = error.code in _TRANSIENT_STATUSES
    elif any(map(_is_final, layers)) or (
        isinstance(error, GoogleAuthError) and not google_errors.may_refresh(error)
    ):
        passes = False
    else:
        passes = any(map(_is_transient, layers))
    return Failure.TRANSIENT if passes else Failure.FINAL


def _is_final(layer: BaseException) -> bool:
    import requests.exceptions as r  # noqa: PLC0415
    import urllib3.exceptions as u  # noqa: PLC0415

    if isinstance(layer, ssl.SSLError) and getattr(layer, "reason", None) in _FINAL_TLS:
        return True
    if isinstance(layer, OSError) and (refused := _TUNNEL.match(str(layer))):
        return int(refused[1]) not in _TRANSIENT_STATUSES
    return isinstance(
        layer,
        (
            ssl.SSLCertVerificationError,
            ssl.CertificateError,
            r.InvalidURL,
            r.MissingSchema,
            r.InvalidSchema,
            r.InvalidHeader,
            r.TooManyRedirects,
            r.ContentDecodingError,
            r.RetryError,
            u.LocationValueError,
            u.ResponseError,
        ),
    )


def _is_transient(layer: BaseException) -> bool:
    import requests.exceptions as r  # noqa: PLC0415
    import urllib3.exceptions as u  # noqa: PLC0415
    from google.auth.exceptions import TransportError  # noqa: PLC0415

    return isinstance(
        layer,
        (
            Interrupted,
            TransportError,
            r.ConnectionError,
            r.Timeout,
            r.ChunkedEncodingError,
            u.ProtocolError,
            u.TimeoutError,
            u.PoolError,
            u.SSLError,
            http.client.HTTPException,
            ssl.SSLError,
            ConnectionError,
            TimeoutError,
        ),
    )
