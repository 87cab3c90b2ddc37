"""`secure-xcom inspect --open`: opens what was looked at, with the deployment's own settings."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from secure_xcom import audit
from secure_xcom.cli.auditing import audited
from secure_xcom.cli.inspect import stores
from secure_xcom.cli.inspect.report import Report
from secure_xcom.cli.inspect.subject import File, Object, Row
from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    UnsealedError,
)
from secure_xcom.format.envelope import PREAMBLE_BYTES_MAX
from secure_xcom.format.reference import dumps, state_to_row, to_row
from secure_xcom.layers.sealed import body_bytes_max
from secure_xcom.layers.states import text_of
from secure_xcom.model import Expected, Inline, StateObject
from secure_xcom.stores.file import write_all
from secure_xcom.text import type_name

#: Nothing is expected of where it belongs: the person who asks sees what it says.
_ANYWHERE = Expected()


@dataclass(frozen=True, slots=True)
class Readable:
    """An opened value, written down."""

    type: str
    #: `bytes`, `text`, `JSON`, `CSV` or `repr`.
    form: str
    data: bytes = field(repr=False)


def open_(given: Row | Object | File, report: Report, output: Path | None) -> Readable:
    """Open a value, and write it to a file if one is named.

    Each attempt leaves a line in the audit log, on standard error as well.

    Raises:
        SecureXComError: any of the tree; nothing of the value was shown or written.
    """
    with audited("inspect"), _new_file(output) as file:
        with redirect_stdout(sys.stderr):
            opened = _written(_value(given, report))
        if file is not None:
            _write(file, opened.data, cast("Path", output))
    return opened


def _value(given: Row | Object | File, report: Report) -> object:
    from secure_xcom.stack import build, build_states  # noqa: PLC0415 - for this alone

    with audit.failure("open", _ANYWHERE):
        settings = stores.settings(with_key=True)
        row = _row(given, report, settings.max_value_bytes)
        credentials = stores.credentials(settings)
        if report.state is None:
            stack = build(settings, credentials)
        else:
            states = build_states(settings, report.state, credentials)
    if report.state is None:
        return stack.get(row, _ANYWHERE).value
    opened = states.from_row(dumps(row).decode(), _ANYWHERE)
    with audit.failure("open", _ANYWHERE), suppress(ValueError, RecursionError):
        # What these errors hold is the state itself.
        return json.loads(text_of(opened.payload))
    raise FormatError("The state is not JSON.")


def _row(given: Row | Object | File, report: Report, max_value_bytes: int) -> Mapping[str, object]:
    """The row that stands for what was given; whether it may be opened is for the reader to say."""
    if report.kind in ("unsealed", "legacy"):
        raise UnsealedError("The row is not a sealed one, so there is nothing to open.")
    if report.kind == "body":
        raise ConfigError(
            "The object of an XCom cannot be opened without its row, which holds the key. Give the "
            "row."
        )
    if isinstance(given, File):
        bytes_max = body_bytes_max(max_value_bytes) + PREAMBLE_BYTES_MAX
        return to_row(Inline(_read(given, bytes_max)), "")
    if isinstance(given, Object):
        return state_to_row(StateObject(*stores.store_of(given.uri)), "")
    return cast("Mapping[str, object]", given.value)


def _read(file: File, bytes_max: int) -> bytes:
    if file.length_bytes > bytes_max:
        raise FormatError(
            f"The envelope has {file.length_bytes} bytes; `max_value_bytes` allows no more than "
            f"{bytes_max}."
        )
    try:
        with file.path.open("rb") as opened:
            data = opened.read(file.length_bytes + 1)
    except OSError as error:
        raise ConfigError(f"{str(file.path)!r} cannot be read: {error.strerror}.") from error
    if len(data) != file.length_bytes:
        raise AuthenticationError
    return data


def _written(value: object) -> Readable:
    """Write a value down so that a person can read it, and nothing of it is lost if possible."""
    name = type_name(value)
    if isinstance(value, bytes | bytearray):
        return Readable(name, "bytes", bytes(value))
    if type(value) is str:
        return Readable(name, "text", value.encode(errors="surrogatepass"))
    try:
        if _is_json(value):
            return Readable(name, "JSON", json.dumps(value, indent=2).encode() + b"\n")
        for method in ("to_csv", "write_csv"):  # pandas; polars
            if name.partition(".")[0] in ("pandas", "polars") and hasattr(value, method):
                return Readable(name, "CSV", str(getattr(value, method)()).encode())
        return Readable(name, "repr", repr(value).encode(errors="surrogatepass") + b"\n")
    except RecursionError:
        raise CodecError(f"The value ({name}) is nested too deeply to be written down.") from None


def _is_json(value: object) -> bool:
    """Whether JSON keeps a value as it is."""
    if type(value) is dict:
        return all(type(key) is str and _is_json(held) for key, held in value.items())
    if type(value) is list:
        return all(map(_is_json, value))
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (str, int, bool)


@contextmanager
def _new_file(path: Path | None) -> Iterator[int | None]:
    """Make a file for this user alone, and take it away again if nothing comes of it."""
    if path is None:
        yield None
        return
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"{str(path)!r} exists, and is left as it is. Name a file that does not."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise ConfigError(f"{str(path)!r} cannot be written: {reason}.") from error
    try:
        yield file
    except BaseException:
        with suppress(OSError):
            os.close(file)
        with suppress(OSError):
            path.unlink()
        raise
    try:
        os.close(file)
    except OSError as error:
        # Some file systems say only now that they have not kept what was written.
        with suppress(OSError):
            path.unlink()
        raise ConfigError(f"{str(path)!r} could not be written: {error.strerror}.") from error


def _write(file: int, data: bytes, path: Path) -> None:
    try:
        write_all(file, data)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} could not be written: {error.strerror}.") from error
