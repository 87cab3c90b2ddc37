"""Triggers for `plugins/`: one pulls and pushes an XCom on the triggerer's event loop, one ends its
task with XComs.
"""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

try:
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.models.xcom import XCom


class ReadingTrigger(BaseTrigger):
    """Pulls what `small` returned, pushes it for `deferred`, and tells how long it is."""

    def __init__(self, run_id):
        super().__init__()
        self.run_id = run_id

    def serialize(self):
        return "reading_trigger.ReadingTrigger", {"run_id": self.run_id}

    async def run(self):
        get = getattr(XCom, "aget_one", None) or sync_to_async(XCom.get_one)
        wanted = {"dag_id": "live", "task_id": "small", "run_id": self.run_id}
        value = await get(key="return_value", **wanted)
        set_ = getattr(XCom, "aset", None) or sync_to_async(XCom.set)
        pushed = {"dag_id": "live", "task_id": "deferred", "run_id": self.run_id}
        await set_(key="pushed", value=value, **pushed)
        yield TriggerEvent({"length": len(value["card"])})


class EndingTrigger(BaseTrigger):
    """Ends its task, with XComs that the server writes."""

    def serialize(self):
        return "reading_trigger.EndingTrigger", {}

    async def run(self):
        yield TaskSuccessEvent(xcoms={"return_value": {"by": "trigger"}, "_link_page": "address"})
