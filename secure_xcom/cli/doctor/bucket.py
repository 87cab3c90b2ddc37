"""Checks a bucket's settings, from location to lifecycle.

https://cloud.google.com/storage/docs/json_api/v1/buckets has their names and meanings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from secure_xcom.cli.doctor.check import Check, failed, passed, warned
from secure_xcom.uris import GCS, BucketPrefix, KekPlace, KmsKey, parse_kek

if TYPE_CHECKING:
    from secure_xcom.settings import Settings

Bucket: TypeAlias = Mapping[str, Any]

#: How long rows live on Cloud Composer unless it is set otherwise.
COMPOSER_RETENTION_DAYS = 60
_DAY_SECONDS = 86_400
#: Multi-regions, and what the names of regions inside them begin with.
_CONTINENTS = {"eu": ("europe", "eur"), "us": ("us", "nam"), "asia": ("asia",)}
#: Conditions of a lifecycle rule that leave some live objects out, or all of them.
_NARROWING = frozenset(
    (
        "createdBefore",
        "customTimeBefore",
        "daysSinceCustomTime",
        "matchesStorageClass",
        "matchesSuffix",
    )
)
_NOT_LIVE = frozenset(("daysSinceNoncurrentTime", "noncurrentTimeBefore", "numNewerVersions"))


def checks(
    place: BucketPrefix, bucket: Bucket, settings: Settings, retention_days: int | None
) -> Iterator[Check]:
    """Look at a bucket's settings.

    Args:
        place: of the store.
        bucket: its bucket's resource, as the JSON API shows it.
        settings: with the key that writes use, and where it and the bucket may be.
        retention_days: how long rows live in the database; None if nobody has said it.
    """
    update = f"gcloud storage buckets update {GCS}{place.bucket}"
    kek = parse_kek(settings.kek_uri)
    yield _location(bucket, kek)
    yield _uniform_access(bucket, update)
    yield _public_access(bucket, update)
    yield _encryption(bucket, kek)
    yield _retention_policy(bucket, update)
    yield _soft_delete(bucket, update)
    yield _versioning(bucket, update)
    yield _lifecycle(bucket, place.object_name(""), retention_days)
    if settings.allowed_locations:
        yield _residency(bucket, settings)
    yield _erasure(bucket, place.object_name(""))


def _location(bucket: Bucket, kek: KekPlace) -> Check:
    name = "store.location"
    here = str(bucket.get("location", "")).lower()
    if not isinstance(kek, KmsKey):
        return passed(name, f"the bucket is in {here}")
    key = kek.location
    regions = [
        str(region).lower()
        for region in bucket.get("customPlacementConfig", {}).get("dataLocations", ())
    ]
    if key in (here, *regions) or key.startswith(_CONTINENTS.get(here, ("\0",))):
        return passed(name, f"the bucket is in {here}, the key in {key}")
    return warned(
        name,
        f"The bucket is in {here or 'a location that it does not say'}, the key in {key}: values "
        "and their key are in different places, and one of the two is far from the workers.",
        "Create the bucket, or the key, in the environment's own location (docs/composer.md).",
    )


def _uniform_access(bucket: Bucket, update: str) -> Check:
    name = "store.uniform_access"
    if _access(bucket).get("uniformBucketLevelAccess", {}).get("enabled") is True:
        return passed(name, "access is granted on the bucket alone")
    return warned(
        name,
        "Uniform bucket-level access is off: an ACL on an object can grant what nobody sees on the "
        "bucket.",
        f"{update} --uniform-bucket-level-access",
    )


def _public_access(bucket: Bucket, update: str) -> Check:
    name = "store.public_access"
    if _access(bucket).get("publicAccessPrevention") == "enforced":
        return passed(name, "public access is prevented")
    return warned(
        name,
        "Public access prevention is not enforced on the bucket; whether a policy of the "
        "organisation does is not seen from here.",
        f"{update} --public-access-prevention",
    )


def _encryption(bucket: Bucket, kek: KekPlace) -> Check:
    name = "store.encryption"
    cmek = str(bucket.get("encryption", {}).get("defaultKmsKeyName", ""))
    if isinstance(kek, KmsKey) and cmek.partition("/cryptoKeyVersions/")[0] == kek.resource_name:
        return warned(
            name,
            "The bucket's own encryption uses the key of kek_uri: the service agent of Cloud "
            "Storage may use it too, and nothing tells its calls from those of workers.",
            "Take another key for the bucket's default encryption.",
        )
    if cmek:
        return passed(name, f"objects are encrypted once more under {cmek}")
    return passed(name, "no CMEK; objects are sealed by the workers in any case")


def _retention_policy(bucket: Bucket, update: str) -> Check:
    name = "store.retention_policy"
    policy = bucket.get("retentionPolicy", {})
    if not policy:
        return passed(name, "none: objects can be deleted, and large states replaced")
    locked = ", and is locked" if policy.get("isLocked") else ""
    return warned(
        name,
        f"A retention policy keeps each object for {_days(policy.get('retentionPeriod', 0))}"
        f"{locked}: until then deletions fail, and so does each further write of a large state, "
        "which replaces an object.",
        "Take a bucket without one."
        if locked
        else f"{update} --clear-retention-period (docs/operations.md#erasure)",
    )


def _soft_delete(bucket: Bucket, update: str) -> Check:
    """An XCom's object is of use to its row alone, which a restored database may have again."""
    name = "store.soft_delete"
    policy = bucket.get("softDeletePolicy", {})
    seconds = int(policy.get("retentionDurationSeconds", 0))
    if seconds:
        return passed(
            name,
            f"deleted objects can be restored for {_days(seconds)}: no shorter than backups of the "
            "database are kept, rows that are restored find theirs again. XComs are not readable "
            "in them without their rows; large states are, for who may use the key",
        )
    return warned(
        name,
        "Soft delete is off: where the database is restored from a backup, XComs are lost whose "
        "objects were deleted in the meantime.",
        f"{update} --soft-delete-duration 7d, or as long as backups of the database are kept; "
        "leave it off if large states have to be gone at once (docs/operations.md#erasure)",
    )


