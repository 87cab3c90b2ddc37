"""Opened values in logs: what Airflow's own masker makes of a text after a task pulled it."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import dataclasses
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from importlib import import_module
from types import SimpleNamespace

import pytest
from conftest import VERSION, pull, push

from secure_xcom import codecs, telemetry
from secure_xcom.airflow import masking, versions
from secure_xcom.airflow.masking import index, maskers, running
from secure_xcom.errors import ConfigError

MASKER = (
    "airflow.utils.log.secrets_masker" if VERSION < (3, 0) else "airflow.sdk._shared.secrets_masker"
)
CANARY = "canary-c0ffee-with-some-length"


class Supervisor:
    """What a task of Airflow 3 talks to."""

    def send(self, message):
        """Answer nothing: there is no Variable."""


class InProcessComms(Supervisor):
    """What a task of `dag.test()` talks to; Airflow's own class begins like this."""


class TriggerCommsDecoder(Supervisor):
    """What triggers talk to; Airflow's own class has this name."""


@pytest.fixture
def masker():
    masking.forget()
    made = import_module(MASKER)._secrets_masker()
    made.patterns, made.replacer = set(), None
    yield made
    masking.forget()
    made.patterns, made.replacer = set(), None


def talk_to(monkeypatch, comms):
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)


def be_in(monkeypatch, *frames):
    """Have these functions run in the main thread, as far as masking sees."""
    monkeypatch.setattr(running, "_main_stack", lambda: frozenset(frames))


@pytest.fixture
def running_task(monkeypatch, masker):
    """Be a process that runs a task."""
    if VERSION < (3, 0):
        from airflow.models import taskinstance  # noqa: PLC0415

        monkeypatch.setattr(taskinstance, "_CURRENT_CONTEXT", [{}])
        be_in(monkeypatch, ("airflow.cli.commands.task_command", "task_run"))
        return
    talk_to(monkeypatch, Supervisor())
    be_in(monkeypatch, ("airflow.sdk.execution_time.task_runner", "main"))


def redact(text):
    return import_module(MASKER).redact(text)


@pytest.fixture
def nothing_masked(masker):
    assert redact(CANARY) == CANARY


@pytest.fixture
def captured(masker):
    """Collect the records of a logger whose handler masks, as those of tasks do."""
    if VERSION >= (3, 0):
        masker.enable_log_masking()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    handler.addFilter(masker)
    logger = logging.getLogger("a.task")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield SimpleNamespace(log=logger, records=records, last=lambda: records[-1])
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("value", "logged"),
    [
        (CANARY, CANARY),
        ({"a": {"b": {"c": {"d": {"e": {"f": {"g": [CANARY]}}}}}}}, CANARY),
        ((CANARY, "x"), f"failed on {CANARY}!"),
        ({CANARY}, repr({CANARY})),
        (CANARY.encode(), repr(CANARY.encode())),
        (b"\x89\xff c0ffee", repr(b"\x89\xff c0ffee")),
        (4111111111111111, "card 4111111111111111"),
        (4111111111111111.0, "card 4111111111111111.0"),
        ({"n": -4111111111111111}, "4111111111111111"),
        (Decimal(4111111111111111), "4111111111111111"),
        ('say "canary-c0ffee" \\ it\'s\n', repr({"k": 'say "canary-c0ffee" \\ it\'s\n'})),
        ('say "canary-c0ffee" \n', json.dumps(['say "canary-c0ffee" \n'])),
        ("canary-c0ffee-é", json.dumps("canary-c0ffee-é")),
        ('c0ffee-é"', json.dumps('c0ffee-é"', ensure_ascii=False)),
        ("first\ncanary-c0ffee-line\nlast", "canary-c0ffee-line"),
        ("5char", "it is 5char"),
        ("c0ffee" * 100_000, "c0ffee" * 100_000),
    ],
)
def test_what_a_task_pulled_does_not_stand_in_its_log(
    deployment, running_task, nothing_masked, value, logged
):
    assert pull(push(value)) == value
    shown = redact(logged)
    assert "***" in shown
    for trace in ("c0ffee", "411111", "5char"):
        assert trace not in shown


