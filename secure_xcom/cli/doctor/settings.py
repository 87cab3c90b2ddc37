"""Checks the settings: shows each with its source, and what they allow."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from secure_xcom.cli.doctor.check import Check, failed, passed, warned
from secure_xcom.settings import BUCKET_VARIABLE, CLEAR_KEYS, TABLE, VARIABLE
from secure_xcom.settings.members import members
from secure_xcom.settings.strict import contradictions

if TYPE_CHECKING:
    from secure_xcom.airflow.configuration import SettingsTexts
    from secure_xcom.settings import Fault, Settings


def wrong(faults: Iterable[Fault]) -> Iterator[Check]:
    """Report what is wrong with the settings, each by itself."""
    for fault in faults:
        yield failed(
            "settings",
            fault.found,
            fault.advice or "Set it to what is allowed, or leave it out (docs/settings.md).",
        )


def sources(texts: SettingsTexts) -> dict[str, str]:
    """Where each setting comes from that has not its default, by name."""
    found = {}
    held_by_variable, _ = members(texts.variable)
    for row in TABLE:
        if row.name in held_by_variable:
            found[row.name] = texts.origin(VARIABLE)
        elif row.name in texts.section:
            found[row.name] = texts.origin(row.name)
        elif row.name == "store_uri" and texts.bucket is not None:
            found[row.name] = texts.origin(BUCKET_VARIABLE)
    return found


def checks(settings: Settings, found: Mapping[str, str]) -> Iterator[Check]:
    """Look at settings that are right by themselves.

    Args:
        settings: the settings.
        found: their sources.
    """
    values = asdict(settings)
    for name, source in found.items():
        yield passed("settings", f"{name} = {text_of(name, values[name])} ({source})")
    defaults = [row.name for row in TABLE if row.name not in found]
    if defaults:
        yield passed("settings", f"defaults: {', '.join(defaults)}")
    yield _instance(settings)
    yield _unsealed_reads(settings)
    yield _legacy_reads(settings)
    yield _clear_keys(settings)


def strict(settings: Settings, *, measures: bool) -> Check:
    """Whether the regulated posture is on, and what it would refuse where it is not.

    Args:
        settings: the settings.
        measures: whether what strict needs of Airflow is there.
    """
    if settings.strict and not measures:
        return failed(
            "strict",
            "strict is on, and what it needs of Airflow is off: every push is refused.",
            "See the checks policy, rendered_fields, masking, state_store and audit_log.",
        )
    if settings.strict:
        return passed("strict", "strict is on: the regulated posture is enforced")
    against = list(contradictions(asdict(settings) | {"strict": True, "require_cloud_kms": True}))
    if against:
        return warned(
            "strict",
            f"strict is off, and would refuse these settings: {'; '.join(against)}.",
            "For regulated data, set them right, and strict = true.",
        )
    return passed("strict", "strict is off, and nothing stands against switching it on")


def text_of(name: str, value: object) -> str:
    """Put a setting's value into a line; texts that stand in values of users are only counted."""
    if name == "unmasked_texts" and isinstance(value, tuple):
        return f"{len(value)} texts"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "[]"
    return json.dumps(value) if isinstance(value, bool) else str(value) or "empty"


def _instance(settings: Settings) -> Check:
    if settings.instance:
        return passed("instance", f"values are sealed for {settings.instance}")
    return warned(
        "instance",
        "instance is not set: a deployment that shares the key and has no name either could open "
        "values of this one.",
        "Set instance to a name of this deployment (docs/operations.md#another-key says how, where "
        "values were sealed without one).",
    )


def _unsealed_reads(settings: Settings) -> Check:
    if settings.unsealed_reads == "deny":
        return passed("unsealed_reads", "rows that were not sealed are refused")
    return warned(
        "unsealed_reads",
        f"unsealed_reads is {settings.unsealed_reads}: whoever can write a row can replace a "
        "sealed value by a plain one.",
        "Take it out as soon as the migration is over (docs/operations.md#migration).",
    )


def _legacy_reads(settings: Settings) -> Check:
    if not settings.legacy_reads:
        return passed("legacy_reads", "rows of former backends are refused")
    return warned(
        "legacy_reads",
        f"legacy_reads is {', '.join(settings.legacy_reads)}: whoever can write a row can replace "
        "a sealed value by a former backend's.",
        "Take it out as soon as the migration is over (docs/operations.md#migration).",
    )


def _clear_keys(settings: Settings) -> Check:
    more = sorted(set(settings.clear_keys) - set(CLEAR_KEYS))
    missing = sorted(set(CLEAR_KEYS) - set(settings.clear_keys))
    if missing:
        return warned(
            "clear_keys",
            f"Keys that Airflow reads past every backend are sealed: {', '.join(missing)}. Skipped "
            "branches may run after a clear, and links in the UI break.",
            "Add them to clear_keys; in airflow.cfg, a list replaces the default.",
        )
    if more:
        return warned(
            "clear_keys",
            f"Values under these keys are not sealed: {', '.join(more)}.",
            "Keep in clear_keys only what Airflow itself has to read.",
        )
    return passed("clear_keys", "only the keys that Airflow itself reads pass in clear")
