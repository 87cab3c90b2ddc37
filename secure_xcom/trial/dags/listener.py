"""A plugin of the census: listeners that tell what they pull, in a task and in the scheduler."""

from __future__ import annotations

import logging
import sys
import threading
from importlib.util import find_spec
from typing import Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

from secure_xcom.trial import values

IS_AIRFLOW_2 = find_spec("airflow.sdk") is None
log = logging.getLogger("airflow.task")


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:  # noqa: ANN401
    """Tell of one task of the census, in that task's process."""
    del previous_state
    if task_instance.task_id == "argument":
        print("listened to", task_instance.xcom_pull(task_ids="record"))
        log.info(values.mark("listener of a task"))


@hookimpl
def on_dag_run_failed(dag_run: Any, msg: str) -> None:  # noqa: ANN401
    """Tell of the run, in the scheduler."""
    del msg
    # In a thread, whose session is another one: a pull would end the scheduler's own.
    thread = threading.Thread(target=_tell_of_the_run, args=(dag_run.dag_id, dag_run.run_id))
    thread.start()
    thread.join()


def _tell_of_the_run(dag_id: str, run_id: str) -> None:
    if IS_AIRFLOW_2:  # later schedulers have nothing that opens a value
        from airflow.models.xcom import XCom  # noqa: PLC0415

        wanted: dict[str, Any] = {"dag_id": dag_id, "task_id": "string", "run_id": run_id}
        print("listened to", XCom.get_one(key="return_value", **wanted))
    print(values.mark("listener of a run"))


class Listeners(AirflowPlugin):
    """These listeners."""

    name = "secure_xcom_census"
    listeners = [sys.modules[__name__]]  # noqa: RUF012 - as Airflow wants it
