"""`secure-xcom doctor` against real clients and servers, fault by fault.

Each name of a check stands in `FAULTS` or `ALONE`, with what makes it warn or fail; it is seen to
pass first. Those that need an Airflow are in `tests/airflow/test_doctor.py`.
"""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import os
import re
import stat
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import TYPE_CHECKING

import grpc
import pytest
import sqlalchemy as sa
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.oauth2 import service_account
from servers import front
from servers.kms import KEY, URI, KmsServer
from servers.resource_manager import ResourceManager
from servers.wire import Refused
from sqlalchemy.pool import NullPool
from support.doctoring import IN_AIRFLOW
from support.environments import ROOT
from support.metadata import Metadata

import secure_xcom
from secure_xcom.airflow import diagnosis
from secure_xcom.airflow import metadata as airflow_metadata
from secure_xcom.airflow.configuration import SettingsTexts
from secure_xcom.cli import doctor, main
from secure_xcom.cli.doctor import airflow as doctor_airflow
from secure_xcom.cli.doctor import check as doctor_check
from secure_xcom.cli.doctor import crypto, examination, policies, profile, versions
from secure_xcom.cli.doctor import key as doctor_key
from secure_xcom.cli.doctor import libraries as doctor_libraries
from secure_xcom.cli.doctor import settings as doctor_settings
from secure_xcom.cli.doctor.check import NAMES, REGULATED, Check
from secure_xcom.cli.output import Output
from secure_xcom.errors import ConfigError, KeyUnavailable, SecureXComError
from secure_xcom.keys.cloud_kms import kek as cloud_kms
from secure_xcom.keys.local import create_key_file
from secure_xcom.model import Coordinate
from secure_xcom.settings import TABLE, check, load, origin_by_kind
from secure_xcom.stack import build
from secure_xcom.stores.gcs import retry

if TYPE_CHECKING:
    from servers.fault_proxy import FaultProxy
    from servers.gcs import GcsServer

    from secure_xcom.settings import Settings

OTHER_KEY = f"{KEY}-2"
ENCRYPT = "cloudkms.cryptoKeyVersions.useToEncrypt"
DECRYPT = "cloudkms.cryptoKeyVersions.useToDecrypt"
USES = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
RING = KEY.rpartition("/cryptoKeys/")[0]
DAY = 86_400

#: A bucket as docs/composer.md and docs/operations.md make it.
BUCKET = {
    "location": "EUROPE-WEST3",
    "iamConfiguration": {
        "uniformBucketLevelAccess": {"enabled": True},
        "publicAccessPrevention": "enforced",
    },
    "softDeletePolicy": {"retentionDurationSeconds": str(7 * DAY)},
    "lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 70}}]},
}


@dataclass
class Scene:
    """A deployment in the cloud of the tests, in which all is well until a test changes it."""

    kms: KmsServer
    proxy: FaultProxy
    gcs: GcsServer
    bucket: str
    projects: ResourceManager
    section: dict[str, str] = field(default_factory=dict)
    retention_days: int | None = None
    #: Rows by the key and the version that they name, or why they cannot be counted.
    rows: dict[tuple[str, str], int] | SecureXComError = field(
        default_factory=lambda: {(URI, "1"): 1234}
    )

    @property
    def settings(self) -> Settings:
        own = {
            "kek_uri": URI,
            "store_uri": f"gs://{self.bucket}/xcom",
            "instance": "prod",
            "allowed_locations": "europe-west3",
            "kms_deadline_seconds": "5",
            "store_deadline_seconds": "1",
        }
        return load(own | self.section, None, None)

    def say(self, **members: object) -> None:
        """Have the bucket say something else of itself."""
        self.proxy.bucket.update(members)

    def look(self) -> list[Check]:
        settings = self.settings
        return [
            *doctor_settings.checks(settings, {}),
            *examination.services(settings, AnonymousCredentials, self.retention_days, self.count),
        ]

    def count(self) -> dict[tuple[str, str], int]:
        if isinstance(self.rows, SecureXComError):
            raise self.rows
        return self.rows


@pytest.fixture
def scene(monkeypatch, gcs_server, gcs_proxy, bucket):
    monkeypatch.setattr(cloud_kms, "BACKOFF_SECONDS", (0.001, 0.01))
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.01))
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 1.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_proxy.url)
    gcs_proxy.bucket.update(BUCKET)
    with KmsServer() as kms, ResourceManager() as projects:
        monkeypatch.setattr(cloud_kms, "make_client", kms.make_client)
        monkeypatch.setattr(policies, "RESOURCE_MANAGER", projects.url)
        projects.policies["test-project"] = {
            "bindings": [{"role": "roles/viewer", "members": ["user:auditor@example.com"]}],
            "auditConfigs": [
                {"service": "allServices", "auditLogConfigs": [{"logType": "DATA_READ"}]}
            ],
        }
        kms.policies[RING] = {}
        kms.policies[KEY] = {USES: ["serviceAccount:worker@example.com"]}
        kms.create_key()
        kms.describe_key(rotation_days=90)
        yield Scene(kms, gcs_proxy, gcs_server, bucket, projects)


def named(checks: list[Check], name: str) -> list[Check]:
    assert {check.name for check in checks} <= set(NAMES)
    return [check for check in checks if check.name == name]


@dataclass(frozen=True)
class Fault:
    """Something that is off, and what is said of it."""

    name: str
    status: str
    arrange: Callable[[Scene], object]
    #: Stand in the detail and in the fix.
    detail: str
    fix: str


def trust(scene: Scene, **settings: str) -> None:
    scene.section |= settings


def deny_metadata(scene: Scene) -> None:
    scene.proxy.fail("bucket", "status", code=403, times=9)


def rules(scene: Scene, *conditions: dict[str, object]) -> None:
    deletions = [{"action": {"type": "Delete"}, "condition": one} for one in conditions]
    scene.say(lifecycle={"rule": deletions})


def known_rules(scene: Scene) -> None:
    scene.retention_days = 90


def grant(scene: Scene, role: str, member: str) -> None:
    bindings = scene.projects.policies["test-project"]["bindings"]
    bindings.append({"role": role, "members": [member]})


def logs(scene: Scene, service: str = "", log_type: str = "", *exempted: str) -> None:
    """Have the project's audit logs be these alone."""
    config = {"logType": log_type, "exemptedMembers": list(exempted)}
    configs = [{"service": service, "auditLogConfigs": [config]}] if service else []
    scene.projects.policies["test-project"]["auditConfigs"] = configs


def clock(scene: Scene, **ahead: float) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(**ahead)
    scene.proxy.headers["Date"] = format_datetime(now, usegmt=True)


def another_clear_key(scene: Scene) -> None:
    built_in = next(row.default for row in TABLE if row.name == "clear_keys")
    trust(scene, clear_keys=json.dumps([*built_in, "mine"]))


