"""What other backends had trouble with; a program that runs two DAGs, one of them on two
days.

The outer test sets PROBES (a file that gets one JSON object a line) and CANARY.
"""
# ruff: noqa: BLE001, PTH123, PLC0415 - a file that notes what happens, on six versions of Airflow

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import os

try:
    from airflow.sdk import dag, get_current_context, task
except ImportError:
    from airflow.decorators import dag, task
    from airflow.operators.python import get_current_context
try:
    from airflow.providers.standard.operators.bash import BashOperator
except ImportError:
    from airflow.operators.bash import BashOperator

CANARY = os.environ.get("CANARY", "")
UTC = dt.timezone.utc  # noqa: UP017 - this file runs on older Pythons, too
FIRST, SECOND = dt.datetime(2026, 1, 1, tzinfo=UTC), dt.datetime(2026, 1, 2, tzinfo=UTC)


def note(name, value):
    with open(os.environ["PROBES"], "a") as probes:
        probes.write(json.dumps({"name": name, "value": value}) + "\n")


def attempt(name, read):
    """Note what a read gives, or the class of its error."""
    try:
        value = read()
    except Exception as error:
        value = f"{type(error).__name__} {CANARY in str(error)}"
    note(name, value)


@dag(schedule=None, start_date=FIRST, catchup=False)
def seeds():  # noqa: C901 - many small tasks
    @task
    def source():
        return {"card": CANARY, "words": ["a b", "it's"]}

    @task
    def records():
        return [{"n": n, "digest": hashlib.sha256(b"%d" % n).hexdigest()} for n in range(2)]

    @task
    def arguments():
        return [{"a": 1, "b": [CANARY]}, {"a": 2, "b": []}]

    @task
    def number(record):
        return {"n": record["n"], "card": CANARY}

    @task
    def double(numbered):
        assert numbered["card"] == CANARY
        return numbered["n"] * 2

    @task
    def both(a, b):
        return [a, len(b)]

    @task(retries=1, retry_delay=dt.timedelta(0))
    def again():
        ti = get_current_context()["ti"]
        ti.xcom_push("overwritten", [ti.try_number, CANARY])
        ti.xcom_push("overwritten", [ti.try_number, "twice", CANARY])
        if ti.try_number == 1:
            raise RuntimeError("the first try fails")
        return ti.try_number

    @task
    def nothing():
        return None

    @task(multiple_outputs=True)
    def outputs() -> dict:
        return {"x": {"card": CANARY}, "y": None, "z": (1, 2)}

    bash = BashOperator(
        task_id="bash",
        bash_command=(
            'test "$CARD" = \'{{ ti.xcom_pull(task_ids="source")["card"] }}\' && '
            'echo \'{{ ti.xcom_pull(task_ids="records")[1].n }} '
            '{{ ti.xcom_pull(task_ids=["source"])[0].words[0] }} '
            '{{ ti.xcom_pull(task_ids="number", map_indexes=1)["n"] }}\''
        ),
        env={"CARD": "{{ ti.xcom_pull(task_ids='source', key='return_value')['card'] }}"},
    )

    @task
    def gather(doubles, *outputs):
        ti = get_current_context()["ti"]
        note("mapped over mapped values", list(doubles))
        note("keywords", list(ti.xcom_pull(task_ids="both")))
        some = [*ti.xcom_pull(task_ids=["double", "number"], map_indexes=[1, 0])]
        note("several tasks and map indexes", sorted(str(one).replace(CANARY, "C") for one in some))
        note("outputs", [outputs[0] == {"card": CANARY}, outputs[1]])
        note("output that is a tuple", repr(ti.xcom_pull(task_ids="outputs", key="z")))
        note("bash", outputs[2])
        note("a task that returns None", ti.xcom_pull(task_ids="nothing"))
        note(
            "a retry",
            [
                ti.xcom_pull(task_ids="again"),
                ti.xcom_pull(task_ids="again", key="overwritten") == [2, "twice", CANARY],
            ],
        )
        if _create_over_rest("seeds", "source", ti.run_id, "rest", {"card": CANARY}):
            attempt("created over REST", lambda: ti.xcom_pull(task_ids="source", key="rest"))
            for policy in ("warn", "allow"):
                with unsealed_reads(policy):
                    read = ti.xcom_pull(task_ids="source", key="rest")
                    # 3.1's server encodes it twice, and the stock backend gives that text, too.
                    read = json.loads(read) if isinstance(read, str) else read
                    note(f"created over REST, {policy}", read == {"card": CANARY})

    made, numbered = records(), source()
    mapped = number.expand(record=made)
    several = outputs()
    numbered >> bash
    [mapped, made] >> bash
    [
        both.expand_kwargs(arguments()),
        again(),
        nothing(),
    ] >> gather(
        double.expand(numbered=mapped),
        several["x"],
        several["y"],
        bash.output,
    )


@dag(schedule=None, start_date=FIRST, catchup=False)
def days():
    @task
    def look_back():
        ti = get_current_context()["ti"]
        if "2026-01-01" in ti.run_id:
            ti.xcom_push("of that day", {"card": CANARY, "day": 1})
            return
        wanted = {"task_ids": "look_back", "key": "of that day"}
        note("of this day", ti.xcom_pull(**wanted))
        found = ti.xcom_pull(**wanted, include_prior_dates=True)
        note("of a day before", found == {"card": CANARY, "day": 1})
        wanted["task_ids"] = ["look_back", "other"]
        some = ti.xcom_pull(**wanted, include_prior_dates=True)
        # Airflow 3 has a None for what is not there.
        note("of several tasks and a day before", [one["day"] for one in some if one])

    look_back()


class unsealed_reads:  # noqa: N801 - a context manager
    """Have a policy for a while, in this process."""

    def __init__(self, policy):
        self._policy = policy

    def __enter__(self):
        self._set(self._policy)

    def __exit__(self, *_):
        self._set("deny")

    def _set(self, policy):
        from secure_xcom.airflow.process import process

        os.environ["AIRFLOW__SECURE_XCOM__UNSEALED_READS"] = policy
        process.forget()


def _create_over_rest(dag_id, task_id, run_id, key, value):
    """Do what the server does at `POST …/xcomEntries`; Airflow 2 has no such endpoint."""
    try:
        from airflow.api_fastapi.core_api.datamodels.xcom import XComCreateBody
        from airflow.api_fastapi.core_api.routes.public import xcom as routes
    except ImportError:
        return False
    from airflow.models.dagbag import DBDagBag
    from airflow.utils.session import create_session

    with create_session() as session:
        routes.create_xcom_entry(
            dag_id, task_id, run_id, XComCreateBody(key=key, value=value), session, DBDagBag()
        )
    return True


one, two = seeds(), days()


def main():
    import airflow

    is_two = airflow.__version__.startswith("2.")
    if airflow.__version__.startswith(("3.1.", "3.2.")):
        from airflow.sdk.execution_time import supervisor

        # These start a server for each task, 3.3 and later one for the process.
        supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)
    for built, day in ((one, FIRST), (two, FIRST), (two, SECOND)):
        when = {"execution_date": day} if is_two else {"logical_date": day, "run_after": day}
        run = built.test(**when)
        assert run is None or str(getattr(run.state, "value", run.state)) == "success", run


if __name__ == "__main__":
    main()
