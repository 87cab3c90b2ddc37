"""Checks a deployment line by line: what it is set to, and whether that works.

It runs in the deployment's own environment, reads its configuration as the backend does, and calls
key and bucket by the clients that workers use. It changes nothing, but for one object of random
bytes, which it deletes. What it shows holds no key, token or value.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from secure_xcom.airflow import configuration, diagnosis
from secure_xcom.airflow.backend import DOTTED_NAME
from secure_xcom.cli.doctor import (
    airflow,
    credentials,
    crypto,
    key,
    libraries,
    store,
    trail,
    versions,
)
from secure_xcom.cli.doctor import settings as settings_checks
from secure_xcom.cli.doctor.check import Check, failed, refused
from secure_xcom.errors import ConfigError
from secure_xcom.settings import check as check_settings

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.settings import Settings


def examine(
    retention_days: int | None, counts: Callable[[], versions.Counts] = versions.count_rows
) -> Iterator[Check]:
    """Make all checks, and yield each as soon as it is made.

    Args:
        retention_days: how long rows live in the database; None if nobody has said it.
        counts: counts rows by the version that they need; raises `SecureXComError` where it cannot.

    Raises:
        ConfigError: there is no Airflow here.
    """
    checks = _checks(retention_days, counts)
    while True:
        # Airflow logs to standard output, which is for the report.
        with redirect_stdout(sys.stderr):
            check = next(checks, None)
        if check is None:
            return
        yield check


def _checks(retention_days: int | None, counts: Callable[[], versions.Counts]) -> Iterator[Check]:
    try:
        found = diagnosis.airflow_version()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a wrong configuration ends in
        yield airflow.unloadable(error)
        return
    yield airflow.version(found)
    yield from libraries.checks()
    yield crypto.module()
    backend = airflow.backend()
    yield backend
    if backend.status == "fail":
        # Otherwise Airflow 3 could not look up Variables, and would say that they are at fault.
        diagnosis.use_backend(DOTTED_NAME)
    yield from airflow.safely("variables", airflow.variables)
    try:
        texts = configuration.texts()
        settings, faults = check_settings(*texts)
    except ConfigError as error:
        yield refused("settings", error)
        return
    if settings is None:
        yield from settings_checks.wrong(faults)
        return
    yield from settings_checks.checks(settings, settings_checks.sources(texts))
    yield from airflow.links(settings)
    measures = [
        *airflow.safely("policy", lambda: airflow.policy(settings)),
        *airflow.safely("rendered_fields", airflow.rendered_fields),
        *airflow.safely("masking", lambda: airflow.masking(settings)),
        *airflow.safely("state_store", lambda: airflow.state_store(settings)),
    ]
    yield from measures
    audited = list(trail.checks(settings))
    yield from audited
    yield settings_checks.strict(
        settings,
        measures=all(check.status == "pass" for check in measures)
        and all(check.status != "fail" for check in audited),
    )
    yield from services(
        settings, lambda: configuration.credentials(settings), retention_days, counts
    )


def services(
    settings: Settings,
    credentials_of: Callable[[], Credentials | None],
    retention_days: int | None,
    counts: Callable[[], versions.Counts],
) -> Iterator[Check]:
    """Look at the keys and the stores of checked settings."""
    found = credentials.look(settings, credentials_of)
    yield found.check
    if found.check.status == "fail":
        return
    try:
        yield from key.checks(settings, found, counts)
        for uri in settings.trusted_keks:
            yield key.trusted(uri, found.given, settings.kms_deadline_seconds)
        yield from store.checks(settings, found.given, retention_days)
        for uri in settings.trusted_stores:
            yield store.trusted(uri, settings, found.given)
    except ConfigError as error:
        yield failed("settings", str(error), "See docs/settings.md.")
