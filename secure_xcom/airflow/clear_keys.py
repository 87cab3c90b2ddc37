"""Which keys are clear keys: those that Airflow itself reads, past every backend.

They are told apart before all else, so that they work without keys, store or even valid settings.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

#: How many keys are remembered of those that were asked for.
_KEYS = 4096


def is_clear(key: str | None, patterns: tuple[str, ...]) -> bool:
    """Whether a key passes in clear; one that is not known does not."""
    return key is not None and _matches(key, patterns)


@cache
def first() -> tuple[str, ...]:
    """Give the patterns that hold before the settings are known: those of airflow.cfg."""
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    return configuration.clear_keys()


@lru_cache(maxsize=_KEYS)
def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return _compiled(patterns).fullmatch(key) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile(
        "|".join(
            re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns
        ),
        re.DOTALL,
    )
