"""Settings: what airflow.cfg and one Airflow Variable say, checked, all faults at once.

`Settings` is the table: one field is one setting, with its default, its kind (how it is written
and what is allowed), and the sentence that the provider info and `docs/settings.md` show. Nothing
here imports Airflow or does I/O; `secure_xcom.airflow.configuration` hands in what Airflow holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from secure_xcom.errors import ConfigError

SECTION = "secure_xcom"
VARIABLE = "SECURE_XCOM"
BUCKET_VARIABLE = "XCOM_BACKEND_DATA_GCS_NAME"
_VARIABLE = f"the Variable {VARIABLE}"

#: Keys that Airflow's scheduler, API server and webserver read past every backend.
CLEAR_KEYS = ("skipmixin_key", "past_depends_met", "_link_*", "trigger_run_id")

_MIB = 1 << 20
_GIB = 1 << 30
#: The largest payload of the format (`docs/format.md`).
_LARGEST_BYTES = 1 << 40
_LONGEST_URI = 512
#: XCom keys are at most this long in Airflow.
_LONGEST_KEY = 512
#: What of a wrong value a message shows at most, in characters.
_SHOWN = 120

_SEGMENTS = r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~=+@-]+)"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_GCS = re.compile(rf"gs://{_BUCKET.pattern}{_SEGMENTS}{{0,32}}")
_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[^/\x00-\x1f\x7f]+)+")
_KMS = re.compile(
    r"gcp-kms://projects/[a-z0-9.:-]{1,128}/locations/[a-z0-9-]{1,63}"
    r"/keyRings/[A-Za-z0-9_-]{1,63}/cryptoKeys/[A-Za-z0-9_-]{1,63}"
)
_INSTANCE = re.compile(r"[A-Za-z0-9._:/@-]{0,128}")
_CONNECTION = re.compile(r"[\w#!()\-.:/\\]{0,250}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def is_store_uri(uri: str) -> bool:
    """Whether `uri` is `gs://bucket/prefix` (the prefix optional) or `file:///dir`.

    No trailing slash, no empty, `.` or `..` segment, at most 512 characters: stores are compared
    as exact strings, so each has one spelling.
    """
    if len(uri) > _LONGEST_URI:
        return False
    if uri.startswith("file://"):
        return _PATH.fullmatch(uri.removeprefix("file://")) is not None
    return _GCS.fullmatch(uri) is not None


def is_kek_uri(uri: str) -> bool:
    """Whether `uri` is `gcp-kms://projects/…/cryptoKeys/K` (no version) or `local-kek:///path`."""
    if len(uri) > _LONGEST_URI:
        return False
    if uri.startswith("local-kek://"):
        return _PATH.fullmatch(uri.removeprefix("local-kek://")) is not None
    return _KMS.fullmatch(uri) is not None


@dataclass(frozen=True, slots=True)
class Kind:
    """How a setting is written, and what of it is allowed."""

    #: What is allowed, as an error says it.
    allowed: str
    #: Whether a JSON value is allowed.
    accepts: Callable[[object], bool]
    #: From the text in airflow.cfg to the JSON value that the Variable would hold.
    from_text: Callable[[str], object] = str
    #: `string` or `integer`: a type of Airflow's provider schema.
    option_type: str = "string"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    kind: Kind
    description: str
    example: str
    #: None: there is none, the setting must be set.
    default: str | int | tuple[str, ...] | None
    #: A tuning setting may always come from the Variable; all others are protected.
    tuning: bool
    version_added: str


def _text(allowed: str, accepts: Callable[[str], bool]) -> Kind:
    return Kind(allowed, lambda value: isinstance(value, str) and accepts(value))


def _choice(*names: str) -> Kind:
    return _text("one of " + ", ".join(names), lambda value: value in names)


def _integer(unit: str, least: int, most: int) -> Kind:
    return Kind(
        f"a plain integer of {unit}, from {least} to {most}",
        # An exact type: to Python, True is an int.
        lambda value: type(value) is int and least <= value <= most,
        lambda text: int(text) if _INTEGER.fullmatch(text) else text,
        "integer",
    )


def _list(of: str, accepts: Callable[[str], bool]) -> Kind:
    return Kind(
        f"a list of {of} (airflow.cfg: separated by commas, or a JSON list; [] for none)",
        lambda value: (
            isinstance(value, list)
            and all(isinstance(item, str) and accepts(item) for item in value)
        ),
        _list_from_text,
    )


def _list_from_text(text: str) -> object:
    """Read a JSON list or a comma list; what is neither stays the text, which is not allowed."""
    if text.startswith("["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    items = [item.strip() for item in text.split(",")]
    return items if all(items) else text


def _is_pattern(pattern: str) -> bool:
    # A pattern of wildcards alone would switch sealing off.
    return 0 < len(pattern) <= _LONGEST_KEY and pattern.strip("*?") != ""


def _is_protected(name: str) -> bool:
    return name != "unlocked" and any(row.name == name and not row.tuning for row in TABLE)


_STORE = "gs://bucket/prefix or file:///dir, with no slash at the end"
_KEK = "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K or local-kek:///path"
_NAME = "letters, digits and . _ : / @ -, at most 128"


def _row(
    kind: Kind,
    description: str,
    example: str,
    *,
    tuning: bool = False,
    version_added: str = "0.1.0",
) -> dict[str, Any]:
    return {
        "kind": kind,
        "description": description,
        "example": example,
        "tuning": tuning,
        "version_added": version_added,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked settings; each field's metadata is its row of the table."""

    store_uri: str = field(
        metadata=_row(
            _text(_STORE, is_store_uri),
            "Where values go that are too long for the database. Without it, the bucket that the "
            f"Airflow Variable {BUCKET_VARIABLE} names.",
            "gs://my-xcom-bucket/xcom",
        )
    )
    kek_uri: str = field(
        metadata=_row(
            _text(_KEK, is_kek_uri),
            "The key encryption key that wraps every data key. Without it nothing is written or "
            "read. local-kek is for a laptop.",
            "gcp-kms://projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom",
        )
    )
    trusted_keks: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            _list(f"key URIs, each {_KEK}", is_kek_uri),
            "Further keys that reads may use, compared as exact strings. Writes always use "
            "kek_uri.",
            "gcp-kms://projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/old",
        ),
    )
    instance: str = field(
        default="",
        metadata=_row(
            _text(_NAME, lambda value: _INSTANCE.fullmatch(value) is not None),
            "This deployment's name, bound into every sealed value, so that deployments that "
            "share a key cannot read each other's values.",
            "prod-eu",
        ),
    )
    trusted_instances: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            _list(f"names, each {_NAME}", lambda value: _INSTANCE.fullmatch(value) is not None),
            'Further instance names that reads accept. The empty name, [""], is what was '
            "written before instance was set.",
            "prod-eu-2025",
        ),
    )
    trusted_stores: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            _list(f"store URIs, each {_STORE}", is_store_uri),
            "Further stores that rows may point into. Writes always go to store_uri.",
            "gs://my-old-xcom-bucket/xcom",
        ),
    )
    gcp_conn_id: str = field(
        default="",
        metadata=_row(
            _text(
                "an Airflow connection id",
                lambda value: _CONNECTION.fullmatch(value) is not None,
            ),
            "The Airflow connection whose credentials Cloud KMS and Cloud Storage are called "
            "with. Empty: application default credentials.",
            "google_cloud_storage_default",
        ),
    )
    threshold_bytes: int = field(
        default=49152,
        metadata=_row(
            _integer("bytes", -1, _LARGEST_BYTES),
            "A value whose sealed form is at least this long goes to the store; a shorter one "
            "stays in the database row. 0 offloads all, -1 nothing.",
            "65536",
            tuning=True,
        ),
    )
    compression: str = field(
        default="zstd",
        metadata=_row(
            _choice("zstd", "none"),
            "How values are compressed before they are sealed. Values under 4 KiB, and those "
            "that do not get shorter, are never compressed.",
            "none",
            tuning=True,
        ),
    )
    max_value_bytes: int = field(
        default=8 * _GIB,
        metadata=_row(
            _integer("bytes", 1, _LARGEST_BYTES),
            "The longest value that a read takes: checked before the download, and again before "
            "decompression.",
            "1073741824",
        ),
    )
    cache_max_bytes: int = field(
        default=64 * _MIB,
        metadata=_row(
            _integer("bytes", 0, _LARGEST_BYTES),
            "How much of what was read from the store a process keeps, still sealed, for "
            "repeated reads. 0 keeps nothing.",
            "268435456",
            tuning=True,
        ),
    )
    data_key_ttl_seconds: int = field(
        default=300,
        metadata=_row(
            _integer("seconds", 1, 3600),
            "How long one data key seals, and how long an unwrapped one is kept for reads.",
            "60",
        ),
    )
    settings_ttl_seconds: int = field(
        default=60,
        metadata=_row(
            _integer("seconds", 0, 3600),
            "How long a process keeps settings before it looks at the Variables again.",
            "300",
        ),
    )
    clear_keys: tuple[str, ...] = field(
        default=CLEAR_KEYS,
        metadata=_row(
            _list("XCom keys, with * and ? as wildcards but not alone", _is_pattern),
            "XCom keys that pass in clear, because Airflow itself reads them past every backend. "
            "A list replaces the default, so repeat what you keep.",
            json.dumps([*CLEAR_KEYS, "my_operator_link"]),
        ),
    )
    unsealed_reads: str = field(
        default="deny",
        metadata=_row(
            _choice("deny", "warn", "allow"),
            "What to do with a row that this backend did not seal. While it is not deny, whoever "
            "can write a row can replace a sealed value by a plain one.",
            "warn",
        ),
    )
    describe: str = field(
        default="minimal",
        metadata=_row(
            _choice("minimal", "full"),
            "What a row shows besides its place, padded size and key: full adds the value's type "
            "and exact size, which tell True from None.",
            "full",
        ),
    )
    unlocked: tuple[str, ...] = field(
        default=(),
        metadata=_row(
            _list("names of protected settings", _is_protected),
            "Protected settings that the Variable may set all the same. Only airflow.cfg can "
            "set this.",
            "instance, trusted_instances",
        ),
    )


