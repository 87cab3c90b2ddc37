"""Who may use a key, and what is logged of it: the IAM policies of key, key ring and project.

Cloud KMS's own client gives the first two. None of the packages here has a client for projects, so
https://cloud.google.com/resource-manager/reference/rest/v3/projects/getIamPolicy is called by HTTP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from secure_xcom import google_errors
from secure_xcom.errors import KeyAccessDenied, KeyServiceError, KeyUnavailable
from secure_xcom.keys.cloud_kms.errors import KeyOperation

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.kms_v1 import KeyManagementServiceClient

    from secure_xcom.keys.cloud_kms.kek import CloudKms

RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"
KEY = KeyOperation(
    "read the IAM policy of", "cloudkms.cryptoKeys.getIamPolicy", "roles/iam.securityReviewer"
)
KEY_RING = KeyOperation(
    "read the IAM policy of the key ring of",
    "cloudkms.keyRings.getIamPolicy",
    "roles/iam.securityReviewer",
)
PROJECT_PERMISSION = "resourcemanager.projects.getIamPolicy"
#: Policies of this version show conditions.
_VERSION = 3
_TIMEOUT_SECONDS = 20.0


class Binding(NamedTuple):
    """Who has a role."""

    role: str
    members: tuple[str, ...]
    has_condition: bool


class AuditConfig(NamedTuple):
    """What is logged of a service's calls, and of whose not."""

    service: str
    log_type: str
    exempted: tuple[str, ...]


class Policy(NamedTuple):
    """An IAM policy: https://cloud.google.com/iam/docs/reference/rest/v1/Policy."""

    bindings: tuple[Binding, ...]
    audit_configs: tuple[AuditConfig, ...]


def of_key(kek: CloudKms) -> Policy:
    """The policy of the key itself.

    Raises:
        KeyAccessDenied: the caller may not look at it.
        KeyServiceError: it cannot be had.
    """
    return _by_client(kek, KEY, kek.key_name)


def of_key_ring(kek: CloudKms) -> Policy:
    """The policy of the key's ring; raises as `of_key` does."""
    return _by_client(kek, KEY_RING, kek.key_name.rpartition("/cryptoKeys/")[0])


def of_project(project: str, credentials: Credentials) -> Policy:
    """The policy of a project by its id; raises as `of_key` does."""
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - only where it is called
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    failed = f"The IAM policy of the project {project} could not be read"
    try:
        with AuthorizedSession(credentials) as session:  # type: ignore[no-untyped-call]
            answer = session.post(
                f"{RESOURCE_MANAGER}/v3/projects/{project}:getIamPolicy",
                json={"options": {"requestedPolicyVersion": _VERSION}},
                timeout=_TIMEOUT_SECONDS,
            )
            status, body = answer.status_code, answer.content
            parsed = answer.json() if status == HTTPStatus.OK else None
    except GoogleAuthError as error:
        raise KeyUnavailable(f"{failed}: {google_errors.about_credentials(error)}") from error
    except RequestException as error:
        raise KeyUnavailable(
            f"{failed}: Resource Manager is out of reach, or its answer is damaged "
            f"({type(error).__name__}). Check the way to cloudresourcemanager.googleapis.com."
        ) from error
    if status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
        raise KeyAccessDenied(
            f"{failed}: {google_errors.member(credentials)} lacks {PROJECT_PERMISSION}, or the "
            "Cloud Resource Manager API is not enabled."
        )
    if not isinstance(parsed, dict):
        raise KeyServiceError(f"{failed}: status {status}, {len(body)} bytes.")
    return _of_json(parsed)


def _by_client(kek: CloudKms, operation: KeyOperation, resource: str) -> Policy:
    def get(client: KeyManagementServiceClient, seconds: float) -> Policy:
        found = client.get_iam_policy(
            request={"resource": resource, "options": {"requested_policy_version": _VERSION}},
            retry=None,
            timeout=seconds,
        )
        return Policy(
            tuple(
                Binding(one.role, tuple(one.members), bool(one.condition.expression))
                for one in found.bindings
            ),
            (),
        )

    return kek.call(operation, get)


def _of_json(policy: Mapping[str, Any]) -> Policy:
    return Policy(
        tuple(
            Binding(
                str(one.get("role", "")), _texts(one.get("members", ())), bool(one.get("condition"))
            )
            for one in policy.get("bindings", ())
        ),
        tuple(
            AuditConfig(
                str(config.get("service", "")),
                str(log.get("logType", "")),
                _texts(log.get("exemptedMembers", ())),
            )
            for config in policy.get("auditConfigs", ())
            for log in config.get("auditLogConfigs", ())
        ),
    )


def _texts(items: Iterable[object]) -> tuple[str, ...]:
    return tuple(map(str, items))
