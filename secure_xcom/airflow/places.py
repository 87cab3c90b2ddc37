"""Which XCom a caller means, whatever types its arguments have.

Airflow takes more than it declares, differently on each version; what goes into an envelope, into
the audit log and into comparisons is text and integers
(`docs/decisions/0046-arguments-of-other-types.md`).
"""

from __future__ import annotations

from contextlib import suppress

from secure_xcom import audit
from secure_xcom.errors import FormatError
from secure_xcom.model import Expected
from secure_xcom.text import type_name


def place(  # noqa: PLR0913 - a coordinate
    operation: audit.Operation,
    *,
    dag_id: object,
    run_id: object,
    task_id: object,
    map_index: object,
    key: object,
) -> Expected:
    """Give the coordinate that these arguments spell; None leaves a field open.

    Args:
        operation: what the audit log says if they spell none.
        dag_id: text.
        run_id: text.
        task_id: text.
        map_index: an integer, or what Airflow takes for one: `"3"`, `3.0`, an integer of numpy.
        key: text.

    Raises:
        FormatError: one of them has another type; names it, and its type.
    """
    texts = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "key": key}
    known = {name: _text(value) for name, value in texts.items()}
    index = _integer(map_index)
    where = Expected(**known, map_index=index)
    for name, value in texts.items():
        if value is not None and known[name] is None:
            raise audit.refused(operation, where, _wrong(name, value, "text, such as `str` makes"))
    if map_index is not None and index is None:
        raise audit.refused(operation, where, _wrong("map_index", map_index, "an integer"))
    return where


def _text(value: object) -> str | None:
    # Of an enumeration that is text, `str` would give its name.
    return str.__str__(value) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    with suppress(TypeError, ValueError, OverflowError):
        number = int(value)  # type: ignore[call-overload] # whatever it is
        if isinstance(value, str) or number == value:
            return int(number)
    return None


def _wrong(name: str, value: object, wanted: str) -> FormatError:
    return FormatError(
        f"The {name} of an XCom is {wanted}; here it is a value of type {type_name(value)}. "
        "Push and pull it under the same one."
    )