TABLE: tuple[Setting, ...] = tuple(
    Setting(name=row.name, default=None if row.default is MISSING else row.default, **row.metadata)
    for row in fields(Settings)
)
_BY_NAME = {row.name: row for row in TABLE}


def load(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
    *,
    section_source: str = f"airflow.cfg [{SECTION}]",
) -> Settings:
    """Check what was configured.

    Args:
        section: the section's options as text, without any defaults.
        variable: the Variable `SECURE_XCOM`, as JSON text or parsed; None where there is none.
        bucket: the Variable `XCOM_BACKEND_DATA_GCS_NAME`, a bucket's name, used where no
            `store_uri` is set; None where there is none.
        section_source: how messages call the section.

    Raises:
        ConfigError: names every fault, where it came from, what it holds and what is allowed.
    """
    faults: list[str] = []
    # None stands for what is faulty: set, so not missing, and never used.
    values: dict[str, Any] = {}
    _take(section, section_source, values, faults, as_text=True)

    locked_by = [name for name in section if _is_protected(name) or name == "unlocked"]
    unlocked = values.get("unlocked") or ()
    allowed: dict[str, object] = {}
    for name, held in _members(variable, faults).items():
        if name == "unlocked":
            faults.append(f"unlocked, from {_VARIABLE}: only {section_source} may set it")
        elif locked_by and _is_protected(name) and name not in unlocked:
            values.setdefault(name, None)
            faults.append(
                f"{name}, from {_VARIABLE}, is protected: {section_source} sets "
                f"{', '.join(locked_by)}, so set {name} there too, or name it in unlocked there"
            )
        else:
            allowed[name] = held
    _take(allowed, _VARIABLE, values, faults, as_text=False)

    if "store_uri" not in values and bucket is not None:
        values["store_uri"] = f"gs://{bucket}"
        if not _BUCKET.fullmatch(bucket):
            faults.append(
                f"the Variable {BUCKET_VARIABLE} is {_show(bucket)}; allowed: the bare name of a "
                "bucket"
            )
    faults.extend(
        f"{row.name} is not set: set it in {section_source} to {row.kind.allowed}"
        for row in TABLE
        if row.default is None and row.name not in values
    )
    if faults:
        raise ConfigError(
            "secure_xcom writes and reads nothing until its settings are right:\n"
            + "\n".join(f"- {fault}" for fault in faults)
        )
    return Settings(**values)


