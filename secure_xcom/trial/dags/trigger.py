"""A trigger of the census: it pulls a value on the triggerer's event loop, and tells it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from secure_xcom.trial import values

try:
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:  # Airflow 2
    from airflow.models.xcom import XCom  # type: ignore[no-redef]


log = logging.getLogger("airflow.task")


class PullingTrigger(BaseTrigger):
    """Pulls what `record` returned in one run, prints it, and says that it did.

    Args:
        dag_id: the DAG.
        run_id: its run; None for the one of the task that waits.
        name: the mark that it leaves.
    """

    def __init__(self, dag_id: str, run_id: str | None = None, name: str = "trigger") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make this one again."""
        arguments = {"dag_id": self.dag_id, "run_id": self.run_id, "name": self.name}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Pull."""
        get: Any = getattr(XCom, "aget_one", None) or sync_to_async(XCom.get_one)
        task_instance: Any = self.task_instance
        run_id = self.run_id or task_instance.run_id
        value = await get(key="return_value", task_id="record", dag_id=self.dag_id, run_id=run_id)
        values.check(value, values.record())
        print("printed", value)
        self.log.info("logged %s and %d", value["text"], value["number"])
        log.info(values.mark(self.name))
        yield TriggerEvent({"pulled": True})  # type: ignore[no-untyped-call]
