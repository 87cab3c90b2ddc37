"""Writes what was found into a file, with a digest beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import secure_xcom
from secure_xcom.errors import ConfigError


def claim(path: Path) -> None:
    """Make the report's file, so that a long look does not end with one that cannot be written.

    Raises:
        ConfigError: it is there already, or cannot be made.
    """
    for new in (path, digest_of(path)):
        try:
            new.open("xb").close()
        except OSError as error:
            raise ConfigError(
                f"The report cannot be written to {str(new)!r}: {error.strerror}. Name a file "
                "that is not there yet, in a folder that is."
            ) from error


def write(path: Path, members: Mapping[str, object], profile: str | None) -> None:
    """Write the report and its SHA-256, in the form of sha256sum."""
    data = json.dumps(told(members, profile), indent=2).encode() + b"\n"
    path.write_bytes(data)
    digest_of(path).write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")


def told(members: Mapping[str, object], profile: str | None) -> dict[str, object]:
    """What a report holds: what `--json` prints, when and by which version it was found."""
    return {
        "report": "secure-xcom doctor",
        "version": secure_xcom.__version__,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile,
        **members,
    }


def digest_of(path: Path) -> Path:
    """Where the digest of a report is."""
    return path.with_name(f"{path.name}.sha256")
