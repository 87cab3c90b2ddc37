"""The states of tasks and assets, under the settings of this process."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from secure_xcom import forks

if TYPE_CHECKING:
    from secure_xcom.layers.states import States
    from secure_xcom.settings import Settings


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
