"""Tasks that pass values on in each of the ways by which Airflow makes copies of them."""

from __future__ import annotations

import datetime as dt
import logging
import os

try:
    from airflow.providers.standard.operators.bash import BashOperator
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.operators.bash import BashOperator

TEXT = os.environ.get("CANARY", "")
NUMBER = int(os.environ.get("NUMBER", "0"))
UTC = dt.timezone.utc  # noqa: UP017 - this file runs on older Pythons, too
log = logging.getLogger("airflow.task")


def tell(context):
    """Tell of a failure, as callbacks do."""
    print("failed with", context["exception"])  # noqa: T201
    log.error("the value was %s", context["ti"].xcom_pull(task_ids="returns"))


@dag(schedule="@once", start_date=dt.datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def leaks():
    @task
    def returns():
        return {"text": TEXT, "number": NUMBER}

    @task
    def many():
        return [TEXT + "-a", NUMBER + 1]

    @task
    def argument(value, plain):  # noqa: ARG001 - it is rendered, too
        print("printed", value)  # noqa: T201
        log.info("logged %s and %s", value["text"], value["number"])
        return value

    @task
    def mapped(one):
        log.info("mapped %s", one)
        return one

    @task(on_failure_callback=tell)
    def fails(value):
        raise ValueError(f"cannot charge {value}")

    @task.bash
    def shell(value):
        return f"echo shell {value['text']} {value['number']}"

    given = returns()
    argument(given, "a plain text")
    mapped.expand(one=many())
    fails(given)
    shell(given)
    template = "{{ ti.xcom_pull(task_ids='returns')['%s'] }}"
    (
        given
        >> BashOperator(
            task_id="bash",
            bash_command=f"echo {template % 'text'} {template % 'number'} on {{{{ ds }}}}",
            env={"DAY": "a plain day"},
        )
        >> BashOperator(task_id="plain", bash_command="echo nothing but {{ ds }}")
    )


leaks()
