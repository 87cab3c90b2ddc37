"""What `secure-xcom inspect` is given: a row, an object in a store, or a file with either.

All of it may come from an attacker, so nothing is read beyond a bound.
"""

from __future__ import annotations

import codecs
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from secure_xcom.errors import ConfigError, FormatError
from secure_xcom.format.body import BODY_HEADER_BYTES
from secure_xcom.format.envelope import MAGIC, PREAMBLE_BYTES_MAX
from secure_xcom.format.reference import claimed, is_tagged
from secure_xcom.lifecycle.content import STATE_REFERENCE
from secure_xcom.uris import FILE, GCS, LEGACY, scheme

#: A longer row is not looked at; `threshold_bytes` keeps such values out of rows.
ROW_BYTES_MAX = 1 << 24
_BLOCK_BYTES = 1 << 20
#: How often the server may have encoded a row as JSON again.
_WRAPPED_MAX = 2
#: How PostgreSQL's tools show a column of bytes that begins with a brace.
_HEXADECIMAL = "\\x7b"

#: Takes a character that is cut off at the end.
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Row:
    """What a database's column held."""

    origin: str
    #: The parsed row; text where it is not JSON.
    value: object = field(repr=False)
    #: How many times it stood as text in JSON.
    wrapped: int = 0


@dataclass(frozen=True, slots=True)
class Object:
    """An object, by its whole URI."""

    uri: str


@dataclass(frozen=True, slots=True)
class File:
    """A file that holds an envelope, or the body of one."""

    path: Path
    length_bytes: int
    crc32c: int
    start: bytes = field(repr=False)


def given(argument: str) -> Row | Object | File:
    """Tell what an argument is.

    Raises:
        ConfigError: it is a file that cannot be read, or nothing that can be looked at.
        FormatError: it is too long, or says twice what a row says once.
    """
    if not argument.strip():
        raise ConfigError(
            "There is nothing to look at: the argument is empty, perhaps because a variable of "
            "the shell is not set. Name a file, an object (gs://… or file:///…), or give the row "
            "itself as JSON; with - it is read from standard input."
        )
    if argument == "-":
        return _row("standard input", _bounded(sys.stdin.buffer, "Standard input"))
    if scheme(argument) in (GCS, FILE):
        return Object(argument)
    text = argument.strip()
    if text.startswith(("{", "[", '"', _HEXADECIMAL)):
        return _row("the command line", text.encode(errors="surrogateescape"))
    path = Path(argument)
    if _exists(path):
        return _file(path)
    if scheme(text) == LEGACY:
        return Row("the command line", text)
    raise ConfigError(
        f"{argument[:200]!r} is no file. Name a file, an object (gs://… or file:///…), or give the "
        "row itself as JSON; with - it is read from standard input."
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long a name, or a NUL in it
        return False


def _file(path: Path) -> Row | File:
    try:
        with open(path, "rb", opener=_opener) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ConfigError(f"{str(path)!r} is not a regular file.")
            start = opened.read(PREAMBLE_BYTES_MAX)
            if not (start.startswith(MAGIC) or _is_body(start)):
                opened.seek(0)
                return _row(str(path), _bounded(opened, "The file"))
            length_bytes, checksum = len(start), google_crc32c.value(start)
            while block := opened.read(_BLOCK_BYTES):
                length_bytes += len(block)
                checksum = google_crc32c.extend(checksum, block)
            return File(path, length_bytes, checksum, start)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}.") from error


def _is_body(start: bytes) -> bool:
    """Whether bytes can be the beginning of a body: its first byte, and then noise."""
    if start[:1] != bytes((BODY_HEADER_BYTES,)):
        return False
    try:
        _Utf8Decoder().decode(start[:BODY_HEADER_BYTES])
    except UnicodeDecodeError:
        return True
    return False


def _opener(path: str, flags: int) -> int:
    # A pipe without a writer would wait for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _bounded(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(ROW_BYTES_MAX + 1)
    if len(data) > ROW_BYTES_MAX:
        raise FormatError(
            f"{name} holds no envelope, and as a row it is too long: {ROW_BYTES_MAX} bytes are "
            "looked at, and no more."
        )
    return data


def _row(origin: str, data: bytes) -> Row:
    """Parse a row, also one that stands as text in JSON, as Airflow 3's server keeps some."""
    text = data.strip()
    if text.startswith(_HEXADECIMAL.encode()):
        try:
            text = bytes.fromhex(text[2:].decode("ascii"))
        except ValueError:
            raise FormatError("The row looks like hexadecimal digits, and is not.") from None
    value = parsed = _parsed(text)
    if isinstance(parsed, dict) and list(parsed) == [STATE_REFERENCE]:
        reference = str(parsed[STATE_REFERENCE])
        return Row(origin, _parsed(reference.encode(errors="surrogatepass")))
    for wrapped in range(1, _WRAPPED_MAX + 1):
        if not isinstance(value, str):
            break
        inner = _parsed(value.encode(errors="surrogatepass"))
        if is_tagged(inner):
            return Row(origin, inner, wrapped)
        value = inner if isinstance(inner, str) and inner != value else value
    return Row(origin, parsed)


def _parsed(text: bytes) -> object:
    """Parse JSON; give the text back if it is not JSON.

    Raises:
        FormatError: it is one of our rows, and not strictly JSON.
    """
    value = claimed(text)
    return text.decode(errors="replace") if value is None and text != b"null" else value
