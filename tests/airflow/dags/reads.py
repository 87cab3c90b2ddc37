"""Leaves XComs that are then read outside of tasks; `$CANARY` is in all of them."""

from __future__ import annotations

import datetime as dt
import os

try:
    from airflow.sdk import BaseOperator, dag, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models import BaseOperator

from linking import Link

CANARY = os.environ["CANARY"]


class Linked(BaseOperator):
    """Pushes what its link is made of."""

    operator_extra_links = (Link(),)

    def execute(self, context):
        context["ti"].xcom_push(key="place", value=f"https://example.org/{CANARY}")


class Shown(BaseOperator):
    """Has a field that pulls."""

    template_fields = ("text",)

    def __init__(self, *, text, **kwargs):
        super().__init__(**kwargs)
        self.text = text

    def execute(self, context):  # noqa: ARG002 - Airflow's own signature
        return len(self.text)


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), catchup=False)  # noqa: UP017
def reads():
    """Push values of each sort."""

    @task
    def short():
        return {"card": CANARY}

    @task
    def long():
        return f"{CANARY} " + os.urandom(60_000).hex()

    @task
    def mapped(n):
        return f"{CANARY} {n}"

    @task
    def moved():
        return "a row that the test puts another one into"

    short() >> Shown(task_id="shown", text="{{ ti.xcom_pull(task_ids='short')['card'] }}")
    long()
    moved()
    mapped.expand(n=[1, 2])
    Linked(task_id="linked")


the_dag = reads()
