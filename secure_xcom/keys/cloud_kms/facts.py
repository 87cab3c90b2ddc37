"""A key's settings, and the caller's permissions on it: https://cloud.google.com/kms/docs/reference/rest.

No push or pull asks for these; `secure-xcom doctor` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, cast

from secure_xcom.keys.cloud_kms.errors import KeyOperation
from secure_xcom.keys.cloud_kms.kek import CloudKms

if TYPE_CHECKING:
    from google.cloud.kms_v1 import KeyManagementServiceClient

#: What `facts` asks for; what `held_permissions` asks for takes no permission.
VIEW = KeyOperation("look at", "cloudkms.cryptoKeys.get", "roles/cloudkms.viewer")
#: What `versions` asks for.
LIST_VERSIONS = KeyOperation(
    "list the versions of", "cloudkms.cryptoKeyVersions.list", "roles/cloudkms.viewer"
)
_TEST_PERMISSIONS = KeyOperation("ask for the permissions on", "", "roles/cloudkms.viewer")


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """A key's settings, by the names of Cloud KMS's enumerations."""

    purpose: str
    #: These three are of the primary version, or of versions to come where there is none.
    algorithm: str
    protection_level: str
    #: The primary version's number; empty where there is none.
    primary: str
    #: Such as `ENABLED`; empty where there is no primary version.
    primary_state: str
    #: None: the key is not rotated by itself.
    rotation: timedelta | None
    #: How long a version that is to be destroyed can be restored; None where it is not said.
    destroy_after: timedelta | None


def facts(kek: CloudKms) -> KeyFacts:
    """A key's settings, as Cloud KMS has them.

    Raises:
        KeyAccessDenied: the caller lacks `cloudkms.cryptoKeys.get`.
        KeyServiceError: the key or the service cannot be reached.
    """

    def get(client: KeyManagementServiceClient, seconds: float) -> KeyFacts:
        key = client.get_crypto_key(request={"name": kek.key_name}, retry=None, timeout=seconds)
        shown = key.primary if key.primary.name else key.version_template
        return KeyFacts(
            purpose=key.purpose.name,
            algorithm=shown.algorithm.name,
            protection_level=shown.protection_level.name,
            primary=key.primary.name.rpartition("/")[2],
            primary_state=key.primary.state.name if key.primary.name else "",
            # Declared as the message that travels; a period that is not set comes as none or zero.
            rotation=cast("timedelta | None", key.rotation_period) or None,
            destroy_after=cast("timedelta | None", key.destroy_scheduled_duration) or None,
        )

    return kek.call(VIEW, get)


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One version of a key."""

    number: str
    #: By the names of Cloud KMS's enumeration, such as `ENABLED`.
    state: str
    #: None where the service does not say.
    created: datetime | None
    #: When its material is erased; None where it is not to be destroyed, or is.
    destroyed_at: datetime | None


def versions(kek: CloudKms) -> tuple[VersionFacts, ...]:
    """All versions of a key, whatever their state, oldest first.

    Raises:
        KeyAccessDenied: the caller lacks `cloudkms.cryptoKeyVersions.list`.
        KeyServiceError: the key or the service cannot be reached.
    """

    def ask(client: KeyManagementServiceClient, seconds: float) -> tuple[VersionFacts, ...]:
        listed = client.list_crypto_key_versions(
            request={"parent": kek.key_name}, retry=None, timeout=seconds
        )
        found = [
            VersionFacts(
                number=version.name.rpartition("/")[2],
                state=version.state.name,
                created=cast("datetime | None", version.create_time) or None,
                destroyed_at=cast("datetime | None", version.destroy_time) or None,
            )
            for version in listed
        ]
        return tuple(sorted(found, key=lambda version: (len(version.number), version.number)))

    return kek.call(LIST_VERSIONS, ask)


def held_permissions(kek: CloudKms, permissions: Iterable[str]) -> frozenset[str]:
    """Which of these permissions on a key the caller has; none on a key that does not exist.

    Raises:
        KeyServiceError: the service cannot be reached, or does not say.
    """

    def ask(client: KeyManagementServiceClient, seconds: float) -> frozenset[str]:
        answer = client.test_iam_permissions(
            request={"resource": kek.key_name, "permissions": sorted(permissions)},
            retry=None,
            timeout=seconds,
        )
        return frozenset(answer.permissions)

    return kek.call(_TEST_PERMISSIONS, ask)
