"""Libraries that some values are made of, imported only where a value needs them."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

from secure_xcom.errors import CodecError

#: An object of a library that is imported only where it is needed, so that nothing here can name
#: its type.
Untyped: TypeAlias = Any


def need(name: str) -> ModuleType:
    """Import a library that a value is made of.

    Raises:
        CodecError: it is not installed here; says what to install.
    """
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise CodecError(
            f"This value travels with {package}, which cannot be imported here: install it in "
            f"every Airflow component that reads or writes such values (`pip install {package}`)."
        ) from error


def library_of(kind: type) -> str:
    """The package that a class is from."""
    return kind.__module__.partition(".")[0]


def made_by(value: object, library: str) -> ModuleType | None:
    """The library, if the value's class is one of its own; nothing is imported.

    Whoever made the value has imported it already.
    """
    return sys.modules.get(library) if library_of(type(value)) == library else None
