"""What goes into the folder: each file's contents, of which none is a value, key or token."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import secure_xcom
from secure_xcom import audit
from secure_xcom.airflow import configuration, diagnosis, metadata
from secure_xcom.audit.sinks import STANDARD_ERROR, TASK_LOG
from secure_xcom.cli import doctor
from secure_xcom.cli.auditing import audited
from secure_xcom.cli.doctor import examination, profile, report
from secure_xcom.cli.doctor.settings import sources, text_of
from secure_xcom.cli.evidence import folder, runs
from secure_xcom.cli.lifecycle.scan import members as scan_members
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.format.envelope import VERSION as ENVELOPE_VERSION
from secure_xcom.format.reference import VERSION as ROW_VERSION
from secure_xcom.lifecycle.scan import Scanned, scan
from secure_xcom.settings import check as check_settings

if TYPE_CHECKING:
    from secure_xcom.cli.doctor.check import Check
    from secure_xcom.cli.doctor.versions import Counts
    from secure_xcom.settings import Settings

_T = TypeVar("_T")

#: The files, and what each is.
FILES = {
    "about.json": "when, where and by which versions the folder was made",
    "doctor.json": "the report of doctor",
    "keys.json": "of that report: the keys, their versions, and who may use them",
    "settings.json": "each setting, and where it comes from",
    "scan.json": "how many rows there are, by what they hold and under which key",
    "runs.json": "the last runs of gc and rewrap, by the files of the audit log",
    "package.json": "the SHA-256 of each file of the installed package",
}
_KEY_CHECKS = ("key.", "trusted_keks")


def check_airflow() -> None:
    """See that there is an Airflow here.

    Raises:
        ConfigError: there is none.
    """
    try:
        diagnosis.airflow_version()
    except ConfigError:
        raise
    except Exception:  # noqa: BLE001 - doctor says what is wrong with it
        return


def write(
    out: Path, profile_name: str | None, retention_days: int | None
) -> tuple[bool, str, dict[str, str]]:
    """Look at all, and write the files.

    Args:
        out: the folder, which is there and empty.
        profile_name: of doctor.
        retention_days: of doctor.

    Returns:
        Whether nothing failed, the SHA-256 of the list of digests, and that of each file.

    Raises:
        ConfigError: a file cannot be written, or a place of the audit log takes no lines.
    """
    settings, said = _settings()
    places = settings.audit_log if settings else ()
    with audited("evidence", places), audit.run("evidence") as run:
        audit.check()
        counted = _looked(lambda: scan(metadata.rows(), metadata.legacy_prefixes()))
        checks = _checks(counted, profile_name, retention_days)
        checks_ok = doctor.is_ok(checks)
        scan_ok = isinstance(counted, Scanned) and counted.ok
        contents: dict[str, object] = {
            "about.json": _about(),
            "doctor.json": report.told(doctor.as_json(checks, ok=checks_ok), profile_name),
            "keys.json": _keys(checks),
            "settings.json": said,
            "scan.json": _scan(counted),
            "runs.json": runs.last_runs(
                place for place in places if place not in (TASK_LOG, STANDARD_ERROR)
            ),
            "package.json": _package(),
        }
        files, digest = folder.write(out, contents)
        run.count, run.digest = len(files), digest
    return checks_ok and scan_ok, digest, files


def _looked(look: Callable[[], _T]) -> _T | SecureXComError:
    """What was found, or why not; of what others raise, the class alone is told."""
    try:
        return look()
    except SecureXComError as error:
        return error
    except Exception as error:  # noqa: BLE001 - of Airflow, the database or a driver
        return SecureXComError(f"It could not be looked at ({type(error).__name__}).")


def _checks(
    counted: Scanned | SecureXComError, profile_name: str | None, retention_days: int | None
) -> list[Check]:
    def counts() -> Counts:
        if isinstance(counted, SecureXComError):
            raise counted
        return counted.keys

    found = examination.examine(retention_days, counts)
    return list(profile.regulated(found) if profile_name else found)


def _about() -> dict[str, object]:
    airflow = _looked(diagnosis.airflow_version)
    return {
        "evidence": "secure-xcom evidence",
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "version": secure_xcom.__version__,
        "airflow": None if isinstance(airflow, SecureXComError) else airflow,
        "python": platform.python_version(),
        "files": FILES,
    }


def _keys(checks: list[Check]) -> dict[str, object]:
    found = [check for check in checks if check.name.startswith(_KEY_CHECKS)]
    members = doctor.as_json(found, ok=doctor.is_ok(found))
    return {
        **members,
        "note": "" if found else "No key was looked at: doctor.json tells what stood in the way.",
    }


def _settings() -> tuple[Settings | None, dict[str, object]]:
    """The settings, if they are right; and what is said of them."""
    texts = _looked(configuration.texts)
    if isinstance(texts, SecureXComError):
        return None, {"settings": [], "faults": [str(texts)]}
    checked = _looked(lambda: check_settings(*texts))
    if isinstance(checked, SecureXComError):
        return None, {"settings": [], "faults": [str(checked)]}
    settings, faults = checked
    if settings is None:
        return None, {"settings": [], "faults": [fault.found for fault in faults]}
    found = sources(texts)
    listed = [
        {"name": name, "value": text_of(name, value), "origin": found.get(name, "default")}
        for name, value in asdict(settings).items()
    ]
    return settings, {"settings": listed, "faults": []}


def _scan(counted: Scanned | SecureXComError) -> dict[str, object]:
    if isinstance(counted, SecureXComError):
        return {"ok": False, "unseen": str(counted)}
    # Which rows are wrong is for who mends them, by `secure-xcom scan`.
    return {name: told for name, told in scan_members(counted).items() if name != "wrong"}


def _package() -> dict[str, object]:
    root = Path(secure_xcom.__file__).parent
    files: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and "__pycache__" not in path.parts:
            with suppress(OSError):
                files[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "version": secure_xcom.__version__,
        "format": {
            "envelope_version": ENVELOPE_VERSION,
            "row_version": ROW_VERSION,
            "specification": "docs/format.md of this version's source",
            "sha256": _over({name: f for name, f in files.items() if name.startswith("format/")}),
        },
        "sha256": _over(files),
        "files": files,
    }


def _over(files: dict[str, str]) -> str:
    """One digest over a list of files, in the form of sha256sum."""
    listed = "".join(f"{digest}  {name}\n" for name, digest in files.items())
    return hashlib.sha256(listed.encode()).hexdigest()
