"""The real Cloud KMS client over real gRPC: checks, failures, retries, rotation, logs."""

from __future__ import annotations

import logging
import re
import signal
import time
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from types import SimpleNamespace

import pytest
from google.auth import credentials
from google.auth.exceptions import TransportError
from google.cloud.kms_v1 import KeyManagementServiceClient
from servers.kms import KEY, URI, KmsServer, client, secure_client
from support.observed import observed

from secure_xcom import forks
from secure_xcom.errors import (
    AuthenticationError,
    KeyAccessDenied,
    KeyServiceError,
    KeyUnavailable,
    SecureXComError,
)
from secure_xcom.keys.cloud_kms import kek as cloud_kms
from secure_xcom.keys.cloud_kms.kek import CloudKms

DATA_KEY = bytes(range(200, 232))
AAD = b"additional data"
ENCRYPT_PERMISSION = "cloudkms.cryptoKeyVersions.useToEncrypt"
DECRYPT_PERMISSION = "cloudkms.cryptoKeyVersions.useToDecrypt"


@pytest.fixture
def kms(monkeypatch):
    monkeypatch.setattr(cloud_kms, "BACKOFF_SECONDS", (0.001, 0.01))
    with KmsServer() as server:
        server.create_key()
        yield server


@pytest.fixture
def kek(kms):
    return CloudKms(URI, make_client=kms.make_client)


def refusal(kind, act):
    with pytest.raises(SecureXComError) as caught:
        act()
    assert type(caught.value) is kind, caught.value
    assert caught.value.__cause__ is not None or kind is AuthenticationError
    return str(caught.value)


def test_the_wrapped_key_names_the_version_and_has_the_size_of_the_real_service(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    assert wrapped.unverified_version == "1"
    assert len(wrapped.ciphertext) == 113


def test_what_it_wraps_is_what_the_plain_client_decrypts(kek, kms):
    wrapped = kek.wrap(DATA_KEY, AAD)
    answer = client(kms.address).decrypt(
        request={
            "name": KEY,
            "ciphertext": wrapped.ciphertext,
            "additional_authenticated_data": AAD,
        }
    )
    assert answer.plaintext == DATA_KEY


def test_requests_carry_their_checksums(kms, monkeypatch):
    kek = CloudKms(URI, make_client=kms.make_client)
    wrapped = kek.wrap(DATA_KEY, AAD)
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    assert kms.unchecked == []
    # With wrong sums the service, which compares those that it gets, refuses each call.
    monkeypatch.setattr(cloud_kms, "google_crc32c", SimpleNamespace(value=lambda _data: 1))
    kms.traffic.reset()
    refusal(KeyServiceError, lambda: kek.wrap(DATA_KEY, AAD))
    refusal(KeyServiceError, lambda: kek.unwrap(wrapped, AAD))
    assert kms.traffic.calls() == {"Encrypt": 3, "Decrypt": 3}


@pytest.mark.parametrize("field", ["ciphertext", "additional_authenticated_data"])
def test_damage_on_the_way_to_decrypt_is_not_taken_for_tampering(kek, kms, field):
    wrapped = kek.wrap(DATA_KEY, AAD)
    message = f"The checksum in field {field}_crc32c did not match the data in field {field}."
    kms.traffic.fail("Decrypt", "INVALID_ARGUMENT", times=2, message=message)
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    kms.traffic.fail("Decrypt", "INVALID_ARGUMENT", times=3, message=message)
    assert "was damaged" in refusal(KeyServiceError, lambda: kek.unwrap(wrapped, AAD))


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("Encrypt", "crc32c"),
        ("Encrypt", "no_crc32c"),
        ("Encrypt", "bytes"),
        ("Encrypt", "empty"),
        ("Encrypt", "other_key"),
        ("Encrypt", "no_version"),
        ("Encrypt", "unverified_plaintext"),
        ("Encrypt", "unverified_aad"),
        ("Decrypt", "crc32c"),
        ("Decrypt", "no_crc32c"),
        ("Decrypt", "bytes"),
    ],
)
def test_a_damaged_answer_is_asked_for_again_and_never_used(kek, kms, method, how):
    wrapped = kek.wrap(DATA_KEY, AAD)

    def use():
        if method == "Encrypt":
            return kek.unwrap(kek.wrap(DATA_KEY, AAD), AAD)
        return kek.unwrap(wrapped, AAD)

    kms.traffic.reset()
    kms.traffic.corrupt(method, how, times=2)
    assert use() == DATA_KEY
    assert kms.traffic.calls()[method] == 3
    kms.traffic.corrupt(method, how, times=3)
    message = refusal(KeyServiceError, use)
    assert "was damaged" in message
    assert KEY in message
    assert kms.traffic.calls()[method] == 6


