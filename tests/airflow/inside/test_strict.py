"""What `strict` refuses while tasks run; `unit/settings/test_settings.py` has the settings."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import pytest
from airflow import settings as airflow_settings
from conftest import VERSION, WHERE, push, stored

from secure_xcom.airflow import policy, reading, rendered, states
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.airflow.process import process
from secure_xcom.errors import ConfigError, SecureXComError, UnsealedError
from secure_xcom.model import Expected

STATE_STORE = "AIRFLOW__WORKERS__STATE_STORE_BACKEND"


@pytest.fixture
def strict(deployment, configure, monkeypatch):
    """Switch it on in this process, whose key is no Cloud KMS key all the same."""
    monkeypatch.setenv(STATE_STORE, states.DOTTED_NAME)
    configure(instance="prod-eu")
    be_strict()


def be_strict():
    settings, _ = process.current()
    process._current = process._current._replace(
        settings=dataclasses.replace(settings, strict=True), until=time.monotonic() + 3600
    )


def read(row, **where):
    expected = Expected(**{**WHERE, **where})
    return reading.read(row, expected, lambda row: row).value


def test_with_all_measures_in_place_values_pass(strict):
    assert read(push({"card": 4111})) == {"card": 4111}


def test_without_the_policy_nothing_is_written(strict, monkeypatch):
    unloaded = SimpleNamespace(is_registered=lambda _: False)
    if hasattr(airflow_settings, "POLICY_PLUGIN_MANAGER"):
        monkeypatch.setattr(airflow_settings, "POLICY_PLUGIN_MANAGER", unloaded)
    else:
        monkeypatch.setattr(airflow_settings, "get_policy_plugin_manager", lambda: unloaded)
    assert not policy.is_active()
    with pytest.raises(ConfigError, match="cluster policy") as refused:
        push({"card": 4111})
    assert "4111" not in str(refused.value)


@pytest.mark.parametrize("other", [None, "airflow.sdk.state.BaseStoreBackend"])
def test_without_a_sealed_state_store_nothing_is_written(strict, configure, monkeypatch, other):
    if other:
        monkeypatch.setenv(STATE_STORE, other)
    else:
        monkeypatch.delenv(STATE_STORE)
    if VERSION < (3, 3):  # there is none
        assert read(push({"card": 4111})) == {"card": 4111}
        return
    with pytest.raises(ConfigError, match="state_store_backend") as refused:
        push({"card": 4111})
    assert "4111" not in str(refused.value)
    configure(instance="prod-eu", uses_state_store="false")
    be_strict()
    assert read(push({"card": 4111})) == {"card": 4111}


def test_without_a_guard_of_rendered_fields_nothing_is_written_or_read(strict, monkeypatch):
    def missing():
        raise ConfigError("no place known")

    row = push("value")
    monkeypatch.setattr(rendered, "ensure", missing)
    with pytest.raises(ConfigError, match="no place known"):
        push("value")
    with pytest.raises(ConfigError, match="no place known"):
        read(row)


@pytest.mark.parametrize("unknown", ["dag_id", "task_id", "key"])
def test_a_read_that_does_not_say_what_it_wants_is_refused(strict, unknown):
    row = push("value")
    with pytest.raises(ConfigError, match="moved value"):
        read(row, **{unknown: None})


def test_a_bare_deserialize_value_is_refused(strict):
    row = push("value")
    with pytest.raises(ConfigError, match="deserialize_value"):
        SecureXComBackend.deserialize_value(SimpleNamespace(value=stored(row)))


def test_without_strict_it_is_read(deployment):
    row = push("value")
    assert SecureXComBackend.deserialize_value(SimpleNamespace(value=stored(row))) == "value"


@pytest.mark.parametrize("elsewhere", ["dag_id", "run_id", "task_id", "map_index", "key"])
def test_a_value_of_another_place_is_refused(strict, elsewhere):
    row = push("value", **{elsewhere: 7 if elsewhere == "map_index" else "elsewhere"})
    with pytest.raises(SecureXComError, match="authenticated"):
        read(row)


def test_an_unsealed_row_is_refused(strict):
    with pytest.raises(UnsealedError):
        read("clear text")