CARD = 4111111111111111
TABLES = {
    "pandas texts": lambda of: of.pd.DataFrame({"a": [CANARY, "x"], "b": [1, 2]}),
    "pandas numbers": lambda of: of.pd.DataFrame({"a": [1, CARD]}),
    "pandas numbers with one missing": lambda of: of.pd.DataFrame({"a": [None, CARD]}),
    "pandas labels": lambda of: of.pd.DataFrame({"a": [1]}, index=[CANARY]),
    "pandas labels of several levels": lambda of: of.pd.DataFrame(
        {"a": [1]}, index=of.pd.MultiIndex.from_tuples([(CANARY, 1)])
    ),
    "pandas categories": lambda of: of.pd.DataFrame({"a": of.pd.Categorical([CANARY])}),
    "pandas strings": lambda of: of.pd.DataFrame(
        {"a": of.pd.array([CANARY, None], dtype="string")}
    ),
    "pandas nullable": lambda of: of.pd.DataFrame({"a": of.pd.array([CARD, None], dtype="Int64")}),
    "pandas lists": lambda of: of.pd.DataFrame({"a": [[CANARY], ["x"]]}),
    "a pandas series": lambda of: of.pd.Series([CANARY]),
    "an index": lambda of: of.pd.Index([CANARY]),
    "Arrow": lambda of: of.pa.table({"a": [CANARY], "b": [CARD]}),
    "Arrow, nested": lambda of: of.pa.table({"a": [[{"b": CANARY}]]}),
    "Arrow dictionaries": lambda of: of.pa.table(
        {"a": of.pa.array([CANARY, CANARY]).dictionary_encode()}
    ),
    "polars": lambda of: of.pl.DataFrame({"a": [CANARY]}),
    "polars, nested": lambda of: of.pl.DataFrame({"a": [{"b": [CANARY]}]}),
    "polars numbers": lambda of: of.pl.DataFrame({"a": [CARD]}),
    "an array of texts": lambda of: of.np.array([CANARY, "x"]),
    "an array of bytes": lambda of: of.np.array([CANARY.encode()]),
    "an array of numbers": lambda of: of.np.array([[1, -CARD]]),
    "an array of records": lambda of: of.np.array([(CANARY, 1)], dtype=[("a", "U40"), ("b", "i4")]),
    "a scalar": lambda of: of.np.int64(CARD),
    "a table in a list": lambda of: [{"t": of.pd.DataFrame({"a": [CANARY]})}],
}


@pytest.mark.parametrize("name", TABLES)
def test_nor_what_stands_in_its_tables(deployment, running_task, nothing_masked, name):
    libraries = {"pd": "pandas", "np": "numpy", "pa": "pyarrow", "pl": "polars"}
    of = SimpleNamespace(**{short: pytest.importorskip(one) for short, one in libraries.items()})
    pull(push(TABLES[name](of)))
    shown = redact(f"{CANARY} or {CARD}, and tomorrow")
    assert shown in (f"*** or {CARD}, and tomorrow", f"{CANARY} or ***, and tomorrow") or (
        shown == "*** or ***, and tomorrow"
    )


def test_nor_what_comes_after_much_else(deployment, running_task):
    pd = pytest.importorskip("pandas")
    pull(push([{"id": f"record {n:06}", "name": f"name {n}"} for n in range(20_000)]))
    pull(push(pd.DataFrame({"iban": [f"DE{n:020}" for n in range(20_000)]})))
    pull(push({"pin": CANARY}))
    pull(push([CARD + n for n in range(1000)]))
    assert redact(f"{CANARY} {CARD + 999}") == "*** ***"
    assert redact("record 019999, DE00000000000000019999") == "***, ***"
    assert redact("record 020000") == "record 020000"


