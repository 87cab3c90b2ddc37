"""Checks Airflow: its version, the backend, and what else protects values in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from secure_xcom.airflow import diagnosis
from secure_xcom.airflow.backend import DOTTED_NAME
from secure_xcom.airflow.states import DOTTED_NAME as STATE_STORE
from secure_xcom.cli.doctor.check import Check, failed, passed, refused, warned
from secure_xcom.errors import SecureXComError

if TYPE_CHECKING:
    from secure_xcom.settings import Settings

#: The releases that the tests run on, as (major, minor).
_SUPPORTED = ((2, 10), (2, 11), (3, 1), (3, 2), (3, 3), (3, 4))
#: What of somebody else's message is shown.
_SHOWN = 300


def version(found: str) -> Check:
    """Whether this version of Airflow is one that the package is tested on."""
    release = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if release in _SUPPORTED:
        return passed("airflow", f"Airflow {found}")
    known = ", ".join(".".join(map(str, supported)) for supported in _SUPPORTED)
    detail, fix = f"Airflow {found} is not tested; {known} are.", f"Use one of Airflow {known}."
    if release[:1] == (3,) and release < _SUPPORTED[2]:
        return failed("airflow", detail, fix)
    return warned("airflow", detail, fix)


def unloadable(error: BaseException) -> Check:
    """Report that Airflow could not be imported."""
    return failed(
        "airflow",
        f"Airflow cannot be imported with this configuration ({_shown(error)}).",
        "Correct what the message names, in airflow.cfg or in the environment.",
    )


def backend() -> Check:
    """Whether the configured backend can be imported, and is this one."""
    name = diagnosis.backend_name()
    try:
        ours = diagnosis.backend_is_ours()
    except Exception as error:  # noqa: BLE001 - whatever somebody's module raises
        return failed(
            "backend",
            f"[core] xcom_backend is {name}, which cannot be imported ({_shown(error)}).",
            f"Set it to {DOTTED_NAME}, and install secure-xcom in the environment of every Airflow "
            "process.",
        )
    if ours:
        return passed("backend", f"[core] xcom_backend is {name}")
    return failed(
        "backend",
        f"[core] xcom_backend is {name or 'not set'}: XComs are not sealed.",
        f"Set it to {DOTTED_NAME}.",
    )


def variables() -> Check:
    """Whether settings in Variables can be seen from here."""
    reason = diagnosis.unseen_variables()
    if not reason:
        return passed("variables", "Variables can be looked up from here")
    return warned(
        "variables",
        f"The metadata database cannot be reached from here ({reason}): settings in Variables, and "
        "connections that are kept there, are not seen.",
        "Run the command where the database can be reached, or in a task (docs/composer.md).",
    )


def policy(settings: Settings) -> Check:
    """Whether return values are kept out of task logs."""
    if not diagnosis.policy_is_active():
        return failed(
            "policy",
            "Airflow has not loaded the cluster policy: tasks log what they return.",
            "Install the package with its entry points (pip install secure-xcom) on every worker.",
        )
    if settings.log_return_values:
        return warned(
            "policy",
            "The cluster policy is active, but log_return_values is true: tasks log what they "
            "return.",
            "Take log_return_values out of airflow.cfg.",
        )
    return passed("policy", "the cluster policy is active: return values are not logged")


def rendered_fields() -> Check:
    """Whether fields that a pulled value went into are kept out of the database."""
    try:
        diagnosis.guard_rendered_fields()
    except SecureXComError as error:
        return refused("rendered_fields", error)
    return passed("rendered_fields", "fields that a pulled value went into are not stored")


def masking(settings: Settings) -> Check:
    """Whether pulled values are masked in task logs."""
    if not settings.mask_pulled_values:
        return warned(
            "masking",
            "mask_pulled_values is false: what a task logs of pulled values stands in clear.",
            "Take mask_pulled_values out of the settings.",
        )
    try:
        works = diagnosis.masker_works()
    except Exception as error:  # noqa: BLE001 - Airflow's internals, of whatever version
        return _masker_broken(_shown(error))
    if not works:
        return _masker_broken()
    if why := diagnosis.why_output_is_not_masked():
        return (failed if settings.strict else warned)(
            "masking",
            "Airflow's masker hides what is pulled, but what programs and C code write to a task's "
            f"output cannot be masked here ({why})"
            + (", and strict refuses to read anything." if settings.strict else "."),
            "Run tasks on Linux, where memfd_create is allowed.",
        )
    return passed("masking", "Airflow's masker hides what is pulled")


def _masker_broken(why: str = "it shows what it was given") -> Check:
    return failed(
        "masking",
        f"Airflow's masker cannot be used ({why}): what a task logs of pulled values stands in "
        "clear.",
        "Use a version of Airflow that this version of secure_xcom supports.",
    )


def state_store(settings: Settings) -> Check:
    """Whether the states of tasks and assets are sealed, where this Airflow has any."""
    name = diagnosis.state_store_name()
    if name is None:
        return passed("state_store", "this Airflow has no state store; there is one from 3.3 on")
    fix = f"Set [workers] state_store_backend to {STATE_STORE}."
    try:
        is_sealed = diagnosis.states_are_sealed()
    except Exception as error:  # noqa: BLE001 - whatever somebody's module raises
        detail = f"[workers] state_store_backend is {name}, which cannot be imported"
        return failed("state_store", f"{detail} ({_shown(error)}).", fix)
    if is_sealed:
        return passed("state_store", f"[workers] state_store_backend is {name}")
    if not settings.uses_state_store:
        refused = ", and strict refuses to write any in clear" if settings.strict else ""
        return passed("state_store", f"uses_state_store is false{refused}")
    return (failed if settings.strict else warned)(
        "state_store",
        f"[workers] state_store_backend is {name or 'not set'}: what tasks keep as states of tasks "
        "and assets is not sealed.",
        f"{fix} If no task keeps any, set uses_state_store to false.",
    )


def safely(name: str, check: Callable[[], Check]) -> Iterator[Check]:
    """Yield a check; what Airflow raises instead is what failed."""
    try:
        yield check()
    except Exception as error:  # noqa: BLE001 - a report is of use when parts are broken
        yield failed(name, f"It could not be looked at ({_shown(error)}).", "See the message.")


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_SHOWN]
