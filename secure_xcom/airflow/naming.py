"""XComs by name, in messages."""

from __future__ import annotations

from secure_xcom.model import Expected
from secure_xcom.text import escaped


def named(where: Expected) -> str:
    """Name an XCom in a line of a log or a message, as far as it is known which one it is."""
    task = f"{where.dag_id or '?'}.{where.task_id or '?'}"
    index = "" if where.map_index in (None, -1) else f"[{where.map_index}]"
    return escaped(f"{where.key or '(key unknown)'} of {task}{index} in run {where.run_id or '?'}")