def test_nor_what_it_changed_or_dropped_before_it_logs(deployment, running_task):
    np = pytest.importorskip("numpy")
    for value in ([CANARY, "another canary"], np.array([CARD]), {"a": "canary of a dict"}):
        pulled = pull(push(value))
        if isinstance(pulled, dict | list):
            pulled.clear()
        else:
            pulled[:] = 0
    assert redact(f"{CANARY}, another canary, canary of a dict, {CARD}") == "***, ***, ***, ***"


@dataclasses.dataclass
class Customer:
    """What Airflow's own serialisation takes."""

    name: str


@pytest.mark.skipif(VERSION < (3, 0), reason="not taken by Airflow 2 without more ado")
def test_nor_what_stands_in_objects(deployment, running_task, monkeypatch):
    serde = "airflow.sdk.serde" if VERSION >= (3, 2) else "airflow.serialization.serde"
    monkeypatch.setattr(f"{serde}._match", lambda _: True)
    row = push([Customer(CANARY), {Decimal(1)}])
    with pytest.MonkeyPatch.context() as patch:
        # Its class is not even made: what is masked is what was encoded.
        patch.setattr(Customer, "__init__", lambda *_: 1 / 0)
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever Airflow makes of it
            pull(row)
    assert redact(CANARY) == "***"


def test_an_index_is_made_at_the_first_line(deployment, running_task):
    pull(push(["a text that is long enough for it " * 300, CANARY]))
    pulled = masking._Process.pulled
    assert len(pulled._waiting) == 1
    assert not pulled._index.spans(CANARY)
    assert redact(CANARY) == "***"
    assert not pulled._waiting


@pytest.fixture
def timed_out(monkeypatch):
    """Have a signal's handler raise while the next index is made."""

    def time_out(*_):
        raise TimeoutError

    contents = codecs.contents

    def interrupted(payload):
        monkeypatch.setattr(codecs, "contents", contents)
        signal.raise_signal(signal.SIGALRM)
        return contents(payload)

    former = signal.signal(signal.SIGALRM, time_out)
    yield lambda: monkeypatch.setattr(codecs, "contents", interrupted)
    signal.signal(signal.SIGALRM, former)


def test_what_a_time_out_interrupts_is_masked_at_the_next_line(
    deployment, running_task, captured, timed_out
):
    pull(push([CANARY]))
    pull(push("another text"))
    timed_out()
    with pytest.raises(TimeoutError):
        captured.log.info("here is %s", CANARY)
    assert captured.records == []
    assert redact(f"{CANARY}, another text") == "***, ***"


def test_airflow_swallows_a_time_out_and_the_line_is_hidden(deployment, running_task, timed_out):
    pull(push([CANARY]))
    timed_out()
    assert redact(f"a {CANARY} b") == "***"
    assert redact(f"a {CANARY} b") == "a *** b"


def test_what_is_kept_until_then_has_a_bound(deployment, running_task, monkeypatch):
    monkeypatch.setattr(masking, "_MOST_WAITING_BYTES", 10_000)
    pull(push([CANARY, "x" * 3000]))
    assert masking._Process.pulled._waiting
    pull(push(["y" * 12_000]))
    assert not masking._Process.pulled._waiting
    assert redact(CANARY) == "***"


def test_many_texts_are_masked_with_the_longest_first(deployment, running_task):
    pull(push(["canary", "canary-and-more", "canary-and"]))
    assert redact("a canary-and-more b canary-and c canary d") == "a *** b *** c *** d"


def test_texts_that_overlap_leave_nothing_of_each_other(deployment, running_task, masker):
    masker.add_mask("hunter2-and-the-rest")
    pull(push(["hunter2", "the-rest of a card", "-and-t"]))
    assert redact("a hunter2-and-the-rest of a card b") == "a *** b"


