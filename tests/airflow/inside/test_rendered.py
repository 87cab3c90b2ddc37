"""Rendered fields: those that a pulled value went into are blanked, all others stay readable.

Tasks are rendered by Airflow's own code, with real Jinja and real references to XComs; and what
Airflow would store is what its own function hands over.
"""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import datetime as dt
import inspect
from importlib import import_module
from types import SimpleNamespace

import pytest
from conftest import VERSION, pull, push

from secure_xcom.airflow import rendered
from secure_xcom.errors import ConfigError

if VERSION < (3, 0):
    from airflow import DAG
    from airflow.models.baseoperator import BaseOperator
    from airflow.models.renderedtifields import (
        RenderedTaskInstanceFields,
        get_serialized_template_fields,
    )

    MODULES = ("airflow.template.templater", "airflow.models.abstractoperator")
    MAPPED = "airflow.models.mappedoperator"
else:
    from airflow.sdk import DAG, BaseOperator
    from airflow.sdk.execution_time import task_runner

    MODULES = (
        "airflow.sdk.definitions._internal.templater",
        "airflow.sdk.definitions._internal.abstractoperator",
    )
    MAPPED = "airflow.sdk.definitions.mappedoperator"

SEALED = "(sealed XCom)"
CARD = 4111111111111111
DAY = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)  # noqa: UP017 - Airflow 2


@pytest.fixture(autouse=True)
def _installed(deployment):
    rendered._Opened.count = 0
    rendered._Opened.tasks.clear()
    rendered.install()
    rendered.ensure()


