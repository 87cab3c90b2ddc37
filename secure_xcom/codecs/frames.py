"""DataFrames, Series and indexes of pandas, exactly (`docs/codecs.md`, section 3.1)."""

from __future__ import annotations

from secure_xcom.codecs import document
from secure_xcom.codecs.columns import (
    Description,
    Unread,
    Written,
    read_array,
    read_index,
    read_label,
    table_number,
    write_array,
    write_index,
    write_label,
)
from secure_xcom.codecs.libraries import Untyped, need
from secure_xcom.codecs.objects import cell
from secure_xcom.codecs.primitives import values_of
from secure_xcom.codecs.refusal import Refused, at_path, member
from secure_xcom.errors import FormatError, SecureXComError

KINDS = frozenset(("pandas.DataFrame", "pandas.Series", "pandas.Index"))


def write(pd: Untyped, value: Untyped) -> tuple[dict[str, object], list[Untyped]] | None:
    """A description, and the Arrow tables that it tells of; None if the value is none of `KINDS`.

    Raises:
        Refused: something in it does not travel exactly; names the column.
    """
    out: Written = [[]]
    if type(value) is pd.DataFrame:
        described = {"type": "pandas.DataFrame", **_write_frame(pd, value, out)}
    elif type(value) is pd.Series:
        described = {"type": "pandas.Series", **_write_series(pd, value, out)}
    elif isinstance(value, pd.Index):
        described = {"type": "pandas.Index", "index": write_index(pd, value, out, 0)}
    else:
        return None
    pa = need("pyarrow")
    tables = [pa.table(arrays, [*map(str, range(len(arrays)))]) for arrays in out if arrays]
    return {**described, "columns_of": [*map(len, out)]}, tables


def _write_frame(pd: Untyped, frame: Untyped, out: Written) -> Description:
    with at_path(".index"):
        index = write_index(pd, frame.index, out, 0)
    out.append([])
    with at_path(".columns"):
        columns = [len(out) - 1, write_index(pd, frame.columns, out, len(out) - 1)]
    arrays = []
    for position, name in enumerate(frame.columns):
        with at_path(member(name, position)):
            arrays.append(write_array(pd, values_of(frame.iloc[:, position]), out, 0))
    return {"index": index, "columns": columns, "arrays": arrays, **_write_extras(frame)}


def _write_series(pd: Untyped, series: Untyped, out: Written) -> Description:
    with at_path(".index"):
        index = write_index(pd, series.index, out, 0)
    with at_path(".name"):
        name = write_label(pd, series.name, out)
    array = write_array(pd, values_of(series), out, 0)
    return {"index": index, "name": name, "array": array, **_write_extras(series)}


def _write_extras(value: Untyped) -> Description:
    attrs = dict(value.attrs)
    if attrs and document.pack(attrs, cell) is None:
        raise Refused("attributes that are not plain data", (".attrs",))
    return {"attrs": attrs, "unique_labels": not value.flags.allows_duplicate_labels}


def read(kind: str, described: Description, tables: list[Untyped]) -> object:
    """The DataFrame, Series or index, of its own memory.

    Raises:
        FormatError: the tables are not what the description tells of.
        CodecError: pandas is missing, or does not know a type.
    """
    pd = need("pandas")
    fault = None
    try:
        unread = _unread(described, tables)
        value = _READERS[kind](pd, described, unread)
    except (SecureXComError, MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - what pandas and Arrow raise on junk has no end
        fault = type(error).__name__
    if fault:
        raise FormatError(f"The encoded table is not what its description tells of ({fault}).")
    if any(True for arrays in unread for _ in arrays):
        raise FormatError("The encoded table has more columns than its description tells of.")
    return value


def _unread(described: Description, tables: list[Untyped]) -> Unread:
    match described.get("columns_of"):
        case list(counts) if all(type(count) is int for count in counts) and [
            count for count in counts if count
        ] == [table.num_columns for table in tables]:
            left = iter(tables)
            return [iter(next(left).columns if count else ()) for count in counts]
    raise FormatError("The encoded table is not as many tables as its description tells of.")


def _read_frame(pd: Untyped, described: Description, unread: Unread) -> object:
    index = read_index(pd, described["index"], unread, 0)
    at, labels = described["columns"]
    columns = read_index(pd, labels, unread, table_number(at, unread))
    data = {
        position: _series(pd, read_array(pd, array, unread, 0), index)
        for position, array in enumerate(described["arrays"])
    }
    # pandas copies numpy columns into blocks, so that the frame is writable and owns its memory.
    frame = pd.DataFrame(data, index=index, columns=range(len(data)), copy=True)
    frame.columns = columns
    return _read_extras(frame, described)


def _series(pd: Untyped, values: Untyped, index: Untyped) -> Untyped:
    """A Series of just this type: pandas would guess one for objects."""
    if len(values) != len(index):
        raise FormatError("A column of the encoded table is not as long as its index.")
    if isinstance(values, pd.api.extensions.ExtensionArray):
        values = values.copy()  # pandas does not copy those of a dict
    return pd.Series(values, index=index, dtype=values.dtype, copy=False)


def _read_series(pd: Untyped, described: Description, unread: Unread) -> object:
    index = read_index(pd, described["index"], unread, 0)
    series = _series(pd, read_array(pd, described["array"], unread, 0), index).copy()
    series.name = read_label(pd, described["name"], unread)
    return _read_extras(series, described)


def _read_extras(value: Untyped, described: Description) -> Untyped:
    value.attrs.update(described["attrs"])
    return value.set_flags(allows_duplicate_labels=False) if described["unique_labels"] else value


def _read_index(pd: Untyped, described: Description, unread: Unread) -> object:
    return read_index(pd, described["index"], unread, 0)


_READERS = {
    "pandas.DataFrame": _read_frame,
    "pandas.Series": _read_series,
    "pandas.Index": _read_index,
}
