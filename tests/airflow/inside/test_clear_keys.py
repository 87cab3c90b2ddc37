"""Keys that Airflow itself reads pass in clear, even while nothing else works."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import json

import pytest
from conftest import VERSION, WHERE, pull, push, stored

from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import CodecError, ConfigError, FormatError

if VERSION < (3, 0):
    from airflow.models.xcom import BaseXCom
else:
    from airflow.sdk.bases.xcom import BaseXCom

DEFAULT_KEYS = ["skipmixin_key", "past_depends_met", "_link_TriggerDagRunLink", "trigger_run_id"]


@pytest.mark.parametrize("key", DEFAULT_KEYS)
def test_a_clear_key_needs_no_settings(key):
    value = {"followed": ["a", "b"], "tuple": [1, 2.5, None]}
    row = SecureXComBackend.serialize_value(value, **{**WHERE, "key": key})
    assert row == BaseXCom.serialize_value(value)
    assert pull(value, key=key) == value


@pytest.mark.parametrize("broken", ["no-such-scheme://x", ""])
def test_a_clear_key_works_while_settings_are_wrong(configure, broken):
    configure(kek_uri=broken, store_uri="file:///x", no_such_setting="1")
    assert push({"skipped": ["a"]}, key="skipmixin_key") == {"skipped": ["a"]}
    assert pull({"skipped": ["a"]}, key="skipmixin_key") == {"skipped": ["a"]}
    with pytest.raises(ConfigError, match="no_such_setting"):
        push("anything", key="return_value")


@pytest.mark.parametrize("value", [None, True, "text", 7, ["a", 1.5], {"a": {"b": None}}, (1, 2)])
def test_the_row_of_a_clear_key_is_the_stock_ones(value):
    row = SecureXComBackend.serialize_value(value, **{**WHERE, "key": "_link_x"})
    assert row == BaseXCom.serialize_value(value)
    if value is not None:
        stock = BaseXCom.deserialize_value(type("Result", (), {"value": row}))
        assert pull(json.loads(row) if VERSION < (3, 0) else row, key="_link_x") == stock == value


def test_patterns_match_whole_keys_only(deployment):
    assert "__secure_xcom__" in push("x", key="my_link_x")
    assert "__secure_xcom__" in push("x", key="skipmixin_key2")
    assert push("x", key="_link_") == "x"


def test_a_list_in_the_configuration_replaces_the_default(deployment, configure):
    configure(clear_keys="report_*, a?c")
    assert push("x", key="report_1") == "x"
    assert push("x", key="abc") == "x"
    assert "__secure_xcom__" in push("x", key="a.bc")
    assert "__secure_xcom__" in push("x", key="skipmixin_key")


def test_a_wrong_list_leaves_the_built_in_keys_working(deployment, configure):
    configure(clear_keys="*")
    assert push("x", key="skipmixin_key") == "x"
    with pytest.raises(ConfigError, match="clear_keys"):
        push("x", key="return_value")


def test_a_variable_may_add_keys_where_nothing_protects_the_list(
    deployment, configure, monkeypatch
):
    variable = {
        "kek_uri": f"local-kek://{deployment.kek}",
        "store_uri": f"file://{deployment.store}",
        "clear_keys": ["report"],
    }
    configure(kek_uri=None, store_uri=None)
    monkeypatch.setenv("AIRFLOW_VAR_SECURE_XCOM", json.dumps(variable))
    assert push("x", key="report") == "x"
    assert pull("x", key="report") == "x"
    # What it left out stays: a scheduler decides before any Variable is read.
    assert push("x", key="skipmixin_key") == "x"


@pytest.mark.parametrize("key", ["skipmixin_key", "report"])
def test_a_clear_key_never_carries_our_tag(deployment, configure, key):
    sealed = push("secret", key="return_value")
    configure(clear_keys="skipmixin_key, report")
    with pytest.raises(CodecError, match="__secure_xcom__"):
        push(sealed, key=key)
    with pytest.raises(FormatError, match="__secure_xcom__"):
        pull(sealed, key=key)


def test_a_value_without_its_coordinate_is_not_sealed(deployment):
    with pytest.raises(FormatError, match="run_id, task_id"):
        SecureXComBackend.serialize_value("x", key="k", dag_id="d")
    assert stored("x") == SecureXComBackend.serialize_value("x", key="skipmixin_key")