FAULTS = [
    Fault("instance", "warn", lambda s: trust(s, instance=""), "is not set", "Set instance"),
    Fault(
        *("unsealed_reads", "warn", lambda s: trust(s, unsealed_reads="warn")),
        *("unsealed_reads is warn", "as soon as the migration is over"),
    ),
    Fault(
        *("unsealed_reads", "warn", lambda s: trust(s, unsealed_reads="allow")),
        *("unsealed_reads is allow", "as soon as the migration is over"),
    ),
    Fault(
        *("legacy_reads", "warn", lambda s: trust(s, legacy_reads="gcs")),
        *("legacy_reads is gcs", "as soon as the migration is over"),
    ),
    Fault(
        *("clear_keys", "warn", lambda s: trust(s, clear_keys="skipmixin_key")),
        *("are sealed: _link_*, past_depends_met, trigger_run_id", "Add them to clear_keys"),
    ),
    Fault(
        *("clear_keys", "warn", another_clear_key),
        *("are not sealed: mine", "only what Airflow itself has to read"),
    ),
    Fault(
        *("key.round_trip", "fail", lambda s: s.kms.deny(ENCRYPT)),
        *(f"KeyAccessDenied: Cloud KMS did not wrap a data key with {KEY}", "keyaccessdenied"),
    ),
    Fault(
        *("key.round_trip", "fail", lambda s: s.kms.deny(DECRYPT)),
        *(f"lacks {DECRYPT}", "docs/errors.md#keyaccessdenied"),
    ),
    Fault(
        *("key.round_trip", "fail", lambda s: s.kms.set_state("DISABLED")),
        *("its version 1 is disabled", "docs/errors.md#keyunavailable"),
    ),
    Fault(
        *("key.round_trip", "fail", lambda s: s.kms.traffic.corrupt("Encrypt", "crc32c", 9)),
        *("what went there or came back was damaged", "docs/errors.md#keyserviceerror"),
    ),
    Fault(
        *("key.permissions", "fail", lambda s: s.kms.deny(ENCRYPT)),
        *(f"lacks {ENCRYPT}, or", f"{KEY} --role roles/cloudkms.cryptoKeyEncrypter --member"),
    ),
    Fault(
        *("key.permissions", "fail", lambda s: s.kms.deny(ENCRYPT, DECRYPT)),
        *(f"lacks {ENCRYPT} and {DECRYPT}, or", "--role roles/cloudkms.cryptoKeyDecrypter"),
    ),
    Fault(
        *("key.permissions", "unseen"),
        lambda s: s.kms.traffic.fail("TestIamPermissions", "PERMISSION_DENIED", 9),
        *("could not be asked for (KeyAccessDenied", "See whether key.round_trip passes"),
    ),
    Fault(
        *("key.metadata", "unseen", lambda s: s.kms.deny("cloudkms.cryptoKeys.get")),
        *("lacks cloudkms.cryptoKeys.get", "--role roles/cloudkms.viewer"),
    ),
    Fault(
        *("key.metadata", "unseen"),
        lambda s: s.kms.traffic.fail("GetCryptoKey", "UNIMPLEMENTED", 9),
        *("could not be looked at", "See the message"),
    ),
    Fault(
        *("key.purpose", "fail", lambda s: s.kms.describe_key(purpose="ASYMMETRIC_DECRYPT")),
        *("is ASYMMETRIC_DECRYPT", "create a key with --purpose encryption"),
    ),
    Fault(
        *(
            "key.algorithm",
            "fail",
            lambda s: s.kms.describe_key(algorithm="RSA_DECRYPT_OAEP_2048_SHA256"),
        ),
        *("is RSA_DECRYPT_OAEP_2048_SHA256", "GOOGLE_SYMMETRIC_ENCRYPTION"),
    ),
    Fault(
        *("key.algorithm", "warn"),
        lambda s: s.kms.describe_key(algorithm="EXTERNAL_SYMMETRIC_ENCRYPTION"),
        *("an external key manager", "authenticates additional data"),
    ),
    Fault(
        *("key.protection_level", "warn"),
        lambda s: s.kms.describe_key(protection_level="EXTERNAL_VPC"),
        *("EXTERNAL_VPC", "SOFTWARE or HSM"),
    ),
    Fault(
        *("key.protection_level", "fail", lambda s: trust(s, require_protection_level="hsm")),
        *("is SOFTWARE, and require_protection_level is hsm", "--protection-level hsm"),
    ),
    Fault(
        *("key.destroy_duration", "warn", lambda s: s.kms.describe_key(destroy_hours=24)),
        *("can be restored for 24 hours", "--destroy-scheduled-duration 30d"),
    ),
    Fault(
        *("key.iam", "fail", lambda s: s.kms.policies[RING].update({USES: ["allUsers"]})),
        *(f"allUsers may use the key. May decrypt: allUsers ({USES} on the key ring)", "Remove"),
    ),
    Fault(
        *(
            "key.iam",
            "fail",
            lambda s: s.kms.policies[KEY].update(
                {"roles/cloudkms.cryptoKeyDecrypter": ["allAuthenticatedUsers"]}
            ),
        ),
        *("allAuthenticatedUsers may use the key", "Remove these bindings"),
    ),
    Fault(
        *("key.iam", "fail", lambda s: grant(s, "roles/owner", "user:founder@example.com")),
        *("user:founder@example.com (roles/owner on the project)", "a project without Owner"),
    ),
    Fault(
        *("key.iam", "warn"),
        lambda s: grant(s, "roles/cloudkms.admin", "serviceAccount:worker@example.com"),
        *("may use it, too: serviceAccount:worker@example.com", "Take roles/cloudkms.admin from"),
    ),
    Fault(
        *("key.iam", "warn"),
        lambda s: grant(s, "projects/test-project/roles/mine", "group:ops@example.com"),
        *("projects/test-project/roles/mine on the project of group:ops", "gcloud iam roles"),
    ),
    Fault(
        *("key.iam", "unseen", lambda s: s.kms.deny("cloudkms.cryptoKeys.getIamPolicy")),
        *("lacks cloudkms.cryptoKeys.getIamPolicy", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.iam", "unseen", lambda s: s.kms.deny("cloudkms.keyRings.getIamPolicy")),
        *("lacks cloudkms.keyRings.getIamPolicy", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.iam", "unseen", lambda s: s.projects.deny()),
        *("lacks resourcemanager.projects.getIamPolicy", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.audit_logs", "unseen", lambda s: s.projects.deny()),
        *("lacks resourcemanager.projects.getIamPolicy", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.audit_logs", "unseen", lambda s: setattr(s.projects, "answer", (200, b"<html>"))),
        *("its answer is damaged", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.audit_logs", "unseen", lambda s: setattr(s.projects, "answer", (503, b"busy"))),
        *("status 503", "roles/iam.securityReviewer"),
    ),
    Fault(
        *("key.audit_logs", "warn", logs),
        *("does not have Data Access logs (DATA_READ)", "logType DATA_READ"),
    ),
    Fault(
        *("key.audit_logs", "warn", lambda s: logs(s, "cloudkms.googleapis.com", "DATA_WRITE")),
        *("does not have Data Access logs (DATA_READ)", "logType DATA_READ"),
    ),
    Fault(
        *("key.audit_logs", "warn", lambda s: logs(s, "storage.googleapis.com", "DATA_READ")),
        *("does not have Data Access logs (DATA_READ)", "logType DATA_READ"),
    ),
    Fault(
        *("key.audit_logs", "warn"),
        lambda s: logs(s, "cloudkms.googleapis.com", "DATA_READ", "user:quiet@example.com"),
        *("but not of user:quiet@example.com", "exemptedMembers"),
    ),
    Fault(
        *("residency", "fail", lambda s: s.say(location="EU")),
        *("allowed_locations): the bucket. Seen: the bucket in eu", "in an allowed location"),
    ),
    Fault(
        *("residency", "fail", lambda s: trust(s, allowed_locations="eu, us")),
        *("the bucket and the key xcom", "in an allowed location"),
    ),
    Fault(
        *("residency", "fail"),
        lambda s: trust(s, trusted_keks=URI.replace("europe-west3", "us").replace("xcom", "old")),
        *("allowed_locations): the key old", "in an allowed location"),
    ),
    Fault(
        *("erasure", "warn", lambda s: s.say(versioning={"enabled": True})),
        *("stays readable for ever", "daysSinceNoncurrentTime"),
    ),
    Fault(
        *("erasure", "warn", lambda s: s.say(retentionPolicy={"retentionPeriod": str(30 * DAY)})),
        *("kept it for 30 days; after that it stays readable for 7 days", "without a retention"),
    ),
    Fault(
        *("key.rotation", "warn", lambda s: s.kms.describe_key(rotation_days=None)),
        *("not rotated by itself", f"gcloud kms keys update {KEY} --rotation-period 90d"),
    ),
    Fault(
        *("key.rotation", "warn", lambda s: s.kms.describe_key(rotation_days=400)),
        *("every 400 days only", f"gcloud kms keys update {KEY} --rotation-period 90d"),
    ),
    Fault(
        *("key.primary_version", "fail", lambda s: s.kms.set_state("DESTROY_SCHEDULED")),
        *("version 1 is DESTROY_SCHEDULED", f"{KEY}/cryptoKeyVersions/1"),
    ),
    Fault(
        *("key.primary_version", "fail", lambda s: s.kms.describe_key(has_primary=False)),
        *("no primary version", "gcloud kms keys versions create --primary"),
    ),
    Fault(
        *("key.versions", "fail", lambda s: (s.kms.rotate(), s.kms.set_state("DISABLED"))),
        *("need what cannot be used: version 1. version 1: DISABLED, 0 days old, 1,234 rows;",),
        "gcloud kms keys versions restore, enable",
    ),
    Fault(
        *("key.versions", "fail"),
        lambda s: (s.kms.rotate(), s.kms.set_state("DESTROY_SCHEDULED")),
        *("version 1: DESTROY_SCHEDULED for 20", "while it is only scheduled"),
    ),
    Fault(
        *("key.versions", "fail", lambda s: setattr(s, "rows", {(URI, "7"): 1})),
        *("version 7: not one of the key's, 1 row", "a destroyed version wrapped is lost"),
    ),
    Fault(
        *("key.versions", "warn", lambda s: s.kms.date_version(400)),
        *("The primary version 1 is 400 days old", "Make a new version the primary"),
    ),
    Fault(
        *("key.versions", "unseen"),
        lambda s: setattr(s, "rows", ConfigError("A task of Airflow 3 has no database")),
        *("version 1: ENABLED, 0 days old. Which of them rows need was not seen: A task", "scan"),
    ),
    Fault(
        *("key.versions", "unseen", lambda s: s.kms.deny("cloudkms.cryptoKeyVersions.list")),
        *("lacks cloudkms.cryptoKeyVersions.list", "roles/cloudkms.viewer"),
    ),
    Fault(
        *("store.round_trip", "fail"),
        lambda s: s.proxy.fail("upload", "status", code=403, times=9),
        *("StoreAccessDenied: Cloud Storage did not write", "docs/errors.md#storeaccessdenied"),
    ),
    Fault(
        *("store.round_trip", "fail"),
        lambda s: s.proxy.fail("download", "status", code=403, times=9),
        *("lacks storage.objects.get", "docs/errors.md#storeaccessdenied"),
    ),
    Fault(
        # Replacing takes storage.objects.delete, which creating does not.
        *("store.round_trip", "fail"),
        lambda s: s.proxy.fail("upload", "status", code=403, skip=1, times=9),
        *("lacks storage.objects.create or storage.objects.delete", "#storeaccessdenied"),
    ),
    Fault(
        *("store.round_trip", "fail"),
        lambda s: s.proxy.fail("delete", "status", code=403, times=9),
        *("of random bytes, may be left", "docs/errors.md#storeaccessdenied"),
    ),
    Fault(
        *("store.round_trip", "fail"),
        lambda s: s.proxy.fail("download", "corrupt", after_bytes=10, times=9),
        *("AuthenticationError", "docs/errors.md#authenticationerror"),
    ),
    Fault(
        *("store.metadata", "unseen", deny_metadata),
        *("lacks storage.buckets.get", "--role roles/storage.legacyBucketReader"),
    ),
    Fault(
        *("store.metadata", "unseen"),
        lambda s: s.proxy.fail("bucket", "status", code=418, times=9),
        *("could not be looked at", "See the message"),
    ),
    Fault(
        *("store.location", "warn", lambda s: s.say(location="US-CENTRAL1")),
        *("in us-central1, the key in europe-west3", "in the environment's own location"),
    ),
    Fault(
        *("store.uniform_access", "warn"),
        lambda s: s.say(iamConfiguration={"uniformBucketLevelAccess": {"enabled": False}}),
        *("is off", "--uniform-bucket-level-access"),
    ),
    Fault(
        *("store.public_access", "warn"),
        lambda s: s.say(iamConfiguration={"publicAccessPrevention": "inherited"}),
        *("not enforced", "--public-access-prevention"),
    ),
    Fault(
        *("store.encryption", "warn"),
        lambda s: s.say(encryption={"defaultKmsKeyName": f"{KEY}/cryptoKeyVersions/1"}),
        *("uses the key of kek_uri", "another key"),
    ),
    Fault(
        *("store.retention_policy", "warn"),
        lambda s: s.say(retentionPolicy={"retentionPeriod": str(30 * DAY)}),
        *("for 30 days: until then deletions fail, and so does each", "--clear-retention-period"),
    ),
    Fault(
        *("store.retention_policy", "warn"),
        lambda s: s.say(retentionPolicy={"retentionPeriod": "60", "isLocked": True}),
        *("for 60 seconds, and is locked", "without one"),
    ),
    Fault(
        *("store.soft_delete", "warn"),
        lambda s: s.say(softDeletePolicy={"retentionDurationSeconds": "0"}),
        *("XComs are lost whose objects were deleted", "--soft-delete-duration 7d"),
    ),
    Fault(
        *("store.versioning", "warn", lambda s: s.say(versioning={"enabled": True})),
        *("of large states every former one stays readable", "--no-versioning"),
    ),
    Fault(
        *("store.lifecycle", "warn", lambda s: s.say(lifecycle={})),
        *("No lifecycle rule", "docs/operations.md#retention"),
    ),
    Fault(
        *("store.lifecycle", "warn", lambda s: rules(s, {"age": 70}, {"age": 30})),
        *("after 30 days, and rows live 60 days", "--retention-days"),
    ),
    Fault(
        *("store.lifecycle", "fail", known_rules),
        *("after 70 days, and rows live 90 days", "an age above 90"),
    ),
    Fault(
        *("clock", "warn", lambda s: clock(s, minutes=10)),
        *("seconds behind the service's", "NTP"),
    ),
    Fault(
        *("clock", "warn", lambda s: clock(s, minutes=-10)),
        *("seconds ahead of the service's", "NTP"),
    ),
    Fault(
        *("clock", "warn", lambda s: s.proxy.headers.update(Date="never")),
        *("have no date", "proxy"),
    ),
]

#: Those that have a test of their own below.
ALONE = {
    *("airflow", "libraries", "settings", "links", "credentials", "crypto.module"),
    *("key.kind", "trusted_keks", "store.kind", "store.folder", "trusted_stores"),
}


def test_each_check_is_tried():
    assert {fault.name for fault in FAULTS} | ALONE | IN_AIRFLOW == set(NAMES)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.name}-{fault.detail[:20]}")
def test_a_fault_is_seen_and_what_to_do_is_said(fault, scene):
    before = named(scene.look(), fault.name)
    assert [(check.status, check.fix) for check in before] == [("pass", "")]
    fault.arrange(scene)
    (after,) = named(scene.look(), fault.name)
    assert after.status == fault.status
    assert fault.detail in after.detail
    assert fault.fix in after.fix


def test_where_all_is_well_all_passes_and_nothing_is_left(scene):
    checks = scene.look()
    assert {check.status for check in checks} == {"pass"}
    assert {check.name for check in checks} == set(NAMES) - IN_AIRFLOW - {
        *("airflow", "libraries", "links", "crypto.module"),
        *("trusted_keks", "trusted_stores", "store.folder"),
    }
    assert scene.gcs.names(scene.bucket) == []
    created, replaced = scene.proxy.seen("upload")
    for upload in (created, replaced):
        assert b'"name": "xcom/~doctor/' in upload.head
    # The same calls that workers make, and those that only look.
    assert scene.kms.traffic.calls() == {
        "Encrypt": 1,
        "Decrypt": 2,
        "TestIamPermissions": 1,
        "GetCryptoKey": 1,
        "ListCryptoKeyVersions": 1,
        "GetIamPolicy": 2,
    }


def test_what_a_round_trip_leaves_is_named(scene):
    scene.proxy.fail("delete", "status", code=403, times=9)
    (check,) = named(scene.look(), "store.round_trip")
    (left,) = scene.gcs.names(scene.bucket)
    assert f"gs://{scene.bucket}/{left}" in check.detail


def test_what_is_bound_to_a_key_is_tried(scene, monkeypatch):
    monkeypatch.setattr(KmsServer, "_check", lambda *_: True)
    decrypt = KmsServer._decrypt

    def careless(server, request):
        request.additional_authenticated_data = doctor_key._AAD
        return decrypt(server, request)

    monkeypatch.setattr(KmsServer, "_decrypt", careless)
    with KmsServer() as kms:
        kms.create_key()
        monkeypatch.setattr(cloud_kms, "make_client", kms.make_client)
        (check,) = named(scene.look(), "key.round_trip")
    assert check.status == "fail"
    assert "opened with other additional data" in check.detail


def test_a_refusal_for_another_reason_proves_nothing(scene, monkeypatch):
    decrypt = KmsServer._decrypt

    def forbidding(server, request):
        if request.additional_authenticated_data != doctor_key._AAD:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, "a reason")
        return decrypt(server, request)

    monkeypatch.setattr(KmsServer, "_decrypt", forbidding)
    with KmsServer() as kms:
        kms.create_key()
        monkeypatch.setattr(cloud_kms, "make_client", kms.make_client)
        (check,) = named(scene.look(), "key.round_trip")
    assert check.status == "fail"
    assert "KeyAccessDenied" in check.detail


@pytest.mark.parametrize(
    ("location", "members", "status"),
    [
        ("europe-west3", {"location": "EUROPE-WEST3"}, "pass"),
        ("europe-west3", {"location": "EU"}, "pass"),
        ("eur4", {"location": "EU"}, "pass"),
        ("us-east1", {"location": "US"}, "pass"),
        ("us-east1", {"location": "EU"}, "warn"),
        ("global", {"location": "US"}, "warn"),
        (
            "europe-west4",
            {
                "location": "EU",
                "customPlacementConfig": {"dataLocations": ["EUROPE-WEST1", "EUROPE-WEST4"]},
            },
            "pass",
        ),
        (
            "us-west1",
            {
                "location": "NAM",
                "customPlacementConfig": {"dataLocations": ["US-EAST1", "US-WEST1"]},
            },
            "pass",
        ),
        ("europe-west3", {"location": None}, "warn"),
    ],
)
def test_a_location_that_holds_the_other_is_the_same(location, members, status, scene):
    key = KEY.replace("europe-west3", location)
    scene.kms.create_key(key)
    scene.section["kek_uri"] = f"gcp-kms://{key}"
    scene.say(**members)
    (check,) = named(scene.look(), "store.location")
    assert check.status == status


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ([{"age": 61}], "pass"),
        ([{"age": 60}], "warn"),
        ([{"age": 70, "matchesPrefix": ["other/"]}], "warn"),
        ([{"age": 70, "matchesPrefix": ["xcom/dag"]}], "warn"),
        ([{"age": 70, "matchesPrefix": ["other/", "xc"]}], "pass"),
        ([{"age": 70, "matchesStorageClass": ["NEARLINE"]}], "warn"),
        # These say nothing of what rows name.
        ([{"age": 70}, {"age": 1, "matchesPrefix": ["other/"]}], "pass"),
        ([{"age": 70}, {"age": 1, "isLive": False}], "pass"),
        ([{"age": 70}, {"age": 1, "numNewerVersions": 2}], "pass"),
        ([{"age": 70, "isLive": True}], "pass"),
        ([{"age": 70}, {"age": 1, "matchesPrefix": ["xcom/dag"]}], "warn"),
    ],
)
def test_lifecycle_rules_are_read_as_the_service_reads_them(conditions, status, scene):
    rules(scene, *conditions)
    (check,) = named(scene.look(), "store.lifecycle")
    assert check.status == status


def test_cmek_with_another_key_passes(scene):
    scene.say(encryption={"defaultKmsKeyName": OTHER_KEY})
    (check,) = named(scene.look(), "store.encryption")
    assert check.status == "pass"
    assert OTHER_KEY in check.detail


def test_a_service_out_of_reach_is_asked_no_more(scene):
    scene.kms.traffic.fail("Encrypt", "UNAVAILABLE", 10_000)
    scene.proxy.fail("upload", "status", code=503, times=10_000)
    checks = scene.look()
    failed = [check for check in checks if check.status == "fail"]
    assert [check.name for check in failed] == ["key.round_trip", "store.round_trip"]
    assert "out of reach or failing" in failed[0].detail
    assert "out of reach or failing" in failed[1].detail
    assert set(scene.kms.traffic.calls()) == {"Encrypt"}
    assert set(scene.proxy.counts()) == {"upload"}


def test_without_credentials_nothing_else_is_asked(scene, monkeypatch):
    def refuse(_credentials):
        raise DefaultCredentialsError("there are none")

    monkeypatch.setattr(cloud_kms, "make_client", refuse)
    checks = scene.look()
    (check,) = named(checks, "key.round_trip")
    assert "KeyAccessDenied" in check.detail
    assert "no usable credentials" in check.detail
    assert named(checks, "key.permissions") == named(checks, "key.metadata") == []
    assert named(checks, "store.round_trip")[0].status == "pass"


def test_a_key_or_bucket_that_does_not_exist_is_not_out_of_reach(scene):
    trust(scene, kek_uri=f"gcp-kms://{OTHER_KEY}", store_uri="gs://no-such-bucket")
    checks = {check.name: check for check in scene.look() if check.status == "fail"}
    assert "there is no such key" in checks["key.round_trip"].detail
    assert "there is no such key" in checks["key.metadata"].detail
    assert (
        f"lacks {ENCRYPT} and {DECRYPT}, or there is no such key"
        in checks["key.permissions"].detail
    )
    assert "There is no bucket no-such-bucket" in checks["store.round_trip"].detail


def test_what_hangs_is_left_behind(scene, monkeypatch):
    monkeypatch.setattr(doctor_check, "PROBE_SECONDS", 0.3)
    released = threading.Event()

    def hang(_credentials):
        released.wait(30)
        raise KeyUnavailable("seen too late")

    monkeypatch.setattr(cloud_kms, "make_client", hang)
    try:
        (check,) = named(scene.look(), "key.round_trip")
    finally:
        released.set()
    assert check.status == "fail"
    assert "no answer within 0.3 seconds" in check.detail


def test_trusted_keys_need_only_be_read_with(scene, tmp_path):
    scene.kms.create_key(OTHER_KEY)
    create_key_file(tmp_path / "kek")
    trust(scene, trusted_keks=f"gcp-kms://{OTHER_KEY}, local-kek://{tmp_path}/kek")
    scene.kms.deny(ENCRYPT)
    cloud, local = named(scene.look(), "trusted_keks")
    assert (cloud.status, local.status) == ("pass", "pass")
    assert OTHER_KEY in cloud.detail
    scene.kms.deny(DECRYPT)
    (tmp_path / "kek").chmod(0o644)
    cloud, local = named(scene.look(), "trusted_keks")
    assert (cloud.status, local.status) == ("fail", "fail")
    assert f"gcp-kms://{OTHER_KEY}: The service account lacks {DECRYPT}" in cloud.detail
    assert f"keys add-iam-policy-binding {OTHER_KEY} --role" in cloud.fix
    assert "open to others than its owner" in local.detail


def test_trusted_stores_need_only_be_read(scene, tmp_path):
    trust(scene, trusted_stores=f"gs://{scene.bucket}/before, file://{tmp_path}")
    cloud, local = named(scene.look(), "trusted_stores")
    assert (cloud.status, local.status) == ("pass", "pass")
    trust(scene, trusted_stores=f"gs://no-such-bucket/before, file://{tmp_path}/gone")
    cloud, local = named(scene.look(), "trusted_stores")
    assert (cloud.status, local.status) == ("fail", "fail")
    assert "There is no bucket no-such-bucket" in cloud.detail
    assert f"There is no directory {tmp_path}/gone" in local.detail
    trust(scene, trusted_stores=f"gs://{scene.bucket}/before")
    scene.proxy.fail("download", "status", code=403, skip=1, times=9)
    (denied,) = named(scene.look(), "trusted_stores")
    assert denied.status == "fail"
    assert "lacks storage.objects.get" in denied.detail
    assert "storage.objects.list" in denied.detail


def on_a_laptop(folder) -> Settings:
    if not (folder / "kek").exists():
        create_key_file(folder / "kek")
    section = {"kek_uri": f"local-kek://{folder}/kek", "store_uri": f"file://{folder}/store"}
    return load(section, None, None)


def test_a_laptop_works_and_is_told_that_it_is_one(tmp_path, scene):
    for name in ("key.kind", "store.kind"):
        (check,) = named(scene.look(), name)
        assert check.status == "pass"
    settings = on_a_laptop(tmp_path)
    found = {
        check.name: check for check in examination.services(settings, lambda: None, None, dict)
    }
    assert {name: check.status for name, check in found.items()} == {
        "credentials": "pass",
        "key.kind": "warn",
        "key.round_trip": "pass",
        "store.kind": "warn",
        "store.round_trip": "pass",
        "store.folder": "pass",
    }
    assert "good for a laptop" in found["key.kind"].detail
    assert "gcp-kms://" in found["key.kind"].fix
    assert "good for a laptop" in found["store.kind"].detail
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_a_laptop_s_modes_are_looked_at(tmp_path):
    settings = on_a_laptop(tmp_path)
    store = tmp_path / "store"
    store.mkdir(mode=0o755)
    store.chmod(0o755)
    (tmp_path / "kek").chmod(0o640)
    found = {
        check.name: check for check in examination.services(settings, lambda: None, None, dict)
    }
    assert found["store.folder"].status == "warn"
    assert "(mode 0755)" in found["store.folder"].detail
    assert found["store.folder"].fix == f"chmod 700 {store}"
    assert found["key.round_trip"].status == "fail"
    assert "ConfigError: The key file" in found["key.round_trip"].detail
    assert "open to others than its owner" in found["key.round_trip"].detail
    assert stat.S_IMODE(store.stat().st_mode) == 0o755
    broken = replace(settings, store_uri=f"file://{tmp_path}/kek/store")
    found = {check.name: check for check in examination.services(broken, lambda: None, None, dict)}
    assert (found["store.round_trip"].status, found["store.folder"].status) == ("fail", "fail")


def test_credentials_that_cannot_be_had_end_it(scene):
    def none():
        raise ConfigError("gcp_conn_id is 'x', and this connection gives no credentials")

    settings = scene.settings
    first = next(examination.services(settings, AnonymousCredentials, None, dict))
    assert (first.name, first.status) == ("credentials", "pass")
    (only,) = examination.services(settings, none, None, dict)
    assert (only.name, only.status) == ("credentials", "fail")
    assert "gives no credentials" in only.detail
    assert scene.kms.traffic.calls() == {}


def test_credentials_are_looked_for_and_say_whose_they_are(scene, monkeypatch, tmp_path):
    settings = scene.settings
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gone.json"))
    (only,) = examination.services(settings, lambda: None, None, dict)
    assert (only.name, only.status) == ("credentials", "fail")
    assert "no usable credentials" in only.detail
    assert "gcp_conn_id" in only.fix
    assert scene.kms.traffic.calls() == {}
    (tmp_path / "gone.json").write_text(json.dumps(front.service_account()))
    first = next(examination.services(settings, lambda: None, None, dict))
    assert (first.name, first.status) == ("credentials", "pass")
    assert f"serviceAccount:{front.SERVICE_ACCOUNT}" in first.detail


def test_commands_name_the_account_that_the_credentials_name(scene, monkeypatch):
    def make_client(credentials):
        client = scene.kms.make_client()
        client.transport._credentials = credentials
        return client

    monkeypatch.setattr(cloud_kms, "make_client", make_client)
    credentials = service_account.Credentials.from_service_account_info(front.service_account())
    scene.kms.deny(DECRYPT, ENCRYPT)
    checks = list(examination.services(scene.settings, lambda: credentials, None, dict))
    member = f"--member serviceAccount:{front.SERVICE_ACCOUNT}"
    (round_trip,) = named(checks, "key.round_trip")
    (permissions,) = named(checks, "key.permissions")
    assert member in round_trip.detail
    assert permissions.fix.count(member) == 2


def test_each_setting_is_shown_with_its_source():
    held = SettingsTexts(
        {"kek_uri": URI, "instance": "prod", "threshold_bytes": "1", "compression": "none"},
        '{"threshold_bytes": 2}',
        "the-bucket",
        lambda name: (
            "AIRFLOW__SECURE_XCOM__INSTANCE" if name == "instance" else origin_by_kind(name)
        ),
    )
    sources = doctor_settings.sources(held)
    shown = [check.detail for check in doctor_settings.checks(load(*held), sources)][:6]
    assert shown[:5] == [
        "store_uri = gs://the-bucket (the Variable XCOM_BACKEND_DATA_GCS_NAME)",
        f"kek_uri = {URI} (airflow.cfg [secure_xcom])",
        "instance = prod (AIRFLOW__SECURE_XCOM__INSTANCE)",
        "threshold_bytes = 2 (the Variable SECURE_XCOM)",
        "compression = none (airflow.cfg [secure_xcom])",
    ]
    assert shown[5].startswith("defaults: trusted_keks, trusted_instances, ")
    listed = set(shown[5].removeprefix("defaults: ").split(", "))
    assert listed == {row.name for row in TABLE} - set(sources)


def test_each_wrong_setting_is_a_check_with_what_was_probably_meant():
    held = {"kek_uri": f"{URI}/cryptoKeyVersions/1", "store_uri": "my-bucket", "compression": "gz"}
    _, faults = check(held, None, None)
    kek, store, compression = doctor_settings.wrong(faults)
    assert [one.status for one in (kek, store, compression)] == ["fail"] * 3
    assert kek.detail.startswith("kek_uri, from airflow.cfg [secure_xcom], is ")
    assert kek.fix.startswith(f"Probably meant: {URI} (")
    assert store.fix == "Probably meant: gs://my-bucket (with gs:// before it)."
    assert "docs/settings.md" in compression.fix


def test_strict_says_what_it_would_refuse_and_what_it_lacks():
    cloud = {"kek_uri": URI, "store_uri": "gs://bucket"}
    off = doctor_settings.strict(load(cloud, None, None), measures=True)
    assert off.status == "warn"
    assert "instance is not set" in off.detail
    assert "require_cloud_kms" not in off.detail
    ready = doctor_settings.strict(load({**cloud, "instance": "prod"}, None, None), measures=True)
    assert (ready.status, ready.fix) == ("pass", "")
    assert "strict is off" in ready.detail
    on = load({**cloud, "instance": "prod", "strict": "true"}, None, None)
    assert doctor_settings.strict(on, measures=True).status == "pass"
    refused = doctor_settings.strict(on, measures=False)
    assert refused.status == "fail"
    assert "every push is refused" in refused.detail


def test_links_are_told_by_whether_their_keys_are_clear(monkeypatch):
    settings = load({"kek_uri": URI, "store_uri": "gs://bucket"}, None, None)
    monkeypatch.setattr(diagnosis, "link_keys", lambda: frozenset(("job_id", "_link_Job")))
    (check,) = doctor_airflow.links(settings)
    assert (check.name, check.status) == ("links", "pass")
    assert "under 2 keys" in check.detail
    assert "without the key: job_id. Clear: _link_Job." in check.detail
    monkeypatch.setattr(diagnosis, "link_keys", frozenset)
    assert list(doctor_airflow.links(settings)) == []


def test_masking_tells_where_what_programs_write_is_not_masked(monkeypatch):
    cloud = {"kek_uri": URI, "store_uri": "gs://bucket", "instance": "prod"}
    monkeypatch.setattr(diagnosis, "masker_works", lambda: True)
    assert doctor_airflow.masking(load(cloud, None, None)).status == "pass"

    def memfd_create(*_):
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", memfd_create)
    check = doctor_airflow.masking(load(cloud, None, None))
    assert (check.status, "PermissionError" in check.detail) == ("warn", True)
    check = doctor_airflow.masking(load(cloud | {"strict": "true"}, None, None))
    assert (check.status, "refuses to read" in check.detail) == ("fail", True)


@pytest.mark.parametrize(
    ("name", "uses", "strict", "status"),
    [
        (None, "true", "true", "pass"),
        ("secure_xcom.airflow.state_store.SecureStateStoreBackend", "true", "true", "pass"),
        ("", "true", "false", "warn"),
        ("", "true", "true", "fail"),
        ("", "false", "false", "pass"),
        ("", "false", "true", "pass"),
        ("theirs.Backend", "true", "true", "fail"),
    ],
)
def test_the_state_store_is_sealed_or_not_used(monkeypatch, name, uses, strict, status):
    monkeypatch.setattr(diagnosis, "state_store_name", lambda: name)
    monkeypatch.setattr(diagnosis, "states_are_sealed", lambda: "secure_xcom" in name)
    section = {"kek_uri": URI, "store_uri": "gs://bucket", "instance": "prod"}
    section |= {"uses_state_store": uses, "strict": strict}
    check = doctor_airflow.state_store(load(section, None, None))
    assert check.status == status
    if status != "pass":
        assert name in check.detail
        assert "SecureStateStoreBackend" in check.fix


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("2.10.5", "pass"),
        ("2.11.2", "pass"),
        ("2.11.2+composer", "pass"),
        ("3.3.2", "pass"),
        ("3.4.0b2", "pass"),
        ("2.9.3", "warn"),
        ("3.0.6", "fail"),
        ("3.5.0", "warn"),
        ("4.0.0", "warn"),
    ],
)
def test_versions_of_airflow_that_are_not_tested_are_told(version, status):
    check = doctor_airflow.version(version)
    assert check.status == status
    assert f"Airflow {version}" in check.detail


