"""The kinds of values that settings have: how each is written, and which values it allows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from secure_xcom.audit.sinks import STANDARD_ERROR, TASK_LOG
from secure_xcom.errors import ConfigError
from secure_xcom.uris import PREFIX_CHARACTERS_MAX, BucketPrefix, parse_kek, parse_store

_URI_CHARACTERS_MAX = 512
#: XCom keys are at most this long in Airflow.
_KEY_CHARACTERS_MAX = 512

_INSTANCE = re.compile(r"[A-Za-z0-9._:/@-]{0,128}")
_CONNECTION = re.compile(r"[\w#!()\-.:/\\]{0,250}", re.ASCII)
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def is_store_uri(uri: str) -> bool:
    """Whether `uri` names a store (`uris.py`) whose objects' names have room below it."""
    try:
        place = parse_store(uri)
    except ConfigError:
        return False
    prefix = place.prefix if isinstance(place, BucketPrefix) else ""
    return len(uri) <= _URI_CHARACTERS_MAX and len(prefix) <= PREFIX_CHARACTERS_MAX


def is_kek_uri(uri: str) -> bool:
    """Whether `uri` names a key encryption key (`uris.py`)."""
    try:
        parse_kek(uri)
    except ConfigError:
        return False
    return len(uri) <= _URI_CHARACTERS_MAX


def is_instance(name: str) -> bool:
    """Whether `name` can name a deployment; the empty name can."""
    return _INSTANCE.fullmatch(name) is not None


def is_connection(name: str) -> bool:
    """Whether `name` has the form of an Airflow connection id, or is empty."""
    return _CONNECTION.fullmatch(name) is not None


def is_audit_sink(place: str) -> bool:
    """Whether `place` is where lines of the audit log can go: a name, or the path of a file."""
    if place in (TASK_LOG, STANDARD_ERROR):
        return True
    return place.isprintable() and place.startswith("/") and place == os.path.normpath(place) != "/"


def is_pattern(pattern: str) -> bool:
    """Whether `pattern` fits XCom keys but not all: wildcards alone would switch sealing off."""
    return 0 < len(pattern) <= _KEY_CHARACTERS_MAX and pattern.strip("*?") != ""


@dataclass(frozen=True, slots=True)
class ValueKind:
    """How the values of a setting are written, and which are allowed."""

    #: What is allowed, as an error says it.
    allowed: str
    #: Whether a JSON value is allowed.
    accepts: Callable[[object], bool]
    #: From the text in airflow.cfg to the JSON value that the Variable would hold.
    from_text: Callable[[str], object] = str
    #: `string`, `integer` or `boolean`: a type of Airflow's provider schema.
    option_type: str = "string"


def text(allowed: str, accepts: Callable[[str], bool]) -> ValueKind:
    """Text that `accepts` accepts."""
    return ValueKind(allowed, lambda value: isinstance(value, str) and accepts(value))


def choice(*names: str) -> ValueKind:
    """One of a few names."""
    return text("one of " + ", ".join(names), lambda value: value in names)


def integer(unit: str, minimum: int, maximum: int) -> ValueKind:
    """A whole number of `unit` within its bounds."""
    return ValueKind(
        f"a plain integer of {unit}, from {minimum} to {maximum}",
        # An exact type: to Python, True is an int.
        lambda value: type(value) is int and minimum <= value <= maximum,
        lambda text: int(text) if _INTEGER.fullmatch(text) else text,
        "integer",
    )


def switch() -> ValueKind:
    """True or false."""
    return ValueKind(
        "true or false",
        lambda value: type(value) is bool,
        lambda text: {"true": True, "false": False}.get(text.lower(), text),
        "boolean",
    )


def listing(of: str, accepts: Callable[[str], bool]) -> ValueKind:
    """A list of texts, each of which `accepts` accepts."""
    return ValueKind(
        f"a list of {of}; in airflow.cfg separated by commas, or a JSON list, [] for none",
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
