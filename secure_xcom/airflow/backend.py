"""`[core] xcom_backend = secure_xcom.airflow.backend.SecureXComBackend`, on every Airflow.

The class is made when it is first asked for. On Airflow 2 the module of its base class imports
the configured backend on its last line, so whichever of the two is imported first has to be able
to come back here for the class.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from secure_xcom.airflow import versions

if TYPE_CHECKING:
    from secure_xcom.airflow.v3 import SecureXComBackend

__all__ = ["SecureXComBackend"]

#: What `[core] xcom_backend` is set to.
DOTTED_NAME = f"{__name__}.SecureXComBackend"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if versions.is_airflow_3():
        version = import_module("secure_xcom.airflow.v3")
    else:
        import_module("airflow.models.xcom")
        version = import_module("secure_xcom.airflow.v2")
    return version.SecureXComBackend
