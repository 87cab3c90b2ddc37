"""Tasks for real daemons: branches, a value to be offloaded, a trigger that reads and pushes,
coroutines, a DAG that triggers another one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import inspect
import os

try:
    from airflow.sdk import BaseOperator, dag, get_current_context, task
    from airflow.sdk.bases.xcom import BaseXCom
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models import BaseOperator
    from airflow.models.xcom import BaseXCom
    from airflow.operators.python import get_current_context

try:
    from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
except ImportError:
    from airflow.operators.trigger_dagrun import TriggerDagRunOperator

from reading_trigger import EndingTrigger, ReadingTrigger

from secure_xcom.airflow.process import process

CANARY = os.environ.get("CANARY", "")
UTC = dt.timezone.utc  # noqa: UP017 - this file runs on older Pythons, too
HAS_COROUTINES = hasattr(BaseXCom, "aset")


class Deferred(BaseOperator):
    """Waits for a trigger that pulls an XCom in the triggerer."""

    def execute(self, context):
        self.defer(trigger=ReadingTrigger(run_id=context["run_id"]), method_name="execute_complete")

    def execute_complete(self, context, event):
        pushed = context["ti"].xcom_pull(task_ids="deferred", key="pushed")
        assert pushed == {"card": CANARY}
        return event["length"]


class Ended(BaseOperator):
    """Waits for a trigger that ends it."""

    def execute(self, context):  # noqa: ARG002 - Airflow's own signature
        self.defer(trigger=EndingTrigger(), method_name="execute_complete")


@dag(schedule="@once", start_date=dt.datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def live():  # noqa: C901 - many small tasks
    @task
    def small():
        return {"card": CANARY}

    @task
    def large():
        return [CANARY, *(hashlib.sha256(b"%d" % n).hexdigest() for n in range(2000))]

    @task
    def check(a, b):
        assert a["card"] == CANARY
        assert b[0] == CANARY
        assert len(b) == 2001
        return len(b)

    @task.branch
    def choose():
        return "taken"

    @task
    def taken():
        return 1

    @task
    def left_out():
        return 2

    @task.short_circuit
    def stop():
        return False

    @task
    def stopped():
        return 3

    stop() >> stopped()

    a, b = small(), large()
    check(a, b) >> choose() >> [taken(), left_out()]
    a >> Deferred(task_id="deferred")

    @task
    def read_what_the_trigger_wrote():
        ti = get_current_context()["ti"]
        found = {}
        for policy in ("deny", "warn", "allow"):
            os.environ["AIRFLOW__SECURE_XCOM__UNSEALED_READS"] = policy
            process.forget()
            try:
                found[policy] = ti.xcom_pull(task_ids="ended")
            except Exception as error:  # noqa: BLE001 - noted
                found[policy] = type(error).__name__
        found["clear key"] = ti.xcom_pull(task_ids="ended", key="_link_page")
        return found

    Ended(task_id="ended") >> read_what_the_trigger_wrote()

    b >> TriggerDagRunOperator(task_id="trigger", trigger_dag_id="triggered")

    if HAS_COROUTINES:

        @task
        async def coroutines():
            import asyncio  # noqa: PLC0415

            ti = get_current_context()["ti"]
            await asyncio.gather(*(ti.axcom_push(f"k{n}", {"n": n, "c": CANARY}) for n in range(9)))
            pulled = await asyncio.gather(
                *(ti.axcom_pull(task_ids="coroutines", key=f"k{n}") for n in range(9))
            )
            assert pulled == [{"n": n, "c": CANARY} for n in range(9)]
            assert inspect.iscoroutinefunction(ti.axcom_push)

        a >> coroutines()


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def triggered():
    @task
    def return_it():
        return {"card": CANARY}

    return_it()


live()
triggered()
