"""A branch and a short circuit that skip tasks; then these are cleared, and the scheduler is asked.

Run as a program: prints a JSON object of the states before and after.
"""

from __future__ import annotations

import datetime as dt
import json

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState

UTC = dt.timezone.utc  # noqa: UP017 - this file runs on older Pythons, too


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def branching():
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

    choose() >> [taken(), left_out()]
    stop() >> stopped()


built = branching()


def states(session):
    tis = session.query(TaskInstance).filter(TaskInstance.dag_id == "branching")
    return {ti.task_id: ti.state and str(getattr(ti.state, "value", ti.state)) for ti in tis}


def schedulers_dag(session, run):
    """Give the DAG as the scheduler has it."""
    try:
        from airflow.models.dagbag import DBDagBag  # noqa: PLC0415
    except ImportError:
        return built
    return DBDagBag().get_dag_for_run(run, session=session)


def main():
    built.test()
    with create_session() as session:
        before = states(session)
        left_out = TaskInstance.task_id.in_(["left_out", "stopped"])
        tis = session.query(TaskInstance).filter(left_out).all()
        clear_task_instances(tis, session, dag_run_state=DagRunState.RUNNING)
        session.commit()
        cleared = states(session)
        [run] = {ti.dag_run for ti in session.query(TaskInstance)}
        run.dag = schedulers_dag(session, run)
        decision = run.task_instance_scheduling_decisions(session=session)
        session.commit()
        print(  # noqa: T201
            json.dumps(
                {
                    "before": before,
                    "cleared": cleared,
                    "to be run": sorted(ti.task_id for ti in decision.schedulable_tis),
                    "after": states(session),
                }
            )
        )


if __name__ == "__main__":
    main()
