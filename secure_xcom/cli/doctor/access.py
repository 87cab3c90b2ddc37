"""Checks who may use a key, and whether its use is logged.

https://cloud.google.com/kms/docs/reference/permissions-and-roles says which role has what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from secure_xcom.cli.doctor import policies
from secure_xcom.cli.doctor.check import Check, failed, passed, unseen, warned, within
from secure_xcom.cli.doctor.policies import Policy
from secure_xcom.errors import SecureXComError
from secure_xcom.keys.cloud_kms.errors import DECRYPT
from secure_xcom.uris import KmsKey

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.keys.cloud_kms.kek import CloudKms

_OWNER = "roles/owner"
_ADMIN = "roles/cloudkms.admin"
_DECRYPTS = frozenset(
    (
        _OWNER,
        "roles/cloudkms.cryptoKeyDecrypter",
        "roles/cloudkms.cryptoKeyDecrypterViaDelegation",
        "roles/cloudkms.cryptoKeyEncrypterDecrypter",
        "roles/cloudkms.cryptoKeyEncrypterDecrypterViaDelegation",
        "roles/cloudkms.cryptoOperator",
    )
)
_EVERYBODY = frozenset(("allUsers", "allAuthenticatedUsers"))
#: The services whose configuration of audit logs holds for Cloud KMS.
_LOGGED = frozenset(("allServices", "cloudkms.googleapis.com"))
#: Wrapping and unwrapping are of this type: https://cloud.google.com/kms/docs/audit-logging.
_LOG_TYPE = "DATA_READ"
_REVIEW = (
    "Run the command with an account that has roles/iam.securityReviewer on the key's project, for "
    "the time of the check."
)


def checks(kek: CloudKms, place: KmsKey, credentials: Credentials) -> Iterator[Check]:
    """Look at the policies of a key, its ring and its project.

    Those of folders and of the organisation above it are not looked at.
    """
    sources: dict[str, Callable[[], Policy]] = {
        "key": lambda: policies.of_key(kek),
        "key ring": lambda: policies.of_key_ring(kek),
        "project": lambda: policies.of_project(place.project, credentials),
    }
    found: dict[str, Policy] = {}
    hidden: dict[str, str] = {}
    for name, look in sources.items():
        try:
            found[name] = within(look)
        except SecureXComError as error:
            hidden[name] = str(error)
    yield iam(found, hidden)
    yield audit_logs(found.get("project"), hidden.get("project", ""), place.project)


def iam(found: dict[str, Policy], hidden: dict[str, str]) -> Check:
    """Who may decrypt.

    Args:
        found: policies, by what they are of.
        hidden: why others could not be read, by what they are of.
    """
    name = "key.iam"
    users, admins, custom = _grants(found)
    listed = "; ".join(f"{member} ({', '.join(roles)})" for member, roles in sorted(users.items()))
    who = f"May decrypt: {listed}." if users else "Nobody was seen who may decrypt."
    everybody = sorted(_EVERYBODY & users.keys())
    owners = sorted(member for member, roles in users.items() if any(_OWNER in r for r in roles))
    if everybody or owners:
        why = f"{' and '.join(everybody)} may use the key" if everybody else ""
        if owners:
            why += f"{', and ' if why else ''}Owner of the project can use the key and grant it"
        return failed(
            name,
            f"{why}. {who}",
            "Remove these bindings (gcloud kms keys remove-iam-policy-binding, gcloud projects "
            "remove-iam-policy-binding), and keep the key in a project without Owner.",
        )
    both = sorted(admins & users.keys())
    if both:
        return warned(
            name,
            f"Who administers the key may use it, too: {', '.join(both)}. {who}",
            f"Take {_ADMIN} from who decrypts, or the other way round.",
        )
    if hidden:
        seen = f" Of what was seen: {who}" if found else ""
        return unseen(name, f"{' '.join(hidden.values())}{seen}", _REVIEW)
    if custom:
        return warned(
            name,
            f"{who} What custom roles may do was not looked at: {'; '.join(custom)}.",
            f"See whether one has {DECRYPT.permission}: gcloud iam roles describe",
        )
    return passed(name, f"{who} What folders and the organisation grant was not looked at.")


def _grants(found: dict[str, Policy]) -> tuple[dict[str, list[str]], set[str], list[str]]:
    """Who decrypts, and by which roles; who administers; and custom roles, which may be either."""
    users: dict[str, list[str]] = {}
    admins: set[str] = set()
    custom: list[str] = []
    for place, policy in found.items():
        for binding in policy.bindings:
            condition = ", under a condition" if binding.has_condition else ""
            what = f"{binding.role} on the {place}{condition}"
            if binding.role in _DECRYPTS:
                for member in binding.members:
                    users.setdefault(member, []).append(what)
            elif not binding.role.startswith("roles/"):
                custom.append(f"{what} of {', '.join(binding.members)}")
            if binding.role in (_ADMIN, _OWNER):
                admins.update(binding.members)
    return users, admins, custom


def audit_logs(policy: Policy | None, hidden: str, project: str) -> Check:
    """Whether each use of the key leaves a line in Cloud Audit Logs."""
    name = "key.audit_logs"
    if policy is None:
        return unseen(name, hidden, _REVIEW)
    configs = [
        config
        for config in policy.audit_configs
        if config.service in _LOGGED and config.log_type == _LOG_TYPE
    ]
    if not configs:
        return warned(
            name,
            f"The policy of the project {project} does not have Data Access logs ({_LOG_TYPE}) for "
            "Cloud KMS: who unwraps a data key leaves no line, unless a folder or the organisation "
            "above it has them.",
            f"Add auditConfigs for cloudkms.googleapis.com with logType {_LOG_TYPE} to the policy "
            f"(gcloud projects get-iam-policy {project}, edit, set-iam-policy).",
        )
    exempted = sorted({member for config in configs for member in config.exempted})
    if exempted:
        return warned(
            name,
            f"Data Access logs for Cloud KMS are on, but not of {', '.join(exempted)}.",
            "Take exemptedMembers out of auditConfigs.",
        )
    return passed(name, f"Data Access logs ({_LOG_TYPE}) for Cloud KMS are on in {project}")
