"""The tables of Airflow's metadata database that hold rows, as its versions create them.

    database = Metadata(engine, "3.3")
    database.put("xcom", dag_run_id=1, task_id="t", key="k", value={"a": 1})
    database.texts("xcom")              # around the layer under test

Airflow itself is not asked: a test of these tables has neither to migrate a database nor to start
a process. `tests/airflow/test_rows.py` runs the commands on what each version really has.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from secure_xcom.airflow import versions
from secure_xcom.lifecycle.rows import Rows

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

#: Those whose tables the installed SQLAlchemy can describe.
VERSIONS = ("2.11", "3.3", *(["3.4"] if hasattr(sa, "Uuid") else []))
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
TIME = sa.TIMESTAMP(timezone=True)
WRITTEN = datetime(2026, 11, 1, 12, tzinfo=UTC)


def _xcom(name: str, metadata: sa.MetaData, value: Any) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("dag_run_id", sa.Integer, primary_key=True),
        sa.Column("task_id", sa.String(250), primary_key=True),
        sa.Column("map_index", sa.Integer, primary_key=True, server_default="-1"),
        sa.Column("key", sa.String(512), primary_key=True),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("value", value),
        sa.Column("timestamp", TIME, nullable=False),
    )


def _states(metadata: sa.MetaData, index: str) -> None:
    sa.Table(
        "task_state_store",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("dag_run_id", sa.Integer, nullable=False),
        sa.Column("task_id", sa.String(250), nullable=False),
        sa.Column(index, sa.Integer, nullable=False, server_default="-1"),
        *([sa.Column("region_id", sa.Uuid, nullable=False)] if index == "region_index" else []),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("dag_id", sa.String(250), nullable=False),
        sa.Column("run_id", sa.String(250), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    )
    sa.Table(
        "asset_state_store",
        metadata,
        sa.Column("asset_id", sa.Integer, primary_key=True),
        sa.Column("key", sa.String(512), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
    )


class Metadata:
    """A database with the tables of one version, and a way to look at what they truly hold."""

    def __init__(self, engine: Engine, version: str) -> None:
        self.engine = engine
        self.version = version
        self.metadata = sa.MetaData()
        if version == "2.11":
            _xcom("xcom", self.metadata, sa.LargeBinary)
        elif version == "3.3":
            _xcom("xcom", self.metadata, JSON)
            _xcom("_xcom_archive", self.metadata, sa.LargeBinary)
            _states(self.metadata, "map_index")
        else:
            _xcom("xcom_v1", self.metadata, JSON)
            sa.Table(
                "task_instance",
                self.metadata,
                sa.Column("id", sa.Uuid, primary_key=True),
                sa.Column("dag_id", sa.String(250), nullable=False),
                sa.Column("run_id", sa.String(250), nullable=False),
                sa.Column("task_id", sa.String(250), nullable=False),
                sa.Column("region_index", sa.Integer, nullable=False),
                sa.Column("region_id", sa.Uuid, nullable=False),
            )
            sa.Table(
                "xcom_v2",
                self.metadata,
                sa.Column("id", sa.Uuid, primary_key=True),
                sa.Column("task_instance_id", sa.Uuid, nullable=False),
                sa.Column("key", sa.String(512), nullable=False),
                sa.Column("value", JSON),
                sa.Column("timestamp", TIME, nullable=False),
            )
            _states(self.metadata, "region_index")
        self.metadata.create_all(engine)

    @property
    def xcom(self) -> str:
        """The table that this version writes XComs to."""
        return "xcom_v2" if self.version == "3.4" else "xcom"

    def rows(self) -> Rows:
        return Rows(self.engine, versions.layout())

    def push(  # noqa: PLR0913 - what an XCom is named by
        self,
        value: Any,
        key: str = "return_value",
        *,
        dag_id: str = "d",
        run_id: str = "r",
        task_id: str = "t",
        map_index: int = -1,
        run: int = 1,
        region: uuid.UUID | None = None,
        written: datetime = WRITTEN,
    ) -> None:
        """Write an XCom's row as this version keeps it."""
        if self.version != "3.4":
            self.put(
                self.xcom,
                dag_run_id=run,
                dag_id=dag_id,
                run_id=run_id,
                task_id=task_id,
                map_index=map_index,
                key=key,
                value=json.dumps(value).encode() if self.version == "2.11" else value,
                timestamp=written,
            )
            return
        instance = uuid.uuid4()
        self.put(
            "task_instance",
            id=instance,
            dag_id=dag_id,
            run_id=run_id,
            task_id=task_id,
            region_index=map_index,
            region_id=region or uuid.UUID(int=0),
        )
        self.put(
            "xcom_v2",
            id=uuid.uuid4(),
            task_instance_id=instance,
            key=key,
            value=value,
            timestamp=written,
        )

    def put(self, table: str, **columns: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(self.metadata.tables[table].insert().values(**columns))

    def run(self, statement: str, **values: Any) -> None:
        """Do as an operator does in the database's own shell."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)

    def clean(self, table: str, suffix: str = "20261125170000") -> str:
        """Archive all of a table as `airflow db clean` does; the archive's name."""
        archive = f"_airflow_deleted__{table}__{suffix}"
        self.run(f"CREATE TABLE {archive} AS SELECT * FROM {table}")
        self.run(f"DELETE FROM {table}")
        return archive

    def texts(self, table: str) -> list[Any]:
        """What the value's column holds, as the database prints it."""
        is_bytes = self.version == "2.11" or table == "_xcom_archive"
        value = "value" if is_bytes else "CAST(value AS TEXT)"
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(f"SELECT {value} FROM {table}")).scalars()
            return [bytes(text) if isinstance(text, memoryview) else text for text in found]
