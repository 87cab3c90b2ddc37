"""The kinds of values that settings have: how each is written, and which values it allows.

And what was probably meant by a value that is not allowed: a proposal is always one that is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, TypeAlias

from secure_xcom import uris
from secure_xcom.errors import ConfigError
from secure_xcom.text import Meant, Mistake, meant
from secure_xcom.uris import PREFIX_CHARACTERS_MAX, BucketPrefix, parse_kek, parse_store

#: Gives what was probably meant by a text that is not allowed.
Mend: TypeAlias = Callable[[str], Meant | None]

_URI_CHARACTERS_MAX = 512
#: XCom keys are at most this long in Airflow.
_KEY_CHARACTERS_MAX = 512

_NUMBER_BITS_MAX = 64
#: No longer list is looked at for mistakes.
_LIST_CHARACTERS_MAX = 4096

_INSTANCE = re.compile(r"[A-Za-z0-9._:/@-]{0,128}")
_CONNECTION = re.compile(r"[\w#!()\-.:/\\]{0,250}", re.ASCII)
_LOCATION = re.compile(r"[a-z][a-z0-9-]{1,62}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"(-?[0-9]{1,18})(?:\.0*)?\s*([A-Za-z]*)")
_SWITCHES = {
    **dict.fromkeys(("true", "yes", "y", "on", "1", "t", "enabled"), True),
    **dict.fromkeys(("false", "no", "n", "off", "0", "f", "disabled"), False),
}
_NAME_MISTAKES = (
    *uris.TEXT_MISTAKES,
    Mistake(re.compile(r"(?<=[\w.])\s+(?=[\w.])"), "-", "without white space in it"),
)
#: What stands behind a number, in lower case: how much it is, and how else it may be understood.
_UNITS: dict[str, dict[str, tuple[int, int]]] = {
    "bytes": {
        **dict.fromkeys(("b", "byte", "bytes"), (1, 1)),
        **{
            unit: (1000 ** (power + 1), 1024 ** (power + 1))
            for power, letter in enumerate("kmgt")
            for unit in (letter, f"{letter}b")
        },
        **{
            unit: (1024 ** (power + 1),) * 2
            for power, letter in enumerate("kmgt")
            for unit in (f"{letter}i", f"{letter}ib")
        },
    },
    "seconds": {
        **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), (1, 1)),
        **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), (60, 60)),
        **dict.fromkeys(("h", "hour", "hours"), (3600, 3600)),
    },
}


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


def is_location(name: str) -> bool:
    """Whether `name` has the form of a location of Google Cloud."""
    return _LOCATION.fullmatch(name) is not None


def is_pattern(pattern: str) -> bool:
    """Whether `pattern` fits XCom keys but not all: wildcards alone would switch sealing off."""
    return 0 < len(pattern) <= _KEY_CHARACTERS_MAX and pattern.strip("*?") != ""


def meant_store(uri: str) -> Meant | None:
    """The store that a wrong URI was probably meant to name."""
    return uris.meant_store(uri, is_store_uri)


def meant_kek(uri: str) -> Meant | None:
    """The key that a wrong URI was probably meant to name."""
    return uris.meant_kek(uri, is_kek_uri)


def meant_name(is_right: Callable[[str], bool]) -> Mend:
    """What a wrong name was probably meant to be, by what a right one is."""
    return lambda name: meant(name, _NAME_MISTAKES, is_right)


@dataclass(frozen=True, slots=True)
class ValueKind:
    """How the values of a setting are written, and which are allowed."""

    #: What is allowed, as an error says it.
    allowed: str
    #: Whether a JSON value is allowed.
    accepts: Callable[[object], bool]
    #: What was probably meant by a value that is not allowed, as JSON.
    meant: Callable[[object], Meant | None]
    #: From the text in airflow.cfg to the JSON value that the Variable would hold.
    from_text: Callable[[str], object] = str
    #: `string`, `integer` or `boolean`: a type of Airflow's provider schema.
    option_type: str = "string"
    #: Whether all that is allowed is short.
    is_short: bool = False


def text(allowed: str, accepts: Callable[[str], bool], mend: Mend | None = None) -> ValueKind:
    """Text that `accepts` accepts, and `mend` mends; without one, it is mended like a name."""
    mend = mend or meant_name(accepts)
    return ValueKind(
        allowed,
        lambda value: isinstance(value, str) and accepts(value),
        lambda value: mend(value) if isinstance(value, str) else None,
    )


def choice(*names: str) -> ValueKind:
    """One of a few names."""
    return ValueKind(
        "one of " + ", ".join(names),
        lambda value: value in names,
        partial(_meant_choice, names),
        is_short=True,
    )


def integer(unit: str, minimum: int, maximum: int) -> ValueKind:
    """A whole number of `unit` within its bounds."""

    def accepts(value: object) -> bool:
        # An exact type: to Python, True is an int.
        return type(value) is int and minimum <= value <= maximum

    return ValueKind(
        f"a plain integer of {unit}, from {minimum} to {maximum}",
        accepts,
        lambda value: _meant_number(value, unit, accepts),
        lambda text: int(text) if _INTEGER.fullmatch(text) else text,
        "integer",
        is_short=True,
    )


def switch() -> ValueKind:
    """True or false."""
    return ValueKind(
        "true or false",
        lambda value: type(value) is bool,
        _meant_switch,
        lambda text: {"true": True, "false": False}.get(text.lower(), text),
        "boolean",
        is_short=True,
    )


def listing(of: str, accepts: Callable[[str], bool], mend: Mend | None = None) -> ValueKind:
    """A list of texts, each of which `accepts` accepts and `mend` mends.

    Without `mend` it is one of texts that can be nearly anything, and no message proposes them.
    """
    return ValueKind(
        f"a list of {of}; in airflow.cfg separated by commas, or a JSON list, [] for none",
        lambda value: (
            isinstance(value, list)
            and all(isinstance(item, str) and accepts(item) for item in value)
        ),
        partial(_meant_list, accepts, mend) if mend else _meant_free_list,
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


def _meant_choice(names: tuple[str, ...], value: object) -> Meant | None:
    if not isinstance(value, str):
        return None
    plain = meant(value, uris.TEXT_MISTAKES, lambda text: text in names)
    if plain:
        return plain
    close = get_close_matches(value.strip("\"' ").lower()[:64], names, 1)
    return Meant(close[0], "in this spelling") if close else None


def _meant_switch(value: object) -> Meant | None:
    known = _SWITCHES.get(str(value).strip("\"' ").lower() if _is_plain(value) else "")
    return None if known is None else Meant(known, "a switch is true or false, without quotes")


def _meant_number(value: object, unit: str, accepts: Callable[[object], bool]) -> Meant | None:
    if not _is_plain(value) or isinstance(value, bool):
        return None
    mended = re.sub(r"\s+[#;]\s.*$", "", str(value)[:128]).strip("\"' ")
    found = _NUMBER.fullmatch(re.sub(r"(?<=[0-9])[_,' ](?=[0-9]{3})", "", mended))
    factors = _UNITS[unit].get(found[2].lower() or unit) if found else None
    if not found or not factors:
        return None
    number, other = (int(found[1]) * factor for factor in factors)
    if not accepts(number):
        return None
    advice = f"in {unit}, and digits alone"
    if other != number:
        advice += f"; {other} if a kilobyte is 1024"
    return Meant(number, advice)


def _meant_list(accepts: Callable[[str], bool], mend: Mend, value: object) -> Meant | None:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        return None
    text = ",".join(items).strip().removeprefix("[").removesuffix("]")[:_LIST_CHARACTERS_MAX]
    for separators, advice in (
        (",", "a list of what is allowed"),
        (r"[\s;,]+", "separated by commas"),
    ):
        parts = [part.strip(" \n\r\t\"'") for part in re.split(separators, text)]
        mended = [*_mended(list(filter(None, parts)), accepts, mend)]
        if mended and None not in mended:
            return Meant(mended, advice)
    return None


def _meant_free_list(value: object) -> Meant | None:
    if isinstance(value, str):
        return Meant(None, 'write it as a JSON list, ["one", "another"]')
    return None


def _mended(items: list[str], accepts: Callable[[str], bool], mend: Mend) -> Iterator[Any]:
    for item in items:
        if accepts(item):
            yield item
        else:
            found = mend(item)
            yield found and found.value


def _is_plain(value: object) -> bool:
    if type(value) is int:
        return value.bit_length() <= _NUMBER_BITS_MAX  # Python refuses to write longer ones
    return type(value) in (str, float, bool)
