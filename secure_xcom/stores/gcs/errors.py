"""What the exceptions of Google's client mean for a store, in the words of this package.

https://cloud.google.com/storage/docs/json_api/v1/status-codes says which status means what.
"""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_xcom import google_errors
from secure_xcom.errors import (
    ConfigError,
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.signals import layers_of
from secure_xcom.stores.gcs.retry import Doubtful, Failure, SessionGone, failure_of
from secure_xcom.uris import bucket_of, without_addresses

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError


@dataclass(frozen=True, slots=True)
class BucketOperation:
    """What was asked of a bucket, and what it takes."""

    verb: str
    permission: str


WRITE = BucketOperation("write", "storage.objects.create")
REPLACE = BucketOperation("replace", "storage.objects.create or storage.objects.delete")
READ = BucketOperation("read", "storage.objects.get")
LIST = BucketOperation("list", "storage.objects.list")
DELETE = BucketOperation("delete", "storage.objects.delete")


def translate(
    error: BaseException,
    operation: BucketOperation,
    what: str,
    retries: int = 0,
    member: str = google_errors.NO_MEMBER,
) -> SecureXComError:
    """The error of this package that stands for `error`; to be raised from it.

    Args:
        error: whatever came out of the client.
        operation: what it was asked for.
        what: the object's URI.
        retries: how often it was asked again.
        member: who asked, as IAM names it.
    """
    again = f", also after {retries} more {'try' if retries == 1 else 'tries'}" if retries else ""
    if isinstance(error, ImportError):
        return ConfigError(
            "A `gs://` store needs google-cloud-storage, which cannot be imported here "
            f"({type(error).__name__}: {error}). Install it, or repair the installation."
        )
    from google.api_core.exceptions import GoogleAPICallError, RetryError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        return translate(error.cause, operation, what, retries, member)
    if isinstance(error, GoogleAPICallError):
        return _of_call(error, operation, what, again, member)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error, operation, what, again)
    return _of_exchange(error, operation, what, again)


def _of_exchange(
    error: BaseException, operation: BucketOperation, what: str, again: str
) -> SecureXComError:
    if isinstance(error, SessionGone):
        return StoreError(
            f"Cloud Storage did not {operation.verb} {what}: {error}{again}. Try again."
        )
    if isinstance(error, Doubtful):
        return StoreUnavailable(
            f"The attempt to {operation.verb} {what} ended in doubt{again}: {error}. Check what "
            "stands between this worker and storage.googleapis.com, such as a proxy that answers "
            "in its place, then try again."
        )
    failed = f"The attempt to {operation.verb} {what} ended with a {type(error).__name__}{again}"
    if any(isinstance(layer, ssl.SSLCertVerificationError) for layer in layers_of(error)):
        return StoreUnavailable(
            f"{failed}: the certificate that was shown is not one that this worker trusts. Check "
            "who answers for storage.googleapis.com here; if it is a proxy of yours, name its "
            "certificates in REQUESTS_CA_BUNDLE."
        )
    if failure_of(error) is Failure.TRANSIENT or isinstance(error, OSError):
        return StoreUnavailable(
            f"{failed}: Cloud Storage is out of reach. Check the way from this worker to "
            "storage.googleapis.com (its cause is attached), then try again."
        )
    return StoreError(f"{failed} (its cause is attached).")


def not_found() -> type[GoogleAPICallError]:
    """What Google's libraries raise where there is no such thing; imported at the first call."""
    from google.api_core.exceptions import NotFound  # noqa: PLC0415

    return NotFound


def precondition_failed() -> type[GoogleAPICallError]:
    """What they raise where a name has another generation than was expected."""
    from google.api_core.exceptions import PreconditionFailed  # noqa: PLC0415

    return PreconditionFailed


def no_bucket(bucket: str) -> StoreError:
    """The bucket itself is missing."""
    return StoreUnavailable(
        f"There is no bucket {bucket}. Check `store_uri`, or create it: "
        f"gcloud storage buckets create gs://{bucket} --uniform-bucket-level-access "
        "--public-access-prevention."
    )


def no_object(what: str) -> StoreError:
    """The object is missing."""
    return ObjectNotFound(
        f"There is no object {what}. It was deleted, by a purge, a lifecycle rule of the bucket, "
        "or a person; clear the task that wrote it to produce the value again."
    )


def replaced(what: str) -> StoreError:
    """The rest of an object is gone: another one took its place in the middle of a read."""
    return StoreUnavailable(
        f"The object {what} was replaced while it was read, and reading it broke off, so the rest "
        "of it is gone. Read it again."
    )


def exists(what: str) -> StoreError:
    """A new object met another one of its name."""
    return StoreError(
        f"The object {what} exists already, and is not what was to be written; it was left as it "
        "is. Names are drawn at random: find out who else writes to the store."
    )


def other_bytes(what: str, remedy: str) -> StoreError:
    """A write went through, and something else was written."""
    return StoreError(
        f"Cloud Storage holds other bytes under {what} than were sent (their length or CRC-32C "
        f"differs). {remedy}; then write it again."
    )


def _of_call(
    error: GoogleAPICallError, operation: BucketOperation, what: str, again: str, member: str
) -> SecureXComError:
    failed = f"Cloud Storage did not {operation.verb} {what}"
    said = f"The service said: {without_addresses(str(error.message)).strip(': ')[:500]}"
    if error.code == http.client.FORBIDDEN and _is_retained(error):
        return StoreError(
            f"{failed}: a retention policy of the bucket, or a hold on the object, keeps it as it "
            "is. Objects here are replaced and deleted: use a bucket without retention and holds. "
            f"{said}"
        )
    if error.code == http.client.FORBIDDEN:
        return StoreAccessDenied(
            f"{failed}: the worker's service account lacks {operation.permission}, or a policy "
            "of the bucket forbids it. Writing, replacing, reading and deleting take "
            "roles/storage.objectUser on the bucket: "
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket_of(what)} "
            f"--role roles/storage.objectUser --member {member} "
            f"(a grant takes up to seven minutes). {said}"
        )
    if error.code == http.client.UNAUTHORIZED:
        return StoreAccessDenied(
            f"{failed}: it did not accept the worker's credentials. Check the service account of "
            f"the worker, or the connection that `gcp_conn_id` names. {said}"
        )
    if error.code == http.client.TOO_MANY_REQUESTS:
        return StoreUnavailable(
            f"{failed}: too many requests{again}. One object can be written about once a second. "
            f"Look at the bucket's request rates and quotas, too. {said}"
        )
    if failure_of(error) is Failure.TRANSIENT:
        return StoreUnavailable(
            f"{failed}: the service is out of reach or failing{again}. Check "
            f"https://status.cloud.google.com, then try again. {said}"
        )
    return StoreError(f"{failed} ({type(error).__name__}). {said}")


def _is_retained(error: GoogleAPICallError) -> bool:
    """Whether the bucket is to keep an object for a while, whoever asks."""
    reasons = {fault.get("reason") for fault in error.errors if isinstance(fault, dict)}
    return bool(reasons & {"retentionPolicyNotMet", "objectUnderActiveHold"})


def _of_credentials(
    error: GoogleAuthError, operation: BucketOperation, what: str, again: str
) -> SecureXComError:
    kind = StoreUnavailable if google_errors.may_refresh(error) else StoreAccessDenied
    return kind(
        f"Cloud Storage could not be asked to {operation.verb} {what}: "
        f"{google_errors.about_credentials(error, again)}"
    )
