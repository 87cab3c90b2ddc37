"""Where lines of the audit log go, and that nothing silences them."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import json
import logging
import os
import stat

import pytest
from support.deployment import CANARY, WHERE, Deployment

from secure_xcom import audit
from secure_xcom.audit import sinks
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.model import Expected

ASKED = Expected.exactly(WHERE)


@pytest.fixture
def stack(tmp_path):
    return Deployment(tmp_path / "deployment").stack()


@pytest.fixture(autouse=True)
def _as_before():
    sinks._complain.cache_clear()
    yield
    audit.configure([sinks.TASK_LOG], required=False)
    sinks._complain.cache_clear()


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def operations(path):
    return [line["operation"] for line in lines(path)]


@pytest.fixture
def quiet():
    """Airflow with `logging_level` = CRITICAL, and more than that."""
    loggers = [logging.getLogger(name) for name in ("", "secure_xcom", sinks.logger.name)]
    before = [(one.level, one.propagate, one.disabled) for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
        one.propagate = False
    loggers[-1].disabled = True
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
    for one, (level, propagate, disabled) in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.propagate = propagate
        one.disabled = disabled


def test_no_level_and_no_propagation_silences_the_log_of_a_task(stack, quiet, tmp_path):
    handler = logging.FileHandler(tmp_path / "task.log")
    handler.setLevel(logging.CRITICAL)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        stack.put(CANARY, WHERE)
    finally:
        root.removeHandler(handler)
        handler.close()
    (line,) = lines(tmp_path / "task.log")
    assert (line["operation"], line["outcome"]) == ("seal", "ok")


def test_a_line_has_the_level_that_a_supervisor_lets_through(monkeypatch, caplog):
    monkeypatch.setattr(sinks, "level_min", lambda: logging.ERROR)
    assert audit.probe(sinks.TASK_LOG, "n")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_the_handler_of_a_task_s_log_gets_it_where_it_stands_apart(tmp_path):
    """As on Airflow 2 where it was told to leave the handlers of the root alone."""

    class TaskHandler(logging.Handler):
        handler = None

        def set_context(self, task):
            self.handler = logging.FileHandler(task)

        def emit(self, record):
            self.handler.emit(record)

    handler = TaskHandler()
    logger = logging.getLogger("airflow.task")
    logger.addHandler(handler)
    try:
        audit.probe(sinks.TASK_LOG, "n")  # no task runs here yet: nothing to write to
        handler.set_context(tmp_path / "task.log")
        audit.probe(sinks.TASK_LOG, "n")
    finally:
        logger.removeHandler(handler)
        handler.handler.close()
    assert operations(tmp_path / "task.log") == ["probe"]


def test_standard_error_gets_one_object_a_line_with_a_severity(stack, quiet, capfd):
    audit.configure([sinks.STANDARD_ERROR], required=False)
    row = stack.put(CANARY, WHERE)
    with pytest.raises(SecureXComError):
        stack.get(row, Expected("other"))
    written = capfd.readouterr().err
    sealed, refused = map(json.loads, written.splitlines())
    assert (sealed["severity"], sealed["logger"]) == ("INFO", "secure_xcom.audit")
    assert (refused["severity"], refused["operation"]) == ("WARNING", "refuse")
    assert CANARY not in written


def test_a_file_is_appended_to_and_made_anew_for_its_owner_alone(stack, tmp_path):
    trail = tmp_path / "trail"
    audit.configure([str(trail)], required=False)
    row = stack.put(CANARY, WHERE)
    stack.get(row, ASKED)
    assert operations(trail) == ["seal", "open"]
    assert stat.S_IMODE(trail.stat().st_mode) == 0o600
    trail.rename(tmp_path / "yesterday")
    stack.get(row, ASKED)
    assert operations(trail) == ["open"]
    assert operations(tmp_path / "yesterday") == ["seal", "open"]


def test_several_places_get_each_line(stack, tmp_path, caplog, capfd):
    places = [sinks.TASK_LOG, sinks.STANDARD_ERROR, str(tmp_path / "a"), str(tmp_path / "b")]
    audit.configure(places, required=True)
    stack.put(CANARY, WHERE)
    (expected,) = lines(tmp_path / "a")
    assert lines(tmp_path / "b") == [expected]
    assert [json.loads(text) for text in caplog.messages if text[0] == "{"] == [expected]
    assert json.loads(capfd.readouterr().err).items() >= expected.items()


def test_an_empty_list_writes_nothing(stack, caplog, capfd):
    audit.configure([], required=False)
    stack.put(CANARY, WHERE)
    assert [text for text in caplog.messages if text[0] == "{"] == []
    assert capfd.readouterr().err == ""


def unwritable(tmp_path, how):
    if how == "a folder":
        return tmp_path
    if how == "no such folder":
        return tmp_path / "missing" / "trail"
    os.mkfifo(tmp_path / "pipe")  # that nobody reads
    return tmp_path / "pipe"


@pytest.mark.parametrize("how", ["a folder", "no such folder", "a pipe"])
def test_a_place_that_takes_nothing_is_said_once(stack, tmp_path, caplog, how):
    audit.configure([str(unwritable(tmp_path, how))], required=False)
    row = stack.put(CANARY, WHERE)
    assert stack.get(row, ASKED).value == CANARY
    said = [text for text in caplog.messages if "audit log" in text]
    assert len(said) == 1
    assert str(tmp_path) in said[0]


@pytest.mark.parametrize("how", ["a folder", "no such folder", "a pipe"])
def test_where_a_line_is_required_nothing_is_done_without(stack, tmp_path, how):
    row = stack.put(CANARY, WHERE)
    audit.configure([str(unwritable(tmp_path, how))], required=True)
    with pytest.raises(ConfigError, match="audit log cannot be written"):
        audit.check()
    with pytest.raises(ConfigError, match="audit log cannot be written"):
        stack.put(CANARY, WHERE)
    with pytest.raises(ConfigError, match="audit log cannot be written"):
        stack.get(row, ASKED)
    with pytest.raises(ConfigError, match="audit log cannot be written"):
        stack.get_many({0: (row, ASKED)})


def test_one_place_that_takes_it_is_enough(stack, tmp_path):
    audit.configure([str(tmp_path / "missing" / "trail"), str(tmp_path / "trail")], required=True)
    audit.check()
    stack.put(CANARY, WHERE)
    assert operations(tmp_path / "trail") == ["seal"]


def test_a_command_needs_all_of_its_places(stack, tmp_path):
    row = stack.put(CANARY, WHERE)
    places = [str(tmp_path / "trail"), str(tmp_path / "missing" / "trail")]
    with audit.acting("inspect:alice", places), pytest.raises(ConfigError, match="audit log"):
        stack.get(row, ASKED)


def test_what_was_refused_is_told_and_not_that_no_line_was_written(stack, tmp_path):
    row = stack.put(CANARY, WHERE)
    audit.configure([str(tmp_path)], required=True)
    with pytest.raises(SecureXComError, match="authenticated"):
        stack.get(row, Expected("other"))


def test_without_any_handler_nothing_takes_a_line(monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    assert not sinks.would_take(sinks.TASK_LOG)
    assert not audit.probe(sinks.TASK_LOG, "n")


def test_no_member_is_null(stack, caplog):
    """Airflow 2 paints a line red that has the word "error" in it."""
    stack.put(CANARY, WHERE)
    (text,) = [text for text in caplog.messages if text[0] == "{"]
    assert ": null" not in text
    assert "error" not in text


def test_a_refusal_names_the_place_that_the_envelope_claims(stack, caplog):
    row = stack.put(CANARY, WHERE)
    caplog.clear()
    with pytest.raises(SecureXComError):
        stack.get(row, Expected("other", task_id="load"))
    (line,) = [json.loads(text) for text in caplog.messages if text[0] == "{"]
    assert line["dag_id"] == "other"
    assert "run_id" not in line
    claim = {name: line[f"unverified_{name}"] for name in ("dag_id", "run_id", "task_id", "key")}
    assert claim == {name: getattr(WHERE, name) for name in claim}
    assert line["unverified_map_index"] == WHERE.map_index


def test_the_lines_of_one_data_key_have_one_random_id(stack, caplog):
    row = stack.put(CANARY, WHERE)
    stack.get(row, ASKED)
    written = [json.loads(text) for text in caplog.messages if text[0] == "{"]
    assert len({line["correlation_id"] for line in written}) == 1
    assert len(written[0]["correlation_id"]) == 32
