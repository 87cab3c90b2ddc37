"""Opened values in logs: what Airflow's own masker makes of a text after a task pulled it."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from importlib import import_module

import pytest
from conftest import VERSION, pull, push

from secure_xcom.airflow import masking

MASKER = (
    "airflow.utils.log.secrets_masker" if VERSION < (3, 0) else "airflow.sdk._shared.secrets_masker"
)
CANARY = "canary-c0ffee-with-some-length"


class Supervisor:
    """What a task of Airflow 3 talks to."""

    def __init__(self):
        self.told = []

    def send(self, message):
        # Others ask for Variables, and mask what these hold.
        if isinstance(getattr(message, "value", None), list):
            self.told.append(message)


class TriggerCommsDecoder(Supervisor):
    """What triggers talk to; Airflow's own class has this name."""


@pytest.fixture
def masker():
    made = import_module(MASKER)._secrets_masker()
    made.patterns, made.replacer = set(), None
    masking.forget()
    yield made
    made.patterns, made.replacer = set(), None
    masking.forget()


@pytest.fixture
def running(monkeypatch, masker):
    """Be a process that runs a task; gives what its supervisor is told."""
    if VERSION < (3, 0):
        from airflow.models import taskinstance  # noqa: PLC0415

        monkeypatch.setattr(taskinstance, "_CURRENT_CONTEXT", [{}])
        return []
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor.told


def redact(text):
    return import_module(MASKER).redact(text)


@pytest.fixture
def nothing_masked(masker):
    assert redact(CANARY) == CANARY


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (CANARY, CANARY),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": [CANARY]}}}}}}}, CANARY),
        ((CANARY, "x"), f"failed on {CANARY}!"),
        ({CANARY}, repr({CANARY})),
        (CANARY.encode(), repr(CANARY.encode())),
        (4111111111111111, "card 4111111111111111"),
        ({"n": -4111111111111111}, "4111111111111111"),
        ('say "canary-c0ffee" \\ it\'s\n', repr({"k": 'say "canary-c0ffee" \\ it\'s\n'})),
        ('say "canary-c0ffee" \n', json.dumps(['say "canary-c0ffee" \n'])),
        ("canary-c0ffee-é", json.dumps("canary-c0ffee-é")),
        ("first\ncanary-c0ffee-line\nlast", "canary-c0ffee-line"),
        ("5char", "it is 5char"),
        ("c0ffee" * (8192 // 6), "c0ffee" * (8192 // 6)),
    ],
)
def test_what_a_task_pulled_does_not_stand_in_its_log(
    deployment, running, nothing_masked, value, logged
):
    assert pull(push(value)) == value
    shown = redact(logged)
    assert "***" in shown
    for trace in ("c0ffee", "411111", "5char"):
        assert trace not in shown
    if VERSION >= (3, 0):
        [message] = running
        assert set(message.value) == masking._Given.texts


def test_many_texts_are_masked_with_the_longest_first(deployment, running):
    pull(push(["canary", "canary-and-more", "canary-and"]))
    assert redact("a canary-and-more b canary-and c canary d") == "a *** b *** c *** d"


@pytest.mark.parametrize(
    "value",
    ["four", 12345678, True, None, 3.14159265358979, {"a key of it": 1}, "x" * 8193, 1 << 1025],
)
def test_what_is_too_short_too_long_or_a_name_is_left_alone(deployment, running, masker, value):
    pull(push(value))
    assert masker.patterns == set()
    assert running == []


def test_a_task_gives_the_masker_no_more_than_the_bounds(deployment, running, masker, caplog):
    with caplog.at_level(logging.INFO, "secure_xcom"):
        pull(push([f"text number {n:03}" for n in range(200)]))
        pull(push([f"another text {n}" for n in range(200)]))
    assert len(masker.patterns) == 128
    assert redact("text number 127") == "***"
    assert redact("text number 128") == "text number 128"
    ours = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert len(ours) == 1
    assert "More was pulled" in ours[0]
    assert "text number" not in ours[0]


def test_nor_more_characters(deployment, running, masker):
    pull(push([f"{n}" * 4096 for n in range(8)]))
    assert len(masker.patterns) == 4
    assert sum(len(pattern) for pattern in masker.patterns) == 16_384


def test_a_huge_value_is_not_walked_through_to_its_end(deployment, running, masker):
    pull(push([*range(20_000), CANARY]))
    assert redact(CANARY) == CANARY