@pytest.mark.parametrize(
    ("name", "version", "status"),
    [
        ("google-api-core", "2.27.0", "pass"),
        ("google-api-core", "2.28.0", "warn"),
        ("google-api-core", "2.28.0rc0", "warn"),
        ("google-api-core", "2.29.0", "warn"),
        ("google-api-core", "2.30.2", "warn"),
        ("google-api-core", "2.30.3", "pass"),
        ("google-api-core", "2.31", "pass"),
        ("ormsgpack", "1.13.0", "fail"),
        ("ormsgpack", "1.13.1", "pass"),
        ("pyarrow", "14.0.0", "fail"),
        ("pyarrow", "14.0.1", "pass"),
        ("pyarrow", "", "pass"),
    ],
)
def test_slow_and_broken_libraries_are_told(name, version, status):
    (check,) = doctor_libraries.checks({name: version}.get, "c")
    assert (check.name, check.status) == ("libraries", status)
    assert (f"{name} {version}" in check.detail) is bool(version)
    assert (name in check.fix) is (status != "pass")


@pytest.mark.parametrize(("name", "fails"), [("pandas", True), ("polars", True), ("numpy", False)])
def test_frames_without_what_they_travel_as_are_told(name, fails):
    (check,) = doctor_libraries.checks({name: "2.0.0"}.get, "c")
    assert (check.status == "warn") is fails
    assert ("pip install pyarrow" in check.fix) is fails
    (check,) = doctor_libraries.checks({name: "2.0.0", "pyarrow": "26.0.0"}.get, "c")
    assert check.status == "pass"


