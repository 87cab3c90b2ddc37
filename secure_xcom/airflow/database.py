"""The rows of XComs, read from the metadata database by a command, and past every backend."""

from __future__ import annotations

import json
from contextlib import closing
from importlib import import_module
from typing import Any

from secure_xcom.airflow import versions
from secure_xcom.errors import ConfigError
from secure_xcom.model import Expected


def row(asked: Expected) -> bytes | None:
    """Give the row of an XCom as JSON; None if there is none.

    Args:
        asked: the whole coordinate.

    Raises:
        ConfigError: there is no Airflow here, or its database cannot be asked.
    """
    if not versions.is_installed():
        raise ConfigError(
            "There is no Airflow in this environment, and so no metadata database to look into. "
            "Give the row itself."
        )
    versions.use_database()
    try:
        table = versions.xcom_table()
        sqlalchemy: Any = import_module("sqlalchemy")
        statement = sqlalchemy.select(table.c.value).where(
            table.c.dag_id == asked.dag_id,
            table.c.run_id == asked.run_id,
            table.c.task_id == asked.task_id,
            table.c.map_index == asked.map_index,
            table.c.key == asked.key,
        )
        with closing(import_module("airflow.settings").Session()) as session:
            found = session.execute(statement).first()
    except Exception as error:
        raise ConfigError(
            f"The metadata database cannot be asked from here ({type(error).__name__}). Run the "
            "command where it can be reached, or give the row itself."
        ) from error
    if found is None:
        return None
    # Airflow 2 keeps bytes; of Airflow 3's column the driver has parsed the JSON.
    return (
        bytes(found[0])
        if isinstance(found[0], bytes | memoryview)
        else json.dumps(found[0]).encode()
    )
