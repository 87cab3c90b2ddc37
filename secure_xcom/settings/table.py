"""The table of settings: one field of `Settings` is one setting.

Its metadata is how it is written, what is allowed, and the sentence that the provider info and
`docs/settings.md` show.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from secure_xcom.settings import kinds

SECTION = "secure_xcom"
VARIABLE = "SECURE_XCOM"
BUCKET_VARIABLE = "XCOM_BACKEND_DATA_GCS_NAME"

#: Keys that Airflow's scheduler, API server and webserver read past every backend.
CLEAR_KEYS = ("skipmixin_key", "past_depends_met", "_link_*", "trigger_run_id")

_MIB = 1 << 20
_GIB = 1 << 30
#: The largest payload of the format (`docs/format.md`).
_PAYLOAD_BYTES_MAX = 1 << 40


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    kind: kinds.ValueKind
    description: str
    example: str
    #: None: there is none, the setting must be set.
    default: str | int | tuple[str, ...] | None
    #: Only airflow.cfg may set it: it says who may set what, or is read where no Variable is.
    section_only: bool
    #: A tuning setting may always come from the Variable; all others are protected.
    tuning: bool
    version_added: str

    @property
    def default_text(self) -> str:
        """The default as people read it."""
        if self.default is None:
            return "none"
        if isinstance(self.default, tuple | bool):
            return json.dumps(self.default)
        return str(self.default) or "empty"


def is_protected(name: str) -> bool:
    """Whether `name` is a setting that the Variable may not always set."""
    return any(row.name == name and not (row.tuning or row.section_only) for row in TABLE)


_STORE = "gs://bucket/prefix (at most 199 characters of prefix) or file:///dir, no slash at the end"
_KEK = "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K or local-kek:///path"
_NAME = "letters, digits and . _ : / @ -, at most 128"


def _row(  # noqa: PLR0913 - what a row says
    kind: kinds.ValueKind,
    description: str,
    example: str,
    *,
    tuning: bool = False,
    section_only: bool = False,
    version_added: str = "0.1.0",
) -> dict[str, Any]:
    return {
        "kind": kind,
        "description": description,
        "example": example,
        "tuning": tuning,
        "section_only": section_only,
        "version_added": version_added,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked settings; each field's metadata is its row of the table."""

    store_uri: str = field(
        metadata=_row(
            kinds.text(_STORE, kinds.is_store_uri, kinds.meant_store),
            "Where values go that are too long for the database. Without it, the bucket that the "
            f"Airflow Variable {BUCKET_VARIABLE} names.",
            "gs://my-xcom-bucket/xcom",
        )
    )
    kek_uri: str = field(
        metadata=_row(
            kinds.text(_KEK, kinds.is_kek_uri, kinds.meant_kek),
            "The key encryption key that wraps every data key. Without it nothing is written or "
            "read. local-kek is for a laptop.",
            "gcp-kms://projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom",
        )
    )
    trusted_keks: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing(f"key URIs, each {_KEK}", kinds.is_kek_uri, kinds.meant_kek),
            "Further keys that reads may use, compared as exact strings. Writes always use "
            "kek_uri.",
            "gcp-kms://projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/old",
        ),
    )
    instance: str = field(
        default="",
        metadata=_row(
            kinds.text(_NAME, kinds.is_instance),
            "This deployment's name, bound into every sealed value, so that deployments that "
            "share a key do not take each other's values.",
            "prod-eu",
        ),
    )
    trusted_instances: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing(f"names, each {_NAME}", kinds.is_instance),
            'Further instance names that reads accept. The empty name, [""], is what was '
            "written before instance was set.",
            "prod-eu-2025",
        ),
    )
    trusted_stores: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing(f"store URIs, each {_STORE}", kinds.is_store_uri, kinds.meant_store),
            "Further stores that rows may point into. Writes always go to store_uri.",
            "gs://my-old-xcom-bucket/xcom",
        ),
    )
    gcp_conn_id: str = field(
        default="",
        metadata=_row(
            kinds.text("an Airflow connection id", kinds.is_connection),
            "The Airflow connection whose credentials Cloud KMS and Cloud Storage are called "
            "with. Empty: application default credentials.",
            "google_cloud_storage_default",
        ),
    )
    threshold_bytes: int = field(
        default=49152,
        metadata=_row(
            kinds.integer("bytes", -1, _PAYLOAD_BYTES_MAX),
            "A value whose body (the ciphertext, without the preamble before it) is at least this "
            "long goes to the store; a shorter one stays in the database row. 0 offloads all, "
            "-1 nothing.",
            "65536",
            tuning=True,
        ),
    )
    compression: str = field(
        default="zstd",
        metadata=_row(
            kinds.choice("zstd", "none"),
            "How values are compressed before they are sealed. Values under 4 KiB, and those "
            "that do not get shorter, are never compressed.",
            "none",
            tuning=True,
        ),
    )
    max_value_bytes: int = field(
        default=8 * _GIB,
        metadata=_row(
            kinds.integer("bytes", 1, _PAYLOAD_BYTES_MAX),
            "The longest value, once encoded, that is written or read. Reads check it before the "
            "download, and again before decompression.",
            "1073741824",
        ),
    )
    cache_max_bytes: int = field(
        default=64 * _MIB,
        metadata=_row(
            kinds.integer("bytes", 0, _PAYLOAD_BYTES_MAX),
            "How much of what was read from the store a process keeps, still sealed, for "
            "repeated reads. 0 keeps nothing.",
            "268435456",
            tuning=True,
        ),
    )
    data_key_ttl_seconds: int = field(
        default=300,
        metadata=_row(
            kinds.integer("seconds", 1, 3600),
            "How long one data key seals, and how long an unwrapped one is kept for reads.",
            "60",
        ),
    )
    kms_deadline_seconds: int = field(
        default=60,
        metadata=_row(
            kinds.integer("seconds", 1, 3600),
            "How long one call to Cloud KMS may take in all: credentials, connection, every "
            "attempt and the waits between them. After that the push or pull fails.",
            "20",
            tuning=True,
        ),
    )
    store_deadline_seconds: int = field(
        default=120,
        metadata=_row(
            kinds.integer("seconds", 1, 3600),
            "How long a push or a pull goes on asking Cloud Storage without real progress: 64 KiB "
            "that it has kept or given.",
            "30",
            tuning=True,
        ),
    )
    settings_ttl_seconds: int = field(
        default=60,
        metadata=_row(
            kinds.integer("seconds", 0, 3600),
            "How long a process keeps settings before it looks at the Variables again.",
            "300",
        ),
    )
    clear_keys: tuple[str, ...] = field(
        default=CLEAR_KEYS,
        metadata=_row(
            kinds.listing("XCom keys, with * and ? as wildcards but not alone", kinds.is_pattern),
            "XCom keys that pass in clear, because Airflow itself reads them past every backend. "
            "In airflow.cfg a list replaces the default, so repeat what you keep; in the Variable "
            "it adds to it.",
            json.dumps([*CLEAR_KEYS, "my_operator_link"]),
        ),
    )
    unsealed_reads: str = field(
        default="deny",
        metadata=_row(
            kinds.choice("deny", "warn", "allow"),
            "What to do with a row that this backend did not seal. While it is not deny, whoever "
            "can write a row can replace a sealed value by a plain one.",
            "warn",
        ),
    )
    legacy_reads: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing(
                "kinds, each gcs or common-io", lambda kind: kind in ("gcs", "common-io")
            ),
            "Which former backends' rows are read as well, in clear, for the time of a migration: "
            "gcs, whose rows are gcs://{run_id}/{task_id}/{uuid}.json in the bucket that the "
            f"Variable {BUCKET_VARIABLE} names; common-io, whose rows are paths below [common.io] "
            "xcom_objectstorage_path.",
            "gcs, common-io",
        ),
    )
    describe: str = field(
        default="minimal",
        metadata=_row(
            kinds.choice("minimal", "full"),
            "What a row shows besides its place, padded size and key: full adds the value's type "
            "and exact size, which tell True from None.",
            "full",
        ),
    )
    fidelity: str = field(
        default="stock",
        metadata=_row(
            kinds.choice("stock", "exact"),
            "What values come back as: stock is what Airflow's default backend makes of them, "
            "where that takes them; with exact they come back as they were pushed, types included, "
            "and what cannot is refused when it is pushed, with its place in the value. Reads "
            "need no setting.",
            "exact",
        ),
    )
    mask_pulled_values: bool = field(
        default=True,
        metadata=_row(
            kinds.switch(),
            "Whether *** is put in the place of what a task pulls in that task's log: texts of 5 "
            "characters and more, whole numbers of 9 digits and more, at most 1,000,000 of them "
            "and 67,108,864 characters for a task.",
            "false",
        ),
    )
    unmasked_texts: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing("texts, each as it stands in a value", bool),
            "Texts that are never masked, such as the names of states and countries that tasks "
            "pull beside what is secret. A longer text that holds one of them is masked.",
            "completed, Germany",
            tuning=True,
        ),
    )
    log_return_values: bool = field(
        default=False,
        metadata=_row(
            kinds.switch(),
            "Whether Python tasks may log what they return, as Airflow does by default. Otherwise "
            "the package's cluster policy sets show_return_value_in_logs = False on each of them. "
            "Only airflow.cfg can set this, because policies act where DAGs are parsed.",
            "true",
            section_only=True,
        ),
    )
    audit_log: tuple[str, ...] = field(
        default=("task-log",),
        metadata=_row(
            kinds.listing(
                "places, each task-log, stderr or the absolute path of a file", kinds.is_audit_sink
            ),
            "Where the lines of the audit log go, whatever levels Airflow's logging has: task-log "
            "is the log of the task, or of the process elsewhere; stderr is standard error, as "
            "JSON for Cloud Logging; and a file is appended to. Several at once. An empty list "
            "switches the audit log off.",
            "stderr, /var/log/airflow/secure-xcom.jsonl",
        ),
    )
    uses_state_store: bool = field(
        default=True,
        metadata=_row(
            kinds.switch(),
            "Whether tasks may keep states in the state store that Airflow has from 3.3 on. With "
            "false, strict does not ask for [workers] state_store_backend, and refuses a state "
            "that would be written in clear.",
            "false",
        ),
    )
    require_cloud_kms: bool = field(
        default=False,
        metadata=_row(
            kinds.switch(),
            "Whether kek_uri and trusted_keks may name keys of Cloud KMS only, so that no "
            "local-kek of a laptop gets into a deployment.",
            "true",
        ),
    )
    require_protection_level: str = field(
        default="any",
        metadata=_row(
            kinds.choice("any", "software", "hsm", "external"),
            "Which protection level the key of kek_uri is to have. Workers do not look at it; "
            "`secure-xcom doctor` fails where the key has another.",
            "hsm",
        ),
    )
    allowed_locations: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing("locations of Google Cloud, in lower case", kinds.is_location),
            "Where key and bucket may be, each by the name that it has itself: a bucket in eu is "
            "in eu and not in europe-west1. Workers do not look at it; `secure-xcom doctor` fails "
            "where one is elsewhere.",
            "europe-west1, eu",
        ),
    )
    strict: bool = field(
        default=False,
        metadata=_row(
            kinds.switch(),
            "The whole regulated posture at once: Cloud KMS only, an instance name, unsealed rows "
            "and former backends' rows refused, reads refused that do not say which XCom they "
            "want, pulled values masked, states sealed, the cluster policy active, a line of the "
            "audit log for each value. A setting that contradicts it is an error.",
            "true",
        ),
    )
    unlocked: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            kinds.listing("names of protected settings", is_protected),
            "Protected settings that the Variable may set all the same. Only airflow.cfg can "
            "set this.",
            "instance, trusted_instances",
            section_only=True,
        ),
    )


TABLE: tuple[Setting, ...] = tuple(
    Setting(name=row.name, default=None if row.default is MISSING else row.default, **row.metadata)
    for row in fields(Settings)
)
BY_NAME = {row.name: row for row in TABLE}
