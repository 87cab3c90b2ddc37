"""What the exceptions of Google's client mean for a store, in the words of this package.

https://cloud.google.com/storage/docs/json_api/v1/status-codes says which status means what.
"""

from __future__ import annotations

import functools
import http.client
import re
import signal
import ssl
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from types import CodeType
from typing import TYPE_CHECKING

from secure_xcom.errors import (
    ConfigError,
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
_LIBRARIES = frozenset(("google", "requests", "urllib3"))
#: What an answer of a proxy to CONNECT becomes, in the standard library.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
#: Addresses are left out of messages: that of an upload session is as good as a password.
_ADDRESS = re.compile(r"(?:(?:GET|POST|PUT|DELETE) )?https?://\S+?(?=:? |$)")


class Kind(Enum):
    """What a failed request says of the next one."""

    #: It may go through a little later.
    PASSING = "passing"
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


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked of a bucket, and what it takes."""

    verb: str
    permission: str


WRITE = Operation("write", "storage.objects.create")
REPLACE = Operation("replace", "storage.objects.create or storage.objects.delete")
READ = Operation("read", "storage.objects.get")
LIST = Operation("list", "storage.objects.list")
DELETE = Operation("delete", "storage.objects.delete")


def kind_of(error: BaseException, outer: BaseException | None = None) -> Kind:
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
        return Kind.DOUBTFUL
    layers = list(layers_of(error, outer))
    if isinstance(error, GoogleAPICallError) and error.code is not None:
        passes = error.code in _PASSING
    elif any(map(_is_final, layers)) or (
        isinstance(error, GoogleAuthError) and not _may_refresh(error)
    ):
        passes = False
    else:
        passes = any(map(_is_passing, layers))
    return Kind.PASSING if passes else Kind.FINAL


def layers_of(error: BaseException, outer: BaseException | None = None) -> Iterator[BaseException]:
    """The exception, and what it was made of, each once, outermost first.

    Libraries keep the inner one as the cause, as the context, as an argument, or as `reason`.

    Args:
        error: the outermost.
        outer: what the caller was handling before. It is the context of whatever is raised
            meanwhile, and not one of the layers.
    """
    seen = {id(outer)}
    todo: list[object] = [error]
    while todo:
        layer = todo.pop(0)
        if isinstance(layer, BaseException) and id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            todo += [layer.__cause__, layer.__context__, getattr(layer, "reason", None)]
            todo += layer.args


def _is_final(layer: BaseException) -> bool:
    import requests.exceptions as r  # noqa: PLC0415
    import urllib3.exceptions as u  # noqa: PLC0415

    if isinstance(layer, ssl.SSLError) and getattr(layer, "reason", None) in _FINAL_TLS:
        return True
    if isinstance(layer, OSError) and (refused := _TUNNEL.match(str(layer))):
        return int(refused[1]) not in _PASSING
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


def _is_passing(layer: BaseException) -> bool:
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


def raised_by_handler(
    error: BaseException, outer: BaseException | None = None
) -> BaseException | None:
    """What one of the caller's signal handlers raised, if that is what this error is made of.

    A handler's exception comes up wherever this thread happens to be, and where that is in the
    layers below, they take a `TimeoutError` for their own and wrap it. So it is told by where it
    was raised: in a function that is a signal's handler now.
    """
    codes = {
        code
        for number in signal.valid_signals()
        if (code := _code_of(signal.getsignal(number))) is not None
    }
    raised = [layer for layer in layers_of(error, outer) if _passed(layer, codes)]
    # A wrapper may have been given the traceback of what it wraps.
    own = (layer for layer in raised if type(layer).__module__.split(".")[0] not in _LIBRARIES)
    return next(own, raised[-1] if raised else None)


def _passed(error: BaseException, codes: Collection[CodeType]) -> bool:
    """Whether an exception came out of one of these functions."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: object) -> CodeType | None:
    while isinstance(handler, functools.partial):
        handler = handler.func
    for candidate in (handler, getattr(type(handler), "__call__", None)):  # noqa: B004 - its code
        code = getattr(getattr(candidate, "__func__", candidate), "__code__", None)
        if isinstance(code, CodeType):
            return code
    return None


def _may_refresh(error: GoogleAuthError) -> bool:
    """Whether credentials that could not be had may be had a little later."""
    # By name: older versions of google-auth have not all of them.
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return bool(getattr(error, "retryable", False)) or bool(
        kinds & {"TransportError", "TimeoutError", "ResponseError"}
    )


def translate(
    error: BaseException, operation: Operation, what: str, retries: int = 0
) -> SecureXComError:
    """The error of this package that stands for `error`; to be raised from it.

    Args:
        error: whatever came out of the client.
        operation: what it was asked for.
        what: the object's URI.
        retries: how often it was asked again.
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
        return translate(error.cause, operation, what, retries)
    if isinstance(error, GoogleAPICallError):
        return _of_call(error, operation, what, again)
    if isinstance(error, GoogleAuthError):
        return _of_credentials(error, operation, what, again)
    return _of_exchange(error, operation, what, again)


def _of_exchange(
    error: BaseException, operation: Operation, what: str, again: str
) -> SecureXComError:
    if isinstance(error, SessionGone):
        return StoreError(
            f"Cloud Storage did not {operation.verb} {what}: {error}{again}. Clear the task."
        )
    if isinstance(error, Doubtful):
        return StoreUnavailable(
            f"The attempt to {operation.verb} {what} ended in doubt{again}: {error}. Check what "
            "stands between this worker and storage.googleapis.com, such as a proxy that answers "
            "in its place, then clear the task."
        )
    failed = f"The attempt to {operation.verb} {what} ended with a {type(error).__name__}{again}"
    if any(isinstance(layer, ssl.SSLCertVerificationError) for layer in layers_of(error)):
        return StoreUnavailable(
            f"{failed}: the certificate that was shown is not one that this worker trusts. Check "
            "who answers for storage.googleapis.com here; if it is a proxy of yours, name its "
            "certificates in REQUESTS_CA_BUNDLE."
        )
    if kind_of(error) is Kind.PASSING or isinstance(error, OSError):
        return StoreUnavailable(
            f"{failed}: Cloud Storage is out of reach. Check the way from this worker to "
            "storage.googleapis.com (its cause is attached), then clear the task."
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
        f"differs). {remedy}; clear the task to write it again."
    )


def _of_call(
    error: GoogleAPICallError, operation: Operation, what: str, again: str
) -> SecureXComError:
    failed = f"Cloud Storage did not {operation.verb} {what}"
    said = f"The service said: {_ADDRESS.sub('', str(error.message)).strip(': ')[:500]}"
    if error.code == http.client.FORBIDDEN and _is_retained(error):
        return StoreError(
            f"{failed}: a retention policy of the bucket, or a hold on the object, keeps it as it "
            "is. Objects here are replaced and deleted: use a bucket without retention and holds. "
            f"{said}"
        )
    if error.code == http.client.FORBIDDEN:
        bucket = what.removeprefix("gs://").split("/")[0]
        return StoreAccessDenied(
            f"{failed}: the worker's service account lacks {operation.permission}, or a policy "
            "of the bucket forbids it. Writing, replacing, reading and deleting take "
            "roles/storage.objectUser on the bucket: "
            f"gcloud storage buckets add-iam-policy-binding gs://{bucket} "
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
            f"{failed}: too many requests{again}. One object can be written about once a second; "
            f"look also at the bucket's request rates and quotas. {said}"
        )
    if kind_of(error) is Kind.PASSING:
        return StoreUnavailable(
            f"{failed}: the service is out of reach or failing{again}. Check "
            f"https://status.cloud.google.com, then clear the task. {said}"
        )
    return StoreError(f"{failed} ({type(error).__name__}). {said}")


def _is_retained(error: GoogleAPICallError) -> bool:
    """Whether the bucket is to keep an object for a while, whoever asks."""
    reasons = {fault.get("reason") for fault in error.errors if isinstance(fault, dict)}
    return bool(reasons & {"retentionPolicyNotMet", "objectUnderActiveHold"})


def _of_credentials(
    error: GoogleAuthError, operation: Operation, what: str, again: str
) -> SecureXComError:
    failed = f"Cloud Storage could not be asked to {operation.verb} {what}"
    said = f"The credentials said: {' '.join(str(error).split())[:500]}"
    if _may_refresh(error):
        return StoreUnavailable(
            f"{failed}: the token service or the metadata server is out of reach{again}. {said}"
        )
    return StoreAccessDenied(
        f"{failed}: the worker has no usable credentials. On Composer the environment's service "
        "account is used; elsewhere set up application default credentials, or a connection by "
        f"`gcp_conn_id`. {said}"
    )
