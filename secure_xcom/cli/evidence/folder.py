"""A folder of files for their owner's eyes only, with a list of their digests."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from secure_xcom.errors import ConfigError

#: The list, in the form of sha256sum.
DIGESTS = "SHA256SUMS"


def claim(path: Path) -> None:
    """Make the folder, or see that it is empty.

    Raises:
        ConfigError: it is not, or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        is_empty = not any(path.iterdir())
    except OSError as error:
        raise ConfigError(
            f"The folder {str(path)!r} cannot be used: {error.strerror}. Name one that is not "
            "there yet, in a folder that is."
        ) from error
    if not is_empty:
        raise ConfigError(
            f"The folder {str(path)!r} is not empty, and nothing is written beside what is there. "
            "Name another one."
        )


def write(path: Path, contents: Mapping[str, object]) -> tuple[dict[str, str], str]:
    """Write each file as JSON, and the list of their digests.

    Returns:
        The SHA-256 of each file by its name, and that of the list, in hexadecimal digits.

    Raises:
        ConfigError: a file cannot be written.
    """
    digests = {
        name: _new(path / name, json.dumps(content, indent=2).encode() + b"\n")
        for name, content in contents.items()
    }
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return digests, _new(path / DIGESTS, listed.encode())


def _new(path: Path, data: bytes) -> str:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} could not be written: {error.strerror}.") from error
    return hashlib.sha256(data).hexdigest()
