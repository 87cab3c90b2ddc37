"""The audit log: what each operation writes, through the layers that do it."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace

import pytest
from support.deployment import CANARY, WHERE, Deployment

from secure_xcom import audit
from secure_xcom.errors import SecureXComError
from secure_xcom.layers.states import text_of
from secure_xcom.model import Expected
from secure_xcom.settings import load
from secure_xcom.stack import build_states

ASKED = Expected.exactly(WHERE)
WHOSE = {
    "dag_id": WHERE.dag_id,
    "run_id": WHERE.run_id,
    "task_id": WHERE.task_id,
    "map_index": -1,
    "key": WHERE.key,
}


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path / "deployment")


@pytest.fixture
def lines(caplog):
    """Take the lines that were written since the last time."""
    caplog.set_level("INFO", audit.logger.name)

    def take():
        records = [record for record in caplog.records if record.name == audit.logger.name]
        caplog.clear()
        taken = [json.loads(record.getMessage()) for record in records]
        for record, line in zip(records, taken, strict=True):
            assert (record.levelno == logging.INFO) == (line["outcome"] == "ok")
            assert CANARY not in record.getMessage()
            assert line["actor"] is None
        return taken

    return take


def states(deployment, threshold_bytes):
    section = {
        "kek_uri": deployment.kek_uri,
        "store_uri": deployment.store_uri,
        "threshold_bytes": str(threshold_bytes),
    }
    return build_states(load(section, None, None), "task")


def told(line, *names):
    return tuple(line[name] for name in names)


@pytest.mark.parametrize("threshold_bytes", ["-1", "0"])
def test_sealing_opening_and_deleting(deployment, lines, threshold_bytes):
    stack = deployment.stack(threshold_bytes=threshold_bytes)
    row = stack.put({"card": CANARY}, WHERE)
    assert deployment.stack().get(row, ASKED) == ({"card": CANARY}, WHERE)
    stack.delete(row, ASKED)
    sealed, opened, deleted = lines()
    for line, operation in ((sealed, "seal"), (opened, "open"), (deleted, "delete")):
        assert told(line, "operation", "outcome", "error") == (operation, "ok", None)
        assert line.items() >= WHOSE.items()
        assert line["placement"] == row["placement"]
        assert told(line, "store", "object", "generation") == (
            row.get("store"),
            row.get("object"),
            row.get("generation"),
        )
        sealed_bytes = row.get("length_bytes") or len(base64.b64decode(row["envelope"]))
        assert line["sealed_bytes"] == sealed_bytes
    for line in (sealed, opened):
        assert told(line, "kek", "kek_version") == (deployment.kek_uri, "")
    assert sealed["raw_bytes"] == opened["raw_bytes"] > len(CANARY)


def test_what_is_opened_says_where_it_belongs_and_not_what_was_asked(deployment, lines):
    deployment.stack().get(deployment.stack().put(CANARY, WHERE), Expected(key=WHERE.key))
    assert lines()[-1].items() >= WHOSE.items()


def test_what_is_refused_says_what_was_asked(deployment, lines):
    row = deployment.stack().put(CANARY, WHERE)
    with pytest.raises(SecureXComError):
        deployment.stack().get(row, Expected("other", task_id="load"))
    line = lines()[-1]
    assert told(line, "operation", "outcome", "error") == (
        *("refuse", "refused", "AuthenticationError"),
    )
    assert told(line, "dag_id", "run_id", "task_id", "kek") == (
        *("other", None, "load", deployment.kek_uri),
    )


@pytest.mark.parametrize("many", [False, True])
def test_a_row_that_cannot_be_parsed_is_refused(deployment, lines, many):
    row = deployment.stack().put(CANARY, WHERE) | {"own": 1}
    lines()
    stack = deployment.stack()
    read = (lambda: stack.get_many({3: (row, ASKED)})) if many else (lambda: stack.get(row, ASKED))
    with pytest.raises(SecureXComError):
        read()
    (line,) = lines()
    assert told(line, "operation", "outcome", "error") == ("refuse", "refused", "FormatError")
    assert line.items() >= WHOSE.items()


def test_what_is_deleted_says_which_generation_it_was(deployment, lines):
    """A restored object has another one than its row says."""
    stack = deployment.stack(threshold_bytes="0")
    row = stack.put({"card": CANARY}, WHERE)
    path = deployment.objects()[row["object"]]
    contents = path.read_bytes()
    path.unlink()
    path.write_bytes(contents)
    generation = str(path.stat().st_mtime_ns)
    lines()
    stack.delete(row, ASKED)
    (line,) = lines()
    assert told(line, "operation", "outcome", "generation") == ("delete", "ok", generation)
    assert generation != row["generation"]
    assert deployment.objects() == {}


@pytest.mark.parametrize("left", [None, b"other bytes"])
def test_a_deletion_that_finds_nothing_names_no_generation(deployment, lines, left):
    stack = deployment.stack(threshold_bytes="0")
    row = stack.put({"card": CANARY}, WHERE)
    path = deployment.objects()[row["object"]]
    path.unlink()
    if left:
        path.write_bytes(left)
    lines()
    stack.delete(row, ASKED)
    (line,) = lines()
    assert told(line, "operation", "outcome", "generation") == ("delete", "ok", None)
    assert line["object"] == row["object"]


def test_a_missing_object_is_a_failure(deployment, lines):
    row = deployment.stack(threshold_bytes="0").put(CANARY, WHERE)
    deployment.objects()[row["object"]].unlink()
    lines()
    with pytest.raises(SecureXComError):
        deployment.stack().get(row, ASKED)
    (line,) = lines()
    assert told(line, "operation", "outcome", "error") == ("open", "failed", "ObjectNotFound")
    assert line["object"] == row["object"]


def test_an_object_of_another_xcom_is_not_deleted(deployment, lines):
    row = deployment.stack(threshold_bytes="0").put(CANARY, WHERE)
    lines()
    with pytest.raises(SecureXComError):
        deployment.stack().delete(row, replace(ASKED, dag_id="other"))
    (line,) = lines()
    assert told(line, "operation", "outcome", "dag_id") == ("refuse", "refused", "other")
    assert line["object"] == row["object"]


@pytest.mark.parametrize(
    ("value", "settings"),
    [(object(), {}), ("x" * 100, {"max_value_bytes": "10"})],
    ids=["no codec", "too long"],
)
def test_what_could_not_be_sealed_is_a_failure(deployment, lines, value, settings):
    with pytest.raises(SecureXComError):
        deployment.stack(**settings).put(value, WHERE)
    (line,) = lines()
    assert told(line, "operation", "outcome", "error") == ("seal", "failed", "CodecError")
    assert line.items() >= WHOSE.items()


def test_states_have_their_lines(deployment, lines):
    long = states(deployment, 0)
    row = long.to_row(CANARY, WHERE)
    assert text_of(long.from_row(row, ASKED).payload) == CANARY
    assert long.to_row(CANARY, WHERE) == row
    long.delete(WHERE)
    written = lines()
    assert [line["operation"] for line in written] == ["seal", "open", "seal", "delete"]
    first, opened, second, deleted = written
    assert len({line["object"] for line in written}) == 1
    assert first["generation"] == opened["generation"]
    assert first["generation"] != second["generation"] == deleted["generation"]
    assert all(line.items() >= WHOSE.items() for line in written)
    for malformed in (row, row.replace("~state", "~other"), row[:-1], "{}"):
        with pytest.raises(SecureXComError):
            long.from_row(malformed, ASKED)
    assert [told(line, "operation", "error") for line in lines()] == [
        ("open", "ObjectNotFound"),
        ("refuse", "ConfigError"),
        ("refuse", "FormatError"),
        ("refuse", "FormatError"),
    ]


def test_a_command_says_its_name(deployment, caplog):
    caplog.set_level("INFO", audit.logger.name)
    with audit.acting("inspect:alice"):
        deployment.stack().put(CANARY, WHERE)
    deployment.stack().put(CANARY, WHERE)
    assert [json.loads(text)["actor"] for text in caplog.messages if text[0] == "{"] == [
        "inspect:alice",
        None,
    ]


def test_a_command_says_its_name_in_batch_reads_too(deployment, caplog):
    rows = [deployment.stack().put(CANARY, WHERE) for _ in range(5)]
    broken = rows[0] | {"more": 1}
    caplog.set_level("INFO", audit.logger.name)
    caplog.clear()
    with audit.acting("inspect:alice"):
        reads = {at: (row, ASKED) for at, row in enumerate(rows)}
        deployment.stack().get_many(reads)
        with pytest.raises(SecureXComError):
            deployment.stack().get_many({0: (broken, ASKED)})
    lines = [json.loads(text) for text in caplog.messages if text[0] == "{"]
    assert [line["actor"] for line in lines] == ["inspect:alice"] * 6
