"""A trigger of the census: it pulls a value on the triggerer's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from secure_xcom.trial import values

try:
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:  # Airflow 2
    from airflow.models.xcom import XCom  # type: ignore[no-redef]


class PullingTrigger(BaseTrigger):
    """Pulls what `record` returned in one run, and says that it did."""

    def __init__(self, dag_id: str, run_id: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id = dag_id
        self.run_id = run_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make this one again."""
        arguments = {"dag_id": self.dag_id, "run_id": self.run_id}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Pull."""
        get: Any = getattr(XCom, "aget_one", None) or sync_to_async(XCom.get_one)
        value = await get(
            key="return_value", task_id="record", dag_id=self.dag_id, run_id=self.run_id
        )
        values.check(value, values.record())
        yield TriggerEvent({"pulled": True})  # type: ignore[no-untyped-call]
