"""Values of many kinds travel; then rows are moved about, and what reads make of that is noted.

The outer test sets PROBES (a file that gets one JSON object a line), CANARY (a string that no
file holds) and DATABASE (the metadata database, which `moved` and `replaced` write to as an
attacker would).
"""
# ruff: noqa: BLE001, PLR0915, PTH123, S608 - a DAG that plays the attacker

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import sqlite3
from contextlib import closing, contextmanager

try:
    from airflow.sdk import dag, get_current_context, task
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.decorators import dag, task
    from airflow.models.xcom import XCom
    from airflow.operators.python import get_current_context

CANARY = os.environ.get("CANARY", "")
UTC = dt.timezone.utc  # noqa: UP017 - this file runs on older Pythons, too


def note(name, value):
    with open(os.environ["PROBES"], "a") as probes:
        probes.write(json.dumps({"name": name, "value": value}) + "\n")


def attempt(name, read):
    """Note what a read gives, or the class of its error."""
    try:
        value = read()
    except Exception as error:
        note(name, f"{type(error).__name__} {CANARY in str(error)}")
    else:
        note(name, value)


@contextmanager
def written(statement, *parameters):
    """Change the table of XComs for a while."""
    with closing(sqlite3.connect(os.environ["DATABASE"], timeout=30)) as database:
        table = _table(database)
        before = database.execute(f"SELECT * FROM {table}").fetchall()
        changed = database.execute(statement.format(table=table), parameters).rowcount
        assert changed > 0, "the statement found nothing to change"
        database.commit()
        try:
            yield
        finally:
            marks = ", ".join("?" * len(before[0]))
            database.execute(f"DELETE FROM {table}")
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", before)
            database.commit()


def _table(database):
    found = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'xcom_v2'").fetchone()
    return "xcom_v2" if found else "xcom"


def _where(table, task_id, map_index, key):
    if table == "xcom":
        return f"task_id = '{task_id}' AND map_index = {map_index} AND key = '{key}'"
    return (
        f"key = '{key}' AND task_instance_id = (SELECT id FROM task_instance "
        f"WHERE task_id = '{task_id}' AND region_index = {map_index} AND working_set)"
    )


def moved(source, target):
    """Copy one row's value onto another's."""
    with closing(sqlite3.connect(os.environ["DATABASE"])) as database:
        table = _table(database)
    return written(
        f"UPDATE {{table}} SET value = (SELECT value FROM {{table}} "
        f"WHERE {_where(table, *source)}) WHERE {_where(table, *target)}"
    )


