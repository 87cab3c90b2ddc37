"""pandas arrays and indexes as Arrow arrays and a description (`docs/codecs.md`, section 3.1).

A writer adds Arrow arrays to table `at`, and describes them; a reader takes them from there in the
same order. What has a length of its own, such as categories, goes into a table of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import starmap
from typing import TypeAlias

from secure_xcom.codecs.calendars import read_offset, read_zone, write_offset, write_zone
from secure_xcom.codecs.libraries import Untyped, need
from secure_xcom.codecs.messages import ROWS_WITHOUT_BYTES
from secure_xcom.codecs.objects import read_objects, write_objects
from secure_xcom.codecs.primitives import (
    MASKED,
    custom_extension,
    next_column,
    of_type,
    read_masked,
    read_numpy,
    values_of,
    write_numpy,
)
from secure_xcom.codecs.refusal import Refused
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.text import type_name

Description: TypeAlias = Mapping[Untyped, Untyped]
#: The columns of each table: what was written so far, and what is still to be read.
Written: TypeAlias = list[list[Untyped]]
Unread: TypeAlias = list[Iterator[Untyped]]

_LONG_RANGE = (
    f"categories or a level of an index that are a range of more than {ROWS_WITHOUT_BYTES:,} labels"
)


def write_array(pd: Untyped, values: Untyped, out: Written, at: int) -> Description:
    """Write a numpy or pandas array.

    Raises:
        Refused: it holds what does not travel exactly.
    """
    dtype = values.dtype
    if isinstance(dtype, need("numpy").dtype):
        if dtype.kind == "O":
            return write_objects(pd, values.tolist(), out[at])
        return write_numpy(values, out[at])
    for name, (kind, write, _) in _TYPES.items():
        if type(dtype) is getattr(pd, kind):
            return {"kind": name, **write(pd, values, out, at)}
    if dtype.name in MASKED and type_name(dtype).startswith("pandas."):
        out[at].append(need("pyarrow").array(values))
        return {"kind": "masked", "dtype": dtype.name}
    raise Refused(f"a column of type {type_name(dtype)}; convert it to another type of pandas")


def read_array(pd: Untyped, described: object, tables: Unread, at: int) -> Untyped:
    """Read an array.

    Raises:
        FormatError: the description is malformed, or the table does not hold what it tells of.
        CodecError: a type is not known to this version of a library.
    """
    match described:
        case {"kind": "object", **rest}:
            return read_objects(pd, rest, tables[at])
        case {"kind": "numpy", "dtype": str(name)}:
            return read_numpy(name, tables[at])
        case {"kind": "masked", "dtype": str(name)} if name in MASKED:
            return read_masked(pd, name, tables[at])
        case {"kind": str(name), **rest} if name in _TYPES:
            return _TYPES[name][2](pd, rest, tables, at)
    raise FormatError("A column has no description that this version knows.")


def _write_zoned(_: Untyped, values: Untyped, out: Written, at: int) -> Description:
    np, pa = need("numpy"), need("pyarrow")
    utc = np.asarray(values, f"datetime64[{values.dtype.unit}]")
    out[at].append(pa.array(utc, from_pandas=False))
    return {"unit": values.dtype.unit, "zone": write_zone(values.dtype.tz)}


def _read_zoned(pd: Untyped, described: Description, tables: Unread, at: int) -> Untyped:
    zone = read_zone(described.get("zone"))
    utc = pd.DatetimeIndex(next_column(tables[at]).to_numpy(zero_copy_only=False)).tz_localize(
        "UTC"
    )
    return of_type(utc.tz_convert(zone).array, pd.DatetimeTZDtype(described.get("unit"), zone))


def _is_within(pd: Untyped, labels: Untyped, codes: Untyped) -> bool:
    """Whether labels are so few that a reader may make them; a range takes no bytes itself."""
    return type(labels) is not pd.RangeIndex or len(labels) <= max(ROWS_WITHOUT_BYTES, len(codes))


def _write_categorical(pd: Untyped, values: Untyped, out: Written, at: int) -> Description:
    if not _is_within(pd, values.categories, values.codes):
        raise Refused(_LONG_RANGE)
    out[at].append(need("pyarrow").array(values.codes))
    out.append([])
    categories = write_index(pd, values.categories, out, len(out) - 1)
    return {"ordered": values.ordered, "table": len(out) - 1, "categories": categories}


def _read_categorical(pd: Untyped, described: Description, tables: Unread, at: int) -> Untyped:
    codes = next_column(tables[at]).to_numpy(zero_copy_only=False)
    categories = read_index(
        pd, described.get("categories"), tables, table_number(described.get("table"), tables)
    )
    if not _is_within(pd, categories, codes):
        raise FormatError(f"The encoded table has {_LONG_RANGE}.")
    dtype = pd.CategoricalDtype(categories, described.get("ordered"))
    return pd.Categorical.from_codes(codes, dtype=dtype)


def table_number(at: object, tables: Unread) -> int:
    """The number of a table behind the first, as a description names it.

    Raises:
        FormatError: there is no such table.
    """
    if type(at) is not int or not 0 < at < len(tables):
        raise FormatError("A column's description names a table that there is not.")
    return at


def _write_period(pd: Untyped, values: Untyped, out: Written, at: int) -> Description:
    out[at].append(need("pyarrow").array(values.asi8))
    return {"freq": write_offset(pd, values.dtype.freq)}


def _read_period(pd: Untyped, described: Description, tables: Unread, at: int) -> Untyped:
    ordinals = next_column(tables[at]).to_numpy(zero_copy_only=False)
    dtype = pd.PeriodDtype(read_offset(pd, described.get("freq")))
    return pd.arrays.PeriodArray(ordinals, dtype=dtype)


def _write_interval(pd: Untyped, values: Untyped, out: Written, at: int) -> Description:
    left = write_array(pd, values_of(values.left), out, at)
    right = write_array(pd, values_of(values.right), out, at)
    return {"closed": values.closed, "left": left, "right": right}


def _read_interval(pd: Untyped, described: Description, tables: Unread, at: int) -> Untyped:
    left = read_array(pd, described.get("left"), tables, at)
    right = read_array(pd, described.get("right"), tables, at)
    return pd.arrays.IntervalArray.from_arrays(left, right, described.get("closed"))


def _write_string(_: Untyped, values: Untyped, out: Written, at: int) -> Description:
    out[at].append(need("pyarrow").array(values, need("pyarrow").large_string()))
    missing = "nan" if isinstance(values.dtype.na_value, float) else "na"
    return {"storage": values.dtype.storage.partition("_")[0], "missing": missing}


def _read_string(pd: Untyped, described: Description, tables: Unread, at: int) -> Untyped:
    storage, missing = described.get("storage"), described.get("missing")
    try:
        if missing == "na":
            dtype = pd.StringDtype(storage)
        else:
            dtype = pd.StringDtype(storage, na_value=need("numpy").nan)
    except TypeError as error:  # pandas before 2.3 has no `na_value`
        if storage != "pyarrow":
            raise CodecError(
                "This DataFrame has text columns of a type that came with pandas 2.3; this "
                f"reader has pandas {pd.__version__}."
            ) from error
        dtype = pd.StringDtype("pyarrow_numpy")
    # Joining one array copies it, so that the text does not keep the whole payload.
    array = need("pyarrow").concat_arrays([next_column(tables[at])])
    try:
        return dtype.__from_arrow__(array)
    except ValueError:  # pandas before 2.2 has no long strings
        return dtype.__from_arrow__(array.cast(need("pyarrow").string()))


def _write_arrow(_: Untyped, values: Untyped, out: Written, at: int) -> Description:
    array = values.__arrow_array__()
    if extension := custom_extension(array.type):
        raise Refused(f"a column of Arrow extension type {extension!r}")
    out[at].append(array)
    return {}


def _read_arrow(pd: Untyped, _: Description, tables: Unread, at: int) -> Untyped:
    pa = need("pyarrow")
    for column in tables[at]:
        owned = [pa.concat_arrays([chunk]) for chunk in column.chunks]
        return pd.arrays.ArrowExtensionArray(pa.chunked_array(owned, column.type))
    raise FormatError("The encoded table has fewer columns than its description tells of.")


def write_index(pd: Untyped, index: Untyped, out: Written, at: int) -> Description:
    """Write an index.

    Raises:
        Refused: it holds what does not travel exactly.
    """
    kind = type(index)
    if kind is pd.RangeIndex:
        span = [index.start, index.stop, index.step]
        return {"kind": "range", "range": span, "name": write_label(pd, index.name, out)}
    if kind is pd.MultiIndex:
        names = [write_label(pd, name, out) for name in index.names]
        levels = []
        for level, codes in zip(index.levels, index.codes, strict=True):
            if not _is_within(pd, level, codes):
                raise Refused(_LONG_RANGE)
            out[at].append(need("pyarrow").array(need("numpy").asarray(codes)))
            out.append([])
            behind = len(out) - 1
            levels.append([behind, write_index(pd, level, out, behind)])
        return {"kind": "multi", "levels": levels, "names": names}
    if not type_name(index).startswith("pandas."):
        raise Refused(f"an index of type {type_name(index)}")
    array = write_array(pd, values_of(index), out, at)
    freq = write_offset(pd, getattr(index, "freq", None)) if array["kind"] != "period" else None
    name = write_label(pd, index.name, out)
    return {"kind": "index", "array": array, "name": name, "freq": freq}


def read_index(pd: Untyped, described: object, tables: Unread, at: int) -> Untyped:
    """Read an index.

    Raises:
        FormatError: the description is malformed, or the table does not hold what it tells of.
    """
    match described:
        case {"kind": "range", "range": [int(start), int(stop), int(step)], "name": name}:
            return pd.RangeIndex(start, stop, step, name=read_label(pd, name, tables))
        case {"kind": "multi", "levels": list(levels), "names": list(names)}:
            codes = [next_column(tables[at]).to_numpy(zero_copy_only=False).copy() for _ in levels]
            read = [
                read_index(pd, level, tables, table_number(behind, tables))
                for behind, level in levels
            ]
            if not all(starmap(partial(_is_within, pd), zip(read, codes, strict=True))):
                raise FormatError(f"The encoded table has {_LONG_RANGE}.")
            return pd.MultiIndex(
                read, codes, names=[read_label(pd, name, tables) for name in names]
            )
        case {"kind": "index", "array": array, "name": name, "freq": freq}:
            values = read_array(pd, array, tables, at).copy()
            index = pd.Index(values, dtype=values.dtype, name=read_label(pd, name, tables))
            if freq is not None:
                index = type(index)(index, freq=read_offset(pd, freq))
            return index
    raise FormatError("An index has no description that this version knows.")


def write_label(pd: Untyped, label: Untyped, out: Written) -> object:
    """The name of an index or a Series: plain data, a tuple of labels, or what an index may hold.

    Raises:
        Refused: it is something else.
    """
    if type(label) is tuple:
        return {"tuple": [write_label(pd, item, out) for item in label]}
    if label is None or type(label) in (bool, int, float, str):
        return label
    index = pd.Index([label])
    if type(index[0]) is not type(label):
        raise Refused(f"an index, column or Series named by a value of type {type_name(label)}")
    if isinstance(label, (pd.Timestamp, pd.Timedelta)) and index[0].unit != label.unit:
        index = index.as_unit(label.unit)  # pandas before 3 makes nanoseconds of some
    out.append([])
    behind = len(out) - 1
    return {"table": behind, "array": write_array(pd, values_of(index), out, behind)}


def read_label(pd: Untyped, described: object, tables: Unread) -> object:
    """The name that `write_label` described.

    Raises:
        FormatError: the description is malformed.
    """
    match described:
        case {"tuple": list(items)}:
            return tuple(read_label(pd, item, tables) for item in items)
        case {"table": at, "array": array}:
            return pd.Index(read_array(pd, array, tables, table_number(at, tables)))[0]
    return described


#: pandas' own types: the name in descriptions, the class, and the way there and back.
_TYPES: dict[
    str,
    tuple[
        str,
        Callable[[Untyped, Untyped, Written, int], Description],
        Callable[[Untyped, Description, Unread, int], Untyped],
    ],
] = {
    "zoned": ("DatetimeTZDtype", _write_zoned, _read_zoned),
    "categorical": ("CategoricalDtype", _write_categorical, _read_categorical),
    "period": ("PeriodDtype", _write_period, _read_period),
    "interval": ("IntervalDtype", _write_interval, _read_interval),
    "string": ("StringDtype", _write_string, _read_string),
    "arrow": ("ArrowDtype", _write_arrow, _read_arrow),
}
