"""Profiles: which checks have to pass where the rules are stricter than what works."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from secure_xcom.cli.doctor.check import REGULATED, Check, failed


def regulated(checks: Iterable[Check]) -> Iterator[Check]:
    """Fail what does not pass, or was not made, of the checks that are declared as regulated."""
    made = set()
    for check in checks:
        made.add(check.name)
        wanted = check.name in REGULATED and check.status in ("warn", "unseen")
        yield replace(check, status="fail") if wanted else check
    for name in REGULATED:
        if name not in made:
            yield failed(
                name,
                "It was not looked at: what it needs is not set, or was out of reach.",
                "docs/operations.md#doctor says what it looks at, and how.",
            )
