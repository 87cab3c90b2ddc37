"""A loop of Airflow 3.4: iterations of a task share everything but the task instance's id."""
# ruff: noqa: PTH123

from __future__ import annotations

import datetime as dt
import json
import os

from airflow.sdk import dag, get_current_context, task, task_group


def note(name, value):
    with open(os.environ["PROBES"], "a") as probes:
        probes.write(json.dumps({"name": name, "value": value}) + "\n")


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), catchup=False)
def loops():
    @task_group
    def counting():
        @task
        def count(*, loop):
            return {"n": 0 if loop.index == 0 else loop.previous["n"] + 1}

        count()

    @task_group
    def batches():
        @task
        def choose(*, loop):
            return [1, 2] if loop.index == 0 else [value * 10 for value in loop.previous]

        @task
        def process(value):
            return value + 1

        process.expand(value=choose())

    @task
    def gather():
        ti = get_current_context()["ti"]
        note("iterations", list(ti.xcom_pull(task_ids="counting.count")))
        note("mapped iterations", list(ti.xcom_pull(task_ids="batches.process")))

    [counting.loop(max_iterations=3), batches.loop(max_iterations=2)] >> gather()


loops()
