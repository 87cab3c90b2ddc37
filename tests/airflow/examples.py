"""A program: run the example DAGs that Airflow ships, and write what became of them to a file.

It runs inside an environment, once with each backend, in a home of its own. Each line is JSON, of a
DAG: its state, its tasks' states, and its XComs as the backend of that run gives them back.
"""

from __future__ import annotations

import datetime as dt
import functools
import importlib.util
import inspect
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import airflow
from sqlalchemy import text

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])
WHEN = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SECONDS_MAX = 60
COORDINATE = ("dag_id", "run_id", "task_id", "map_index", "key")
#: Of each file; those with more only repeat themselves.
DAGS_MAX = 1

#: By file name, those left out, and why.
LEFT_OUT = {
    "example_kubernetes_executor": "needs a cluster",
    "example_local_kubernetes_executor": "needs a cluster",
    "example_dag_decorator": "asks a server on the internet",
    "example_asset_with_watchers": "waits for a message",
    "example_hitl_operator": "waits for a person",
    "example_sensors": "waits for minutes",
    "example_sensor_decorator": "pokes for as long as its timeout allows",
    "example_time_delta_sensor_async": "waits for the triggerer",
    "example_external_task_marker_dag": "waits for another run",
    "example_external_task_child_deferrable": "waits for the triggerer",
    "example_external_task_parent_deferrable": "waits for another run",
    "example_measurement_correction_decorator": "waits for other runs",
    "example_measurement_correction_operator": "waits for other runs",
    "tutorial_objectstorage": "reads a bucket on the internet",
    "tutorial_taskflow_api_virtualenv": "installs packages",
    "example_python_operator": "installs packages",
    "example_python_decorator": "installs packages",
    "example_branch_python_dop_operator_3": "installs packages",
    "example_branch_operator": "installs packages",
    "example_branch_operator_decorator": "installs packages",
    "example_sla_dag": "sleeps for minutes",
    "example_subdag_operator": "waits for a scheduler",
    "example_complex": "echoes 40 times what the others echo",
    "example_retry_policy": "sleeps for minutes",
    "example_asset_partition": "runs by partitions, which a test run has none of",
}


def files():
    """The example files, in an order of their own that does not change."""
    folders = [Path(airflow.__file__).parent / "example_dags"]
    standard = importlib.util.find_spec("airflow.providers.standard")
    if standard is not None and VERSION >= (3, 0):
        folders.append(Path(standard.origin).parent / "example_dags")
    found = (path for folder in folders if folder.is_dir() for path in folder.glob("*.py"))
    return sorted(
        path for path in found if path.stem not in LEFT_OUT and not path.stem.startswith("__")
    )


def dags_of(path):
    """The DAGs that a file defines, put alone into the folder that Airflow looks into."""
    folder = Path(os.environ["AIRFLOW_HOME"], "dags")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if path.stem == "example_trigger_controller_dag":
        target = Path(airflow.__file__).parent / "example_dags" / "example_trigger_target_dag.py"
        shutil.copy(target, folder)
    copy = Path(shutil.copy(path, folder))
    try:
        from airflow.dag_processing.dagbag import DagBag  # noqa: PLC0415
    except ImportError:
        from airflow.models.dagbag import DagBag  # noqa: PLC0415
    # Airflow 2 loads its own examples besides, unless it is told not to.
    known = inspect.signature(DagBag).parameters
    options = {"include_examples": False, "safe_mode": False}
    bag = DagBag(copy, **{name: value for name, value in options.items() if name in known})
    if VERSION < (3, 0):
        bag.sync_to_db()
    return bag.dags


def value_of(backend, where, value):
    """What the backend gives back for a row, in a form that two runs can be compared by."""
    if VERSION >= (3, 0) and isinstance(value, str):
        value = json.loads(value)
    given = backend.deserialize_value(SimpleNamespace(**where, value=value))
    return f"{type(given).__name__} {given!r}"


def run(dag, backend):
    """Run one DAG once, and look at what it left in the database."""
    from airflow.settings import Session  # noqa: PLC0415

    random.seed(7)
    when = {"logical_date": WHEN} if VERSION >= (3, 0) else {"execution_date": WHEN}
    if VERSION >= (3, 0):
        when["run_after"] = WHEN
    error = None
    signal.alarm(SECONDS_MAX)
    try:
        dag.test(**when)
    except BaseException as caught:  # noqa: BLE001 - whatever ends it is what is compared
        error = type(caught).__name__
    finally:
        signal.alarm(0)
    with Session() as session:
        runs = session.execute(
            text("SELECT run_id, state FROM dag_run WHERE dag_id = :dag"), {"dag": dag.dag_id}
        ).all()
        tables = {row[0] for row in session.execute(text("SELECT name FROM sqlite_master"))}
        # From 3.4 on a task instance has the index of its region in the place of a map index.
        index = "region_index" if "xcom_v2" in tables else "map_index"
        tasks = session.execute(
            text(f"SELECT task_id, {index}, state FROM task_instance WHERE dag_id = :dag"),  # noqa: S608
            {"dag": dag.dag_id},
        ).all()
        xcoms = session.execute(
            text(
                "SELECT task_instance.run_id, task_id, region_index, key, value FROM xcom_v2 JOIN "
                "task_instance ON task_instance.id = task_instance_id WHERE working_set "
                "AND dag_id = :dag"
                if "xcom_v2" in tables
                else "SELECT run_id, task_id, map_index, key, value FROM xcom WHERE dag_id = :dag"
            ),
            {"dag": dag.dag_id},
        ).all()
    return {
        "dag": dag.dag_id,
        "error": error,
        "states": sorted(str(one[1]) for one in runs),
        "tasks": sorted(f"{task}[{index}] {state}" for task, index, state in tasks),
        "xcoms": {
            f"{where['task_id']}[{where['map_index']}] {where['key']}": value_of(
                backend, where, value
            )
            for *names, value in sorted(xcoms, key=str)
            for where in [dict(zip(COORDINATE, [dag.dag_id, *names], strict=True))]
        },
        "sealed": sum(b"__secure_xcom__" in str(row[-1]).encode() for row in xcoms),
    }


def share_server():
    """Have 3.1 and 3.2 start their server in this process once, as 3.3 does, and not per task."""
    from airflow.sdk.execution_time import supervisor  # noqa: PLC0415

    supervisor.in_process_api_server = functools.cache(supervisor.in_process_api_server)


def end(*_):
    """End what takes too long."""
    raise TimeoutError


def main():
    """Run all of them."""
    signal.signal(signal.SIGALRM, end)
    if (3, 0) <= VERSION < (3, 3):
        share_server()
    if VERSION >= (3, 0):
        from airflow.sdk.execution_time.xcom import XCom  # noqa: PLC0415
    else:
        from airflow.models.xcom import XCom  # noqa: PLC0415
    logging.disable(logging.CRITICAL)
    with Path(sys.argv[1]).open("w") as lines:
        for path in files():
            for _, dag in sorted(dags_of(path).items())[:DAGS_MAX]:
                started = time.monotonic()
                line = run(dag, XCom)
                line["seconds"] = round(time.monotonic() - started, 1)
                lines.write(json.dumps(line) + "\n")
                lines.flush()


main()
