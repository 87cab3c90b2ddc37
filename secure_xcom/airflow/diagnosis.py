"""What `secure-xcom doctor` asks of Airflow: the deployment as a process of it sees it.

Outside of a task, the Task SDK of Airflow 3 finds no Variables and connections of the metadata
database unless the process says that it may use it, as Airflow's own commands do.
"""

from __future__ import annotations

import secrets
from importlib import import_module
from typing import Any

from secure_xcom.airflow import configuration, masking, policy, rendered, states, versions
from secure_xcom.airflow.masking import descriptors
from secure_xcom.errors import ConfigError


def airflow_version() -> str:
    """Give the version of Airflow.

    Raises:
        ConfigError: there is none in this environment.
        Exception: whatever its import raises, as it reads its configuration.
    """
    if not versions.is_installed():
        raise ConfigError(
            "Airflow cannot be imported here: run the command in the Python environment of the "
            "deployment."
        )
    return str(import_module("airflow").__version__)


def backend_name() -> str:
    """Give what `[core] xcom_backend` says; empty where it says nothing."""
    return configuration.option("core", "xcom_backend")


def backend_is_ours() -> bool:
    """Import the configured backend; whether it is this package's, or made from it.

    Raises:
        Exception: whatever the import raises.
    """
    return policy.is_ours(configuration.backend())


def use_backend(dotted_name: str) -> None:
    """Have this process, and no other, take a backend for the configured one."""
    configuration.set_here("core", "xcom_backend", dotted_name)


def unseen_variables() -> str:
    """Have this process look up Variables in the metadata database, and say why it cannot.

    Returns:
        The class of the error; empty if they can be looked up.
    """
    if versions.is_supervised():
        return ""
    versions.use_database()
    try:
        session: Any = import_module("airflow.settings").Session()
        try:
            session.connection()
        finally:
            session.close()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, or Airflow in its place
        return type(error).__name__
    return ""


def policy_is_active() -> bool:
    """Whether this process has loaded the cluster policy."""
    return policy.is_active()


def state_store_name() -> str | None:
    """Give what `[workers] state_store_backend` says; None where Airflow has no state store."""
    if not versions.has_state_store():
        return None
    return configuration.option("workers", "state_store_backend")


def states_are_sealed() -> bool:
    """Import the configured backend of state stores; whether it is this package's.

    Raises:
        Exception: whatever the import raises.
    """
    return states.are_sealed()


def guard_rendered_fields() -> None:
    """Put the guard on rendered fields in place, as a task does when it pulls.

    Raises:
        ConfigError: this version of Airflow has no place for it.
    """
    versions.load_task_runner()
    rendered.ensure()


def why_output_is_not_masked() -> str:
    """Say why what programs and C code write is not masked in tasks here; empty if it is.

    Returns:
        The class of the error.
    """
    try:
        descriptors.check()
    except OSError as error:
        return type(error).__name__
    return ""


def masker_works() -> bool:
    """Whether the masker of this process hides what it is given the way pulled values are."""
    return masking.hides(secrets.token_hex(16))
