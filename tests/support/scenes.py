"""A deployment with rows in a database and objects in a store, and collections of its objects."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from support.deployment import Deployment

from secure_xcom.lifecycle.gc import Collected, Wanted, collect
from secure_xcom.lifecycle.mark import Memory
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import build_states
from secure_xcom.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from support.metadata import Metadata

#: A grace that lies in the future: everything is old.
OLD = -3600.0


@dataclass
class Scene:
    """One deployment; `clone` gives a copy of its database."""

    metadata: Metadata
    folder: Path
    store_uri: str
    instance: str = "prod"
    #: What the database remembers of its marks; in a file, as it outlives the process.
    memory: Path | None = None
    server: Any = None

    def __post_init__(self) -> None:
        self.deployment = Deployment(self.folder)
        self.memory = self.memory or self.folder / "variable"

    @property
    def variable(self) -> str | None:
        return self.memory.read_text() if self.memory and self.memory.exists() else None

    def settings(self) -> dict[str, str]:
        return {
            "store_uri": self.store_uri,
            "kek_uri": self.deployment.kek_uri,
            "instance": self.instance,
            "threshold_bytes": "0",
        }

    def push(self, task: str, value: object = "value", **more: Any) -> dict[str, Any]:
        """Push as a task does: the object, and then the row."""
        row = self.upload(task, value)
        self.metadata.push(row, dag_id="d", run_id="r", task_id=task, **more)
        return row

    def upload(self, task: str, value: object = "value") -> dict[str, Any]:
        """What a push leaves that ends before the row is there."""
        where = Coordinate("d", "r", task, -1, "return_value")
        return self.deployment.stack(**self.settings()).put(value, where)

    def open(self, row: dict[str, Any]) -> object:
        return self.deployment.stack(**self.settings()).get(row, Expected()).value

    def state(self, kind: str, key: str) -> str:
        """Write a state with an object; the row, as Airflow puts it into its text."""
        states = build_states(load(self.settings(), None, None), kind)
        where = Coordinate("d", "r", "t", -1, key)
        return json.dumps({"__airflow_state_ref__": states.to_row('"state"', where)})

    def collect(self, **wanted: Any) -> Collected:
        asked = Wanted(
            self.store_uri,
            self.instance,
            grace_seconds=OLD,
            short_grace=True,
            share=1.0,
        )
        return collect(
            replace(asked, **wanted),
            self.metadata.rows(),
            open_store,
            Memory(lambda: self.variable, self.memory.write_text),
        )

    def names(self) -> set[str]:
        """The objects below the store, marks aside, told by the store's own listing."""
        if self.store_uri.startswith("file://"):
            root = self.store_uri.removeprefix("file://")
            found = {
                os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118
                for folder, _, names in os.walk(root)
                for name in names
            }
        else:
            bucket, _, prefix = self.store_uri.removeprefix("gs://").partition("/")
            found = {
                name.removeprefix(f"{prefix}/")
                for name in self.server.names(bucket)
                if name.startswith(f"{prefix}/")
            }
        return {name for name in found if not name.startswith("~gc/")}
