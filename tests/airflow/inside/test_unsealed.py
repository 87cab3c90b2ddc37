"""Rows that this backend did not write: refused, read with a warning, or read."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import logging
import traceback
from types import SimpleNamespace

import pytest
from conftest import VERSION, WHERE, pull, push

from secure_xcom.airflow import deleting
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import CodecError, FormatError, SecureXComError, UnsealedError
from secure_xcom.model import Expected

if VERSION < (3, 0):
    from airflow.models.xcom import BaseXCom
else:
    from airflow.sdk.bases.xcom import BaseXCom

VALUES = [True, 0, 2.5, "text", "", [], [1, [2]], {}, {"a": {"b": None}}, (1, ("x", None)), {1, 2}]


@pytest.mark.parametrize("row", [None, True, 0, "gs://bucket/x", [1], {"a": 1}, {"placement": 1}])
def test_deny_refuses_and_says_what_to_do(deployment, row):
    with pytest.raises(UnsealedError) as refused:
        pull(row)
    for hint in ("k of d.t in run r" if VERSION < (3, 0) else "k of", "unsealed_reads", "warn"):
        assert hint in str(refused.value)
    assert "gs://bucket" not in str(refused.value)


@pytest.mark.parametrize("policy", ["warn", "allow"])
@pytest.mark.parametrize("value", VALUES)
def test_what_is_let_through_is_what_the_stock_backend_reads(deployment, configure, policy, value):
    configure(unsealed_reads=policy)
    result = SimpleNamespace(**{**WHERE, "value": BaseXCom.serialize_value(value)})
    read = SecureXComBackend.deserialize_value(result)
    assert read == BaseXCom.deserialize_value(result) == value
    assert type(read) is type(value)


def test_a_warning_comes_once_for_a_dag_and_key(deployment, configure, caplog):
    configure(unsealed_reads="warn")
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        for key in ("a", "a", "b"):
            assert pull("plain canary", key=key) == "plain canary"
    texts = [record.getMessage() for record in caplog.records if record.name == "secure_xcom"]
    assert [text.partition(" of DAG")[0] for text in texts] == ["XCom a", "XCom b"]
    assert "canary" not in caplog.text


#: Line breaks of each kind, a terminal's escape, and one that turns the reading direction.
FORGED = "k\n2026 WARNING forged\r\x1b[31m\x85\u2028\u202e"


def test_a_key_stays_in_its_line(deployment, configure, caplog):
    configure(unsealed_reads="warn")
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        assert pull("plain", key=FORGED, dag_id=FORGED) == "plain"
        deleting.delete_object({"__secure_xcom__": 1}, Expected(FORGED, FORGED, FORGED, -1, FORGED))
    texts = [record.getMessage() for record in caplog.records if record.name == "secure_xcom"]
    configure(unsealed_reads="deny")
    with pytest.raises(UnsealedError) as refused:
        pull("plain", key=FORGED)
    for text in (*texts, str(refused.value)):
        assert "2026 WARNING forged" in text
        assert text.isprintable()
    assert len(texts) == 2


@pytest.mark.parametrize("key", ["k", "clear"])
def test_what_the_stock_backend_raises_is_an_error_of_ours(deployment, configure, monkeypatch, key):
    configure(unsealed_reads="allow", clear_keys="clear")

    def fail(*_, **__):
        raise ImportError("4111 was not found in allow list")

    row = push("plain", key="clear")
    name = "airflow.utils.json.XComDecoder.decode"
    if VERSION >= (3, 0):
        name = "airflow.sdk.bases.xcom.BaseXCom.deserialize_value"
    with monkeypatch.context() as patched:
        patched.setattr(name, fail)
        with pytest.raises(CodecError, match="ImportError") as refused:
            pull(row, key=key)
    assert "4111" not in "".join(traceback.format_exception(refused.value))


def test_a_value_that_raises_under_a_clear_key_is_an_error_of_ours(deployment, configure):
    configure(clear_keys="clear")

    class Evil(dict):
        def items(self):
            raise ValueError("4111")

        values = __iter__ = __contains__ = keys = items

    for value in (Evil(a=1), [Evil(a=1)], object()):
        with pytest.raises(CodecError) as refused:
            push(value, key="clear")
        assert "4111" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("policy", ["deny", "warn", "allow"])
@pytest.mark.parametrize(
    "row",
    [
        {"__secure_xcom__": 1},
        {"__secure_xcom__": 2, "placement": "inline", "envelope": "", "about": {}},
        {"__secure_xcom__": True, "placement": "inline", "envelope": "AAAA", "about": {}},
        {"__secure_xcom__": "1", "value": 7},
    ],
)
def test_what_carries_our_tag_is_never_taken_for_unsealed(deployment, configure, policy, row):
    configure(unsealed_reads=policy)
    with pytest.raises(FormatError):
        pull(row)


@pytest.mark.parametrize("policy", ["warn", "allow"])
def test_sealed_rows_open_under_every_policy(deployment, configure, policy):
    row = push({"card": "4111"})
    configure(unsealed_reads=policy)
    assert pull(row) == {"card": "4111"}


@pytest.mark.skipif(VERSION >= (3, 0), reason="the database parses JSON there")
@pytest.mark.parametrize("policy", ["deny", "allow"])
@pytest.mark.parametrize(
    "text",
    [
        b'{"__secure_xcom__": 1, "__secure_xcom__": 1}',
        b'{"a": 1, "a": 2, "\\u005f_secure_xcom__": 1}',
        b'{"__secure_xcom__": 1, "placement": "inline", "placement": "inline"}',
    ],
)
def test_a_tagged_row_with_a_member_twice_is_refused(deployment, configure, policy, text):
    configure(unsealed_reads=policy)
    with pytest.raises(SecureXComError):
        SecureXComBackend.deserialize_value(SimpleNamespace(value=text, **WHERE))