def test_checksums_without_their_c_part_are_told():
    (check,) = doctor_libraries.checks({}.get, "python")
    assert check.status == "warn"
    assert "google-crc32c" in check.detail


def test_the_libraries_of_this_environment_are_sound():
    (check,) = doctor_libraries.checks()
    assert check.status == "pass"
    assert f"ormsgpack {doctor_libraries.installed('ormsgpack')}" in check.detail


def test_no_secret_is_shown(scene, tmp_path):
    key = base64.b64decode((on_a_laptop(tmp_path) and tmp_path / "kek").read_bytes().split()[1])
    encoded = {key.hex(), base64.b64encode(key).decode()}
    checks = [*examination.services(on_a_laptop(tmp_path), lambda: None, None, dict), *scene.look()]
    text = json.dumps(doctor.as_json(checks, ok=True))
    material = scene.kms._keys[KEY].material[1]
    encoded |= {material.hex(), base64.b64encode(material).decode()}
    assert not [secret for secret in encoded if secret in text]
    assert "Bearer" not in text


def test_what_was_seen_is_told_though_other_policies_were_not(scene):
    scene.projects.deny()
    scene.kms.policies[RING][f"{USES}?"] = ["group:analysts@example.com"]
    (check,) = named(scene.look(), "key.iam")
    assert check.status == "unseen"
    assert f"group:analysts@example.com ({USES} on the key ring, under a cond" in check.detail
    assert f"serviceAccount:worker@example.com ({USES} on the key)" in check.detail
    assert scene.projects.asked[-1] == (
        "/v3/projects/test-project:getIamPolicy",
        {"options": {"requestedPolicyVersion": 3}},
    )


