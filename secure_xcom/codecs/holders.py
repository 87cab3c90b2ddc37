"""Containers that MessagePack has no type for (`docs/codecs.md`, section 1).

holder = u8 kind | one MessagePack value, which holds what the container does
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress

from secure_xcom.codecs.libraries import Untyped, made_by, need
from secure_xcom.errors import FormatError

_DEQUE, _OBJECTS, _TUPLE, _DICT, _ORDERED, _SET, _FROZENSET = range(1, 8)
#: What is one only where values have to come back exactly.
_EXACT: dict[type, int] = {
    tuple: _TUPLE,
    dict: _DICT,
    OrderedDict: _ORDERED,
    set: _SET,
    frozenset: _FROZENSET,
}
_PAIR = 2
#: Holders within holders; each of them is read by a call of its own.
DEPTH_MAX = 8
#: numpy has so many dimensions on every version.
_DIMENSIONS_MAX = 32


def opened(value: Untyped, *, is_exact: bool = False) -> tuple[int, list[object]] | None:
    """The kind of a holder and what goes into the bytes; None if the value is none."""
    if is_exact and (kind := _EXACT.get(type(value))):
        pairs = kind in (_DICT, _ORDERED)
        return kind, [[key, item] for key, item in value.items()] if pairs else list(value)
    if type(value) is deque:
        return _DEQUE, [value.maxlen, list(value)]
    if (numpy := made_by(value, "numpy")) and type(value) is numpy.ndarray:
        if value.dtype != numpy.dtype(object):
            return None
        by_columns = value.flags.f_contiguous and not value.flags.c_contiguous
        return _OBJECTS, [list(value.shape), by_columns, value.ravel().tolist()]
    return None


def is_holder(value: object) -> bool:
    """Whether a value is one, whatever the fidelity."""
    return opened(value) is not None


def is_exact_holder(value: Untyped) -> bool:
    """Whether a value is one where it has to come back exactly, and only there."""
    if type(value) is dict:
        return not has_texts_for_keys(value)
    return type(value) in _EXACT


def has_texts_for_keys(value: dict[object, object]) -> bool:
    """Whether MessagePack has a map for a dict."""
    return all(type(key) is str for key in value)


def closed(kind: int, held: object) -> object:
    """The holder.

    Raises:
        FormatError: that is not what a holder of this kind holds.
        CodecError: numpy is missing.
    """
    match kind, held:
        case 1, [None, list(items)]:
            return deque(items)
        case 1, [int(length), list(items)] if type(length) is int and len(items) <= length < 2**63:
            return deque(items, length)
        case 2, [list(shape), bool(by_columns), list(items)] if len(shape) <= _DIMENSIONS_MAX:
            if all(type(one) is int and one >= 0 for one in shape) and (
                math.prod(shape) == len(items)
            ):
                flat = need("numpy").fromiter(items, dtype=object, count=len(items))
                return flat.reshape(shape).copy(order="F" if by_columns else "C")
        case 3, list(items):
            return tuple(items)
        case 4 | 5, list(pairs) if all(type(one) is list and len(one) == _PAIR for one in pairs):
            return _hashed(dict if kind == _DICT else OrderedDict, pairs)
        case 6 | 7, list(items):
            return _hashed(set if kind == _SET else frozenset, items)
    raise FormatError("The encoded value holds a container that this version does not know.")


def _hashed(make: Callable[[list[Untyped]], Untyped], items: list[Untyped]) -> object:
    made = None
    with suppress(TypeError):  # something has no hash
        made = make(items)
    if made is None or len(made) != len(items):
        raise FormatError("The encoded value holds equal keys or elements, or some without a hash.")
    return made
