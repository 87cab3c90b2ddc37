"""The audit log in an Airflow whose logging is as silent as it can be set."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
from conftest import VERSION, pull, push

from secure_xcom import audit
from secure_xcom.airflow import task_log
from secure_xcom.airflow.process import process
from secure_xcom.audit import sinks
from secure_xcom.errors import ConfigError


@pytest.fixture(autouse=True)
def _as_before():
    yield
    audit.configure([sinks.TASK_LOG], required=False)


def silenced(act):
    """Do something as a task where Airflow's level is CRITICAL, and all loggers' as well."""

    def acting():
        for name in ("", "airflow", "airflow.task", "secure_xcom", sinks.logger.name):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        sinks.logger.propagate = False
        act()

    return acting


def test_a_line_is_in_the_log_of_a_task_whatever_the_level(monkeypatch):
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    nonce = audit.nonce()
    assert task_log.holds(nonce, silenced(lambda: audit.probe(sinks.TASK_LOG, nonce)))


def test_and_what_is_logged_as_usual_is_not(monkeypatch):
    """Or the above would say nothing."""
    monkeypatch.setenv("AIRFLOW__LOGGING__LOGGING_LEVEL", "CRITICAL")
    nonce = audit.nonce()
    log = logging.getLogger("airflow.task")
    assert task_log.holds(nonce, lambda: log.critical(nonce))
    assert not task_log.holds(nonce, silenced(lambda: log.error(nonce)))


def test_each_place_gets_the_lines_of_a_push_and_a_pull(deployment, configure, tmp_path, capfd):
    trail = tmp_path / "trail"
    configure(audit_log=f"stderr, {trail}")
    assert pull(push("value")) == "value"
    written = [json.loads(line) for line in trail.read_text().splitlines()]
    assert [(line["operation"], line["outcome"]) for line in written] == [
        ("seal", "ok"),
        ("open", "ok"),
    ]
    shown = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line[0] == "{"]
    assert [line["severity"] for line in shown] == ["INFO", "INFO"]
    assert [line.items() >= other.items() for line, other in zip(shown, written, strict=True)]


def test_strict_does_nothing_that_leaves_no_line(deployment, configure, tmp_path):
    configure(
        instance="prod-eu",
        uses_state_store="false",
        audit_log=str(tmp_path / "missing" / "trail"),
    )
    row = push("value")
    settings, _ = process.current()
    audit.configure(settings.audit_log, required=True)
    process._current = process._current._replace(
        settings=dataclasses.replace(settings, strict=True, threshold_bytes=0)
    )
    for act in (lambda: push("value"), lambda: pull(row) if VERSION < (3, 0) else _pull(row)):
        with pytest.raises(ConfigError, match="audit log cannot be written"):
            act()
    assert deployment.objects() == []


def _pull(row):
    from conftest import WHERE  # noqa: PLC0415

    from secure_xcom.airflow import reading  # noqa: PLC0415
    from secure_xcom.model import Expected  # noqa: PLC0415

    return reading.read(row, Expected(**WHERE), lambda row: row)


def test_a_supervised_task_raises_the_level_of_lines_to_what_its_supervisor_lets_through():
    assert sinks.level_min() == logging.NOTSET
    if VERSION < (3, 0):
        return
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    task_runner.SUPERVISOR_COMMS = object()
    try:
        assert sinks.level_min() == logging.ERROR
    finally:
        del task_runner.SUPERVISOR_COMMS
        root.setLevel(before)
