"""KEKs in Google Cloud KMS: `gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K`.

Google's client compares no checksums; they are sent and compared here, as
https://cloud.google.com/kms/docs/data-integrity-guidelines asks. Nothing of Google's is imported
before the first call: it costs a second of CPU.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

import google_crc32c

from secure_xcom import forks, google_errors, telemetry, threads
from secure_xcom.errors import AuthenticationError, ConfigError, KeyServiceError
from secure_xcom.format.envelope import DATA_KEY_BYTES
from secure_xcom.keys.cloud_kms import ahead
from secure_xcom.keys.cloud_kms.errors import (
    DECRYPT,
    ENCRYPT,
    CorruptAnswer,
    KeyOperation,
    NoAnswer,
    is_no_answer,
    is_rarely_transient,
    is_transient,
    translate,
)
from secure_xcom.keys.protocol import Unwrapped
from secure_xcom.model import WrappedKey
from secure_xcom.uris import CLOUD_KMS, KmsKey, parse_kek

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.kms_v1 import DecryptResponse, EncryptResponse, KeyManagementServiceClient

    MakeClient = Callable[[Credentials | None], KeyManagementServiceClient]

#: How long one attempt at a call may take, and how long a call may with all its attempts.
ATTEMPT_SECONDS = 10.0
DEADLINE_SECONDS = 60.0
#: The waits between attempts: random, up to a bound that doubles from the first to the second.
BACKOFF_SECONDS = (0.1, 8.0)
#: How often a call is repeated after failures that are rarely transient.
RARELY_TRANSIENT_RETRIES = 2

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")

#: What the first call imports: the client, and where default credentials come from.
_MODULES = (
    "google.cloud.kms_v1",
    "google.auth.compute_engine",
    "google.auth.transport.grpc",
    "google.auth.transport.requests",
    "google.oauth2.credentials",
    "google.oauth2.service_account",
)

#: Clients that a parent process made. Letting go of one would close its channel, which the parent
#: uses, so a child keeps them, unused.
_abandoned: list[object] = []


def load() -> None:
    """Import what the first call would.

    Raises:
        ImportError: the client is not installed.
    """
    # A fork in the middle of an import would leave the child a lock that nobody opens.
    with forks.calls():
        for name in _MODULES:
            import_module(name)


def make_client(credentials: Credentials | None) -> KeyManagementServiceClient:
    """The real client. Without credentials it looks for application default credentials."""
    from google.cloud.kms_v1 import KeyManagementServiceClient  # noqa: PLC0415

    return KeyManagementServiceClient(credentials=credentials)


class CloudKms:
    """A symmetric key in Cloud KMS; threads may share it.

    Args:
        uri: the key's URI.
        credentials: used instead of the application default credentials.
        deadline_seconds: how long a call may take in all: looking for credentials, fetching a
            token, connecting, all attempts and the waits between them.
        make_client: used instead of this module's, at the first call in each process.

    Raises:
        ConfigError: the URI names no key in Cloud KMS.
    """

    def __init__(
        self,
        uri: str,
        *,
        credentials: Credentials | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
        make_client: MakeClient | None = None,
    ) -> None:
        key = parse_kek(uri)
        if not isinstance(key, KmsKey):
            raise ConfigError(
                f"{uri!r} names no key in Cloud KMS; "
                f"{CLOUD_KMS}projects/P/locations/L/keyRings/R/cryptoKeys/K does."
            )
        self._uri = uri
        self._key_name = key.resource_name
        self._credentials = credentials
        self._deadline_seconds = deadline_seconds
        self._make_client = make_client
        self._client: KeyManagementServiceClient | None = None
        self._client_lock = threading.Lock()
        #: What begins an unwrap, while such attempts succeed.
        self._begin: ahead.Begin | None = None
        forks.run_in_children(self.forget)

    def __repr__(self) -> str:
        return f"CloudKms({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the key was opened by."""
        return self._uri

    @property
    def key_name(self) -> str:
        """What Cloud KMS calls the key."""
        return self._key_name

    def wrap(self, data_key: bytes, aad: bytes) -> WrappedKey:
        """Encrypt a data key with the key's primary version (`Kek.wrap`)."""
        if len(data_key) != DATA_KEY_BYTES:
            raise KeyServiceError(f"A data key has {DATA_KEY_BYTES} bytes, not {len(data_key)}.")
        request = {
            "name": self._key_name,
            "plaintext": data_key,
            "plaintext_crc32c": google_crc32c.value(data_key),
            "additional_authenticated_data": aad,
            "additional_authenticated_data_crc32c": google_crc32c.value(aad),
        }

        def encrypt(client: KeyManagementServiceClient, seconds: float) -> WrappedKey:
            answer = client.encrypt(request=request, retry=None, timeout=seconds)
            return WrappedKey(self._uri, answer.ciphertext, _version(answer, self._key_name))

        return self.call(ENCRYPT, encrypt)

    def unwrap(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        """Decrypt a data key; the service finds the version itself (`Kek.unwrap`)."""
        return self.examine(wrapped, aad).data_key

    def examine(self, wrapped: WrappedKey, aad: bytes) -> Unwrapped:
        """Decrypt a data key; the service says whether by the primary (`Kek.examine`).

        It says nothing else of the version.
        """
        request = {
            "name": self._key_name,
            "ciphertext": wrapped.ciphertext,
            "ciphertext_crc32c": google_crc32c.value(wrapped.ciphertext),
            "additional_authenticated_data": aad,
            "additional_authenticated_data_crc32c": google_crc32c.value(aad),
        }

        def decrypt(client: KeyManagementServiceClient, seconds: float) -> Unwrapped:
            answer = client.decrypt(request=request, retry=None, timeout=seconds)
            unwrapped = Unwrapped(_plaintext(answer), answer.used_primary)
            if self._begin is None:
                attempt_seconds = min(ATTEMPT_SECONDS, self._deadline_seconds)
                self._begin = ahead.beginner(client, self._key_name, attempt_seconds)
            return unwrapped

        unwrapped = self.call(DECRYPT, decrypt)
        if len(unwrapped.data_key) != DATA_KEY_BYTES:
            raise AuthenticationError
        return unwrapped

    def unwrap_ahead(self, wrapped: WrappedKey, aad: bytes, data_key: Future[bytes]) -> bool:
        """Begin an attempt at a call, as long as the service answers (`Kek.unwrap_ahead`).

        The first call of a process is made by `unwrap`, and so is the next one after an attempt
        that failed: that repeats calls, and slows down while they fail.
        """
        begin = self._begin

        def take(unwrapped: bytes | None) -> None:
            # Whoever waited for it may have been interrupted.
            with suppress(InvalidStateError):
                if unwrapped is None:
                    self._begin = None
                    data_key.cancel()
                else:
                    data_key.set_result(unwrapped)

        return begin is not None and begin(wrapped, aad, take)

    def forget(self) -> None:
        """In a forked child: leave the parent's client alone; the next call makes another."""
        _abandoned.extend((self._client, self._begin))
        self._client = None
        self._begin = None
        self._client_lock = threading.Lock()

    def call(
        self,
        operation: KeyOperation,
        attempt: Callable[[KeyManagementServiceClient, float], _Answer],
    ) -> _Answer:
        """Attempt a call until it succeeds, cannot succeed, or has taken too long.

        Args:
            operation: what it is, for errors.
            attempt: the call, by the client of this process, in so many seconds at most.

        Raises:
            SecureXComError: what `errors.translate` makes of its last error.
        """
        deadline = time.monotonic() + self._deadline_seconds
        may_retry = _may_retry()
        bound_seconds = BACKOFF_SECONDS[0]
        answered: Exception | None = None
        while True:
            outcome = self._attempt_in_thread(attempt, deadline)
            error = outcome.exception() if outcome.done() else NoAnswer(self._deadline_seconds)
            if error is None:
                return outcome.result()
            if not isinstance(error, Exception):
                raise error
            # Jitter keeps many workers from coming back at once; nothing secret depends on it.
            pause_seconds = random.uniform(0, bound_seconds)  # noqa: S311
            bound_seconds = min(2 * bound_seconds, BACKOFF_SECONDS[1])
            if not is_no_answer(error):
                answered = error
            if time.monotonic() + pause_seconds >= deadline or not may_retry(error):
                # An attempt that the deadline has cut short says less than the last answer did.
                told = answered or error
                raise translate(told, operation, self._key_name, self.member()) from told
            telemetry.count("kms_retries")
            _log.info("Cloud KMS: %s; trying again with %s", type(error).__name__, self._key_name)
            threads.pause(pause_seconds)

    def member(self) -> str:
        """Who calls, as IAM names it, as far as the credentials say it; nobody is asked."""
        # The transport looks for application default credentials, and has no public name for them.
        found = getattr(getattr(self._client, "transport", None), "_credentials", None)
        return google_errors.member(found or self._credentials)

    def _attempt_in_thread(
        self, attempt: Callable[[KeyManagementServiceClient, float], _Answer], deadline: float
    ) -> Future[_Answer]:
        """Attempt a call once, in a thread: not all that Google's libraries wait for has a bound.

        In the calling thread a signal's handler would raise its exception inside of them, where
        some are taken for the network's.
        """

        def attempt_once() -> _Answer:
            # A fork must not fall into a call, nor into an import, whose lock nobody would open.
            with forks.calls():
                client = self._client_of_process()
                return attempt(client, min(ATTEMPT_SECONDS, max(0.0, deadline - time.monotonic())))

        return threads.outcome(attempt_once, "secure-xcom-kms", deadline - time.monotonic())

    def _client_of_process(self) -> KeyManagementServiceClient:
        with self._client_lock:
            if self._client is None:
                self._client = (self._make_client or make_client)(self._credentials)
                # With logging at DEBUG, the transport would log requests with their plaintext.
                transport = logging.getLogger(type(self._client.transport).__module__)
                transport.addFilter(_above_debug)
            return self._client


def _version(answer: EncryptResponse, key_name: str) -> str:
    """The number of the version that encrypted, once the answer has passed its checks."""
    name, _, version = answer.name.rpartition("/cryptoKeyVersions/")
    if name != key_name or not re.fullmatch("[1-9][0-9]{0,9}", version):
        raise CorruptAnswer("the answer names another key.")
    if not (
        answer.verified_plaintext_crc32c and answer.verified_additional_authenticated_data_crc32c
    ):
        raise CorruptAnswer("the service did not verify the checksums that it was sent.")
    checksum = google_crc32c.value(answer.ciphertext)
    if not answer.ciphertext or answer.ciphertext_crc32c != checksum:
        raise CorruptAnswer("the ciphertext does not match its checksum.")
    return version


def _plaintext(answer: DecryptResponse) -> bytes:
    if answer.plaintext_crc32c != google_crc32c.value(answer.plaintext):
        raise CorruptAnswer("the plaintext does not match its checksum.")
    return answer.plaintext


def _may_retry() -> Callable[[Exception], bool]:
    """A predicate for one call, that counts the failures which are rarely transient."""
    rarely_transient = 0

    def may_retry(error: Exception) -> bool:
        nonlocal rarely_transient
        if is_rarely_transient(error):
            rarely_transient += 1
            return rarely_transient <= RARELY_TRANSIENT_RETRIES
        return is_transient(error)

    return may_retry


def _above_debug(record: logging.LogRecord) -> bool:
    return record.levelno > logging.DEBUG
