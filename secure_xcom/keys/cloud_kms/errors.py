"""What Google's exceptions mean for a KEK, in the words of this package.

https://cloud.google.com/kms/docs/reference/rpc and https://google.aip.dev/193 say which code
means what.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_xcom import google_errors
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    KeyAccessDenied,
    KeyServiceError,
    KeyUnavailable,
    SecureXComError,
)

if TYPE_CHECKING:
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

#: What gRPC reports, as UNAVAILABLE, when the credentials raised.
_NO_TOKEN = "Getting metadata from plugin failed"  # noqa: S105 - a message, not a token
_STATE = re.compile(
    r"(projects/\S+/cryptoKeyVersions/(\d+)) is not enabled, current state is: ([A-Z_]+)"
)


class CorruptAnswer(Exception):  # noqa: N818 - raised and handled in this package only
    """An answer failed its checks; asking again may help."""


class NoAnswer(Exception):  # noqa: N818 - raised and handled in this package only
    """A call has taken as long as it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s (`kms_deadline_seconds`).")


@dataclass(frozen=True, slots=True)
class KeyOperation:
    """What a key is asked for, and the permission that this takes."""

    #: What stands between `Cloud KMS was asked to` and the key's name.
    phrase: str
    permission: str
    #: A predefined role that has the permission.
    role: str


