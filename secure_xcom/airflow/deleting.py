"""Deleting the object of a row that is gone, on every version of Airflow.

The row goes first, and its object after: whatever ends the process in between leaves an object
without a row, and never a row without its object.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from secure_xcom import signals
from secure_xcom.airflow.naming import named
from secure_xcom.airflow.process import process
from secure_xcom.errors import SecureXComError
from secure_xcom.format.reference import is_tagged
from secure_xcom.model import Expected

log = logging.getLogger("secure_xcom")


def delete_object(row: object, where: Expected) -> None:
    """Delete the object of a row that is gone, if it had one.

    Airflow purges at the start of every task, and whatever goes wrong here must not fail it: the
    object stays behind, and a warning says so.

    Args:
        row: what the row held.
        where: the row's coordinate; nothing is deleted unless all of it is known.
    """
    try:
        if has_object(row):
            _, stack = process.current()
            stack.delete(row, where)
    except Exception as error:  # see above
        if signals.is_callers(error):
            raise
        log.warning(
            "The object of XCom %s was not deleted: %s%s",
            named(where),
            type(error).__name__,
            f": {error}" if isinstance(error, SecureXComError) else "",
        )


def has_object(row: object) -> bool:
    """Whether a row claims to be a sealed one that has an object, without a closer look."""
    return is_tagged(row) and isinstance(row, Mapping) and row.get("placement") != "inline"