def test_former_versions_are_told_with_what_still_needs_them(scene):
    for _ in range(4):
        scene.kms.rotate()
    scene.kms.date_version(400)
    scene.kms.set_state("DISABLED", 2)
    scene.kms.set_state("DESTROYED", 3)
    scene.rows = {(URI, "1"): 2, (URI, "5"): 1, (f"gcp-kms://{OTHER_KEY}", "3"): 9}
    (check,) = named(scene.look(), "key.versions")
    assert check.status == "pass"
    assert check.detail == (
        "version 1: ENABLED, 400 days old, 2 rows; version 2: DISABLED, 0 days old, 0 rows; "
        "version 3: DESTROYED, 0 days old, 0 rows; version 4: ENABLED, 0 days old, 0 rows; "
        "version 5: ENABLED, 0 days old, 1 row, the primary; under other keys, 9 rows. "
        "What rows say of versions is not authenticated."
    )


def test_rows_are_counted_in_the_database(scene, monkeypatch, tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path}/airflow.db", poolclass=NullPool)
    database = Metadata(engine, "3.3")
    stack = build(scene.settings, AnonymousCredentials())
    row = stack.put("short", Coordinate("d", "r", "a", -1, "return_value"))
    database.push(row, task_id="a")
    monkeypatch.setattr(airflow_metadata, "rows", database.rows)
    scene.count = versions.count_rows
    scene.kms.rotate()
    (check,) = named(scene.look(), "key.versions")
    assert "version 1: ENABLED, 0 days old, 1 row;" in check.detail
    engine.dispose()