@pytest.mark.parametrize("how", ["short", "empty"])
def test_an_unwrapped_key_of_another_length_is_refused(kek, kms, how):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kms.traffic.corrupt("Decrypt", how)
    refusal(AuthenticationError, lambda: kek.unwrap(wrapped, AAD))


@pytest.mark.parametrize(
    "code",
    [
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
        "ABORTED",
        "CANCELLED",
        "UNKNOWN",
    ],
)
def test_what_passes_is_retried(kek, kms, code):
    with observed() as seen:
        kms.traffic.fail("Encrypt", code, times=4)
        wrapped = kek.wrap(DATA_KEY, AAD)
        kms.traffic.fail("Decrypt", code, times=4)
        assert kek.unwrap(wrapped, AAD) == DATA_KEY
    assert kms.traffic.calls() == {"Encrypt": 5, "Decrypt": 5}
    assert seen.counts == {"kms_retries": 8}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("RESOURCE_EXHAUSTED", "quota"),
        ("UNAVAILABLE", "out of reach"),
        ("DEADLINE_EXCEEDED", "out of reach"),
        ("INTERNAL", "out of reach"),
        ("ABORTED", "out of reach"),
        ("CANCELLED", "out of reach"),
        ("UNKNOWN", "out of reach"),
    ],
)
def test_what_does_not_pass_ends_at_the_deadline(kms, code, words):
    kek = CloudKms(URI, deadline_seconds=0.3, make_client=kms.make_client)
    kms.traffic.fail("Encrypt", code, times=1_000_000)
    started = time.monotonic()
    message = refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert time.monotonic() - started < 5
    assert words in message
    assert KEY in message
    assert kms.traffic.calls()["Encrypt"] > 3


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("PERMISSION_DENIED", KeyAccessDenied),
        ("UNAUTHENTICATED", KeyAccessDenied),
        ("NOT_FOUND", KeyUnavailable),
        ("FAILED_PRECONDITION", KeyUnavailable),
        ("INVALID_ARGUMENT", KeyServiceError),
        ("UNIMPLEMENTED", KeyServiceError),
        ("DATA_LOSS", KeyServiceError),
        ("OUT_OF_RANGE", KeyServiceError),
        ("ALREADY_EXISTS", KeyServiceError),
    ],
)
def test_what_cannot_pass_is_tried_once(kek, kms, code, kind):
    kms.traffic.fail("Encrypt", code, times=5)
    assert KEY in refusal(kind, lambda: kek.wrap(DATA_KEY, AAD))
    assert kms.traffic.calls() == {"Encrypt": 1}


def test_a_service_that_hangs_is_given_up(kms, monkeypatch):
    monkeypatch.setattr(cloud_kms, "ATTEMPT_SECONDS", 0.1)
    kek = CloudKms(URI, deadline_seconds=0.3, make_client=kms.make_client)
    kms.traffic.delay("Encrypt", 2)
    started = time.monotonic()
    refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert time.monotonic() - started < 2


def test_a_service_that_is_away_is_out_of_reach():
    with KmsServer() as server:
        kek = CloudKms(URI, deadline_seconds=1, make_client=server.make_client)
    message = refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert "cloudkms.googleapis.com" in message


def test_a_missing_permission_names_itself_the_role_the_key_and_the_command(kek, kms):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kms.deny(ENCRYPT_PERMISSION)
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    message = refusal(KeyAccessDenied, lambda: kek.wrap(DATA_KEY, AAD))
    assert f"lacks {ENCRYPT_PERMISSION}. Grant it roles/cloudkms.cryptoKeyEncrypter on" in message
    kms.deny(DECRYPT_PERMISSION)
    assert kek.wrap(DATA_KEY, AAD)
    message = refusal(KeyAccessDenied, lambda: kek.unwrap(wrapped, AAD))
    assert f"lacks {DECRYPT_PERMISSION}. Grant it roles/cloudkms.cryptoKeyDecrypter on" in message
    assert (
        f"gcloud kms keys add-iam-policy-binding {KEY} "
        "--role roles/cloudkms.cryptoKeyEncrypterDecrypter" in message
    )


def test_a_key_that_does_not_exist_is_named(kms):
    kek = CloudKms(f"{URI}-gone", make_client=kms.make_client)
    message = refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert f"{KEY}-gone: there is no such key" in message
    assert "create the key" in message


