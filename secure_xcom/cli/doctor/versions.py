"""Checks the versions of a key: their states and ages, and which of them rows still need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from secure_xcom.cli.doctor.check import Check, failed, passed, unseen, warned, within
from secure_xcom.errors import SecureXComError
from secure_xcom.keys.cloud_kms.facts import LIST_VERSIONS, VersionFacts, versions
from secure_xcom.keys.cloud_kms.kek import CloudKms

#: How many rows there are by KEK and by the version that their envelope names.
Counts: TypeAlias = Mapping[tuple[str, str], int]

_NAME = "key.versions"
_USABLE = "ENABLED"
_REWRAP = "docs/operations.md#rotate-a-key-and-destroy-the-former-version"


def count_rows() -> Counts:
    """Count the rows of the metadata database, where this process has one.

    Raises:
        SecureXComError: it has none, or they could not be read whole.
    """
    from secure_xcom.airflow import metadata  # noqa: PLC0415 - only where rows are looked at
    from secure_xcom.lifecycle.scan import scan  # noqa: PLC0415

    return scan(metadata.rows(), metadata.legacy_prefixes()).keys


def checks(
    kek: CloudKms, primary: str, age_days_max: int, counts: Callable[[], Counts]
) -> Iterator[Check]:
    """Look at all versions of a key.

    Args:
        kek: the key.
        primary: the number of its primary version; empty where there is none, or nobody knows.
        age_days_max: the greatest age of a primary version that passes.
        counts: counts rows; raises `SecureXComError` where it cannot.
    """
    try:
        found = within(lambda: versions(kek))
    except SecureXComError as error:
        yield unseen(
            _NAME,
            f"The versions could not be listed: {error}",
            f"Run the command with an account that has {LIST_VERSIONS.permission} "
            f"({LIST_VERSIONS.role}), for the time of the check.",
        )
        return
    try:
        rows = within(counts)
    except SecureXComError as error:
        listed = "; ".join(map(_shown, found))
        yield unseen(
            _NAME,
            f"{listed}. Which of them rows need was not seen: {error}",
            "Run the command where Airflow's own commands have the database, or secure-xcom scan "
            "where rows are many.",
        )
        return
    needed = {number: count for (uri, number), count in rows.items() if uri == kek.uri}
    others = sum(rows.values()) - sum(needed.values())
    yield _verdict(found, needed, others, primary, age_days_max)


def _verdict(
    found: Sequence[VersionFacts],
    needed: Mapping[str, int],
    others: int,
    primary: str,
    age_days_max: int,
) -> Check:
    states = {version.number: version.state for version in found}
    shown = [
        f"{_shown(version)}, {_rows(needed.get(version.number, 0))}"
        f"{', the primary' if version.number == primary else ''}"
        for version in found
    ]
    unknown = sorted(needed.keys() - states.keys())
    shown += [
        f"version {number}: not one of the key's, {_rows(needed[number])}" for number in unknown
    ]
    if others:
        shown.append(f"under other keys, {_rows(others)}")
    listed = f"{'; '.join(shown)}. What rows say of versions is not authenticated."
    lost = sorted(number for number in needed if states.get(number) != _USABLE)
    if lost:
        which = ", ".join(lost)
        return failed(
            _NAME,
            f"Rows need what cannot be used: version {which}. {listed}",
            "Enable it, or restore it first while it is only scheduled for destruction (gcloud kms "
            "keys versions restore, enable); what a destroyed version wrapped is lost: clear the "
            f"tasks that wrote it ({_REWRAP}).",
        )
    age_days = next((_age_days(one) for one in found if one.number == primary), None)
    if age_days is not None and age_days > age_days_max:
        return warned(
            _NAME,
            f"The primary version {primary} is {age_days} days old: whatever the rotation period "
            f"says, the key was not rotated since. {listed}",
            "Make a new version the primary (docs/operations.md#rotation).",
        )
    return passed(_NAME, listed)


def _shown(version: VersionFacts) -> str:
    age_days = _age_days(version)
    age = "of an age that the service does not say" if age_days is None else f"{age_days} days old"
    until = version.destroyed_at.date().isoformat() if version.destroyed_at else ""
    return f"version {version.number}: {version.state}{f' for {until}' if until else ''}, {age}"


def _age_days(version: VersionFacts) -> int | None:
    return None if version.created is None else (datetime.now(UTC) - version.created).days


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