def test_what_airflow_masks_by_itself_stays_masked_and_so_do_we(deployment, running_task, masker):
    masker.add_mask("a secret of before")
    pull(push(CANARY))
    masker.add_mask("a secret of after")
    assert redact(f"a secret of before, {CANARY}, a secret of after") == "***, ***, ***"
    masking.forget()
    assert redact(f"a secret of before, {CANARY}, a secret of after") == f"***, {CANARY}, ***"


@pytest.mark.parametrize(
    "value", ["four", 12345678, 12345678.0, True, None, 3.14159265358979, {"a key": 1}, 1 << 1025]
)
def test_what_is_too_short_or_a_name_is_left_alone(deployment, running_task, value):
    pull(push(value))
    assert redact(f"{value!r}" if not isinstance(value, int) else "x") in (f"{value!r}", "x")
    assert len(masking._Process.pulled._index) == 0


def test_texts_that_are_never_masked(deployment, running_task, configure):
    configure(unmasked_texts="Germany, completed")
    pull(push(["Germany", "completed", "Germany, of all places"]))
    assert redact("Germany completed") == "Germany completed"
    assert redact("Germany, of all places") == "***"


@pytest.fixture
def small_budget(monkeypatch):
    monkeypatch.setattr(index, "MOST_TEXTS", 3)


@pytest.fixture
def counted(monkeypatch):
    """Collect the metrics that Airflow is told of."""
    names = []
    stats = SimpleNamespace(
        incr=lambda name, *_, **__: names.append(name), timing=lambda *_, **__: None
    )
    monkeypatch.setattr(versions, "has_metrics", lambda: True)
    monkeypatch.setattr(versions, "stats", lambda: stats)
    yield names
    telemetry.observe(None)


@pytest.mark.usefixtures("deployment", "running_task", "small_budget")
def test_beyond_the_budget_it_says_so(counted, caplog, captured):
    texts = [f"text number {n}" for n in range(5)]
    with caplog.at_level(logging.WARNING):
        pull(push(texts))
        pull(push("another text"))
        captured.log.info("%s, %s", *texts[2:4])
        captured.log.info("again")
    assert captured.records[0].getMessage() == "***, text number 3"
    [warning] = [r for r in caplog.records if r.name == "secure_xcom"]
    assert warning.levelno == logging.WARNING
    assert "in part only" in warning.getMessage()
    assert "text number" not in warning.getMessage()
    [line] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom.audit"]
    line = json.loads(line)
    assert (line["operation"], line["outcome"], line["key"]) == ("mask", "exceeded", "k")
    assert counted.count("secure_xcom.masking_exceeded") == 1


def test_the_budget_has_characters_too(deployment, running_task, monkeypatch):
    monkeypatch.setattr(index, "MOST_CHARACTERS", 20)
    pull(push(["x" * 12, "y" * 8, "z" * 5]))
    assert redact(f"{'x' * 12} {'y' * 8} {'z' * 5}") == "*** *** zzzzz"


@pytest.fixture
def strict(monkeypatch):
    """Have masking see strict, without what else it asks for."""
    for name in ("keep", "mask"):
        function = getattr(masking, name)

        def strictly(what, where, settings, function=function):
            posture = SimpleNamespace(strict=True, unmasked_texts=settings.unmasked_texts)
            function(what, where, posture)

        monkeypatch.setattr(masking, name, strictly)


