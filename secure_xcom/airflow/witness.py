"""What many rows that are read together must be to one another.

Airflow does not say which row of a mapped task has which map index. Each alone may have any; so
what stood where is compared across the rows of one read, or of one sequence.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias
from uuid import UUID

from secure_xcom import audit
from secure_xcom.errors import AuthenticationError
from secure_xcom.model import Coordinate, Expected


class Witness(Expected):
    """An expectation that remembers the coordinate that met it.

    Of many rows that are read at once Airflow does not say which index is whose, so that each
    alone may have any; together they must differ.
    """

    met: Coordinate | None

    def matches(self, coordinate: Coordinate) -> bool:
        """Whether the coordinate is one of those expected."""
        object.__setattr__(self, "met", coordinate)
        return super().matches(coordinate)


def one_of(expected: Expected) -> Witness:
    """Make a witness for one of the rows that `expected` stands for."""
    one = Witness(
        expected.dag_id, expected.run_id, expected.task_id, expected.map_index, expected.key
    )
    object.__setattr__(one, "met", None)
    return one


#: Position in a sequence by the run, the map index and the id of the task instance found there.
Met: TypeAlias = dict[tuple[str, int, UUID | None], int]


def check_distinct(witnesses: Iterable[Witness], *, ascending: bool | None) -> None:
    """Check that the rows of one read are of different task instances, and in Airflow's order.

    Args:
        witnesses: one for each row; those of unsealed rows met nothing and do not count.
        ascending: whether map indexes grow from row to row; None where the order is another.

    Raises:
        AuthenticationError: an envelope stands in two rows, or in another one than its own.
    """
    met = [one.met for one in witnesses if one.met is not None]
    indexes = [one.map_index for one in met]
    # Iterations of a loop (Airflow 3.4) share their map index.
    ordered = ascending is not None and all(one.ti_id is None for one in met)
    if len({_instance(one) for one in met}) != len(met) or (
        ordered and indexes != sorted(indexes, reverse=not ascending)
    ):
        raise _refused(met[0])


def check_position(known: Met, position: int, witness: Witness) -> None:
    """Check one row of a sequence against those that were read before, and take note of it.

    Raises:
        AuthenticationError: its envelope stands at two positions, or cannot be at this one.
    """
    met = witness.met
    if met is None:
        return
    # Rows come by map index, and some may be missing; so none comes before its index's turn.
    if known.setdefault(_instance(met), position) != position or (
        met.ti_id is None and met.map_index < position
    ):
        raise _refused(met)


def _instance(met: Coordinate) -> tuple[str, int, UUID | None]:
    return met.run_id, met.map_index, met.ti_id


def _refused(met: Coordinate) -> AuthenticationError:
    error = AuthenticationError()
    audit.record("open", met, error=error)
    return error