ENCRYPT = KeyOperation(
    "wrap a data key with",
    "cloudkms.cryptoKeyVersions.useToEncrypt",
    "roles/cloudkms.cryptoKeyEncrypter",
)
DECRYPT = KeyOperation(
    "unwrap a data key with",
    "cloudkms.cryptoKeyVersions.useToDecrypt",
    "roles/cloudkms.cryptoKeyDecrypter",
)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed a little later (`docs/decisions/0021`)."""
    from google.api_core import exceptions  # noqa: PLC0415

    return isinstance(
        error,
        (
            exceptions.TooManyRequests,
            exceptions.ServiceUnavailable,
            exceptions.GatewayTimeout,
            exceptions.InternalServerError,
            exceptions.BadGateway,
            exceptions.Aborted,
            exceptions.Cancelled,
            exceptions.Unknown,
        ),
    )


def is_rarely_transient(error: BaseException) -> bool:
    """Whether a few attempts may help: damage on the way, or credentials without a token."""
    from google.api_core import exceptions  # noqa: PLC0415
    from google.auth.exceptions import TransportError  # noqa: PLC0415

    return (
        isinstance(error, (CorruptAnswer, TransportError))
        or (isinstance(error, exceptions.ServiceUnavailable) and _NO_TOKEN in error.message)
        or _is_about_checksum(error)
    )


def is_no_answer(error: Exception) -> bool:
    """Whether a call ended because its time was up."""
    from google.api_core import exceptions  # noqa: PLC0415

    return isinstance(error, (NoAnswer, exceptions.GatewayTimeout))


def translate(  # noqa: PLR0911 - one for each origin
    error: BaseException,
    operation: KeyOperation,
    key_name: str,
    member: str = google_errors.NO_MEMBER,
) -> SecureXComError:
    """The error of this package that stands for `error`; to be raised from it."""
    if isinstance(error, ImportError):
        return ConfigError(
            f"A `gcp-kms://` key needs google-cloud-kms, which cannot be imported here "
            f"({type(error).__name__}: {error}). Install it, or repair the installation."
        )
    if isinstance(error, CorruptAnswer) or _is_about_checksum(error):
        return KeyServiceError(
            f"Cloud KMS was asked to {operation.phrase} {key_name}, and what went there or came "
            f"back was damaged, also when asked again: {_one_line(str(error))} Look at the network "
            "and at proxies between this worker and cloudkms.googleapis.com."
        )
    from google.api_core import exceptions  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error, NoAnswer):
        return KeyUnavailable(
            f"Cloud KMS was asked to {operation.phrase} {key_name}: {error} The key service, or "
            "where the worker's credentials come from, is out of reach or too slow. Check the way "
            "to cloudkms.googleapis.com and https://status.cloud.google.com, then try again."
        )
    if isinstance(error, exceptions.RetryError) and isinstance(error.cause, Exception):
        return translate(error.cause, operation, key_name, member)
    if isinstance(error, exceptions.GoogleAPICallError):
        return _call_error(error, operation, key_name, member)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error, operation, key_name)
    return KeyServiceError(
        f"The attempt to {operation.phrase} {key_name} ended with a {type(error).__name__} "
        "(its cause is attached)."
    )


def _call_error(  # noqa: PLR0911 - one for each meaning
    error: exceptions.GoogleAPICallError, operation: KeyOperation, key_name: str, member: str
) -> SecureXComError:
    from google.api_core import exceptions  # noqa: PLC0415

    if operation is DECRYPT and isinstance(error, exceptions.InvalidArgument):
        return AuthenticationError()
    failed = f"Cloud KMS did not {operation.phrase} {key_name}"
    said = f"The service said: {_one_line(error.message)}"
    if isinstance(error, exceptions.Forbidden):
        return KeyAccessDenied(
            f"{failed}: the worker's service account lacks {operation.permission}. "
            f"Grant it {operation.role} on the key, or both directions at once: "
            f"gcloud kms keys add-iam-policy-binding {key_name} "
            f"--role roles/cloudkms.cryptoKeyEncrypterDecrypter --member {member} "
            f"(a grant takes up to seven minutes). {said}"
        )
    if isinstance(error, exceptions.Unauthorized):
        return KeyAccessDenied(
            f"{failed}: it did not accept the worker's credentials. Check the service account of "
            f"the worker, or the connection that `gcp_conn_id` names. {said}"
        )
    if isinstance(error, exceptions.NotFound):
        return KeyUnavailable(
            f"{failed}: there is no such key. Check project, location, key ring and key in "
            f"`kek_uri`, or create the key (purpose: symmetric encrypt/decrypt). {said}"
        )
    if isinstance(error, exceptions.FailedPrecondition):
        return KeyUnavailable(f"{failed}: {_state_advice(error.message, operation)} {said}")
    if isinstance(error, exceptions.TooManyRequests):
        return KeyUnavailable(
            f"{failed}: a quota is used up, also after retries. Raise the project's quota for "
            f"cryptographic requests, or `data_key_ttl_seconds`. {said}"
        )
    if isinstance(error, exceptions.ServiceUnavailable) and _NO_TOKEN in error.message:
        return KeyUnavailable(
            f"{failed}: the worker's credentials gave no access token. Check that the service "
            "account and its key still exist, and that the token service can be reached. "
            f"{said}"
        )
    if is_transient(error):
        return KeyUnavailable(
            f"{failed}: the service is out of reach or failing, also after retries. Check the "
            "way to cloudkms.googleapis.com and https://status.cloud.google.com, then try again. "
            f"{said}"
        )
    return KeyServiceError(f"{failed} ({type(error).__name__}). {said}")


def _of_credentials(
    error: GoogleAuthError, operation: KeyOperation, key_name: str
) -> SecureXComError:
    kind = KeyUnavailable if google_errors.may_refresh(error) else KeyAccessDenied
    return kind(
        f"Cloud KMS could not be asked to {operation.phrase} {key_name}: "
        f"{google_errors.about_credentials(error)}"
    )


def _state_advice(message: str, operation: KeyOperation) -> str:
    match = _STATE.search(message)
    if not match:
        return "the key cannot be used in its present state."
    name, version, state = match.groups()
    if state == "DISABLED":
        other = ", or make another version the primary" if operation is ENCRYPT else ""
        return (
            f"its version {version} is disabled. Enable it (gcloud kms keys versions enable "
            f"{name}){other}."
        )
    if state == "DESTROY_SCHEDULED":
        return (
            f"its version {version} is scheduled for destruction. Restore it (gcloud kms keys "
            f"versions restore {name}) and enable it while there is time."
        )
    if state == "DESTROYED":
        advice = (
            "Make another version the primary."
            if operation is ENCRYPT
            else "What it sealed can never be opened again: clear the tasks that wrote it."
        )
        return f"its version {version} is destroyed. {advice}"
    return f"its version {version} is {state}."


def _is_about_checksum(error: BaseException) -> bool:
    """Whether the service found that what it got does not match the checksum sent with it."""
    from google.api_core import exceptions  # noqa: PLC0415

    return isinstance(error, exceptions.InvalidArgument) and "crc32c" in error.message.lower()


def _one_line(message: str) -> str:
    """Somebody else's words, bounded."""
    return " ".join(message.split())[:300]