def replaced(target, value):
    with closing(sqlite3.connect(os.environ["DATABASE"])) as database:
        table = _table(database)
    text = json.dumps(value)
    held = text.encode() if hasattr(XCom, "orm_deserialize_value") else text
    return written(f"UPDATE {{table}} SET value = ? WHERE {_where(table, *target)}", held)


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=UTC), catchup=False)
def travel():
    @task(multiple_outputs=True, retries=1, retry_delay=dt.timedelta(0))
    def source():
        ti = get_current_context()["ti"]
        if ti.try_number == 1:
            ti.xcom_push("first try", large("lost"))
            raise RuntimeError("the first try fails")
        ti.xcom_push("nothing", None)
        ti.xcom_push("other", {"who": "source", "secret": CANARY})
        ti.xcom_push("tuple", (1, "two"))
        ti.xcom_push("trigger_run_id", "in clear")
        ti.xcom_push("large", large("written over"))
        try:
            ti.xcom_push("_link_forged", {"__secure_xcom__": 1})
        except Exception as error:
            note("push of a tagged value under a clear key", type(error).__name__)
        return {"small": {"card": CANARY, "rows": [1, 2.5, None, True]}, "large": large("kept")}

    @task
    def plain():
        return {"card": CANARY, "nested": {"a": {"b": "c"}}}

    @task
    def square(number):
        return number * number

    @task
    def gather(a, b, squares, zipped, mapped, **context):
        ti = context["ti"]
        note("values through arguments", [a["nested"], len(b), b[-1]["id"], sum(squares)])
        note("canary through arguments", [a["card"] == CANARY, b[7]["note"] == f"{CANARY}-7"])
        note("zip", [list(both) for both in zipped])
        note("map", list(mapped))
        note("lazy sequence", [list(squares[1:]), squares[-1], len(squares), squares[0]])
        pulled = ti.xcom_pull(task_ids=["plain", "source"])
        note("pull of two tasks", [pulled[0]["nested"], sorted(pulled[1])])
        note("pull of all map indexes", list(ti.xcom_pull(task_ids="square")))
        note("pull of one map index", ti.xcom_pull(task_ids="square", map_indexes=2))
        note("pull of two map indexes", list(ti.xcom_pull(task_ids="square", map_indexes=[2, 0])))
        note("pull of a key", ti.xcom_pull(task_ids="source", key="other")["who"])
        note("pull of None", ti.xcom_pull(task_ids="source", key="nothing"))
        note("pull of a clear key", ti.xcom_pull(task_ids="source", key="trigger_run_id"))
        note("pull of what is not there", ti.xcom_pull(task_ids="source", key="absent"))
        note("pull of what a failed try pushed", ti.xcom_pull(task_ids="source", key="first try"))
        note("pull of a tuple", repr(ti.xcom_pull(task_ids="source", key="tuple")))
        note(
            "pull with prior dates",
            ti.xcom_pull(task_ids="source", key="small", include_prior_dates=True)["rows"],
        )
        note(
            "get_value",
            XCom.get_value(ti_key=_Key("travel", "square", ti.run_id, 1), key="return_value"),
        )

    @task
    def tamper(squares, **context):
        ti = context["ti"]
        plain_row = ("plain", -1, "return_value")
        other_row = ("source", -1, "other")
        single = {} if hasattr(XCom, "orm_deserialize_value") else {"map_indexes": None}

        with moved(plain_row, other_row):
            attempt(
                "moved: pulled with a map index",
                lambda: ti.xcom_pull(task_ids="source", key="other", **single),
            )
            attempt(
                "moved: pulled by task id",
                lambda: list(ti.xcom_pull(task_ids="source", key="other")),
            )
            attempt(
                "moved: pulled by task ids",
                lambda: list(ti.xcom_pull(task_ids=["source"], key="other")),
            )
            attempt(
                "moved: pulled with prior dates",
                lambda: ti.xcom_pull(
                    task_ids="source", key="other", include_prior_dates=True, **single
                ),
            )
            attempt(
                "moved: get_value",
                lambda: XCom.get_value(ti_key=_Key("travel", "source", ti.run_id, -1), key="other"),
            )
        with moved(other_row, ("source", -1, "tuple")):
            attempt(
                "moved from key to key",
                lambda: ti.xcom_pull(task_ids="source", key="tuple", **single),
            )
        with moved(("square", 0, "return_value"), ("square", 1, "return_value")):
            attempt("moved among map indexes: lazy sequence", lambda: list(squares))
            attempt("moved among map indexes: lazy slice", lambda: list(squares[:]))
            attempt("moved among map indexes: lazy item", lambda: squares[1])
            attempt("moved among map indexes: all", lambda: list(ti.xcom_pull(task_ids="square")))
            attempt(
                "moved among map indexes: one",
                lambda: ti.xcom_pull(task_ids="square", map_indexes=1),
            )
        with moved(plain_row, ("square", 1, "return_value")):
            attempt("moved into a mapped task: lazy sequence", lambda: list(squares))
            attempt("moved into a mapped task: lazy slice", lambda: list(squares[1:]))
        with replaced(("square", 1, "return_value"), 99):
            attempt("replaced by plain JSON: lazy sequence", lambda: list(squares))
        with replaced(other_row, {"who": "mallory"}):
            attempt(
                "replaced by plain JSON",
                lambda: ti.xcom_pull(task_ids="source", key="other", **single),
            )
        with replaced(other_row, None):
            attempt("replaced by null", lambda: ti.xcom_pull(task_ids="source", key="other"))
        with replaced(other_row, {"__secure_xcom__": 2}):
            attempt(
                "replaced by a later version", lambda: ti.xcom_pull(task_ids="source", key="other")
            )
        with moved(plain_row, ("source", -1, "trigger_run_id")):
            attempt(
                "sealed row under a clear key",
                lambda: ti.xcom_pull(task_ids="source", key="trigger_run_id"),
            )
        note("put back", list(squares))

    made = source()
    squares = square.expand(number=[1, 2, 3])
    seen = gather(
        plain(), made["large"], squares, squares.zip(squares), squares.map(lambda number: -number)
    )
    seen >> tamper(squares)


def large(text):
    # Digests, because what repeats itself would be compressed to below the threshold.
    return [
        {
            "id": number,
            "note": f"{CANARY}-{number}",
            "text": hashlib.sha256(f"{text}{number}".encode()).hexdigest(),
        }
        for number in range(4000)
    ]


class _Key:
    """What `XCom.get_value` wants to know."""

    def __init__(self, dag_id, task_id, run_id, map_index):
        self.dag_id, self.task_id, self.run_id = dag_id, task_id, run_id
        self.map_index = map_index


travel()
