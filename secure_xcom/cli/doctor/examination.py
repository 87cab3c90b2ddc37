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
from secure_xcom.cli.doctor import airflow, key, libraries, store
from secure_xcom.cli.doctor import settings as settings_checks
from secure_xcom.cli.doctor.check import Check, failed, passed, refused
from secure_xcom.errors import ConfigError
from secure_xcom.settings import load

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.settings import Settings


def examine(retention_days: int | None) -> Iterator[Check]:
    """Make all checks, and yield each as soon as it is made.

    Args:
        retention_days: how long rows live in the database; None if nobody has said it.

    Raises:
        ConfigError: there is no Airflow here.
    """
    checks = _checks(retention_days)
    while True:
        # Airflow logs to standard output, which is for the report.
        with redirect_stdout(sys.stderr):
            check = next(checks, None)
        if check is None:
            return
        yield check


def _checks(retention_days: int | None) -> Iterator[Check]:
    try:
        found = diagnosis.airflow_version()
    except ConfigError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a wrong configuration ends in
        yield airflow.unloadable(error)
        return
    yield airflow.version(found)
    yield from libraries.checks()
    yield airflow.backend()
    yield from airflow.safely("variables", airflow.variables)
    try:
        texts = configuration.texts()
        settings = load(*texts)
    except ConfigError as error:
        yield refused("settings", error)
        return
    yield from settings_checks.checks(settings, settings_checks.sources(texts))
    measures = [
        *airflow.safely("policy", lambda: airflow.policy(settings)),
        *airflow.safely("rendered_fields", airflow.rendered_fields),
        *airflow.safely("masking", lambda: airflow.masking(settings)),
        *airflow.safely("state_store", lambda: airflow.state_store(settings)),
    ]
    yield from measures
    yield settings_checks.strict(
        settings, measures=all(check.status == "pass" for check in measures)
    )
    yield from services(settings, lambda: configuration.credentials(settings), retention_days)


def services(
    settings: Settings,
    credentials_of: Callable[[], Credentials | None],
    retention_days: int | None,
) -> Iterator[Check]:
    """Look at the keys and the stores of checked settings."""
    credentials = None
    try:
        credentials = credentials_of()
    except ConfigError as error:
        yield refused("credentials", error)
        return
    yield passed(
        "credentials",
        f"of the connection {settings.gcp_conn_id}"
        if settings.gcp_conn_id
        else "application default credentials, where Google Cloud is called",
    )
    try:
        yield from key.checks(settings.kek_uri, credentials, settings.kms_deadline_seconds)
        for uri in settings.trusted_keks:
            yield key.trusted(uri, credentials, settings.kms_deadline_seconds)
        yield from store.checks(settings, credentials, retention_days)
        for uri in settings.trusted_stores:
            yield store.trusted(uri, settings, credentials)
    except ConfigError as error:
        yield failed("settings", str(error), "As the message says.")