@pytest.mark.parametrize(
    ("level", "required", "status"),
    [
        ("SOFTWARE", "software", "pass"),
        ("SOFTWARE", "external", "fail"),
        ("HSM", "hsm", "pass"),
        ("HSM", "software", "fail"),
        ("HSM", "any", "pass"),
        ("EXTERNAL_VPC", "hsm", "fail"),
        ("EXTERNAL_VPC", "external", "warn"),
    ],
)
def test_a_key_has_the_protection_level_that_is_required(level, required, status, scene):
    scene.kms.describe_key(protection_level=level)
    trust(scene, require_protection_level=required)
    (check,) = named(scene.look(), "key.protection_level")
    assert check.status == status


@pytest.mark.parametrize(
    ("said", "when"),
    [
        ({}, "7 days after it is deleted"),
        ({"softDeletePolicy": {"retentionDurationSeconds": "0"}}, "as soon as it is deleted"),
        (
            {
                "versioning": {"enabled": True},
                "lifecycle": {
                    "rule": [
                        {
                            "action": {"type": "Delete"},
                            "condition": {"daysSinceNoncurrentTime": 3, "isLive": False},
                        }
                    ]
                },
            },
            "10 days after it is deleted",
        ),
    ],
)
def test_when_a_deleted_state_is_gone_is_one_verdict(said, when, scene):
    scene.say(**said)
    (check,) = named(scene.look(), "erasure")
    assert check.status == "pass"
    assert "An XCom ends with its row" in check.detail
    assert when in check.detail


