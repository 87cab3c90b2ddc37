"""What is done once a database session is committed (Airflow 2)."""
# ruff: noqa: ANN401 - Airflow 3 has no session to give a type to

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from sqlalchemy import event
from sqlalchemy.orm import scoped_session

_Act: TypeAlias = Callable[[], None]

#: Where a session keeps what is to be done once it is committed, and what may be done by now.
_WAITING = "secure_xcom_waiting"
_COMMITTED = "secure_xcom_committed"


def once_committed(session: Any, act: _Act) -> None:
    """Do something after the transaction of a session has ended in a commit.

    If any of it is rolled back, or the session is closed without a commit, it is not done at all.
    The connection is back in its pool by then, so that nobody waits for it meanwhile.

    Args:
        session: of SQLAlchemy; with None, it is done at once.
        act: what is done. It must not use the session.
    """
    if session is None:
        act()
        return
    if isinstance(session, scoped_session):
        session = session()
    if _WAITING not in session.info:
        session.info[_WAITING], session.info[_COMMITTED] = [], []
        event.listen(session, "after_commit", _after_commit)
        event.listen(session, "after_soft_rollback", _after_rollback)
        event.listen(session, "after_transaction_end", _after_end)
    session.info[_WAITING].append(act)


def _after_commit(session: Any) -> None:
    if not session.in_nested_transaction():  # to release a savepoint commits nothing
        session.info[_COMMITTED] = session.info[_WAITING]
        session.info[_WAITING] = []


def _after_rollback(session: Any, _transaction: Any) -> None:
    session.info[_WAITING] = []


def _after_end(session: Any, transaction: Any) -> None:
    if transaction.parent is not None:
        return
    acts: list[_Act] = session.info[_COMMITTED]
    session.info[_WAITING], session.info[_COMMITTED] = [], []
    for act in acts:
        act()
