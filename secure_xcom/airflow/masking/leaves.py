"""The texts and numbers that a value holds: in containers, columns, arrays and records.

Keys of mappings are names, and not values; so are names of columns. Labels of rows are values.
"""
# ruff: noqa: ANN401 - tables and arrays of libraries that need not be installed

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

#: Members by which Airflow's serialisation says what a dict stands for.
_OF_AIRFLOW = frozenset(("__classname__", "__type", "__version__"))
#: Whole numbers from here on are long enough to be masked.
_LARGE = 10**8


def leaves(values: Iterable[object]) -> Iterator[object]:
    """Walk through values, in order, down to what is no container.

    Yields:
        texts, bytes and numbers; what else there is may come, too, and stands for no text.
    """
    pending: list[Iterator[object]] = [iter(values)]
    while pending:
        for element in pending[-1]:
            kind = type(element)
            if kind is str or kind is int or kind is float or element is None:
                yield element
                continue
            inner = _inside(element)
            if inner is not None:
                pending.append(iter(inner))
                break
            yield element
        else:
            pending.pop()


def _inside(element: object) -> Iterable[object] | None:  # noqa: PLR0911 - one for each kind
    """Give what an element holds; None if it is a leaf."""
    if isinstance(element, str | bytes | bytearray | int | float):
        return None
    if isinstance(element, Mapping):
        if _OF_AIRFLOW.isdisjoint(element):
            return element.values()
        return [value for key, value in element.items() if key not in _OF_AIRFLOW]
    if isinstance(element, list | tuple | set | frozenset | deque):
        return element
    if isinstance(element, UUID | PurePath):
        return (str(element),)
    if isinstance(element, Decimal):
        whole = element.is_finite() and element == element.to_integral_value()
        return (int(element),) if whole else ()
    if dataclasses.is_dataclass(element) and not isinstance(element, type):
        return [getattr(element, one.name, None) for one in dataclasses.fields(element)]
    read = _TABLES.get(type(element).__module__.partition(".")[0])
    return read(element) if read else None


def _of_pandas(value: Any) -> Iterable[object] | None:  # noqa: PLR0911 - one for each kind
    match type(value).__name__:
        case "DataFrame":
            columns = [value.iloc[:, at] for at in range(value.shape[1])]
            return [value.index, *(column.array for column in columns)]
        case "Series":
            return [value.index, value.array]
        case "MultiIndex":
            return [level.array for level in value.levels]
        case _ if not hasattr(value, "dtype") or not hasattr(value, "__len__"):
            return None
    if type(value).__name__ == "Categorical":
        return [value.categories]
    kind = getattr(value.dtype, "kind", "O")
    if kind in "bmMc":
        return ()
    if kind in "iuf" and hasattr(value, "to_numpy"):
        if getattr(value, "isna", None) is not None:
            value = value[~value.isna()]
        return _of_numpy(value.to_numpy(dtype=f"{kind}8"))
    with suppress(TypeError):  # cells may hold lists
        return list(value.unique())
    return list(value)


def _of_numpy(value: Any) -> Iterable[object] | None:
    if not hasattr(value, "dtype"):
        return None
    kind = value.dtype.kind
    if value.dtype.names:
        return [value[name] for name in value.dtype.names]
    if not hasattr(value, "ravel") or not value.shape:
        return (value.item(),) if kind in "iufSUO" else ()
    flat = value.ravel()
    if kind in "iuf":
        # Of the most negative number there is no positive one; so both ends are compared.
        flat = flat[(flat >= _LARGE) | (flat <= -_LARGE)] if kind != "u" else flat[flat >= _LARGE]
    elif kind not in "SUO":
        return ()
    return list(dict.fromkeys(flat.tolist())) if kind != "O" else flat.tolist()


def _of_arrow(value: Any) -> Iterable[object] | None:
    if type(value).__name__ in ("Table", "RecordBatch"):
        return list(value.columns)
    if not hasattr(value, "to_pylist"):
        return (value.as_py(),) if hasattr(value, "as_py") else None
    if type(value).__name__ == "DictionaryArray":
        return (value.dictionary,)
    kind = str(value.type)
    if kind.startswith(("bool", "date", "time", "timestamp", "duration", "null")):
        return ()
    with suppress(Exception):  # nested columns, of which Arrow makes no set
        value = value.unique()
    return value.to_pylist()  # type: ignore[no-any-return]


def _of_polars(value: Any) -> Iterable[object] | None:
    if hasattr(value, "get_columns"):
        return value.get_columns()  # type: ignore[no-any-return]
    if not hasattr(value, "to_list"):
        return None
    if value.dtype.is_temporal():
        return ()
    with suppress(Exception):
        value = value.unique()
    return value.to_list()  # type: ignore[no-any-return]


#: How the tables and arrays of a library are read, by the name of its package.
_TABLES: dict[str, Callable[[Any], Iterable[object] | None]] = {
    "pandas": _of_pandas,
    "numpy": _of_numpy,
    "pyarrow": _of_arrow,
    "polars": _of_polars,
}