def _take(
    held: Mapping[str, object],
    source: str,
    values: dict[str, Any],
    faults: list[str],
    *,
    as_text: bool,
) -> None:
    """Put what is right of `held` into `values`, and what is wrong into `faults`."""
    for name, raw in held.items():
        row = _BY_NAME.get(name)
        if row is None:
            faults.append(_unknown(name, source))
            continue
        value = row.kind.from_text(raw.strip()) if as_text and isinstance(raw, str) else raw
        if row.kind.accepts(value):
            values[name] = tuple(value) if isinstance(value, list) else value
        else:
            values[name] = None
            faults.append(f"{name}, from {source}, is {_show(raw)}; allowed: {row.kind.allowed}")


def _members(
    variable: Mapping[str, object] | str | None, faults: list[str]
) -> Mapping[str, object]:
    """Give back the Variable's members; none of them where it is not a JSON object."""
    parsed: object = {} if variable is None else variable
    if isinstance(parsed, str):
        try:
            parsed = json.loads(parsed, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            parsed = None
    if isinstance(parsed, Mapping) and all(isinstance(name, str) for name in parsed):
        return parsed
    faults.append(
        f"{_VARIABLE} is not a JSON object with each name once, such as "
        '{"threshold_bytes": 65536}'
    )
    return {}


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _unknown(name: str, source: str) -> str:
    close = get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_BY_NAME)}"
    return f"{_show(name)}, from {source}, is not a setting; {hint}"


def _show(held: object) -> str:
    shown = json.dumps(held, ensure_ascii=False, default=lambda other: type(other).__name__)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
