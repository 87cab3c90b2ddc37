"""Both state stores, used as a DAG author would: checkpoints of a task, a watermark of an asset."""
# ruff: noqa: PTH123

from __future__ import annotations

import datetime as dt
import json
import os

from airflow.sdk import Asset, dag, task

ORDERS = Asset(name="orders", uri="file:///orders")


def note(name, value):
    with open(os.environ["PROBES"], "a") as probes:
        probes.write(json.dumps({"name": name, "value": value}) + "\n")


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.UTC), catchup=False)
def states():
    @task(outlets=[ORDERS])
    def load(task_state_store=None, asset_state_store=None):
        canary = os.environ["CANARY"]
        note("a key that is not there", task_state_store.get("page", "none"))
        task_state_store.set("page", {"next": 1})
        task_state_store.set("page", {"next": 2, "card": canary})
        note("a task's state", task_state_store.get("page") == {"next": 2, "card": canary})
        long = [canary] * 5_000 + [os.urandom(60_000).hex()]
        task_state_store.set("long", long)
        note("a long one", task_state_store.get("long") == long)
        task_state_store.set("gone", long)
        task_state_store.delete("gone")
        note("one that was deleted", task_state_store.get("gone", "none"))
        orders = asset_state_store[ORDERS]
        orders.set("watermark", {"at": "2026-01-01", "card": canary})
        note("an asset's state", orders.get("watermark") == {"at": "2026-01-01", "card": canary})

    load()


states()