@pytest.mark.usefixtures("deployment", "running_task", "small_budget", "strict")
def test_under_strict_lines_are_withheld_then(captured, caplog, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with caplog.at_level(logging.WARNING):
        pull(push([f"text number {n}" for n in range(5)]))
        captured.log.info("a first %s", "text number 4", extra={"customer": "text number 3"})
        try:
            raise ValueError("text number 4")  # noqa: TRY301 - to be logged
        except ValueError:
            captured.log.exception("it failed")
        print("a text number 4\nand text number 3", end="\n\n")  # noqa: T201 - what is under test
    assert [r.getMessage() for r in captured.records] == ["***", "***"]
    assert captured.records[0].customer == "***"
    assert captured.records[1].exc_info is captured.records[1].exc_text is None
    assert out.getvalue().endswith("***\n***\n\n")
    assert "text number" not in out.getvalue()
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "withheld" in warning


def test_a_value_that_cannot_be_looked_through_is_no_silence(
    deployment, running_task, monkeypatch, caplog
):
    def fail(_):
        raise RuntimeError(CANARY)

    monkeypatch.setattr(masking, "leaves", fail)
    with caplog.at_level(logging.WARNING):
        assert pull(push(CANARY)) == CANARY
        redact("a line")
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "RuntimeError" in warning
    assert "in part only" in warning
    assert CANARY not in warning


def test_records_keep_their_types_and_structure(deployment, running_task, captured):
    pull(push([CANARY, CARD]))
    event = {"event": "paid", "card": CARD, "by": [CANARY, 1, {"of": (CANARY, None)}]}
    captured.log.info(event)
    assert captured.last().msg == {
        "event": "paid",
        "card": "***",
        "by": ["***", 1, {"of": ("***", None)}],
    }
    assert event["card"] == CARD, "the task's own dict is as it was"
    harmless = {"event": "paid", "by": {"nobody"}}
    captured.log.info(harmless)
    assert captured.last().msg is harmless
    captured.log.info("%s paid %d", CANARY, 5, extra={"customer": {"name": CANARY}})
    record = captured.last()
    assert (record.msg, record.args) == ("%s paid %d", ("***", 5))
    assert record.customer == {"name": "***"}
    # A number cannot be hidden in what wants one, so this one becomes a text.
    captured.log.info("card %d", CARD)
    assert captured.last().getMessage() == "card ***"
    captured.log.info({CANARY: 1, "x": 2})
    assert captured.last().msg == {"***": 1, "x": 2}


def test_objects_are_hidden_where_their_text_holds_a_value(deployment, running_task, captured):
    pull(push(CANARY))
    harmless = Customer("nobody")
    captured.log.info("%s and %s", harmless, 1)
    assert captured.last().args == (harmless, 1)
    captured.log.info("%s and %s", Customer(CANARY), 1)
    assert captured.last().getMessage() == "Customer(name='***') and 1" or (
        captured.last().getMessage().endswith("(name='***') and 1")
    )
    try:
        raise ValueError(CANARY)  # noqa: TRY301 - to be logged
    except ValueError:
        captured.log.exception("it failed")
    assert CANARY not in logging.Formatter().format(captured.last())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("secure_xcom.keys.local", CANARY),
        ("secure_xcom.trial.dags", "***"),
        ("secure_xcoms", "***"),
    ],
)
def test_what_the_package_says_itself_names_things(deployment, running_task, captured, name, shown):
    pull(push(CANARY))
    logger = logging.getLogger(name)
    for handler in captured.log.handlers:
        logger.addHandler(handler)
    try:
        logger.warning("of %s", CANARY)
    finally:
        logger.handlers.clear()
    assert captured.last().getMessage() == f"of {shown}"


