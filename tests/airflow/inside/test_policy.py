"""The cluster policy: it is loaded, and what it sets on which tasks."""

from __future__ import annotations

import datetime as dt
import logging

import pytest
from airflow import settings
from conftest import VERSION

from secure_xcom.airflow import policy

if VERSION < (3, 0):
    from airflow.decorators import dag, task
    from airflow.operators.bash import BashOperator
    from airflow.operators.python import PythonOperator
else:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.providers.standard.operators.python import PythonOperator
    from airflow.sdk import dag, task

OPTION = "AIRFLOW__SECURE_XCOM__LOG_RETURN_VALUES"


@pytest.fixture(autouse=True)
def _again():
    forget()
    yield
    forget()


def forget():
    policy.is_configured.cache_clear()
    policy._hides_return_values.cache_clear()


def tasks():
    """Make one task of each sort, and put it through the policies as the parser does."""

    @dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc))  # noqa: UP017
    def policed():
        @task(show_return_value_in_logs=True)
        def decorated(n=1):
            return n

        decorated()
        decorated.override(task_id="mapped_decorated").expand(n=[1, 2])
        PythonOperator(task_id="classic", python_callable=print)
        PythonOperator.partial(task_id="mapped", python_callable=print).expand(op_args=[[1]])
        BashOperator(task_id="bash", bash_command="true")
        BashOperator.partial(task_id="mapped_bash").expand(bash_command=["true"])

    made = policed().task_dict
    for one in made.values():
        settings.task_policy(one)
    return made


def shown(made):
    """Say which tasks would log what they return; mapped ones by what they become."""
    return {
        name: one.partial_kwargs.get("show_return_value_in_logs", "unset")
        if hasattr(one, "partial_kwargs")
        else getattr(one, "show_return_value_in_logs", "unset")
        for name, one in made.items()
    }


HUSHED = {
    "decorated": False,
    "mapped_decorated": False,
    "classic": False,
    "mapped": False,
    "bash": "unset",
    "mapped_bash": "unset",
}


def test_airflow_loads_the_policy_by_its_entry_point():
    assert policy.is_active()


def test_no_python_task_logs_what_it_returns():
    made = tasks()
    assert shown(made) == HUSHED


def test_a_task_that_runs_does_not_log_it(caplog, capsys):
    def logged():
        with caplog.at_level(logging.INFO):
            classic.execute({})
        return capsys.readouterr().out + caplog.text

    classic = PythonOperator(task_id="classic", python_callable=lambda: "canary-7f3a")
    assert "canary-7f3a" in logged()
    caplog.clear()
    settings.task_policy(classic)
    quiet = logged()
    assert "Returned value not shown" in quiet
    assert "canary-7f3a" not in quiet


@pytest.mark.parametrize("value", ["false", "", "yes", "1"])
def test_only_true_leaves_it_on(monkeypatch, value):
    monkeypatch.setenv(OPTION, value)
    assert shown(tasks()) == HUSHED


def test_a_setting_leaves_it_on(monkeypatch):
    monkeypatch.setenv(OPTION, " True ")
    assert shown(tasks())["decorated"] is True
    assert shown(tasks())["classic"] is True
    assert shown(tasks())["mapped"] == "unset"


def test_where_another_backend_is_configured_nothing_is_touched(monkeypatch):
    stock = (
        "airflow.models.xcom.BaseXCom" if VERSION < (3, 0) else "airflow.sdk.bases.xcom.BaseXCom"
    )
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", stock)
    assert shown(tasks())["decorated"] is True
    assert shown(tasks())["mapped"] == "unset"
