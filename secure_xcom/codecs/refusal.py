"""Why and where a value cannot be encoded: paths such as `$.rows[3].when`, never contents."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

#: Paths longer than this end in an ellipsis.
_STEPS_MAX = 32
#: Longer keys are not taken for names.
_NAME_CHARACTERS_MAX = 64


class Refused(Exception):  # noqa: N818 - passed between codecs; `encode` makes it a CodecError
    """A codec does not take a value: where in it, and why."""

    def __init__(self, reason: str, steps: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps = steps

    def __str__(self) -> str:
        more = "…" if len(self.steps) > _STEPS_MAX else ""
        return f"${''.join(self.steps[:_STEPS_MAX])}{more}: {self.reason}"


@contextmanager
def at_path(*steps: str) -> Iterator[None]:
    """Put these steps before the path of what is refused within the block."""
    try:
        yield
    except Refused as error:
        raise Refused(error.reason, (*steps, *error.steps)) from None


def member(name: object, position: int) -> str:
    """The step to a dict's key, a field or a column.

    Keys are contents as well. One that reads like a name is shown as one; any other, such as a
    card number, only by its position.
    """
    if isinstance(name, str) and name.isidentifier() and len(name) <= _NAME_CHARACTERS_MAX:
        return f".{name}"
    return f"{{{position}}}"


def children(value: object) -> Iterator[tuple[str, object]]:
    """What a value holds, with the step to each."""
    if isinstance(value, Mapping):
        for position, (key, item) in enumerate(value.items()):
            yield member(key, position), item
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        for position, item in enumerate(value):
            yield f"[{position}]", item
    else:
        model_fields = getattr(type(value), "__pydantic_fields__", ())
        for position, name in enumerate([*fields_of(value), *model_fields]):
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


def find_refused(
    value: object, accepts: Callable[[object], bool]
) -> tuple[tuple[str, ...], object]:
    """The steps to the innermost part of `value` that is not accepted, and that part.

    A part that raises when its own parts are asked for counts as the innermost.
    """
    steps: list[str] = []
    visited: set[int] = set()
    while id(value) not in visited and len(steps) <= _STEPS_MAX:
        visited.add(id(value))
        refused = None
        with suppress(Exception):
            refused = next((child for child in children(value) if not accepts(child[1])), None)
        if refused is None:
            break
        steps.append(refused[0])
        value = refused[1]
    return tuple(steps), value