def test_all_is_put_back_that_was_changed(deployment, running_task, masker, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    stock = type(masker)
    pull(push(CANARY))
    print(CANARY)  # noqa: T201 - what is under test
    assert CANARY not in out.getvalue()
    assert type(masker) is not stock
    masking.forget()
    print(CANARY)  # noqa: T201 - what is under test
    assert out.getvalue().endswith(f"***\n{CANARY}\n")
    assert "write" not in vars(out)
    assert type(masker) is stock
    assert masker.replacer is None


def be_task(monkeypatch, name):
    """Be a task that `dag.test()` runs."""
    if VERSION >= (3, 0):
        talk_to(monkeypatch, InProcessComms())
        be_in(monkeypatch, ("airflow.sdk.definitions.dag", "test"))
        return
    from airflow.models import taskinstance  # noqa: PLC0415

    monkeypatch.setattr(
        taskinstance, "_CURRENT_CONTEXT", [{"ti": SimpleNamespace(dag_id="d", task_id=name)}]
    )
    be_in(monkeypatch, ("airflow.models.dag", "test"))


def be_nobody(monkeypatch, *frames):
    if VERSION >= (3, 0):
        talk_to(monkeypatch, None)
    else:
        from airflow.models import taskinstance  # noqa: PLC0415

        monkeypatch.setattr(taskinstance, "_CURRENT_CONTEXT", [])
    be_in(monkeypatch, *frames)


def test_the_next_task_of_a_process_is_not_masked_for(
    deployment, masker, monkeypatch, small_budget
):
    be_task(monkeypatch, "one")
    pull(push([CANARY, "second text", "third text"]))
    assert redact(CANARY) == "***"
    be_task(monkeypatch, "two")
    assert redact(CANARY) == CANARY
    pull(push(["another text", "and another", "and one more"]))
    assert redact(f"{CANARY}, another text, and one more") == f"{CANARY}, ***, ***"
    # Between tasks, and in errors that are logged after one, it is masked still.
    test = ("airflow.sdk.definitions.dag" if VERSION >= (3, 0) else "airflow.models.dag", "test")
    be_nobody(monkeypatch, test)
    assert redact("another text") == "***"
    # A trigger that a task waits for is run by the same process, and in no task.
    pull(push("text of a trigger"))
    assert redact("another text, text of a trigger") == "another text, ***"
    be_task(monkeypatch, "three")
    assert redact("text of a trigger") == "text of a trigger"
    pull(push("another text"))
    be_nobody(monkeypatch, test)
    be_nobody(monkeypatch)
    assert redact("another text") == "another text"
    assert masking._Process.pulled is None


def test_a_setting_leaves_pulled_values_in_the_log(deployment, running_task, configure):
    configure(mask_pulled_values="false")
    pull(push(CANARY))
    assert redact(CANARY) == CANARY


def test_control_keys_are_not_masked(deployment, running_task):
    pull({"followed": ["a task's name"]}, key="skipmixin_key")
    assert redact("a task's name") == "a task's name"


def test_outside_of_tasks_and_daemons_nothing_is_masked(deployment, masker, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "of a task that dag.test() ran")
    be_nobody(monkeypatch)
    pull(push(CANARY))
    assert redact(CANARY) == CANARY
    assert masking._Process.pulled is None


DAEMONS = [
    ("airflow.dag_processing.processor", "_execute_dag_callbacks"),
    ("airflow.cli.commands.triggerer_command", "triggerer"),
    ("airflow.jobs.scheduler_job_runner", "_execute"),
    ("airflow.cli.commands.scheduler_command", "scheduler"),
    ("gunicorn.workers.base", "init_process"),
]


def test_each_masker_that_handlers_have_is_told(deployment, running_task, masker):
    another = type(masker)()
    another.patterns = set()
    handler = logging.NullHandler()
    handler.addFilter(another)
    logging.getLogger("a.task").addHandler(handler)
    try:
        pull(push(CANARY))
        assert another.redact(CANARY) == "***"
        masking.forget()
        assert another.redact(CANARY) == CANARY
    finally:
        logging.getLogger("a.task").removeHandler(handler)


@pytest.mark.parametrize("frame", DAEMONS)
def test_what_daemons_open_is_masked_in_their_logs(
    deployment, masker, monkeypatch, captured, frame
):
    be_nobody(monkeypatch, frame)
    if VERSION < (3, 0):
        from airflow import settings  # noqa: PLC0415

        # As it is in the scheduler, where Airflow itself masks nothing.
        monkeypatch.setattr(settings, "MASK_SECRETS_IN_LOGS", False)
    pull(push(CANARY))
    captured.log.info("here is %s", CANARY)
    assert captured.last().getMessage() == "here is ***"


@pytest.mark.skipif(VERSION < (3, 0), reason="its triggers are known by their command")
def test_a_triggerer_is_a_daemon(deployment, masker, monkeypatch):
    from airflow.jobs import triggerer_job_runner  # noqa: PLC0415

    assert triggerer_job_runner.TriggerCommsDecoder.__name__ == TriggerCommsDecoder.__name__
    talk_to(monkeypatch, TriggerCommsDecoder())
    pull(push(CANARY))
    assert redact(CANARY) == "***"
    assert running.owner() is running.Whole.DAEMON


def test_under_strict_a_daemon_opens_no_more_than_it_masks(
    deployment, masker, monkeypatch, small_budget, strict
):
    be_nobody(monkeypatch, ("airflow.cli.commands.triggerer_command", "triggerer"))
    assert pull(push("a text")) == "a text"
    with pytest.raises(ConfigError, match="more was opened"):
        pull(push([f"text number {n}" for n in range(5)]))
    with pytest.raises(ConfigError):
        pull(push("another text"))


@pytest.mark.usefixtures("deployment", "masker", "small_budget", "strict")
def test_nor_of_what_was_not_sealed(monkeypatch, configure, caplog):
    configure(unsealed_reads="allow")
    be_nobody(monkeypatch, ("airflow.cli.commands.triggerer_command", "triggerer"))
    assert pull(["a text"]) == ["a text"]
    with caplog.at_level(logging.WARNING), pytest.raises(ConfigError, match="more was opened"):
        pull([f"text number {n}" for n in range(5)])
    lines = [json.loads(r.getMessage()) for r in caplog.records if r.name == "secure_xcom.audit"]
    assert [(line["operation"], line["outcome"]) for line in lines] == [
        ("mask", "exceeded"),
        ("refuse", "refused"),
    ]


@pytest.mark.skipif(VERSION >= (3, 0), reason="Airflow 2")
def test_callbacks_after_the_task_are_of_the_task(deployment, masker, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "t")
    be_nobody(monkeypatch, ("airflow.cli.commands.task_command", "task_run"))
    pull(push(CANARY))
    assert redact(CANARY) == "***"


def written(capfd):
    """What was written to standard output, without what the logs of Airflow 2 add there."""
    lines = capfd.readouterr().out.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("[20"))