def test_the_expression_is_made_once_for_a_value(deployment, running, masker, monkeypatch):
    engine = getattr(import_module(MASKER), "re2", re)
    compiled = []
    compile_ = engine.compile
    monkeypatch.setattr(engine, "compile", lambda *a, **k: compiled.append(a) or compile_(*a, **k))
    masking.mask([[f"text number {n}" for n in range(100)]])
    assert len([one for one in compiled if "number" in one[0]]) == 1


LONGEST = """
import secrets, sys, time
from importlib import import_module
from secure_xcom.airflow import masking
module = import_module(sys.argv[1])
for count, length in ((128, 128), (2, 8192), (128, 9)):
    masker = module._secrets_masker()
    masker.patterns, masker.replacer = set(), None
    masking.add_at_once(module, [secrets.token_urlsafe(length)[:length] for _ in range(count)])
    for _ in range(20):
        assert module.redact("nothing here " + secrets.token_hex(99)).startswith("nothing here")
print("done")
"""


def test_at_the_bounds_the_masker_neither_fails_nor_prints(masker):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LONGEST, MASKER],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "done"
    # The engine of Airflow 2 complains to stderr once an expression is too much for it.
    assert "re2" not in done.stderr


def test_a_setting_leaves_pulled_values_in_the_log(deployment, running, configure):
    configure(mask_pulled_values="false")
    pull(push(CANARY))
    assert redact(CANARY) == CANARY


def test_control_keys_are_not_masked(deployment, running):
    pull({"followed": ["a task's name"]}, key="skipmixin_key")
    assert redact("a task's name") == "a task's name"


def test_outside_of_tasks_nothing_is_given_to_the_masker(deployment, masker, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CTX_TASK_ID", raising=False)
    pull(push(CANARY))
    assert masker.patterns == set()


@pytest.mark.skipif(VERSION < (3, 0), reason="its triggers share nothing with tasks")
def test_in_a_triggerer_nothing_is_given_to_the_masker(deployment, masker, monkeypatch):
    from airflow.jobs import triggerer_job_runner  # noqa: PLC0415
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    assert (
        "SUPERVISOR_COMMS = self.comms_decoder"
        in open(  # noqa: PTH123, SIM115
            triggerer_job_runner.__file__
        ).read()
    )
    assert triggerer_job_runner.TriggerCommsDecoder.__name__ == TriggerCommsDecoder.__name__
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", TriggerCommsDecoder(), raising=False)
    pull(push(CANARY))
    assert masker.patterns == set()
    assert task_runner.SUPERVISOR_COMMS.told == []


@pytest.mark.skipif(VERSION >= (3, 0), reason="Airflow 2")
def test_callbacks_after_the_task_are_of_the_task(deployment, masker, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "t")
    pull(push(CANARY))
    assert redact(CANARY) == "***"


def test_a_masker_that_fails_does_not_fail_the_task(deployment, running, masker, caplog):
    masker.patterns = {"(" + CANARY}  # no expression
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        assert pull(push({"value": "canary-beef"})) == {"value": "canary-beef"}
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "not masked" in warning
    assert "canary" not in warning
    # What was there before is as it was.
    assert masker.patterns == {"(" + CANARY}


def test_a_forked_child_starts_afresh(deployment, running, masker):
    pull(push(CANARY))
    child = os.fork()
    if child == 0:
        os._exit(len(masking._Given.texts))
    assert os.waitpid(child, 0)[1] == 0
    assert masking._Given.texts == {CANARY}


def test_airflow_has_the_names_that_are_used(masker):
    assert isinstance(masker.patterns, set)
    masker.add_mask(CANARY)
    assert masker.replacer.sub("***", CANARY) == "***"
    assert len(masker.patterns) == 1


@pytest.mark.skipif(VERSION < (3, 3), reason="there are no state stores")
def test_what_a_task_gets_of_its_state_is_masked_and_noted(deployment, running):
    from airflow.sdk.state import TaskScope  # noqa: PLC0415

    from secure_xcom.airflow import rendered, state_store  # noqa: PLC0415

    backend = state_store.SecureStateStoreBackend()
    scope = TaskScope(dag_id="d", run_id="r", task_id="t", map_index=-1)
    stored = backend.serialize_task_state_store_to_ref(value=[CANARY], key="k", scope=scope)
    before = rendered._Opened.count
    assert backend.deserialize_task_state_store_from_ref(stored) == [CANARY]
    assert redact(CANARY) == "***"
    assert rendered._Opened.count == before + 1
