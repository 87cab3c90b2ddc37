"""Makes `Settings` of what Airflow holds, or one error with all that is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from secure_xcom.errors import ConfigError
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
from secure_xcom.uris import BucketPrefix, is_bucket

# How messages call the two sources.
_SECTION = f"airflow.cfg [{SECTION}]"
_VARIABLE = f"the Variable {VARIABLE}"
#: How much of a wrong value a message shows.
_SHOWN_CHARACTERS_MAX = 120


def load(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
) -> Settings:
    """Check what was configured.

    Args:
        section: the section's options as text, without any defaults.
        variable: the Variable `SECURE_XCOM`, as JSON text or parsed; None where there is none.
        bucket: the Variable `XCOM_BACKEND_DATA_GCS_NAME`, a bucket's name, used where no
            `store_uri` is set; None where there is none.

    Raises:
        ConfigError: names every fault, where it came from, what it holds and what is allowed.
    """
    try:
        return _load(section, variable, bucket)
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - what is held has methods of its own
        fault = type(error).__name__
    raise ConfigError(
        f"{_SECTION} or {_VARIABLE} holds what cannot be read as settings ({fault}); "
        "allowed are texts, numbers, true and false, and lists of texts."
    )


def _load(
    section: Mapping[str, str],
    variable: Mapping[str, object] | str | None,
    bucket: str | None,
) -> Settings:
    faults: list[str] = []
    # A faulty setting counts as set, so that it is not reported as missing; its value is None.
    values: dict[str, Any] = {}
    _take(section, _SECTION, values, faults, as_text=True)

    locked_by = [name for name in section if is_protected(name) or name == "unlocked"]
    only_here = {row.name for row in TABLE if row.section_only}
    unlocked = values.get("unlocked") or ()
    allowed: dict[str, object] = {}
    for name, held in _members(variable, faults).items():
        if name in only_here:
            faults.append(f"{name}, from {_VARIABLE}: only {_SECTION} may set it")
        elif locked_by and is_protected(name) and name not in unlocked:
            values.setdefault(name, None)
            faults.append(
                f"{name}, from {_VARIABLE}, is protected: {_SECTION} sets "
                f"{', '.join(locked_by)}, so set {name} there too, or name it in unlocked there"
            )
        else:
            allowed[name] = held
    _take(allowed, _VARIABLE, values, faults, as_text=False)

    if "store_uri" not in values and bucket is not None:
        values["store_uri"] = BucketPrefix(bucket, "").uri
        if not is_bucket(bucket):
            faults.append(
                f"the Variable {BUCKET_VARIABLE} is {_show(bucket)}; allowed: the bare name of a "
                "bucket"
            )
    faults.extend(
        f"{row.name} is not set: set it in {_SECTION} to {row.kind.allowed}"
        for row in TABLE
        if row.default is None and row.name not in values
    )
    faults.extend(contradictions(values))
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
    """Check what a source holds: valid values go into `values`, and faults into `faults`."""
    for name, raw in held.items():
        row = BY_NAME.get(name)
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
    close = get_close_matches(name, BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(BY_NAME)}"
    return f"{_show(name)}, from {source}, is not a setting; {hint}"


def _show(held: object) -> str:
    try:
        shown = json.dumps(held, ensure_ascii=False, default=lambda other: type(other).__name__)
    except Exception:  # noqa: BLE001 - enormous, deep, or with methods of its own
        shown = f"of type {type(held).__name__}, and cannot be shown"
    return shown if len(shown) <= _SHOWN_CHARACTERS_MAX else f"{shown[:_SHOWN_CHARACTERS_MAX]}…"
