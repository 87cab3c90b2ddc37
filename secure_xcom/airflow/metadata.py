"""The metadata database, for the commands that look after rows and objects.

Outside of a task only: on Airflow 3 a task has no database, and on Airflow 2 these transactions
are their own, and touch no session of the task's.
"""

from __future__ import annotations

from secure_xcom.airflow import configuration, versions
from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle.mark import VARIABLE, Memory
from secure_xcom.lifecycle.rows import Rows
from secure_xcom.uris import LEGACY


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
    return Rows(versions.engine(), versions.layout())


def memory() -> Memory:
    """Where this database remembers the marks that it left in stores: a Variable."""
    return Memory(
        lambda: versions.stored_variable(VARIABLE),
        lambda text: versions.store_variable(
            VARIABLE, text, "The last marks of `secure-xcom gc`. Not to be copied or edited."
        ),
    )


def legacy_prefixes() -> tuple[str, ...]:
    """What the paths begin with that former backends wrote, as far as it is configured."""
    base = configuration.option("common.io", "xcom_objectstorage_path").rstrip("/")
    return (LEGACY, f"{base}/") if base else (LEGACY,)
