"""What many rows that are read together must be to one another.

Airflow does not say which row of a mapped task has which map index. Each alone may have any; so
whose values stood where is compared across the rows of one read, or of one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias
from uuid import UUID

from secure_xcom import audit
from secure_xcom.errors import AuthenticationError, SecureXComError
from secure_xcom.model import Coordinate

#: Position in a sequence by the run, the map index and the id of the task instance found there.
Positions: TypeAlias = dict[tuple[str, int, UUID | None], int]


def check_distinct(coordinates: Sequence[Coordinate], *, ascending: bool | None) -> None:
    """Check that the rows of one read are of different task instances, and in Airflow's order.

    Args:
        coordinates: whose the sealed ones among the rows are.
        ascending: whether map indexes grow from row to row; None where the order is another.

    Raises:
        AuthenticationError: an envelope stands in two rows, or in another one than its own.
    """
    indexes = [where.map_index for where in coordinates]
    # Iterations of a loop (Airflow 3.4) share their map index.
    ordered = ascending is not None and all(where.ti_id is None for where in coordinates)
    if len({_instance(where) for where in coordinates}) != len(coordinates) or (
        ordered and indexes != sorted(indexes, reverse=not ascending)
    ):
        raise _refused(coordinates[0])


def check_position(known: Positions, position: int, found: Coordinate | None) -> None:
    """Check one row of a sequence against those that were read before, and take note of it.

    Args:
        known: those that were read before.
        position: where the row stands.
        found: whose it is; None for one that was not sealed.

    Raises:
        AuthenticationError: its envelope stands at two positions, or cannot be at this one.
    """
    if found is None:
        return
    # Rows come by map index, and some may be missing; so none comes before its index's turn.
    if known.setdefault(_instance(found), position) != position or (
        found.ti_id is None and found.map_index < position
    ):
        raise _refused(found)


def _instance(where: Coordinate) -> tuple[str, int, UUID | None]:
    return where.run_id, where.map_index, where.ti_id


def _refused(where: Coordinate) -> SecureXComError:
    return audit.refused("open", where, AuthenticationError())