def test_what_is_written_past_streams_is_masked(deployment, running_task, capfd):
    pull(push([f"text number {n}" for n in range(200)] + [CANARY]))
    os.write(1, f"written {CANARY}\n".encode())
    subprocess.run(["echo", "by a program:", CANARY], check=True)
    masking.forget()
    os.write(1, b"after it\n")
    assert written(capfd) == "written ***\nby a program: ***\nafter it\n"


@pytest.mark.usefixtures("deployment", "running_task", "small_budget", "strict")
def test_under_strict_what_is_written_past_streams_is_withheld_then(capfd):
    pull(push([f"text number {n}" for n in range(5)]))
    os.write(1, b"text number 4\n\nand more\n")
    masking.forget()
    assert written(capfd) == "***\n\n***\n"


def test_what_a_task_wrote_last_is_masked_when_it_is_over(deployment, masker, monkeypatch, capfd):
    be_task(monkeypatch, "one")
    pull(push(CANARY))
    with masking._Process.pulled._diverted[0]._lock:  # so that nobody delivers it before
        os.write(1, f"of one: {CANARY}\n".encode())
        be_task(monkeypatch, "two")
        redact("a line of two")
    os.write(1, f"of two: {CANARY}\n".encode())
    assert written(capfd) == f"of one: ***\nof two: {CANARY}\n"


def be_without_memory(monkeypatch):
    def memfd_create(*_):
        raise PermissionError

    monkeypatch.setattr(os, "memfd_create", memfd_create)


def test_where_it_cannot_be_masked_a_task_is_told_once(
    deployment, running_task, monkeypatch, caplog, capfd
):
    be_without_memory(monkeypatch)
    with caplog.at_level(logging.WARNING):
        pull(push([CANARY]))
        pull(push(["another text"]))
        assert redact(f"{CANARY}, another text") == "***, ***"
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "in part only" in warning
    assert "PermissionError" in warning
    [line] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom.audit"]
    assert (json.loads(line)["operation"], json.loads(line)["outcome"]) == ("mask", "exceeded")
    os.write(1, b"as it is\n")
    assert written(capfd) == "as it is\n"


