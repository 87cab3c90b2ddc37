"""Makes `Settings` of what Airflow holds, or one error with all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeAlias

from secure_xcom.errors import ConfigError
from secure_xcom.settings.members import members, without_suffix
from secure_xcom.settings.strict import contradictions
from secure_xcom.settings.table import (
    BUCKET_VARIABLE,
    BY_NAME,
    SECTION,
    TABLE,
    VARIABLE,
    Settings,
    is_protected,
)
from secure_xcom.text import Meant, beginning, without_secrets
from secure_xcom.uris import BucketPrefix, is_bucket, looks_like_place, meant_bucket

# How messages call the two sources, where nobody says it more exactly.
_SECTION = f"airflow.cfg [{SECTION}]"
_VARIABLE = f"the Variable {VARIABLE}"
_SLIP_CHARACTERS_MAX = 8
#: How many items of a list, and how long a number is shown.
_ITEMS_MAX = 3
_NUMBER_BITS_MAX = 128

#: Says where Airflow has an option of the section from, or one of the two Variables.
Origin: TypeAlias = Callable[[str], str]


class Fault(NamedTuple):
    """Something that is wrong."""

    #: Which setting, from where, what it holds and what is allowed.
    found: str
    #: What was probably meant, or what to do, as a sentence; empty where `found` says it.
    advice: str = ""


def origin_by_kind(name: str) -> str:
    """Say where an option or a Variable comes from, as far as its name tells."""
    return f"the Variable {name}" if name in (VARIABLE, BUCKET_VARIABLE) else _SECTION


def load(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
    origin: Origin = origin_by_kind,
) -> Settings:
    """Check what was configured.

    Args:
        section: the section's options as text, without any defaults.
        variable: the Variable `SECURE_XCOM`, as JSON text or parsed; None where there is none.
        bucket: the Variable `XCOM_BACKEND_DATA_GCS_NAME`, a bucket's name, used where no
            `store_uri` is set; None where there is none.
        origin: asked only for what a message names.

    Raises:
        ConfigError: names every fault, where it came from, what it holds, what is allowed and
            what was probably meant.
    """
    settings, faults = check(section, variable, bucket, origin)
    if settings is None:
        raise ConfigError(
            "secure_xcom writes and reads nothing until its settings are right:\n"
            + "\n".join(
                f"- {fault.found}. {fault.advice}" if fault.advice else f"- {fault.found}"
                for fault in faults
            )
        )
    return settings


def check(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
    origin: Origin = origin_by_kind,
) -> tuple[Settings | None, list[Fault]]:
    """Check what was configured, as `load` does: the settings, or what is wrong with them.

    Raises:
        ConfigError: what is held cannot be read at all.
    """
    try:
        return _check(section, variable, bucket, origin)
    except Exception as error:  # noqa: BLE001 - what is held has methods of its own
        fault = type(error).__name__
    raise ConfigError(
        f"{_SECTION} or {_VARIABLE} holds what cannot be read as settings ({fault}); "
        "allowed are texts, numbers, true and false, and lists of texts."
    )


def _check(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
    origin: Origin,
) -> tuple[Settings | None, list[Fault]]:
    faults: list[Fault] = []
    # A faulty setting counts as set, so that it is not reported as missing; its value is None.
    values: dict[str, Any] = {}
    _take(section, origin, values, faults, as_text=True)

    locked_by = [name for name in section if is_protected(name) or name == "unlocked"]
    only_here = {row.name for row in TABLE if row.section_only}
    unlocked = values.get("unlocked") or ()
    allowed: dict[str, object] = {}
    held_by_variable, reason = members(variable)
    if reason:
        faults.append(Fault(f"{origin(VARIABLE)} is not a JSON object with each name once", reason))
    for name, held in held_by_variable.items():
        if name in only_here:
            faults.append(Fault(f"{name}, from {origin(VARIABLE)}: only {_SECTION} may set it"))
        elif locked_by and is_protected(name) and name not in unlocked:
            values.setdefault(name, None)
            faults.append(
                Fault(
                    f"{name}, from {origin(VARIABLE)}, is protected: {_setters(locked_by, origin)},"
                    f" so set {name} there too, or name it in unlocked there"
                )
            )
        else:
            allowed[name] = held
    _take(allowed, lambda _: origin(VARIABLE), values, faults, as_text=False)

    if "store_uri" not in values and bucket is not None:
        values["store_uri"] = BucketPrefix(bucket, "").uri
        if not is_bucket(bucket):
            probably = meant_bucket(bucket)
            faults.append(
                Fault(
                    f"{origin(BUCKET_VARIABLE)} is {_show(bucket, whole=_is_proposed(probably))}; "
                    "allowed: the bare name of a bucket",
                    _advice(probably, str),
                )
            )
    faults.extend(
        Fault(f"{row.name} is not set: set it in {_SECTION} to {row.kind.allowed}")
        for row in TABLE
        if row.default is None and row.name not in values
    )
    set_by_variable = allowed.keys()
    faults.extend(
        Fault(sentence)
        for sentence in contradictions(
            values, lambda name: origin(VARIABLE if name in set_by_variable else name)
        )
    )
    return (None if faults else Settings(**values)), faults


def _take(
    held: Mapping[str, object],
    origin: Origin,
    values: dict[str, Any],
    faults: list[Fault],
    *,
    as_text: bool,
) -> None:
    """Check what a source holds: valid values go into `values`, and faults into `faults`."""
    for name, raw in held.items():
        row = BY_NAME.get(name)
        if row is None:
            faults.append(_unknown(name, raw, origin(name)))
            continue
        value = row.kind.from_text(raw.strip()) if as_text and isinstance(raw, str) else raw
        if row.kind.accepts(value):
            values[name] = tuple(value) if isinstance(value, list) else value
        else:
            values[name] = None
            probably = row.kind.meant(value)
            # Where what is right is short, what is wrong and short is a slip.
            is_slip = (
                row.kind.is_short and isinstance(raw, str) and len(raw) <= _SLIP_CHARACTERS_MAX
            )
            shown = _show(raw, whole=is_slip or _is_proposed(probably))
            faults.append(
                Fault(
                    f"{name}, from {origin(name)}, is {shown}; allowed: {row.kind.allowed}",
                    _advice(probably, _in_section if as_text else json.dumps),
                )
            )


def _setters(names: Iterable[str], origin: Origin) -> str:
    """Say which settings each source sets."""
    by_source: dict[str, list[str]] = {}
    for name in names:
        by_source.setdefault(origin(name), []).append(name)
    return " and ".join(f"{source} sets {', '.join(set_)}" for source, set_ in by_source.items())


def _unknown(name: str, held: object, source: str) -> Fault:
    known = without_suffix(name)
    close = get_close_matches(name, BY_NAME, n=1)
    if known:
        advice = (
            f"Airflow runs commands and asks secrets backends only for options that it knows to "
            f"be sensitive, and {known} is none: set {known} itself"
        )
    elif isinstance(held, Mapping) and BY_NAME.keys() & held.keys():
        advice = "the settings in it belong one level up, into the Variable's own object"
    else:
        advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(BY_NAME)}"
    return Fault(f"{_show(name, whole=True)}, from {source}, is not a setting; {advice}")


def _advice(probably: Meant | None, as_written: Callable[[Any], str]) -> str:
    return "" if probably is None else probably.sentence(as_written)


def _is_proposed(probably: Meant | None) -> bool:
    return probably is not None and probably.value is not None


def _in_section(value: object) -> str:
    """Write a value as airflow.cfg has it."""
    if isinstance(value, list) and not any("," in item for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _show(held: object, *, whole: bool) -> str:
    """Show a wrong value, and no more of it than it takes to find it: it may be a secret.

    Args:
        held: the value.
        whole: whether it is known not to be one.
    """
    if isinstance(held, str):
        shown = without_secrets(held) if whole or looks_like_place(held) else beginning(held)
        return json.dumps(shown, ensure_ascii=False)
    if isinstance(held, list):
        items = [
            "a list" if isinstance(item, list) else _show(item, whole=whole)
            for item in held[:_ITEMS_MAX]
        ]
        return f"[{', '.join(items)}{', …' if len(held) > len(items) else ''}]"
    if held is None or type(held) in (bool, float):
        return json.dumps(held)
    if type(held) is int and held.bit_length() <= _NUMBER_BITS_MAX:
        return str(held)
    return f"of type {type(held).__name__}, and cannot be shown"
