"""The states of tasks and assets, under the settings of this process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from secure_xcom import forks
from secure_xcom.airflow import versions

if TYPE_CHECKING:
    from secure_xcom.layers.states import States
    from secure_xcom.settings import Settings

#: What `[workers] state_store_backend` is set to.
DOTTED_NAME = "secure_xcom.airflow.state_store.SecureStateStoreBackend"
#: Why `strict` refuses, where states would be written in clear.
CLEAR_STATES = (
    "strict is on, and this Airflow has a state store that is not sealed: [workers] "
    "state_store_backend is not this package's. Nothing is written. Set it to "
    f"{DOTTED_NAME}; or, if no task keeps states, set uses_state_store = false in airflow.cfg "
    "[secure_xcom], and states are refused instead."
)


def are_sealed() -> bool:
    """Whether no state of this Airflow can be written in clear by its accessors.

    Raises:
        Exception: whatever the import of the configured backend raises.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import

    if not versions.has_state_store():
        return True
    backend = configuration.state_store_backend()
    return isinstance(backend, type) and any(
        f"{base.__module__}.{base.__name__}" == DOTTED_NAME for base in backend.__mro__
    )


@lru_cache(maxsize=4)
def states(settings: Settings, kind: str) -> States:
    """Give the states of tasks, or those of assets.

    Args:
        settings: those of XComs.
        kind: `task` or `asset`.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415 - not at import
    from secure_xcom.stack import build_states  # noqa: PLC0415 - it imports the cryptography

    return build_states(settings, kind, configuration.credentials(settings))


# Channels, sessions and keys of a parent are not its child's.
forks.run_in_children(states.cache_clear)