def _versioning(bucket: Bucket, update: str) -> Check:
    name = "store.versioning"
    if bucket.get("versioning", {}).get("enabled") is not True:
        return passed(name, "off: what was deleted or replaced is not kept as a version")
    return warned(
        name,
        "Object versioning keeps what is deleted or replaced as a noncurrent version, for ever "
        "unless a lifecycle rule ends it: of XComs nobody can open them without their rows, but "
        "of large states every former one stays readable for who may use the key.",
        f"{update} --no-versioning (docs/operations.md#erasure)",
    )


def _lifecycle(bucket: Bucket, prefix: str, retention_days: int | None) -> Check:
    name = "store.lifecycle"
    rules = [
        rule.get("condition", {})
        for rule in bucket.get("lifecycle", {}).get("rule", ())
        if rule.get("action", {}).get("type") == "Delete" and _is_about(rule["condition"], prefix)
    ]
    lives = COMPOSER_RETENTION_DAYS if retention_days is None else retention_days
    ages = [int(rule["age"]) for rule in rules if "age" in rule]
    if ages and min(ages) <= lives:
        detail = (
            f"A lifecycle rule deletes objects after {min(ages)} days, and rows live "
            f"{lives} days: then rows are left whose value is gone."
        )
        fix = f"Give the rule an age above {lives} (docs/operations.md#retention)"
        if retention_days is None:
            return warned(
                name,
                f"{detail} {lives} is what Cloud Composer has unless set otherwise.",
                f"{fix}, or say with --retention-days how long rows live here.",
            )
        return failed(name, detail, f"{fix}.")
    whole = [
        int(rule["age"])
        for rule in rules
        if "age" in rule
        and not _NARROWING & rule.keys()
        and _covers(rule.get("matchesPrefix"), prefix)
    ]
    if whole:
        return passed(
            name,
            f"objects go after {min(whole)} days, rows after {lives}; a large state that "
            "is not written again in that time goes, too",
        )
    return warned(
        name,
        "No lifecycle rule deletes objects by age: what Airflow deletes without telling the "
        "backend stays in the bucket for ever.",
        f"Add a rule with an age above {lives} days (docs/operations.md#retention).",
    )


