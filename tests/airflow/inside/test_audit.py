"""The audit log of what the backend refuses or cannot do before the layers below are asked."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import pytest
from conftest import VERSION, WHERE, pull, push

from secure_xcom import audit
from secure_xcom.airflow import deleting, rendered
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.airflow.process import process
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.model import Expected

CANARY = "canary-of-the-audit-log"


@pytest.fixture
def lines(caplog):
    """Take what was written since the last time: operation, outcome, error and the XCom's key."""
    caplog.set_level("INFO", audit.logger.name)

    def take():
        texts = [
            record.getMessage() for record in caplog.records if record.name == audit.logger.name
        ]
        caplog.clear()
        assert CANARY not in "".join(texts)
        return [
            tuple(json.loads(text).get(name) for name in ("operation", "outcome", "error", "key"))
            for text in texts
        ]

    return take


def failing(call, *args, **kwargs):
    with pytest.raises(SecureXComError):
        call(*args, **kwargs)


def test_what_passes_has_one_line_each(deployment, lines):
    row = push(CANARY)
    assert pull(row) == CANARY
    assert lines() == [("seal", "ok", None, "k"), ("open", "ok", None, "k")]


def test_clear_keys_have_none(deployment, lines):
    assert pull(push("x", key="skipmixin_key"), key="skipmixin_key") == "x"
    assert lines() == []


def test_a_push_that_fails_before_it_is_sealed(deployment, configure, lines):
    failing(push, {"__secure_xcom__": CANARY}, key="skipmixin_key")
    failing(push, CANARY, task_id=None)
    failing(push, {"k": object()})
    configure(threshold_bytes="none")
    failing(push, CANARY)
    assert lines() == [
        ("seal", "failed", "CodecError", "skipmixin_key"),
        ("seal", "refused", "FormatError", "k"),
        ("seal", "failed", "CodecError", "k"),
        ("seal", "refused", "ConfigError", "k"),
    ]


def test_a_push_that_strict_refuses(deployment, lines, monkeypatch):
    settings, stack = process.current()
    strict = dataclasses.replace(settings, strict=True)
    monkeypatch.setattr(process, "current", lambda: (strict, stack))

    def missing():
        raise ConfigError("no place known")

    monkeypatch.setattr(rendered, "ensure", missing)
    failing(push, CANARY)
    failing(pull, {"a": CANARY})
    assert lines() == [
        ("seal", "refused", "ConfigError", "k"),
        ("refuse", "refused", "ConfigError", "k"),
    ]


def test_a_pull_that_is_refused(deployment, configure, lines):
    failing(pull, {"card": CANARY})
    failing(pull, {"__secure_xcom__": 1, "card": CANARY})
    failing(pull, {"__secure_xcom__": 1, "card": CANARY}, key="skipmixin_key")
    configure(kek_uri=None)
    failing(pull, {"card": CANARY})
    assert lines() == [
        ("refuse", "refused", "UnsealedError", "k"),
        ("refuse", "refused", "FormatError", "k"),
        ("refuse", "refused", "FormatError", "skipmixin_key"),
        ("refuse", "refused", "ConfigError", "k"),
    ]


@pytest.mark.skipif(VERSION >= (3, 0), reason="the database parses JSON there")
@pytest.mark.parametrize(
    ("stored", "error"),
    [
        (b'{"__secure_xcom__": 1, "__secure_xcom__": 1}', "FormatError"),
        (b"\x80\x04}", "UnsealedError"),
    ],
)
def test_a_row_of_airflow_2_that_is_no_proper_json(deployment, configure, lines, stored, error):
    for policy in ("deny", "allow"):
        configure(unsealed_reads=policy)
        result = SimpleNamespace(value=stored, **WHERE)
        failing(SecureXComBackend.deserialize_value, result)
        assert lines() == [("refuse", "refused", error, "k")]


def test_a_deletion_that_is_refused(deployment, lines):
    deleting.delete_object({"__secure_xcom__": 1, "placement": "offloaded"}, Expected("d", key="k"))
    deleting.delete_object({"card": CANARY}, Expected("d", key="k"))
    assert lines() == [("refuse", "refused", "FormatError", "k")]
