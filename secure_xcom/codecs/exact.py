"""Whether what would be read is what was pushed: all of it, type by type."""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import zip_longest
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import NamedTuple

from secure_xcom.codecs.libraries import Untyped
from secure_xcom.codecs.refusal import Refused, children, member
from secure_xcom.codecs.ways_out import way_to_exact
from secure_xcom.text import type_name

_PROTOCOL = 4
#: What is as it was if it is equal.
_ATOMS = frozenset((str, int, bool, bytes, type(None)))
#: What is itself, and made of nothing.
_NAMES = (type, FunctionType, BuiltinFunctionType, MethodType)


class _Pair(NamedTuple):
    pushed: Untyped
    back: Untyped
    steps: tuple[str, ...]
    #: Whose inner state this is a part of, which has no path of its own.
    owner: Untyped
    has_owner: bool


def check(pushed: object, back: object, taken: Mapping[int, object]) -> None:
    """Compare what was pushed with what is read.

    Args:
        pushed: a value.
        back: what was read in its place.
        taken: by their ids, arrays and tables in the value, which travel in codecs that are exact.

    Raises:
        Refused: they differ; names the first place in the value where they do.
    """
    # Pairs that were looked at, which it also keeps alive, so that their ids stay theirs.
    seen: dict[tuple[int, int], _Pair] = {}
    left = [_Pair(pushed, back, (), None, has_owner=False)]
    while left:
        pair = left.pop()
        kind = type(pair.pushed)
        if kind in _ATOMS and kind is type(pair.back) and pair.pushed == pair.back:
            continue
        place = (id(pair.pushed), id(pair.back))
        if place in seen:
            continue
        seen[place] = pair
        if id(pair.pushed) in taken and not pair.has_owner:
            continue
        if kind is type(pair.back):
            parts = list(_parts(pair))
        elif {kind, type(pair.back)} == {list, tuple}:
            # The type comes last: what was refused in it may be why Airflow got at it.
            inside = _paired(pair, _numbered(pair.pushed), pair.back)
            parts = [*inside, _inner(pair, kind, type(pair.back))]
        else:
            parts = None
        if parts is None or any(part is _DIFFERENT for part in parts):
            raise _refusal(pair)
        left.extend(reversed(parts))


#: Stands among the parts of two values that differ in more than their parts.
_DIFFERENT = _Pair(None, None, (), None, has_owner=True)


def _parts(pair: _Pair) -> Iterator[_Pair]:
    """The parts of two values of one type, side by side."""
    pushed, back = pair.pushed, pair.back
    kind = type(pushed)
    if kind in _ATOMS or isinstance(pushed, _NAMES):
        if pushed != back:
            yield _DIFFERENT
    elif kind is float:
        if pushed.hex() != back.hex():
            yield _DIFFERENT
    elif kind in (list, tuple):
        yield from _paired(pair, _numbered(pushed), back)
    elif kind in (dict, OrderedDict):
        named = [(member(key, at), item) for at, (key, item) in enumerate(pushed.items())]
        yield from _paired(pair, named, back.values())
        # Last, since one value in it may be why Airflow got at all of the dict.
        yield _inner(pair, list(pushed), list(back))
    elif kind in (set, frozenset):
        equal = {item: item for item in back}
        yield from _paired(pair, _numbered(pushed), [equal.get(item) for item in pushed])
        if len(pushed) != len(back) or any(item not in equal for item in pushed):
            yield _DIFFERENT
    else:
        yield from _paired(pair, children(pushed), [part for _, part in children(back)])
        states = _copied(pushed), _copied(back)
        is_known = None not in states
        yield _inner(pair, *states) if is_known else _DIFFERENT


def _numbered(items: Iterable[object]) -> list[tuple[str, object]]:
    return [(f"[{at}]", item) for at, item in enumerate(items)]


def _paired(
    pair: _Pair, parts: Iterable[tuple[str, object]], backs: Iterable[object]
) -> Iterator[_Pair]:
    for one, back in zip_longest(parts, backs, fillvalue=_DIFFERENT):
        if one is _DIFFERENT or back is _DIFFERENT:
            yield _DIFFERENT
            return
        step, pushed = one  # type: ignore[misc]
        steps = pair.steps if pair.has_owner else (*pair.steps, step)
        yield _Pair(pushed, back, steps, pair.owner, pair.has_owner)


def _inner(pair: _Pair, pushed: object, back: object) -> _Pair:
    """What is inside of two values and has no path of its own."""
    owner = pair.owner if pair.has_owner else pair.pushed
    return _Pair(pushed, back, pair.steps, owner, has_owner=True)


def _copied(value: object) -> list[object] | None:
    """What Python would copy of an object; None if it would not."""
    with suppress(Exception):  # a class's own methods run here
        return _state(value)
    return None


def _state(value: Untyped) -> list[object]:
    if hasattr(type(value), "__pydantic_fields_set__"):
        # Without the names of those fields that are not defaults.
        return [vars(value), value.__pydantic_extra__, value.__pydantic_private__]
    reduced = value.__reduce_ex__(_PROTOCOL)
    if isinstance(reduced, str):  # the name of something global
        return [reduced, id(value)]
    state = [list(part) if isinstance(part, Iterator) else part for part in reduced]
    # A time of pendulum leaves its fold out, which counts where it makes a difference.
    return [*state, value.utcoffset()] if isinstance(value, (dt.datetime, dt.time)) else state


def _refusal(pair: _Pair) -> Refused:
    culprit = pair.owner if pair.has_owner else pair.pushed
    same = pair.has_owner or type(pair.back) is type(culprit)
    back = "changed" if same else f"as a value of type {type_name(pair.back)}"
    return Refused(
        f"a value of type {type_name(culprit)}, which would come back {back}, and the setting "
        f"fidelity is exact; {way_to_exact(culprit)}",
        pair.steps,
    )
