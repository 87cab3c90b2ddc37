"""What pandas shares with numpy and Arrow: columns of numbers, times and truth values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from secure_xcom.codecs.libraries import Untyped, need
from secure_xcom.codecs.refusal import Refused
from secure_xcom.errors import FormatError

#: numpy types that Arrow has as well, with the same bytes.
_NATIVE = frozenset(
    ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")
) | {f"<{kind}8[{unit}]" for kind in "mM" for unit in ("s", "ms", "us", "ns")}
_RAW_KINDS = frozenset("biufcmM")
_INTEGERS = ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
#: pandas' own types of numbers, and the class of their arrays.
MASKED = {
    **dict.fromkeys(_INTEGERS, "IntegerArray"),
    **dict.fromkeys(("Float32", "Float64"), "FloatingArray"),
    "boolean": "BooleanArray",
}
_MISMATCH = "A column is not of the type that its description names."


def values_of(holder: Untyped) -> Untyped:
    """The array of a Series or an Index: numpy's where it is one, else pandas' own."""
    return holder.array if hasattr(holder.dtype, "construct_array_type") else holder.to_numpy()


def next_column(arrays: Iterator[Untyped]) -> Untyped:
    """The next column, in one piece.

    Raises:
        FormatError: there is none left; or it is dictionary- or run-encoded, of views or nested,
            or has more rows than bits: such a column may take more once it is taken out of Arrow.
    """
    for array in arrays:
        if not _is_flat(array.type):
            raise FormatError(_MISMATCH)
        if len(array) > 8 * array.nbytes:
            raise FormatError("A column of the encoded table claims rows that it does not hold.")
        return array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    raise FormatError("The encoded table has fewer columns than its description tells of.")


def _is_flat(arrow_type: Untyped) -> bool:
    types = need("pyarrow").types
    return bool(
        types.is_primitive(arrow_type)
        # pandas before 2.2 has no long texts.
        or types.is_string(arrow_type)
        or types.is_large_string(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
    )


def of_type(values: Untyped, dtype: Untyped) -> Untyped:
    """The array, if it is of that type.

    Raises:
        FormatError: it is of another.
    """
    if values.dtype != dtype:
        raise FormatError(_MISMATCH)
    return values


def write_numpy(values: Untyped, arrays: list[Untyped]) -> Mapping[str, object]:
    """Write a numpy array of numbers, times or truth values; not copied where Arrow has its type.

    Raises:
        Refused: it is of another type.
    """
    np, pa = need("numpy"), need("pyarrow")
    dtype = values.dtype
    if dtype.str in _NATIVE:
        arrays.append(pa.array(values, from_pandas=False))
    elif dtype.kind in _RAW_KINDS:
        raw = pa.py_buffer(np.ascontiguousarray(values).view(np.uint8))
        arrays.append(
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(dtype.itemsize), len(values), [None, raw]
            )
        )
    else:
        raise Refused(f"a column of numpy type {dtype.str!r}")
    return {"dtype": dtype.str, "kind": "numpy"}


def read_numpy(name: str, arrays: Iterator[Untyped]) -> Untyped:
    """Read what `write_numpy` wrote.

    Raises:
        FormatError: it is not of the type that it declares.
    """
    array = next_column(arrays)
    np, pa = need("numpy"), need("pyarrow")
    dtype = np.dtype(name)
    if array.null_count and dtype.kind not in "mM":
        raise FormatError(_MISMATCH)
    if name not in _NATIVE and array.type == pa.binary(dtype.itemsize):
        values = np.frombuffer(array.buffers()[1] or b"", dtype)
        return values[array.offset : array.offset + len(array)]
    return of_type(array.to_numpy(zero_copy_only=False), dtype)


def read_masked(pd: Untyped, name: str, arrays: Iterator[Untyped]) -> Untyped:
    """Read a column of one of pandas' own types of numbers, which may have gaps.

    Raises:
        FormatError: it is not of the type that it declares.
    """
    array = next_column(arrays)
    mask = array.is_null().to_numpy(zero_copy_only=False)
    values = array.fill_null(False if name == "boolean" else 0).to_numpy(zero_copy_only=False)
    return of_type(getattr(pd.arrays, MASKED[name])(values, mask), name)


def custom_extension(arrow_type: Untyped) -> str | None:
    """The name of an extension type that is not Arrow's own, at or within a type; None if none."""
    pa = need("pyarrow")
    if isinstance(arrow_type, pa.BaseExtensionType):
        name = str(arrow_type.extension_name)
        own = name.startswith("arrow.") and name != "arrow.py_extension_type"
        return None if own else name
    if pa.types.is_dictionary(arrow_type):
        return custom_extension(arrow_type.value_type)
    within = (arrow_type.field(at).type for at in range(arrow_type.num_fields))
    return next(filter(None, map(custom_extension, within)), None)
