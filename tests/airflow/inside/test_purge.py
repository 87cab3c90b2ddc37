"""Purging takes the object along, stays within its coordinate, and never raises."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from conftest import VERSION, WHERE, pull, push, stored

from secure_xcom.airflow import deleting
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.airflow.process import process
from secure_xcom.model import Expected


@pytest.fixture
def offloaded(deployment, configure):
    configure(threshold_bytes=0)
    row = push({"card": "4111"})
    [_] = deployment.objects()
    return row


def purge(row, **where):
    """Purge as Airflow does when it knows the coordinate; the row is gone already."""
    where = {**WHERE, **where}
    if VERSION < (3, 0):
        SecureXComBackend.purge(SimpleNamespace(value=stored(row), **where), None)
    else:
        deleting.delete_object(row, Expected(**where))


def test_the_object_goes(deployment, offloaded, caplog):
    purge(offloaded)
    assert deployment.objects() == []
    purge(offloaded)
    assert [r for r in caplog.records if r.name == "secure_xcom"] == []


@pytest.mark.skipif(VERSION >= (3, 0), reason="the database parses JSON there")
def test_an_already_parsed_row_is_understood(deployment, offloaded):
    SecureXComBackend.purge(SimpleNamespace(value=offloaded, **WHERE), None)
    assert deployment.objects() == []


@pytest.mark.parametrize("unknown", [*WHERE, None])
def test_the_object_of_a_row_that_is_not_wholly_known_stays(deployment, offloaded, caplog, unknown):
    where = {name: value for name, value in WHERE.items() if unknown not in (name, None)}
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        if VERSION < (3, 0):
            xcom = SimpleNamespace(value=stored(offloaded), **where)
            SecureXComBackend.purge(xcom, None)
        elif unknown is None:
            SecureXComBackend.purge(SimpleNamespace(value=offloaded, **WHERE))
        else:
            deleting.delete_object(offloaded, Expected(**where))
    assert len(deployment.objects()) == 1
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "AuthenticationError" in warning


def test_a_copied_environment_deletes_nothing_of_the_original(deployment, configure, caplog):
    configure(threshold_bytes=0, instance="original")
    row = push({"card": "4111"})
    configure(instance="copy", trusted_instances='["original"]')
    assert pull(row) == {"card": "4111"}
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        purge(row)
    assert len(deployment.objects()) == 1
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "ConfigError" in warning
    assert "'original'" in warning


@pytest.mark.parametrize(
    "elsewhere",
    [{"dag_id": "x"}, {"run_id": "x"}, {"task_id": "x"}, {"map_index": 3}, {"key": "x"}],
)
def test_the_object_of_another_xcom_stays(deployment, offloaded, caplog, elsewhere):
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        purge(offloaded, **elsewhere)
    assert len(deployment.objects()) == 1
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "AuthenticationError" in warning


@pytest.mark.parametrize(
    "change",
    [
        {"object": "../../kek"},
        {"object": f"{16 * 'a'}/{64 * 'b'}"},
        {"store": "file:///"},
        {"generation": "x"},
        {"length_bytes": True},
    ],
)
def test_a_forged_reference_deletes_nothing(deployment, offloaded, caplog, change):
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        purge({**offloaded, **change})
    assert len(deployment.objects()) == 1
    assert deployment.kek.exists()
    assert [r for r in caplog.records if r.name == "secure_xcom"]


@pytest.mark.parametrize(
    "row", [None, "", "gs://bucket/x", 7, [1], {}, {"a": 1}, {"__secure_xcom__": 9}, b"\x80\x04K"]
)
def test_junk_is_no_error(row):
    SecureXComBackend.purge(SimpleNamespace(value=row))
    SecureXComBackend.purge(SimpleNamespace())
    SecureXComBackend.purge(None)


def test_nothing_is_looked_up_for_an_inline_row(deployment, configure):
    row = push("small")
    configure(kek_uri=None, store_uri=None)
    purge(row)
    assert process._current is None


def test_a_failure_is_a_warning_that_names_its_class(offloaded, configure, caplog):
    configure(kek_uri=None)
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        purge(offloaded)
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "ConfigError" in warning
    assert "k of d.t in run r" in warning
