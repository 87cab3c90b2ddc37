"""Checks keys, through the clients that workers use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from secure_xcom.cli.doctor import access, versions
from secure_xcom.cli.doctor.check import (
    Check,
    failed,
    is_out_of_reach,
    passed,
    refused,
    unseen,
    warned,
    within,
)
from secure_xcom.errors import (
    AuthenticationError,
    KeyAccessDenied,
    KeyUnavailable,
    SecureXComError,
)
from secure_xcom.format.envelope import DATA_KEY_BYTES
from secure_xcom.keys import open_kek
from secure_xcom.keys.cloud_kms.errors import DECRYPT, ENCRYPT, KeyOperation
from secure_xcom.keys.cloud_kms.facts import VIEW, KeyFacts, facts, held_permissions
from secure_xcom.keys.cloud_kms.kek import CloudKms
from secure_xcom.uris import KmsKey, parse_kek

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.cli.doctor.credentials import InUse
    from secure_xcom.keys.protocol import Kek
    from secure_xcom.settings import Settings

#: What is bound to the data key of a round trip; no sealed value has it.
_AAD = b"secure-xcom/doctor"
#: The longest time between rotations that passes.
_ROTATION_DAYS_MAX = 366
#: The shortest time to restore a version that passes.
_DESTROY_DAYS_MIN = 7


def checks(
    settings: Settings, in_use: InUse, counts: Callable[[], versions.Counts]
) -> Iterator[Check]:
    """Look at the key that writes use.

    Args:
        settings: with the key.
        in_use: the credentials.
        counts: counts rows by the version that they need.
    """
    uri = settings.kek_uri
    kek = open_kek(uri, credentials=in_use.given, deadline_seconds=settings.kms_deadline_seconds)
    if not isinstance(kek, CloudKms):
        yield warned(
            "key.kind",
            f"{uri} is a file: good for a laptop. Whoever can read it can open every value, and "
            "nobody can revoke it.",
            "In a deployment, set kek_uri to a gcp-kms:// key.",
        )
        yield _round_trip(kek)[0]
        return
    yield passed("key.kind", f"{kek.key_name} in Cloud KMS")
    check, reached = _round_trip(kek)
    yield check
    if reached:
        yield _permissions("key.permissions", kek, ENCRYPT, DECRYPT)
        yield from _metadata(kek, settings.require_protection_level, counts)
        place = parse_kek(uri)
        if isinstance(place, KmsKey) and in_use.resolved is not None:
            yield from access.checks(kek, place, in_use.resolved)


def trusted(uri: str, credentials: Credentials | None, deadline_seconds: float) -> Check:
    """Look at a key that reads may use, and writes do not."""
    name = "trusted_keks"
    kek = open_kek(uri, credentials=credentials, deadline_seconds=deadline_seconds)
    check = _permissions(name, kek, DECRYPT) if isinstance(kek, CloudKms) else _round_trip(kek)[0]
    if check.status == "pass":
        return passed(name, f"{uri} may be used for reads")
    return Check(name, check.status, f"{uri}: {check.detail}", check.fix)


def _round_trip(kek: Kek) -> tuple[Check, bool]:
    """Wrap and unwrap a data key as a worker does; and whether the key's service answered."""
    name = "key.round_trip"
    data_key = os.urandom(DATA_KEY_BYTES)

    def there_and_back() -> tuple[str, bytes, bool]:
        wrapped = kek.wrap(data_key, _AAD)
        again = kek.unwrap(wrapped, _AAD)
        try:
            kek.unwrap(wrapped, _AAD + b"/another")
        except AuthenticationError:
            return wrapped.unverified_version, again, True
        return wrapped.unverified_version, again, False

    try:
        version, again, bound = within(there_and_back)
    except SecureXComError as error:
        return refused(name, error), not is_out_of_reach(error)
    if again != data_key or not bound:
        return failed(
            name,
            "A data key came back changed, or opened with other additional data than it was "
            "wrapped with.",
            "Find out what answers in the key service's place; trust nothing that it wrapped.",
        ), True
    by = f" by its version {version}" if version else ""
    return passed(name, f"a data key was wrapped{by} and unwrapped"), True


def _permissions(name: str, kek: CloudKms, *operations: KeyOperation) -> Check:
    wanted = [operation.permission for operation in operations]
    try:
        held = within(lambda: held_permissions(kek, wanted))
    except SecureXComError as error:
        return unseen(
            name,
            f"The permissions could not be asked for ({type(error).__name__}: {error})",
            "See whether key.round_trip passes; it needs both.",
        )
    missing = [operation for operation in operations if operation.permission not in held]
    if missing:
        lacking = " and ".join(operation.permission for operation in missing)
        return failed(
            name,
            f"The service account lacks {lacking}, or there is no such key.",
            "; ".join(_grant(kek, operation.role) for operation in missing),
        )
    return passed(name, " and ".join(wanted))