def _residency(bucket: Bucket, settings: Settings) -> Check:
    name = "residency"
    places = {"the bucket": str(bucket.get("location", "")).lower()}
    for uri in (settings.kek_uri, *settings.trusted_keks):
        kek = parse_kek(uri)
        if isinstance(kek, KmsKey):
            places[f"the key {kek.key}"] = kek.location
    allowed = settings.allowed_locations
    said = ", ".join(f"{what} in {where or 'an unknown place'}" for what, where in places.items())
    outside = [what for what, where in places.items() if where not in allowed]
    if outside:
        return failed(
            name,
            f"Not in {', '.join(allowed)} (allowed_locations): {' and '.join(outside)}. Seen: "
            f"{said}.",
            "Create it in an allowed location (docs/operations.md#another-key), or add its "
            "location to allowed_locations.",
        )
    return passed(name, f"{said}; the database's location is not seen from here")


def _erasure(bucket: Bucket, prefix: str) -> Check:
    """When a deleted value cannot be read any more, by all of the bucket's settings at once."""
    name = "erasure"
    xcoms = "An XCom ends with its row, and each copy of the row (docs/operations.md#erasure)."
    seconds = int(bucket.get("softDeletePolicy", {}).get("retentionDurationSeconds", 0))
    if bucket.get("versioning", {}).get("enabled") is True:
        ages = [
            int(rule["condition"]["daysSinceNoncurrentTime"])
            for rule in bucket.get("lifecycle", {}).get("rule", ())
            if rule.get("action", {}).get("type") == "Delete"
            and rule.get("condition", {}).keys()
            <= {"daysSinceNoncurrentTime", "matchesPrefix", "isLive"}
            and "daysSinceNoncurrentTime" in rule["condition"]
            and rule["condition"].get("isLive") is not True
            and _covers(rule["condition"].get("matchesPrefix"), prefix)
        ]
        if not ages:
            return warned(
                name,
                f"{xcoms} A deleted large state stays readable for ever, with the key: versioning "
                "keeps it, and no lifecycle rule ends noncurrent versions.",
                "Switch versioning off, or add a rule that deletes by daysSinceNoncurrentTime.",
            )
        seconds += min(ages) * _DAY_SECONDS
    policy = bucket.get("retentionPolicy", {})
    if policy:
        return warned(
            name,
            f"{xcoms} A large state cannot be deleted before a retention policy has kept it for "
            f"{_days(policy.get('retentionPeriod', 0))}; after that it stays readable for "
            f"{_days(seconds)} more.",
            "Take a bucket without a retention policy.",
        )
    when = f"{_days(seconds)} after it is deleted" if seconds else "as soon as it is deleted"
    return passed(name, f"{xcoms} A large state cannot be read any more {when}.")


def _is_about(condition: Mapping[str, Any], prefix: str) -> bool:
    """Whether a rule can meet live objects of the store."""
    if _NOT_LIVE & condition.keys() or condition.get("isLive") is False:
        return False
    prefixes = condition.get("matchesPrefix")
    return not prefixes or any(
        matched.startswith(prefix) or prefix.startswith(matched) for matched in prefixes
    )


def _covers(prefixes: list[str] | None, prefix: str) -> bool:
    """Whether a rule meets all objects of the store."""
    return not prefixes or any(prefix.startswith(matched) for matched in prefixes)


def _access(bucket: Bucket) -> Mapping[str, Any]:
    found: Mapping[str, Any] = bucket.get("iamConfiguration", {})
    return found


def _days(seconds: object) -> str:
    days = int(str(seconds)) / _DAY_SECONDS
    return f"{days:g} days" if days >= 1 else f"{int(str(seconds))} seconds"
