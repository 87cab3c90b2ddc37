"""Rendered fields: those that a pulled value went into are kept out of the database.

Airflow stores what a task's template fields became, to show it in its UI. On Airflow 3 the task
process sends them to the server, on Airflow 2 it writes them by itself; here they are replaced
before that. A field counts as untouched only if nothing was opened while it, and it alone, was
rendered, and if it is still what it was then; so a filter, a macro or a mapped task's expansion
cannot carry a value past. `versions.py` has the names of Airflow's that are used here.
"""
# ruff: noqa: ANN401 - Airflow's own objects, of whatever version

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from secure_xcom.airflow import versions
from secure_xcom.errors import ConfigError

#: What stands in the place of a field that a pulled value went into.
SEALED = "(sealed XCom)"

_GUARDED = "_secure_xcom_guarded"
_RECORD = "_secure_xcom_rendered"


@dataclass
class _Record:
    """What is known of the fields of one task after they were rendered."""

    #: How many values had been opened in this process after it.
    end: int = 0
    #: The fields during whose rendering nothing was opened, as they came out.
    untouched: dict[str, object] = field(default_factory=dict)
    #: What Airflow first made of those of them that could be changed in place.
    shown: dict[str, object] = field(default_factory=dict)


class _Opened:
    """How many values this process has opened for its tasks, and which tasks it has rendered."""

    count = 0
    tasks: set[tuple[str | None, str]] = set()  # noqa: RUF012 - one for the process, on purpose


#: The count when a mapped task's expansion began, while that goes on.
_expanding: ContextVar[int | None] = ContextVar("secure_xcom_expanding", default=None)


def note_opened() -> None:
    """Take note that a task got a value."""
    _Opened.count += 1


def install() -> None:
    """Learn field by field which ones values go into; without this, all of a task's count as such.

    Called by the cluster policy, so before a task is rendered.
    """
    for function in versions.rendering_of_fields():
        _guard(function, _field_by_field)
    _guard(versions.rendering_of_mapped_tasks(), _expanding_apart)


def ensure() -> None:
    """Make sure that no value which is opened from now on gets into stored fields.

    Raises:
        ConfigError: this version of Airflow stores rendered fields in a way that is not known here.
    """
    function = versions.serialization_of_fields()
    guard = _without_touched if versions.is_airflow_3() else _redacting_touched
    if function is not None and not _guard(function, guard):
        raise ConfigError(
            "Airflow would store the fields that pulled values are rendered into, and this version "
            "of it has no place known to secure_xcom where that can be prevented. Nothing is read. "
            "Use a version of Airflow that this version of secure_xcom supports."
        )


def blank(task: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """Replace those of a task's serialised fields that a pulled value may have gone into."""
    if _Opened.count == 0:
        return fields
    record: _Record | None = getattr(task, "__dict__", {}).get(_RECORD)
    return {
        name: value if record and _is_untouched(task, name, value, record) else SEALED
        for name, value in fields.items()
    }


def _is_untouched(task: Any, name: str, value: object, record: _Record) -> bool:
    base = name.partition(".")[0]
    if base not in record.untouched:
        return False
    now = getattr(task, base, None)
    if now is not record.untouched[base]:
        return False
    if now is None or isinstance(now, str | int | float):
        return True
    # It may have been changed in place, or its text have been read from a lazy sequence.
    if name not in record.shown and _Opened.count == record.end:
        record.shown[name] = value
    return name in record.shown and record.shown[name] == value


def _guard(function: versions.AirflowFunction, guard: Callable[[Any], Any]) -> bool:
    """Put a guard around a function of Airflow's, once; whether the function is there."""
    airflows = vars(function.owner).get(function.name) if function.owner is not None else None
    if not callable(airflows):
        return False
    if not hasattr(airflows, _GUARDED):
        guarded = functools.wraps(airflows)(guard(airflows))
        setattr(guarded, _GUARDED, True)
        setattr(function.owner, function.name, guarded)
    return True


def _field_by_field(airflows: Callable[..., None]) -> Callable[..., None]:
    def render(self: Any, parent: Any, template_fields: Any, *args: Any, **kwargs: Any) -> None:
        if not hasattr(parent, "task_id"):  # a part of a field, or a notifier
            airflows(self, parent, template_fields, *args, **kwargs)
            return
        before = _expanding.get()
        token = _expanding.set(None)
        earlier = _earlier(parent)
        record = _Record()
        expanded_over_values = before is not None and _Opened.count != before
        try:
            for name in template_fields:
                count = _Opened.count
                # Operators that render again may do so with values in their fields by now.
                fresh = earlier is None or getattr(parent, name, None) is earlier.get(name, earlier)
                airflows(self, parent, (name,), *args, **kwargs)
                if fresh and _Opened.count == count and not expanded_over_values:
                    record.untouched[name] = getattr(parent, name, None)
        finally:
            _expanding.reset(token)
            record.end = _Opened.count
            vars(parent)[_RECORD] = record

    return render


def _earlier(task: Any) -> dict[str, object] | None:
    """Give the fields untouched by an earlier rendering of the task; None for the first one."""
    record: _Record | None = vars(task).get(_RECORD)
    known = (getattr(task, "dag_id", None), task.task_id)
    if record is None and (known not in _Opened.tasks or _Opened.count == 0):
        _Opened.tasks.add(known)
        return None
    return record.untouched if record else {}


def _expanding_apart(airflows: Callable[..., None]) -> Callable[..., None]:
    def render(self: Any, *args: Any, **kwargs: Any) -> None:
        token = _expanding.set(_Opened.count)
        try:
            airflows(self, *args, **kwargs)
        finally:
            _expanding.reset(token)

    return render


def _without_touched(airflows: Callable[[Any], dict[str, Any]]) -> Callable[[Any], dict[str, Any]]:
    def serialize(task: Any) -> dict[str, Any]:
        return blank(task, airflows(task))

    return serialize


def _redacting_touched(airflows: Callable[[Any], None]) -> Callable[[Any], None]:
    def redact(self: Any) -> None:
        airflows(self)
        fields = blank(self.task, self.rendered_fields)
        if SEALED in fields.values() and self.k8s_pod_yaml:
            self.k8s_pod_yaml = {"pod": SEALED}
        self.rendered_fields = fields

    return redact