@pytest.mark.parametrize(
    ("machine", "library", "status"),
    [("1", False, "warn"), ("1", True, "pass"), ("0", False, "pass"), (None, False, "pass")],
)
def test_the_cryptographic_module_is_named(machine, library, status, tmp_path):
    if machine is not None:
        (tmp_path / "fips").write_text(f"{machine}\n")
    check = crypto.module(tmp_path / "fips", in_fips_mode=library)
    assert (check.name, check.status) == ("crypto.module", status)
    assert "OpenSSL" in check.detail
    assert "outside of the machine's FIPS provider" in check.detail
    assert f"FIPS mode {'on' if library else 'off'}" in check.detail
    assert crypto.module().status in ("pass", "warn")


def test_the_regulated_profile_wants_checks_passed_and_made():
    unseen = doctor_check.unseen("key.iam", "lacks it", "Grant it.")
    slow = doctor_check.warned("libraries", "is slow", "Upgrade.")
    rotated = doctor_check.passed("key.rotation", "every 90 days")
    found = {check.name: check for check in profile.regulated([slow, WARNED, unseen, rotated])}
    assert found["libraries"].status == "warn"
    assert found["instance"] == replace(WARNED, status="fail")
    assert found["key.iam"] == replace(unseen, status="fail")
    assert found["key.rotation"].status == "pass"
    assert set(found) == {*doctor_check.REGULATED, "libraries"}
    assert found["residency"].status == "fail"
    assert "not looked at" in found["residency"].detail