class Fields(BaseOperator):
    template_fields = ("first", "second", "third", "fourth")

    def __init__(self, first=None, second=None, third=None, fourth=None, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second, self.third, self.fourth = first, second, third, fourth

    def execute(self, context):
        """Do nothing."""


def make(**fields):
    with DAG("d", schedule=None, start_date=DAY):
        return Fields(task_id="t", **fields)


def context(operator, value=CARD):
    row = push(value)
    ti = SimpleNamespace(xcom_pull=lambda *_, **__: pull(row), task=operator)
    return {"ti": ti, "task": operator, "ds": "2026-01-01", "pull": lambda: pull(row)}


def stored(operator):
    """Give what Airflow would store of the operator's fields."""
    if VERSION >= (3, 0):
        return task_runner._serialize_rendered_fields(operator)
    keep = SimpleNamespace(
        task=operator,
        rendered_fields=get_serialized_template_fields(operator),
        k8s_pod_yaml={"env": CARD},
    )
    RenderedTaskInstanceFields._redact(keep)
    assert keep.k8s_pod_yaml == (
        {"pod": SEALED} if SEALED in keep.rendered_fields.values() else {"env": CARD}
    )
    return keep.rendered_fields


def render(operator, **more):
    operator.render_template_fields(context(operator) | more)
    return stored(operator)


def test_only_the_fields_that_a_value_went_into_are_blanked():
    operator = make(
        first="card {{ ti.xcom_pull('a') }}",
        second="on {{ ds }}",
        third=["{{ ds }}", {"deep": "{{ ti.xcom_pull('a') }}"}],
        fourth={"plain": [1, "two"]},
    )
    assert render(operator) == {
        "first": SEALED,
        "second": "on 2026-01-01",
        "third": SEALED,
        "fourth": {"plain": [1, "two"]},
    }
    assert operator.first == f"card {CARD}"
    assert operator.third == ["2026-01-01", {"deep": str(CARD)}]


@pytest.mark.parametrize(
    "template",
    [
        "{{ ti.xcom_pull('a') + 1 }}",
        "{{ '%x' % ti.xcom_pull('a') }}",
        "{{ (ti.xcom_pull('a') | string)[:12] }}",
        "{% if ti.xcom_pull('a') > 5 %}over{% endif %}",
    ],
)
def test_nothing_that_is_made_from_a_value_is_shown(template):
    assert render(make(first=template, second="x"))["first"] == SEALED


def test_where_nothing_is_pulled_all_is_shown():
    fields = {"first": "on {{ ds }}", "second": None, "third": 7, "fourth": [1]}
    assert render(make(**fields)) == fields | {"first": "on 2026-01-01"}


def test_a_value_that_was_opened_before_the_task_blanks_nothing():
    assert pull(push(CARD)) == CARD
    assert render(make(first="on {{ ds }}"))["first"] == "on 2026-01-01"


def test_an_unsealed_value_that_is_read_counts_too(configure):
    configure(unsealed_reads="allow")
    operator = make(first="{{ pull() }}", second="x")
    operator.render_template_fields({"pull": lambda: pull("unsealed")})
    assert stored(operator) == {"first": SEALED, "second": "x", "third": None, "fourth": None}


def test_a_clear_key_does_not_count():
    operator = make(first="{{ pull() }}")
    operator.render_template_fields(
        {"pull": lambda: pull({"followed": ["b"]}, key="skipmixin_key")}
    )
    assert "followed" in stored(operator)["first"]


def test_what_is_put_into_a_field_after_rendering_is_blanked():
    operator = make(first="{{ ti.xcom_pull('a') }}", second="x", third=["y"], fourth={"z": 1})
    render(operator)
    # As an operator does that shows what it made of its arguments when it ran.
    operator.second = f"echo {operator.first}"
    operator.third.append(operator.first)
    assert stored(operator) == {
        "first": SEALED,
        "second": SEALED,
        "third": SEALED,
        "fourth": {"z": 1},
    }


def test_an_operator_that_renders_again_keeps_what_it_made_of_values_to_itself():
    operator = make(first="{{ ti.xcom_pull('a') }}", second="x", third="on {{ ds }}")
    values = context(operator)
    operator.render_template_fields(values)
    # As @task.bash does with what its function returns.
    operator.second = f"echo {operator.first}"
    operator.render_template_fields(values)
    assert stored(operator) == {
        "first": SEALED,
        "second": SEALED,
        "third": "on 2026-01-01",
        "fourth": None,
    }


def test_another_object_for_a_task_that_was_rendered_shows_nothing():
    render(make(first="{{ ti.xcom_pull('a') }}"))
    again = make(first=f"echo {CARD}", second="x")
    again.render_template_fields(context(again))
    assert stored(again) == dict.fromkeys(Fields.template_fields, SEALED)


def test_a_value_that_is_pulled_while_the_task_runs_blanks_what_it_changes():
    operator = make(first="x", second=["y"])
    assert render(operator)["second"] == ["y"]
    operator.second.append(context(operator)["pull"]())
    assert stored(operator) == {"first": "x", "second": SEALED, "third": None, "fourth": None}


class Lazy:
    """A sequence of a mapped task: it opens its items when it is written out."""

    def __init__(self, row):
        self.row = row

    def __str__(self):
        return f"[{pull(self.row)}]"

    __repr__ = __str__


def test_a_sequence_that_is_read_when_it_is_shown_is_blanked():
    operator = make(first=Lazy(push(CARD)), second="x")
    operator.render_template_fields(context(operator))
    assert stored(operator)["first"] == SEALED
    assert stored(operator)["first"] == SEALED
    assert stored(operator)["second"] == "x"


def test_a_task_that_is_expanded_over_a_value_shows_nothing(monkeypatch):
    operator = expanded(monkeypatch, lambda: {"first": f"card {pull(push(CARD))}"})
    assert stored(operator) == dict.fromkeys(Fields.template_fields, SEALED)


def test_a_task_that_is_expanded_over_literals_shows_them(monkeypatch):
    operator = expanded(monkeypatch, lambda: {"first": "one"})
    assert stored(operator) == {"first": "one", "second": "x", "third": None, "fourth": None}


def expanded(monkeypatch, kwargs):
    with DAG("d", schedule=None, start_date=DAY):
        mapped = Fields.partial(task_id="t", second="x").expand(first=["one"])
    # What Airflow does there needs a database or a server; it resolves references to XComs.
    monkeypatch.setattr(
        type(mapped), "_expand_mapped_kwargs", lambda *_, **__: (kwargs(), set()), raising=True
    )
    seen = []
    unmap = type(mapped).unmap
    monkeypatch.setattr(type(mapped), "unmap", lambda *args: seen.append(unmap(*args)) or seen[-1])
    run = {"dag": mapped.dag, "dag_run": SimpleNamespace(conf={}), "params": {}}
    arguments = {"context": context(mapped) | run, "jinja_env": mapped.get_template_env()}
    if "session" in inspect.signature(mapped.render_template_fields).parameters:
        arguments["session"] = None
    mapped.render_template_fields(**arguments)
    return seen[-1]


def test_without_the_guard_of_rendering_everything_is_blanked():
    operator = make(first="{{ ti.xcom_pull('a') }}", second="x")
    operator.render_template_fields(context(operator))
    del vars(operator)["_secure_xcom_rendered"]
    assert stored(operator) == dict.fromkeys(Fields.template_fields, SEALED)


def test_without_a_place_to_blank_fields_nothing_is_read(monkeypatch):
    row = push(CARD)
    if VERSION < (3, 0):
        monkeypatch.delattr(RenderedTaskInstanceFields, "_redact")
    else:
        monkeypatch.delattr(task_runner, "_serialize_rendered_fields")
    with pytest.raises(ConfigError, match="Nothing is read"):
        pull(row)


def test_airflow_has_the_names_that_are_guarded():
    owners = [getattr(import_module(module), "Templater", None) for module in MODULES[:1]]
    owners += [import_module(MODULES[1]).AbstractOperator]
    stock = [
        vars(o)["_do_render_template_fields"]
        for o in owners
        if "_do_render_template_fields" in vars(o)
    ]
    assert stock
    mapped = import_module(MAPPED).MappedOperator
    for guarded in [*stock, vars(mapped)["render_template_fields"]]:
        assert guarded._secure_xcom_guarded
    for method in stock:
        names = list(inspect.signature(method).parameters)
        assert names == ["self", "parent", "template_fields", "context", "jinja_env", "seen_oids"]
    # The real `_prepare`, `finalize` or `_execute_task_with_callbacks` goes by these names.
    if VERSION < (3, 0):
        init = inspect.getsource(RenderedTaskInstanceFields).partition("def __init__")[2]
        assert init.index("self.rendered_fields =") < init.index("self._redact()")
        assert "k8s_pod_yaml" in init
    else:
        source = inspect.getsource(task_runner)
        sent = source.count("SetRenderedFields(rendered_fields=")
        made = source.count("_serialize_rendered_fields(ti.task)")
        assert sent == made == 2
