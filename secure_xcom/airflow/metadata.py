"""The metadata database, for the commands that look after rows and objects.

Outside of a task only: on Airflow 3 a task has no database, and on Airflow 2 these transactions
are their own, and touch no session of the task's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from secure_xcom import signals
from secure_xcom.airflow import configuration, versions
from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle.mark import VARIABLE, Memory
from secure_xcom.lifecycle.rows import Rows, RowsUnreadable
from secure_xcom.uris import LEGACY

_Done = TypeVar("_Done")


def rows() -> Rows:
    """The rows of this deployment's database.

    Raises:
        ConfigError: this process cannot reach the database.
        RowsUnreadable: it is of a kind whose rows are not read.
    """
    if not versions.is_installed():
        raise ConfigError(
            "There is no Airflow in this environment, and so no database: run the command where "
            "Airflow's own commands run, such as on the scheduler."
        )
    if versions.is_supervised():
        raise ConfigError(
            "A task of Airflow 3 has no metadata database: run the command where `airflow db "
            "check` works, such as on the scheduler."
        )
    versions.use_database()
    engine = versions.engine()
    if engine is None:
        raise ConfigError(
            "Airflow has no metadata database in this process: run the command where `airflow db "
            "check` works, such as on the scheduler."
        )
    return Rows(engine, versions.layout())


def memory() -> Memory:
    """Where this database remembers the marks that it left in stores: a Variable."""

    def write(text: str) -> None:
        described = "The last marks of `secure-xcom gc`. Not to be copied or edited."
        versions.store_variable(VARIABLE, text, described)

    return Memory(
        lambda: _told(lambda: versions.stored_variable(VARIABLE)),
        lambda text: _told(lambda: write(text)),
    )


def _told(call: Callable[[], _Done]) -> _Done:
    """Make a call of the database, whose errors may hold what it holds."""
    try:
        return call()
    except Exception as error:
        if signals.is_callers(error):
            raise
        fault = type(error).__name__
    raise RowsUnreadable(
        f"The Variable {VARIABLE} could not be read or written in the metadata database ({fault}). "
        "Airflow's own log has the cause; nothing was deleted."
    )


def legacy_prefixes() -> tuple[str, ...]:
    """What the paths begin with that former backends wrote, as far as it is configured."""
    base = configuration.option("common.io", "xcom_objectstorage_path").rstrip("/")
    return (LEGACY, f"{base}/") if base else (LEGACY,)
