"""What to return instead of a value that does not travel, for the usual ones."""

from __future__ import annotations

import datetime as dt
import enum
import io
import sys
from collections import deque
from collections.abc import Coroutine, Iterator, KeysView, Mapping, ValuesView
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from secure_xcom.codecs.libraries import library_of
from secure_xcom.codecs.refusal import fields_of

_RESPONSE = "return `response.json()`, `response.text` or `response.content`"
_OF_PROCESS = (
    "it belongs to this process; return what the next task needs to make its own, such as a name "
    "or an id"
)
#: By the library that the class is from.
_LIBRARIES = {
    **dict.fromkeys(("requests", "httpx", "aiohttp", "urllib3", "http"), _RESPONSE),
    **dict.fromkeys(
        ("_thread", "threading", "socket", "_socket", "sqlite3", "psycopg2", "multiprocessing"),
        _OF_PROCESS,
    ),
    "sqlalchemy": "return `row._asdict()` or `tuple(row)` of each row, and what is plain of others",
    "kubernetes": "return `.to_dict()`, or what `ApiClient().sanitize_for_serialization` gives",
    "pyspark": "return `.toPandas()` of it, or write it somewhere and return where",
}
_KEYS = (
    "use keys that are text, and none of `__classname__`, `__type` or `__id__`, which are Airflow's"
)
#: By what the value is, the first that fits.
_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((Mapping,), _KEYS),
    ((deque,), "return `list(…)` of it, or leave nothing but plain data in it"),
    ((list, tuple, set, frozenset), "return a plain list of what is in it"),
    ((io.IOBase,), "return its path, or what `file.read()` gives"),
    ((Coroutine,), "`await` it"),
    ((Iterator, range, KeysView, ValuesView), "return `list(…)` of it"),
    ((memoryview,), "return `bytes(…)` of it"),
    ((enum.Enum,), "return its `.value`, or its `.name`"),
    ((BaseException,), "return `str(error)`"),
    ((type, ModuleType, FunctionType, BuiltinFunctionType, MethodType), "return its name"),
)
_BUILT_IN = (str, int, float, complex, bytes, list, tuple, dict, set, frozenset)
_PARTS = "return what it is made of as plain data"
_OWN_CLASS = (
    "give the class a `serialize()` method and a static `deserialize(data, version)`, make it a "
    f"dataclass, or {_PARTS}"
)


def way_out(value: object) -> str:
    """Say what to do about a value that neither a codec nor Airflow takes."""
    library = library_of(type(value))
    if library in _LIBRARIES:
        return _LIBRARIES[library]
    for kinds, way in _KINDS:
        if issubclass(type(value), kinds):
            return way
    return _PARTS if library in sys.stdlib_module_names else _OWN_CLASS


def way_to_exact(value: object) -> str:
    """Say what to do about a value that would come back as another."""
    kind = type(value)
    if issubclass(kind, tuple) and hasattr(kind, "_asdict"):
        return "return `tuple(…)` or `._asdict()` of it"
    if not issubclass(kind, enum.Enum):
        for base in _BUILT_IN:
            if issubclass(kind, base) and kind is not base:
                return f"return `{base.__name__}(…)` of it"
    return way_out(value) if issubclass(kind, (Mapping, enum.Enum)) else _PARTS


def why_unreadable(value: object, fault: Exception) -> str:
    """Say what to do about a value that Airflow writes and cannot read."""
    kind = type(value)
    if library_of(kind) in _LIBRARIES:
        return _LIBRARIES[library_of(kind)]
    if "<locals>" in kind.__qualname__:
        return "define the class at the top of a module, and not inside a function"
    if isinstance(value, (dt.date, dt.timedelta)):
        return "it is so near the end of what Python has that it is rounded out of it"
    if fields_of(value) and "allowed_deserialization_classes" not in str(fault):
        return (
            f"{fault} Airflow hands the fields to the constructor: leave out what it does not take "
            "(`init=False`, `InitVar`), or give the class `serialize()` and `deserialize()`"
        )
    return str(fault).rstrip(".")