@pytest.mark.parametrize(
    ("state", "wrapping", "unwrapping"),
    [
        (
            "DISABLED",
            r"version 1 is disabled. Enable it .*versions enable .*/1\), or make another version",
            r"version 1 is disabled. Enable it .*versions enable .*/1\)\.",
        ),
        (
            "DESTROY_SCHEDULED",
            r"version 1 is scheduled for destruction. Restore it .*versions restore .*/1\)",
            r"version 1 is scheduled for destruction. Restore it .*versions restore .*/1\)",
        ),
        (
            "DESTROYED",
            "version 1 is destroyed. Make another version the primary",
            "version 1 is destroyed. What it sealed can never be opened again",
        ),
        (
            "PENDING_GENERATION",
            "version 1 is PENDING_GENERATION",
            "version 1 is PENDING_GENERATION",
        ),
    ],
)
def test_a_version_that_cannot_be_used_says_its_state(kek, kms, state, wrapping, unwrapping):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kms.set_state(state)
    for pattern, act in (
        (wrapping, lambda: kek.wrap(DATA_KEY, AAD)),
        (unwrapping, lambda: kek.unwrap(wrapped, AAD)),
    ):
        message = refusal(KeyUnavailable, act)
        assert re.search(pattern, message), message
        assert KEY in message
    if state != "DESTROYED":
        kms.set_state("ENABLED")
        assert kek.unwrap(wrapped, AAD) == DATA_KEY


def test_a_key_without_a_usable_state_repeats_the_service_s_words(kek, kms):
    kms.traffic.fail("Encrypt", "FAILED_PRECONDITION", message="The key has no primary version.")
    message = refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert "The service said: The key has no primary version." in message


def test_rotation_wraps_with_the_new_version_and_still_opens_the_old(kek, kms):
    old = kek.wrap(DATA_KEY, AAD)
    assert kms.rotate() == 2
    new = kek.wrap(DATA_KEY, AAD)
    assert (old.unverified_version, new.unverified_version) == ("1", "2")
    assert kek.unwrap(old, AAD) == kek.unwrap(new, AAD) == DATA_KEY
    assert not kek.examine(old, AAD).used_primary
    # The service tells, and not what the wrapped key says of itself.
    assert not kek.examine(replace(old, unverified_version="2"), AAD).used_primary
    assert kek.examine(replace(new, unverified_version="1"), AAD).used_primary
    kms.set_state("DESTROYED", version=1)
    assert kek.unwrap(new, AAD) == DATA_KEY
    refusal(KeyUnavailable, lambda: kek.unwrap(old, AAD))


def _ahead(kek, wrapped, seconds=10):
    """The key of an attempt that is made ahead; None where it failed, False where none began."""
    key = Future()
    if not kek.unwrap_ahead(wrapped, AAD, key):
        assert not key.done()
        return False
    try:
        return key.result(seconds)
    except CancelledError:
        return None


def _settled():
    """Wait until no call is under way, as a fork would."""
    forks.calls.hold()
    assert not forks.calls._inside
    forks.calls.release()


def test_a_key_is_unwrapped_ahead_once_the_service_has_answered(kek, kms):
    wrapped = kek.wrap(DATA_KEY, AAD)
    assert _ahead(kek, wrapped) is False
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    assert _ahead(kek, wrapped) == DATA_KEY
    assert kms.traffic.calls() == {"Encrypt": 1, "Decrypt": 2}
    assert kms.traffic.connections() == 1
    assert kms.unchecked == []
    kek.forget()
    assert _ahead(kek, wrapped) is False


def test_many_keys_are_unwrapped_ahead_side_by_side_and_forks_wait_for_them(kek, kms):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    kms.traffic.delay("Decrypt", 0.3)
    keys = [Future() for _ in range(50)]
    assert all(kek.unwrap_ahead(wrapped, AAD, key) for key in keys)
    assert forks.calls._inside
    _settled()
    assert [key.result(0) for key in keys] == [DATA_KEY] * 50
    assert kms.traffic.most_in_flight()["Decrypt"] >= 32


@pytest.mark.parametrize("how", ["crc32c", "no_crc32c", "bytes", "short", "empty"])
def test_a_damaged_answer_to_an_attempt_ahead_is_never_used(kek, kms, how):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    kms.traffic.corrupt("Decrypt", how)
    assert _ahead(kek, wrapped) is None
    _settled()


