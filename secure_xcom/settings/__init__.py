"""Settings: what airflow.cfg and one Airflow Variable say, checked, all faults at once.

Nothing here imports Airflow or does I/O; `secure_xcom.airflow.configuration` hands in what Airflow
holds.
"""

from secure_xcom.settings.kinds import is_kek_uri, is_store_uri
from secure_xcom.settings.members import without_suffix
from secure_xcom.settings.reading import Fault, check, load, origin_by_kind
from secure_xcom.settings.table import (
    BUCKET_VARIABLE,
    CLEAR_KEYS,
    SECTION,
    TABLE,
    VARIABLE,
    Setting,
    Settings,
)

__all__ = [
    "BUCKET_VARIABLE",
    "CLEAR_KEYS",
    "SECTION",
    "TABLE",
    "VARIABLE",
    "Fault",
    "Setting",
    "Settings",
    "check",
    "is_kek_uri",
    "is_store_uri",
    "load",
    "origin_by_kind",
    "without_suffix",
]
