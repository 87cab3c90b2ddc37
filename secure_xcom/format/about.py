"""The sentence by which a row says to a person what it is (`docs/format.md`, section 7: `about`).

Airflow's UI shows a row as it stands in the database, so this is what an operator sees of an XCom.
"""

from __future__ import annotations

from pathlib import Path

from secure_xcom.errors import ConfigError
from secure_xcom.model import Inline, Payload, Reference
from secure_xcom.uris import parse_kek

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_STEP = 1024


def about(reference: Reference, kek_uri: str, told: Payload | None = None) -> str:
    """Describe a reference in one sentence.

    Args:
        reference: what the row holds.
        kek_uri: the key that it is sealed under.
        told: what was sealed, if its type and size may be told.
    """
    if isinstance(reference, Inline):
        sealed_bytes, where = len(reference.envelope), "in this row"
    else:
        sealed_bytes, where = reference.length_bytes, f"in {reference.store_uri}"
    value = f"{told.type_name} of {size(told.raw_bytes)}, sealed to " if told else ""
    return f"Sealed by secure_xcom: {value}{size(sealed_bytes)} {where}, under {_key(kek_uri)}."


def with_key(told: str, former_uri: str, kek_uri: str) -> str:
    """A sentence of `about` with another key; any other sentence as it is."""
    end = f", under {_key(former_uri)}."
    return f"{told.removesuffix(end)}, under {_key(kek_uri)}." if told.endswith(end) else told


def about_state(store_uri: str) -> str:
    """Describe the row of a state; it is the same for every write, so it tells no size."""
    return f"Sealed by secure_xcom: a state in {store_uri}."


def size(count_bytes: int) -> str:
    """A number of bytes as people read it, such as `1.2 MiB`."""
    if count_bytes < _STEP:
        return f"{count_bytes} bytes"
    amount, unit = float(count_bytes), 0
    while round(amount, 1) >= _STEP and unit + 1 < len(_UNITS):
        amount, unit = amount / _STEP, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}"


def _key(kek_uri: str) -> str:
    try:
        key = parse_kek(kek_uri)
    except ConfigError:
        return f"key {kek_uri}"
    return f"key file {key}" if isinstance(key, Path) else f"key {key.key} ({key.location})"
