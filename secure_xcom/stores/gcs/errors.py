"""What the exceptions of Google's client mean for a store, in the words of this package.

https://cloud.google.com/storage/docs/json_api/v1/status-codes says which status means what.
"""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_xcom.errors import (
    ConfigError,
    GenerationMismatch,
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError

#: What may pass, by the service's own retry strategy:
#: https://cloud.google.com/storage/docs/retry-strategy
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
#: Addresses are left out of messages: that of an upload session is as good as a password.
_ADDRESS = re.compile(r"(?:(?:GET|POST|PUT|DELETE) )?https?://\S+?(?=:? |$)")


class Interrupted(Exception):  # noqa: N818 - raised and handled in this package only
    """An exchange broke off; another try may go through."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked of a bucket, and what it takes."""

    verb: str
    permission: str


WRITE = Operation("write", "storage.objects.create")
READ = Operation("read", "storage.objects.get")
LIST = Operation("list", "storage.objects.list")
DELETE = Operation("delete", "storage.objects.delete")


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    import requests.exceptions as r  # noqa: PLC0415
    import urllib3.exceptions as u  # noqa: PLC0415
    from google.api_core.exceptions import GoogleAPICallError  # noqa: PLC0415
    from google.auth.exceptions import TransportError  # noqa: PLC0415

    if isinstance(error, GoogleAPICallError):
        return error.code in _PASSING
    if isinstance(error, r.RequestException):
        return isinstance(
            error, (r.ConnectionError, r.Timeout, r.ChunkedEncodingError)
        ) and not isinstance(error, (r.SSLError, r.ProxyError))
    return isinstance(
        error,
        (
            Interrupted,
            TransportError,
            u.ProtocolError,
            u.TimeoutError,
            u.PoolError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
        ),
    )


def translate(error: BaseException, operation: Operation, what: str) -> SecureXComError:
    """The error of this package that stands for `error`; to be raised from it.

    Args:
        error: whatever came out of the client.
        operation: what it was asked for.
        what: the object's URI.
    """
    if isinstance(error, ImportError):
        return ConfigError(
            "A `gs://` store needs google-cloud-storage, which cannot be imported here "
            f"({type(error).__name__}: {error}). Install it, or repair the installation."
        )
    from google.api_core.exceptions import GoogleAPICallError, RetryError  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error, RetryError) and isinstance(error.cause, Exception):
        return translate(error.cause, operation, what)
    if isinstance(error, GoogleAPICallError):
        return _of_call(error, operation, what)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error, operation, what)
    failed = f"The attempt to {operation.verb} {what} ended with a {type(error).__name__}"
    if is_passing(error) or isinstance(error, OSError):
        return StoreUnavailable(
            f"{failed}, also when tried again: Cloud Storage is out of reach. Check the way from "
            "this worker to storage.googleapis.com (its cause is attached), then clear the task."
        )
    return StoreError(f"{failed} (its cause is attached).")


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


def other_generation(what: str, generation: str) -> StoreError:
    """The name holds another object than the one that was referenced."""
    return GenerationMismatch(
        f"The object {what} is no longer generation {generation}: somebody replaced it. Clear "
        "the task that wrote it to produce the value again, and find out who writes to the store."
    )


def exists(what: str) -> StoreError:
    """A write met an object of that name."""
    return GenerationMismatch(
        f"The object {what} exists already, and is not what was to be written; it was left as it "
        "is. Names are drawn at random: find out who else writes to the store."
    )


def _of_call(error: GoogleAPICallError, operation: Operation, what: str) -> SecureXComError:
    failed = f"Cloud Storage did not {operation.verb} {what}"
    said = f"The service said: {_ADDRESS.sub('', str(error.message)).strip(': ')[:500]}"
    if error.code == http.client.FORBIDDEN:
        bucket = what.removeprefix("gs://").split("/")[0]
        return StoreAccessDenied(
            f"{failed}: the worker's service account lacks {operation.permission}, or a policy "
            "of the bucket forbids it. Writing, reading and deleting take roles/storage.objectUser"
            f" on the bucket: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            "--role roles/storage.objectUser --member serviceAccount:ACCOUNT "
            f"(a grant takes up to seven minutes). {said}"
        )
    if error.code == http.client.UNAUTHORIZED:
        return StoreAccessDenied(
            f"{failed}: it did not accept the worker's credentials. Check the service account of "
            f"the worker, or the connection that `gcp_conn_id` names. {said}"
        )
    if error.code == http.client.TOO_MANY_REQUESTS:
        return StoreUnavailable(
            f"{failed}: too many requests, also after retries. Look at the bucket's request "
            f"rates and quotas. {said}"
        )
    if is_passing(error):
        return StoreUnavailable(
            f"{failed}: the service is out of reach or failing, also after retries. Check "
            f"https://status.cloud.google.com, then clear the task. {said}"
        )
    return StoreError(f"{failed} ({type(error).__name__}). {said}")


def _of_credentials(error: GoogleAuthError, operation: Operation, what: str) -> SecureXComError:
    failed = f"Cloud Storage could not be asked to {operation.verb} {what}"
    said = f"The credentials said: {' '.join(str(error).split())[:500]}"
    # By name: older versions of google-auth have not all of them.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if getattr(error, "retryable", False) or kinds & {
        "TransportError",
        "TimeoutError",
        "ResponseError",
    }:
        return StoreUnavailable(
            f"{failed}: the token service or the metadata server is out of reach. {said}"
        )
    return StoreAccessDenied(
        f"{failed}: the worker has no usable credentials. On Composer the environment's service "
        "account is used; elsewhere set up application default credentials, or a connection by "
        f"`gcp_conn_id`. {said}"
    )
