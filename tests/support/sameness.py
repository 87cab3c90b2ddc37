"""Whether two values are the same to whoever holds them: equal, and of the same types."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import math
from collections.abc import Mapping


def difference(left, right, path="$"):  # noqa: C901, PLR0911 - one for each kind
    """Say where two values differ; None if they do not."""
    if type(left) is not type(right):
        return f"{path}: {type(left)} and {type(right)}"
    library = type(left).__module__.partition(".")[0]
    if library in _BY_LIBRARY:
        return _BY_LIBRARY[library](left, right, path)
    if isinstance(left, float):
        both_nan = math.isnan(left) and math.isnan(right)
        same = both_nan or (left == right and math.copysign(1, left) == math.copysign(1, right))
        return None if same else f"{path}: {left!r} and {right!r}"
    if isinstance(left, complex):
        return difference([left.real, left.imag], [right.real, right.imag], path)
    if isinstance(left, collections.deque):
        if left.maxlen != right.maxlen:
            return f"{path}: {left.maxlen} and {right.maxlen} at most"
        return _sequences(left, right, path)
    if isinstance(left, decimal.Decimal):  # digits count, and one is not a number
        left, right = left.as_tuple(), right.as_tuple()
    if isinstance(left, (list, tuple)):
        return _sequences(left, right, path)
    if isinstance(left, Mapping):
        return _sequences([*left], [*right], f"{path} keys") or _sequences(
            [*left.values()], [*right.values()], path
        )
    if isinstance(left, (set, frozenset)):
        order = {"key": lambda item: (str(type(item)), repr(item))}
        return _sequences(sorted(left, **order), sorted(right, **order), path)
    if names := _fields(left):
        return _sequences(
            [getattr(left, name) for name in names], [getattr(right, name) for name in names], path
        )
    if hasattr(left, "tzinfo") and repr(left.tzinfo) != repr(right.tzinfo):
        return f"{path}: {left!r} and {right!r}"
    return None if left == right else f"{path}: {left!r} and {right!r}"


def _fields(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    return [field.name for field in getattr(type(value), "__attrs_attrs__", ())]


def _sequences(left, right, path):
    if len(left) != len(right):
        return f"{path}: {len(left)} and {len(right)} elements"
    # A loop, since a generator would take one more frame for each level of a deep value.
    for at, (one, other) in enumerate(zip(left, right, strict=True)):
        if found := difference(one, other, f"{path}[{at}]"):
            return found
    return None


def _numpy(left, right, path):
    same = left.dtype == right.dtype and left.shape == right.shape
    if same and left.dtype.kind in "fc":
        # Not a number is equal to itself here; the sign of a zero counts.
        same = left.tobytes("A") == right.tobytes("A") or left.tobytes() == right.tobytes()
    elif same and left.dtype == object:
        same = _sequences(left.ravel().tolist(), right.ravel().tolist(), path) is None
    elif same and left.dtype.names:
        same = bool((left == right).all())  # what lies between fields is nobody's
    elif same:
        same = left.tobytes() == right.tobytes()
    if same and left.ndim > 1:
        same = left.flags.f_contiguous == right.flags.f_contiguous or not left.flags.forc
    return None if same else f"{path}: {left!r} and {right!r}"


def _pandas(left, right, path):
    import pandas as pd  # noqa: PLC0415 - only where there are frames
    from pandas import testing  # noqa: PLC0415

    exact = {"check_exact": True, "check_freq": True, "check_flags": True}
    if isinstance(left, pd.Index):
        testing.assert_index_equal(left, right, exact=True)
        if getattr(left, "freq", None) != getattr(right, "freq", None):
            return f"{path}: {left.freq} and {right.freq}"
        return _dtypes(left, right, path)
    if not isinstance(left, (pd.DataFrame, pd.Series)):
        if left is right:
            return None
        same = left == right and all(
            repr(getattr(left, name, None)) == repr(getattr(right, name, None))
            for name in ("unit", "tzinfo", "fold")
        )
        return None if same else f"{path}: {left!r} and {right!r}"
    found = difference(left.attrs, right.attrs, f"{path}.attrs") or difference(
        left.index, right.index, f"{path}.index"
    )
    if isinstance(left, pd.Series):
        testing.assert_series_equal(left, right, **exact)
        return found or difference(left.name, right.name, path) or _cells(left, right, path)
    testing.assert_frame_equal(left, right, check_column_type=True, **exact)
    found = found or difference(left.columns, right.columns, f"{path}.columns")
    return found or next(
        filter(
            None,
            (
                _cells(left.iloc[:, at], right.iloc[:, at], f"{path}.{at}")
                for at in range(left.shape[1])
            ),
        ),
        None,
    )


def _cells(left, right, path):
    if left.dtype == object:
        return _sequences(left.tolist(), right.tolist(), path)
    return _dtypes(left, right, path)


def _dtypes(left, right, path):
    """Compare what `==` on types lets pass: storage of text, libraries of time zones."""
    same = repr(left.dtype) == repr(right.dtype) and repr(getattr(left.dtype, "tz", None)) == repr(
        getattr(right.dtype, "tz", None)
    )
    return None if same else f"{path}: {left.dtype!r} and {right.dtype!r}"


def _polars(left, right, path):
    import polars as pl  # noqa: PLC0415 - only where there are frames

    if isinstance(left, pl.Series):
        left, right = left.to_frame(), right.to_frame()
    same = left.schema == right.schema and left.equals(right, null_equal=True)
    return None if same else f"{path}: {left!r} and {right!r}"


def _pyarrow(left, right, path):
    if left.schema.equals(right.schema, check_metadata=True) and left.equals(right):
        return None
    return f"{path}: {left.schema} and {right.schema}"


_BY_LIBRARY = {"numpy": _numpy, "pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}


def assert_same(left, right):
    """Compare, and say where."""
    found = difference(left, right)
    assert found is None, found