def test_and_under_strict_nothing_is_read(deployment, running_task, monkeypatch, strict):
    be_without_memory(monkeypatch)
    with pytest.raises(ConfigError, match="memfd_create"):
        pull(push(CANARY))


def test_a_forked_child_that_pulls_masks_what_it_writes(deployment, running_task, capfd):
    pull(push(CANARY))
    if os.fork() == 0:
        try:
            pull(push("text of the child"))
            os.write(1, f"in the child: {CANARY}, text of the child\n".encode())
            masking.forget()
        finally:
            os._exit(0)
    os.wait()
    masking.forget()
    assert written(capfd) == "in the child: ***, ***\n"


def test_a_masker_that_is_not_known_does_not_fail_the_task(
    deployment, running_task, monkeypatch, caplog
):
    monkeypatch.setattr(maskers, "_maskers", lambda: [1 / 0])
    with caplog.at_level(logging.WARNING, "secure_xcom"):
        assert pull(push({"value": "canary-beef"})) == {"value": "canary-beef"}
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "not masked" in warning
    assert "canary" not in warning


def test_but_does_under_strict(deployment, running_task, monkeypatch, strict):
    monkeypatch.setattr(maskers, "_maskers", lambda: [1 / 0])
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        pull(push(CANARY))


def test_a_forked_child_masks_what_its_task_pulled(deployment, running_task, monkeypatch):
    pull(push([CANARY, "x" * 9000]))
    monkeypatch.setattr(masking, "_WAIT_SECONDS", 1)
    held, done = threading.Event(), threading.Event()

    def hold():  # the child has not got this thread
        with masking._Process.pulled.lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        os._exit(0 if redact(f"a {CANARY} b") == "a *** b" else 1)
    status = os.waitpid(child, 0)[1]
    assert redact(f"a {CANARY} b") == "***", "a line that waits too long is hidden whole"
    done.set()
    thread.join()
    assert status == 0
    assert redact(f"a {CANARY} b") == "a *** b"


def test_airflow_has_the_names_that_are_used(masker):
    assert isinstance(masker.patterns, set)
    masker.add_mask(CANARY)
    assert masker.replacer.sub("***", CANARY) == "***"
    assert [m.span() for m in masker.replacer.finditer(CANARY)] == [(0, len(CANARY))]
    assert len(masker.patterns) == 1
    if VERSION >= (3, 0):
        from airflow.sdk.execution_time import supervisor, task_runner  # noqa: PLC0415

        assert callable(task_runner.main)
        assert supervisor.InProcessSupervisorComms.__name__.startswith("InProcess")
        name = "airflow.sdk.definitions.dag"
    else:
        name = "airflow.models.dag"
        assert callable(import_module("airflow.cli.commands.task_command").task_run)
        assert isinstance(import_module("airflow.models.taskinstance")._CURRENT_CONTEXT, list)
    test = import_module(name).DAG.test
    assert (test.__module__, test.__name__) in running._IN_PROCESS


@pytest.mark.skipif(VERSION < (3, 3), reason="there are no state stores")
def test_what_a_task_gets_of_its_state_is_masked_and_noted(deployment, running_task):
    from airflow.sdk.state import TaskScope  # noqa: PLC0415

    from secure_xcom.airflow import rendered, state_store  # noqa: PLC0415

    backend = state_store.SecureStateStoreBackend()
    scope = TaskScope(dag_id="d", run_id="r", task_id="t", map_index=-1)
    stored = backend.serialize_task_state_store_to_ref(value=[CANARY], key="k", scope=scope)
    before = rendered._Opened.count
    assert backend.deserialize_task_state_store_from_ref(stored) == [CANARY]
    assert redact(CANARY) == "***"
    assert rendered._Opened.count == before + 1