@pytest.mark.parametrize(
    "name",
    [
        *("key.rotation", "key.protection_level", "key.iam", "key.audit_logs"),
        *("store.public_access", "store.uniform_access", "store.location"),
        *("store.soft_delete", "store.versioning", "store.retention_policy", "store.lifecycle"),
        *("state_store", "audit_log", "masking"),
    ],
)
@pytest.mark.parametrize("status", ["warn", "unseen"])
def test_what_a_bank_wants_has_to_pass(name, status):
    """Rotation, access, places, erasure against restoring, and what leaves a trail or hides one."""
    off = Check(name, status, "so it is", "Mend it.")
    assert off not in (found := list(profile.regulated([off])))
    assert replace(off, status="fail") in found
    passed = doctor_check.passed(name, "so it is")
    assert [check for check in profile.regulated([passed]) if check.name == name] == [passed]
    assert [check.status for check in profile.regulated([]) if check.name == name] == ["fail"]


def test_a_deployment_in_which_all_is_well_is_regulated(scene):
    made = scene.look()
    checks = [*profile.regulated(made)]
    failed = {check.name for check in checks if check.status == "fail"}
    # Those are looked at in Airflow.
    assert failed == IN_AIRFLOW & set(doctor_check.REGULATED)


@pytest.mark.parametrize(
    ("status", "fail_on", "code"),
    [
        ("pass", "warn", 0),
        *(("warn", "fail", 0), ("warn", "warn", 1)),
        *(("unseen", "fail", 0), ("unseen", "warn", 1)),
        *(("fail", "fail", 1), ("fail", "warn", 1)),
    ],
)
def test_what_makes_the_exit_status(status, fail_on, code, monkeypatch, capsys):
    check = Check("airflow", status, "so it is", "")
    assert run(monkeypatch, [check], "--json", "--fail-on", fail_on) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], told["checks"][0]["status"]) == (code == 0, status)


def test_what_was_not_looked_at_is_counted_by_itself(monkeypatch, capsys):
    check = doctor_check.unseen("key.iam", "lacks it", "Grant it.")
    assert run(monkeypatch, [PASSED, check]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "unseen  key.iam: lacks it"
    assert shown[-1] == "OK: 1 passed, 0 to know of, 1 not looked at, 0 failed"


def test_a_report_is_a_new_file_with_its_digest(monkeypatch, capsys, tmp_path):
    path = tmp_path / "report.json"
    assert run(monkeypatch, [PASSED, WARNED], "--report", str(path), "--fail-on", "warn") == 1
    done = subprocess.run(["sha256sum", "--check", "report.json.sha256"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    told = json.loads(path.read_text())
    assert told["ok"] is False
    assert told["version"] == secure_xcom.__version__
    assert dt.datetime.fromisoformat(told["time"]).tzinfo is not None
    assert [check["name"] for check in told["checks"]] == ["airflow", "instance"]
    path.write_text(path.read_text().replace("warn", "pass"))
    done = subprocess.run(["sha256sum", "--check", "report.json.sha256"], cwd=tmp_path, check=False)
    assert done.returncode == 1
    before = path.read_text()
    assert run(monkeypatch, [PASSED], "--report", str(path)) == 2
    assert path.read_text() == before
    assert "Name a file that is not there yet" in capsys.readouterr().err


def run(monkeypatch, checks, *arguments):
    monkeypatch.setattr(examination, "examine", lambda *_: iter(checks))
    return main(["doctor", *arguments])


PASSED = doctor_check.passed("airflow", "Airflow 3.3.2")
WARNED = doctor_check.warned("instance", "instance is not set", "Set it.")
FAILED = doctor_check.failed("settings", "- one\n- another", "Set it.")


@pytest.mark.parametrize(("checks", "status"), [([PASSED, WARNED], 0), ([PASSED, FAILED], 1)])
def test_the_exit_status_says_whether_something_failed(checks, status, monkeypatch, capsys):
    assert run(monkeypatch, checks, "--json") == status
    assert json.loads(capsys.readouterr().out) == {
        "ok": status == 0,
        "checks": [
            {
                "name": check.name,
                "status": check.status,
                "detail": check.detail,
                "fix": check.fix,
            }
            for check in checks
        ],
    }
    assert run(monkeypatch, checks) == status
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "pass  airflow: Airflow 3.3.2"
    assert "      Fix: Set it." in shown
    assert shown[-1].startswith("OK: 1 passed, 1 to" if status == 0 else "NOT OK: 1 passed, 0 to")


def test_the_documents_list_each_check_and_show_what_json_is():
    section = (ROOT / "docs/operations.md").read_text().partition("## Doctor\n")[2]
    section = section.partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)] == list(NAMES)
    starred = [cell for cell in cells if cell.endswith(" *")]
    assert re.findall(r"`([\w.]+)`", " ".join(starred)) == list(REGULATED)
    (example,) = re.findall(r"^\{.*\}$", section, re.MULTILINE)
    assert json.loads(example) == doctor.as_json([PASSED], ok=True)


def test_a_person_reads_lines_of_the_width_and_can_copy_what_to_do():
    stream = io.StringIO()
    name = "projects/" + "x" * 120
    long = doctor_check.failed("settings", f"- one\n{'word ' * 60}{name}", f"gcloud {'y ' * 90}z")
    doctor.show(long, Output(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "fail  settings: - one"
    assert all(line.startswith("      ") for line in lines[1:])
    assert lines[-1] == f"      Fix: gcloud {'y ' * 90}z"
    assert f"      {name}" in lines
    assert max(len(line) for line in lines[:-1] if name not in line) <= 100


def test_the_number_of_days_reaches_the_checks(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(examination, "examine", lambda days: seen.append(days) or iter([PASSED]))
    assert main(["doctor", "--retention-days", "30"]) == 0
    assert main(["doctor"]) == 0
    assert seen == [30, None]
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--retention-days", "a month"])
    assert ended.value.code == 2
    capsys.readouterr()


def test_where_there_is_no_airflow_it_cannot_be_run(monkeypatch, capsys):
    monkeypatch.setattr("secure_xcom.airflow.versions.is_installed", lambda: False)
    assert main(["doctor", "--json"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Airflow cannot be imported here" in printed.err


def test_a_probe_hands_on_what_is_raised():
    def broken():
        raise SecureXComError("as it is")

    with pytest.raises(SecureXComError, match="as it is"):
        doctor_check.within(broken)
    assert doctor_check.within(os.getpid) == os.getpid()