def _metadata(
    kek: CloudKms, required_level: str, counts: Callable[[], versions.Counts]
) -> Iterator[Check]:
    name = "key.metadata"
    try:
        key = within(lambda: facts(kek))
    except KeyAccessDenied:
        yield unseen(
            name,
            f"The service account lacks {VIEW.permission}, which workers do not need: purpose, "
            "algorithm, protection level, rotation, destruction and versions were not looked "
            "at.",
            f"Run the command with an account that has it, or grant it: {_grant(kek, VIEW.role)}",
        )
    except KeyUnavailable as error:
        yield refused(name, error)
    except SecureXComError as error:
        yield unseen(name, f"The key could not be looked at: {error}", "See the message.")
    else:
        yield passed(name, "the key can be looked at")
        yield _purpose(key)
        yield _algorithm(key)
        yield _protection_level(key, required_level)
        yield _rotation(kek, key)
        yield _destroy_duration(key)
        yield _primary_version(kek, key)
        yield from versions.checks(kek, key.primary, _ROTATION_DAYS_MAX, counts)


def _purpose(key: KeyFacts) -> Check:
    if key.purpose == "ENCRYPT_DECRYPT":
        return passed("key.purpose", key.purpose)
    return failed(
        "key.purpose",
        f"The key's purpose is {key.purpose}, which cannot wrap data keys.",
        "Purposes cannot be changed: create a key with --purpose encryption, and set kek_uri.",
    )


def _algorithm(key: KeyFacts) -> Check:
    name = "key.algorithm"
    if key.algorithm == "GOOGLE_SYMMETRIC_ENCRYPTION":
        return passed(name, key.algorithm)
    if key.algorithm == "EXTERNAL_SYMMETRIC_ENCRYPTION":
        return warned(
            name,
            f"{key.algorithm}: an external key manager encrypts, so that what binds a data key to "
            "its XCom rests on it.",
            "Make sure that your key manager authenticates additional data; key.round_trip tries.",
        )
    return failed(
        name,
        f"The key's algorithm is {key.algorithm}.",
        "Create a key with --purpose encryption (GOOGLE_SYMMETRIC_ENCRYPTION), and set kek_uri.",
    )


def _protection_level(key: KeyFacts, required: str) -> Check:
    name = "key.protection_level"
    if required != "any" and not key.protection_level.startswith(required.upper()):
        return failed(
            name,
            f"The key's protection level is {key.protection_level}, and require_protection_level "
            f"is {required}.",
            "The level of a key cannot be changed: create one with --protection-level "
            f"{required}, and set kek_uri (docs/operations.md#another-key).",
        )
    if key.protection_level.startswith("EXTERNAL"):
        return warned(
            name,
            f"{key.protection_level}: each push and pull waits for a key manager outside of Google "
            "Cloud, and fails while that is away.",
            "Watch its availability, or take a key with protection level SOFTWARE or HSM.",
        )
    return passed(name, key.protection_level)


def _rotation(kek: CloudKms, key: KeyFacts) -> Check:
    name = "key.rotation"
    if key.rotation is not None and key.rotation.days <= _ROTATION_DAYS_MAX:
        return passed(name, f"every {key.rotation.days} days")
    return warned(
        name,
        "The key is not rotated by itself."
        if key.rotation is None
        else f"The key is rotated every {key.rotation.days} days only.",
        f"gcloud kms keys update {kek.key_name} --rotation-period 90d --next-rotation-time TIME",
    )


def _destroy_duration(key: KeyFacts) -> Check:
    name = "key.destroy_duration"
    if key.destroy_after is not None and key.destroy_after.days >= _DESTROY_DAYS_MIN:
        return passed(
            name,
            f"a version that is to be destroyed can be restored for {key.destroy_after.days} days; "
            "so long, what it sealed is not erased",
        )
    found = (
        "a time that the service does not say"
        if key.destroy_after is None
        else f"{key.destroy_after.total_seconds() / 3600:g} hours"
    )
    return warned(
        name,
        f"A version that is to be destroyed can be restored for {found}: a slip that nobody sees "
        f"within {_DESTROY_DAYS_MIN} days loses every value that it sealed.",
        "It is set when a key is created (gcloud kms keys create --destroy-scheduled-duration "
        "30d): create one, and set kek_uri (docs/operations.md#another-key).",
    )


def _primary_version(kek: CloudKms, key: KeyFacts) -> Check:
    name = "key.primary_version"
    if key.primary_state == "ENABLED":
        return passed(name, f"version {key.primary} is enabled")
    if not key.primary:
        return failed(
            name,
            "The key has no primary version: nothing can be sealed.",
            f"gcloud kms keys versions create --primary --key {kek.key_name}",
        )
    return failed(
        name,
        f"The primary version {key.primary} is {key.primary_state}: nothing can be sealed.",
        f"Enable it (gcloud kms keys versions enable {kek.key_name}/cryptoKeyVersions/"
        f"{key.primary}), or make another version the primary.",
    )


def _grant(kek: CloudKms, role: str) -> str:
    return (
        f"gcloud kms keys add-iam-policy-binding {kek.key_name} --role {role} "
        f"--member {kek.member()}"
    )
