"""Pulls much and prints it, in tasks, callbacks and triggers; `$CANARY` is in all of it."""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys

try:
    from airflow.sdk import BaseOperator, dag, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models import BaseOperator

from telling_trigger import TellingTrigger

CANARY = os.environ["CANARY"]
log = logging.getLogger("masked")


def _pull(context):
    return context["ti"].xcom_pull(task_ids="records", dag_id="masked")


def _tell(where, records):
    print(f"print in {where}:", records[-1])  # noqa: T201 - what is under test
    log.warning("log in %s: %s", where, records[-1])
    log.warning({"structured in": where, "record": records[-1]})


def of_the_dag(context):
    """Print in whatever process runs callbacks of DAGs."""
    print("the dag's callback has", sorted(context))  # noqa: T201 - what is under test
    if "ti" in context:
        _tell("the dag's callback", _pull(context))
    print("the dag's callback has ended")  # noqa: T201 - what is under test


def of_the_task(context):
    """Print in whatever process runs callbacks of tasks."""
    _tell("the task's callback", _pull(context))


class Deferred(BaseOperator):
    """Waits for a trigger that tells what it pulls, and goes on."""

    def execute(self, context):
        self.defer(trigger=TellingTrigger(context["run_id"]), method_name="go_on")

    def go_on(self, context, event):  # noqa: ARG002 - Airflow's own signature
        _tell("a task that goes on", _pull(context))


@dag(
    schedule="@once",
    start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    catchup=False,
    on_failure_callback=of_the_dag,
)
def masked():
    """Print what was pulled."""

    @task
    def records():
        # The first ones would have filled what one expression can hold.
        fill = [{"id": f"record {n:06}"} for n in range(5000)]
        return [*fill, {"name": f"{CANARY}-name", "card": int(CANARY.split("-")[1])}]

    @task
    def show(of):
        _tell("a task", list(of))

    @task
    def other():
        # This one pulled nothing.
        print("told by another task:", os.environ.get("TOLD"))  # noqa: T201 - what is under test

    @task(on_failure_callback=of_the_task)
    def fail(of):
        _tell("the task that fails", list(of))
        sys.stderr.write(f"stderr in the task: {of[-1]}\n")
        raise ValueError(of[-1]["name"])

    read = records()
    show(read) >> Deferred(task_id="deferred") >> other() >> fail(read)


the_dag = masked()
