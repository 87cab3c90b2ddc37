"""Values that Airflow 3 reads from the database by itself, past the backend.

`ti.xcom_pull` of a task instance of the database (after `dag.test()`, in listeners, in plugins of
the API server) asks Airflow's model of XComs for values, and never the backend. Here the model is
made to open sealed rows, or to say why it cannot, and never to give the row as if it were the
value. All other rows stay its own business.
"""
# ruff: noqa: ANN401 - Airflow's and SQLAlchemy's own objects, of whatever version

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from secure_xcom.airflow import versions
from secure_xcom.airflow.when_loaded import when_loaded
from secure_xcom.format.reference import is_tagged

#: The columns that say which XCom a row is.
_COORDINATE = ("dag_id", "run_id", "task_id", "map_index", "key")
#: The methods of the model that make a value of a row; the second is there from 3.4 on.
_READERS = ("deserialize_value", "deserialize_value_primitives")


def install() -> None:
    """Do so in this process of Airflow 3, now or once it loads its models."""
    if versions.is_airflow_3():
        when_loaded("airflow.models.xcom", "LazyXComSelectSequence", _bind)


def _bind(module: Any) -> None:
    """Have the model open sealed rows, and select what says which XCom each of them is."""
    model = versions.xcom_operations(module)
    for name in _READERS:
        if hasattr(model, name):
            setattr(model, name, staticmethod(_opening(getattr(model, name), model)))
    airflows_get_many = model.get_many

    @functools.wraps(airflows_get_many)
    def get_many(*args: Any, **kwargs: Any) -> Any:
        return _located(airflows_get_many(*args, **kwargs))

    model.get_many = staticmethod(get_many)


def _opening(airflows: Callable[[Any], Any], model: type) -> Callable[[Any], Any]:
    @functools.wraps(airflows)
    def deserialize(result: Any) -> Any:
        # A whole instance is what the REST API of 3.1 shows to users: the row, as later ones do.
        if not is_tagged(result.value) or isinstance(result, model):
            return airflows(result)
        from secure_xcom.airflow import reading  # noqa: PLC0415 - it is loaded with a policy

        # What is tagged is opened or refused, and Airflow's own reader is not asked.
        return reading.read(result.value, reading.of_row(result), lambda row: row).value

    return deserialize


def _located(statement: Any) -> Any:
    """Have a statement add the coordinate, where values alone are selected of its rows."""
    statements: Any = type(statement)
    kind: Any = _located_kind(statements)
    located = kind.__new__(kind)
    located.__dict__ = statement.__dict__.copy()
    return located


@functools.cache
def _located_kind(kind: Any) -> type:
    def with_only_columns(self: Any, *entities: Any, **kwargs: Any) -> Any:
        named = {getattr(entity, "key", None) for entity in entities}
        model = self.column_descriptions[0]["entity"]
        missing = [name for name in _COORDINATE if name not in named] if "value" in named else []
        columns = (*entities, *(getattr(model, name) for name in missing))
        return kind.with_only_columns(self, *columns, **kwargs)

    members = {"inherit_cache": True, "with_only_columns": with_only_columns}
    return type("Located", (kind,), members)
