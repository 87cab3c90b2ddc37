"""What is to be done to a module of Airflow's, once it is there, and without importing it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, TypeAlias

#: Changes a module; called once for each process, at most.
Bind: TypeAlias = Callable[[Any], None]

_known: set[str] = set()


def when_loaded(name: str, last: str, bind: Bind) -> None:
    """Have a module changed, now or at the end of its import.

    Args:
        name: the module.
        last: a name that it defines towards its end; without it, it is being imported right now,
            too late to wait for that and too early to change it, and nothing is done.
        bind: changes it. Only the first one for a module counts.
    """
    if name in _known:
        return
    loaded = sys.modules.get(name)
    if loaded is None:
        _known.add(name)
        sys.meta_path.insert(0, _Finder(name, bind))
    elif hasattr(loaded, last):
        _known.add(name)
        bind(loaded)


class _Finder(MetaPathFinder):
    """Waits for one module to be imported."""

    def __init__(self, name: str, bind: Bind) -> None:
        self._name = name
        self._bind = bind

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the module as it would be found without this, and have it changed."""
        if fullname != self._name:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Binding(spec.loader, self._bind)
        return spec


class _Binding(Loader):
    """Loads a module by another loader, and changes it."""

    def __init__(self, loader: Loader, bind: Bind) -> None:
        self._loader = loader
        self._bind = bind

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create it as the other loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it as the other loader does, and change what it defines."""
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._bind(module)
