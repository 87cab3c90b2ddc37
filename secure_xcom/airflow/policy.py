"""The cluster policy of this package: Python tasks do not log what they return.

Airflow finds it by the entry point group `airflow.policy` and calls it for each task of each DAG
that it parses, in the DAG processor and again in every process that runs a task.
"""

from __future__ import annotations

import inspect
import sys
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import pluggy

from secure_xcom.airflow import rendered, versions

_hookimpl = pluggy.HookimplMarker("airflow.policy")

#: The argument and attribute of Python operators, on every version.
_LOGS = "show_return_value_in_logs"


@_hookimpl
def task_policy(task: Any) -> None:  # noqa: ANN401 - an operator, mapped or not, of some version
    """Switch "Done. Returned value was: …" off, where this backend is the configured one."""
    _bind_states()
    if is_configured():
        rendered.install()
    partial = getattr(task, "partial_kwargs", None)
    if isinstance(partial, dict):
        if _hides_return_values() and _takes(task.operator_class):
            partial[_LOGS] = False
    elif hasattr(task, _LOGS) and _hides_return_values():
        setattr(task, _LOGS, False)


def is_active() -> bool:
    """Whether Airflow has loaded this policy into this process."""
    return versions.is_policy(sys.modules[__name__])


def is_ours(backend: object) -> bool:
    """Whether a class is this package's backend, or made from it."""
    ours = {"secure_xcom.airflow.v2", "secure_xcom.airflow.v3"}
    return isinstance(backend, type) and any(
        base.__module__ in ours and base.__name__ == "SecureXComBackend" for base in backend.__mro__
    )


@cache
def is_configured() -> bool:
    """Whether `[core] xcom_backend` is this package's backend, or made from it."""
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    return is_ours(configuration.backend())


@cache
def _bind_states() -> None:
    """Import the state store's backend, since Airflow does so in the midst of the first read.

    What that read is of has to be noted before; so a module that does has to be there already.
    Where another backend is configured, it still refuses what `strict` does not let pass in clear.
    """
    if not versions.has_state_store():
        return
    if is_configured():
        import_module("secure_xcom.airflow.state_store")
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    # Airflow itself complains of one that cannot be imported, where it is used.
    with suppress(Exception):
        configuration.state_store_backend()


@cache
def _hides_return_values() -> bool:
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    return is_configured() and not configuration.log_return_values()


@cache
def _takes(operator: type) -> bool:
    """Whether an operator takes the argument; what it does not name goes to its bases."""
    return any(
        _LOGS in inspect.signature(vars(base)["__init__"]).parameters
        for base in operator.__mro__
        if "__init__" in vars(base) and base is not object
    )
