"""Containers that MessagePack has no type for (`docs/codecs.md`, section 1).

holder = u8 kind | one MessagePack value, which holds what the container does
"""

from __future__ import annotations

import math
from collections import deque

from secure_xcom.codecs.libraries import Untyped, made_by, need
from secure_xcom.errors import FormatError

_DEQUE, _OBJECTS = 1, 2
#: Holders within holders; each of them is read by a call of its own.
DEPTH_MAX = 8
#: numpy has so many dimensions on every version.
_DIMENSIONS_MAX = 32


def opened(value: Untyped) -> tuple[int, list[object]] | None:
    """The kind of a holder and what goes into the bytes; None if the value is none."""
    if type(value) is deque:
        return _DEQUE, [value.maxlen, list(value)]
    if (numpy := made_by(value, "numpy")) and type(value) is numpy.ndarray:
        if value.dtype != numpy.dtype(object):
            return None
        by_columns = value.flags.f_contiguous and not value.flags.c_contiguous
        return _OBJECTS, [list(value.shape), by_columns, value.ravel().tolist()]
    return None


def is_holder(value: object) -> bool:
    """Whether a value is one."""
    return opened(value) is not None


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
    raise FormatError("The encoded value holds a container that this version does not know.")
