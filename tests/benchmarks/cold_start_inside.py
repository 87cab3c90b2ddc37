"""The inner half of `cold_start.py`: a chain of forks as Airflow makes them, and what it costs.

    python cold_start_inside.py EXECUTOR COUNT

Runs in an environment of one Airflow, with the backend that airflow.cfg names. This process takes
the place of the scheduler (`local`) or of the main process of a Celery worker (`celery`): it
imports what that imports, and forks a worker; the worker imports what it does for its first task,
and forks, on Airflow 2 once more, a process for each task. A task pushes one value, or pulls one,
and says what that took since its fork: CPU of the whole process, user and system, and time.
"""
# ruff: noqa: T201, PLC0415 - a program; what it imports, and when, is what it is about

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace

MAJOR = int(version("apache-airflow").partition(".")[0])

#: What the process imports that starts the workers. For Celery: what the provider imports as its
#: modules load, and in its handler of the signal `celery_import_modules`.
PARENT = {
    ("local", 2): (
        "airflow.__main__",
        "airflow.cli.commands.scheduler_command",
        "airflow.jobs.scheduler_job_runner",
        "airflow.executors.local_executor",
    ),
    ("local", 3): (
        "airflow.__main__",
        "airflow.cli.commands.scheduler_command",
        "airflow.jobs.scheduler_job_runner",
        "airflow.executors.local_executor",
    ),
    ("celery", 2): (
        "airflow.__main__",
        "airflow.executors.base_executor",
        "jinja2.ext",
        "airflow.jobs.local_task_job_runner",
        "airflow.macros",
        "airflow.providers.standard.operators.bash",
        "airflow.providers.standard.operators.python",
        "numpy",
    ),
    ("celery", 3): (
        "airflow.__main__",
        "airflow.executors.base_executor",
        "jinja2.ext",
        "airflow.providers.standard.operators.bash",
        "airflow.providers.standard.operators.python",
        "numpy",
    ),
}
#: What a worker imports before it forks a task.
WORKER = {
    2: ("airflow.cli.cli_parser", "airflow.cli.commands.task_command"),
    3: ("airflow.sdk.execution_time.supervisor", "airflow.sdk.execution_time.task_runner"),
}
VALUES = {
    "inline": {"id": 17, "name": "Ada", "tags": ["a", "b"], "note": "x" * 120},
    "offloaded": [{"id": n, "name": f"row {n}", "sum": n / 7, "ok": True} for n in range(2_000)],
}
WATCHED = ("google.cloud.kms_v1", "google.cloud.storage", "gcsfs", "grpc")


def main() -> None:
    """Run it."""
    executor, count = sys.argv[1], int(sys.argv[2])
    for name in PARENT[executor, MAJOR]:
        import_module(name)
    print(json.dumps(_in_child(lambda: _worker(count))))


def _worker(count: int) -> list[dict[str, object]]:
    for name in WORKER[MAJOR]:
        import_module(name)
    found = []
    for _ in range(count):
        for placement in VALUES:
            pushed = _task(lambda placement=placement: _push(placement))
            pulled = _task(lambda placement=placement, row=pushed["row"]: _pull(placement, row))
            for verb, task in (("push", pushed), ("pull", pulled)):
                found.append(
                    {"placement": placement, "verb": verb}
                    | {name: figure for name, figure in task.items() if name != "row"}
                )
    return found


def _task(work):
    """On Airflow 2 a process that watches over the task stands between it and the worker."""
    if MAJOR == 2:
        return _in_child(lambda: _in_child(work, measured=True))
    return _in_child(work, measured=True)


def _face():
    if MAJOR == 2:
        from airflow.models.xcom import XCom
    else:
        from airflow.sdk.execution_time.xcom import XCom
    return XCom


def _push(placement: str) -> dict[str, object]:
    row = _face().serialize_value(
        VALUES[placement],
        key="return_value",
        task_id="task",
        dag_id="benchmark",
        run_id="scheduled__2026-01-01T00:00:00+00:00",
        map_index=-1,
    )
    return {"row": row.decode() if isinstance(row, bytes) else row}


def _pull(placement: str, row: object) -> dict[str, object]:
    stored = row.encode() if MAJOR == 2 else row
    value = _face().deserialize_value(SimpleNamespace(key="return_value", value=stored))
    if value != VALUES[placement]:
        raise SystemExit("What was read is not what was written.")
    return {}


def _in_child(work, *, measured: bool = False):
    """What `work` gives in a forked child, as JSON; with what it took there since the fork."""
    reader, writer = os.pipe()
    forked = time.monotonic()
    pid = os.fork()
    if pid == 0:
        status = 1
        with suppress(BaseException):
            status = _child(work, writer, forked, measured=measured)
        os._exit(status)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as pipe:
        text = pipe.read()
    _, status = os.waitpid(pid, 0)
    if status:
        raise SystemExit("A forked process failed; see above.")
    return json.loads(text)


def _child(work, writer: int, forked: float, *, measured: bool) -> int:
    try:
        loaded = [name for name in WATCHED if name in sys.modules]
        result = work()
        seconds = time.monotonic() - forked
        used = resource.getrusage(resource.RUSAGE_SELF)
        if measured:
            result |= {
                "cpu_ms": (used.ru_utime + used.ru_stime) * 1000,
                "wall_ms": seconds * 1000,
                "loaded_before": loaded,
            }
        with os.fdopen(writer, "w", encoding="utf-8") as pipe:
            json.dump(result, pipe)
    except BaseException:  # noqa: BLE001 - nothing may leave a forked child
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


if __name__ == "__main__":
    main()
