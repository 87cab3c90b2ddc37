"""Why and where a value cannot be encoded: paths such as `$.rows[3].when`, never contents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

#: Paths longer than this end in an ellipsis.
_STEPS_MAX = 32
_NAME_MAX = 64


class Refused(Exception):  # noqa: N818 - a message between codecs; `encode` makes it a CodecError
    """A codec does not take a value: where in it, and why."""

    def __init__(self, reason: str, steps: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps = steps

    def __str__(self) -> str:
        more = "…" if len(self.steps) > _STEPS_MAX else ""
        return f"${''.join(self.steps[:_STEPS_MAX])}{more}: {self.reason}"


@contextmanager
def below(*steps: str) -> Iterator[None]:
    """What is refused in here lies below these steps."""
    try:
        yield
    except Refused as error:
        raise Refused(error.reason, (*steps, *error.steps)) from None


def type_name(value: object) -> str:
    """The type of a value as a row or a message shows it, such as `builtins.dict`."""
    kind = type(value)
    # As `type` itself has them: a metaclass may say something else, or raise.
    module, name = (type.__dict__[of].__get__(kind) for of in ("__module__", "__qualname__"))
    return f"{module if isinstance(module, str) else '?'}.{name}"


def member(name: object, position: int) -> str:
    """The step to a dict's key, a field or a column.

    Keys are contents as well. One that reads like a name is shown as one; any other, such as a
    card number, only by its position.
    """
    if isinstance(name, str) and name.isidentifier() and len(name) <= _NAME_MAX:
        return f".{name}"
    return f"{{{position}}}"


def children(value: object) -> Iterator[tuple[str, object]]:
    """What a value holds, with the step to each."""
    if isinstance(value, Mapping):
        for position, (key, item) in enumerate(value.items()):
            yield member(key, position), item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for position, item in enumerate(value):
            yield f"[{position}]", item
    else:
        models = getattr(type(value), "__pydantic_fields__", ())
        for position, name in enumerate([*fields_of(value), *models]):
            if hasattr(value, name):
                yield member(name, position), getattr(value, name)


def is_record(kind: type) -> bool:
    """Whether instances have the fields of a dataclass or of attrs."""
    return dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")


def fields_of(value: object) -> list[str]:
    """The fields of a dataclass or attrs instance; none for anything else."""
    if isinstance(value, type):
        return []
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    return [attribute.name for attribute in getattr(type(value), "__attrs_attrs__", ())]


def find(value: object, accepts: Callable[[object], bool]) -> tuple[tuple[str, ...], object]:
    """The innermost part of `value` that is not accepted, and the steps to it.

    One that raises when it is looked into is as far as this goes.
    """
    steps: list[str] = []
    above: set[int] = set()
    while id(value) not in above and len(steps) <= _STEPS_MAX:
        above.add(id(value))
        refused = None
        with suppress(Exception):
            refused = next((one for one in children(value) if not accepts(one[1])), None)
        if refused is None:
            break
        steps.append(refused[0])
        value = refused[1]
    return tuple(steps), value
