"""A trigger for `plugins/` that prints and logs what it pulls."""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

try:
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.models.xcom import XCom


class TellingTrigger(BaseTrigger):
    """Tells the last of what `records` returned."""

    def __init__(self, run_id):
        super().__init__()
        self.run_id = run_id

    def serialize(self):
        return "telling_trigger.TellingTrigger", {"run_id": self.run_id}

    async def run(self):
        get = getattr(XCom, "aget_one", None) or sync_to_async(XCom.get_one)
        wanted = {"dag_id": "masked", "task_id": "records", "run_id": self.run_id}
        try:
            records = await get(key="return_value", **wanted)
        except (AttributeError, ImportError):
            # `dag.test()` of Airflow 3 runs triggers where no XCom can be read.
            yield TriggerEvent("nothing to tell")
            return
        print("print in a trigger:", records[-1])  # noqa: T201 - what is under test
        self.log.warning("log in a trigger: %s", records[-1])
        self.log.warning("number in a trigger: %s", records[-1]["card"])
        yield TriggerEvent("told")