@pytest.mark.parametrize("code", ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED"])
def test_a_failure_ends_attempts_ahead_until_the_service_answers_again(kek, kms, code):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    kms.traffic.fail("Decrypt", code)
    assert _ahead(kek, wrapped) is None
    assert _ahead(kek, wrapped) is False
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    assert _ahead(kek, wrapped) == DATA_KEY
    assert kms.traffic.calls()["Decrypt"] == 4


def test_what_was_not_wrapped_is_not_unwrapped_ahead(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    assert _ahead(kek, replace(wrapped, ciphertext=wrapped.ciphertext[:-1])) is None


def test_an_attempt_ahead_that_hangs_is_given_up(kms, monkeypatch):
    monkeypatch.setattr(cloud_kms, "ATTEMPT_SECONDS", 0.3)
    kek = CloudKms(URI, make_client=kms.make_client)
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    kms.traffic.delay("Decrypt", 3)
    assert _ahead(kek, wrapped, seconds=2) is None
    _settled()


def test_a_token_that_hangs_holds_an_attempt_ahead_no_longer(kms, monkeypatch):
    class Token(credentials.Credentials):
        waits = False

        def refresh(self, _request):
            if self.waits:
                time.sleep(3)
            self.token = "token"  # noqa: S105 - nobody takes it

        @property
        def valid(self):
            return self.token is not None and not self.waits

    token = Token()
    monkeypatch.setattr(cloud_kms, "ATTEMPT_SECONDS", 0.5)
    address, pem = f"localhost:{kms.secure_port}", kms.certificate.pem
    kek = CloudKms(URI, make_client=lambda _: secure_client(address, pem, token))
    wrapped = kek.wrap(DATA_KEY, AAD)
    kek.unwrap(wrapped, AAD)
    assert _ahead(kek, wrapped) == DATA_KEY
    token.waits = True
    assert _ahead(kek, wrapped, seconds=2) is None


def test_calls_share_one_connection(kek, kms):
    for _ in range(5):
        kek.unwrap(kek.wrap(DATA_KEY, AAD), AAD)
    assert kms.traffic.connections() == 1


def test_data_keys_stay_out_of_the_client_s_debug_logs(kek, caplog):
    """The client's transport logs whole requests and answers at DEBUG; here it must not."""
    name = f"{KeyManagementServiceClient.__module__.rpartition('.')[0]}.transports.grpc"
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("google").addHandler(caplog.handler)
        logging.getLogger(name).setLevel(logging.DEBUG)
        try:
            wrapped = kek.wrap(DATA_KEY, AAD)
            kek.unwrap(wrapped, AAD)
            assert _ahead(kek, wrapped) == DATA_KEY
        finally:
            logging.getLogger(name).setLevel(logging.NOTSET)
            logging.getLogger("google").removeHandler(caplog.handler)
    logged = repr([vars(record) for record in caplog.records])
    assert "yMnKy8zNzs_Q0dLT1NXW19jZ2tvc3d7f4OHi4-Tl5uc" not in logged.replace("/", "_")
    assert "plaintext" not in logged


def test_a_retry_is_logged_without_contents(kek, kms, caplog):
    kms.traffic.fail("Encrypt", "UNAVAILABLE", message="secret words")
    with caplog.at_level(logging.INFO, logger="secure_xcom"):
        kek.wrap(DATA_KEY, AAD)
    (record,) = [record for record in caplog.records if record.name.startswith("secure_xcom")]
    assert record.getMessage() == f"Cloud KMS: ServiceUnavailable; trying again with {KEY}"


class _TimedOut(Exception):  # noqa: N818 - as Airflow's is called
    """What a user's handler may raise, beside `TimeoutError`."""


@pytest.mark.parametrize("where", ["call", "wait", "credentials"])
@pytest.mark.parametrize("kind", [TimeoutError, _TimedOut])
def test_a_time_out_of_the_caller_comes_through_at_once(kms, monkeypatch, where, kind):
    """In Google's libraries, it would be taken for the network's, or translated."""
    mine = kind("mine")
    make_client = kms.make_client
    if where == "call":
        kms.traffic.delay("Encrypt", 5, times=1)
    elif where == "wait":
        monkeypatch.setattr(cloud_kms, "BACKOFF_SECONDS", (1e3, 1e3))
        kms.traffic.fail("Encrypt", "UNAVAILABLE", times=1_000)
    else:

        def make_client(_credentials):
            try:
                time.sleep(5)
            except Exception as error:
                raise TransportError("the metadata server does not answer") from error

    kek = CloudKms(URI, deadline_seconds=10_000, make_client=make_client)

    def handle(*_):
        raise mine

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    started = time.monotonic()
    try:
        with pytest.raises(kind) as caught:
            kek.wrap(DATA_KEY, AAD)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert caught.value is mine
    assert time.monotonic() - started < 2


def test_credentials_that_never_come_are_within_the_deadline(kms):
    kek = CloudKms(URI, deadline_seconds=0.5, make_client=lambda _credentials: time.sleep(5))
    started = time.monotonic()
    message = refusal(KeyUnavailable, lambda: kek.wrap(DATA_KEY, AAD))
    assert time.monotonic() - started < 2
    assert "no answer within 0.5 s (`kms_deadline_seconds`)" in message
    assert kms.traffic.calls() == {}
