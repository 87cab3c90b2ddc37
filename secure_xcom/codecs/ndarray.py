"""numpy arrays, in the NPY format 1.0 or 2.0 without pickles (NEP 1)."""

from __future__ import annotations

import contextlib
import io
import math

from secure_xcom.codecs.libraries import Untyped, made_by, need
from secure_xcom.codecs.refusal import Refused
from secure_xcom.codecs.source import Source, as_bytes_view
from secure_xcom.errors import FormatError
from secure_xcom.model import Buffer

#: `bool`, signed, unsigned, float, complex, timedelta, datetime, bytes, text, structured.
_KINDS = frozenset("biufcmMSUV")
_MAGIC_BYTES = 8
#: Length of the header's length, by major version.
_LENGTH_BYTES = {1: 2, 2: 4}
#: Longest header. The headers of ordinary arrays have 118 bytes.
_HEADER_BYTES_MAX = 10_000


def encode(value: object) -> list[Buffer] | None:
    """An array's header and its own memory; None if the value is no array.

    Only an array that is contiguous in neither order is copied.

    Raises:
        Refused: its elements are Python objects, or of a type that NPY does not keep.
    """
    np = made_by(value, "numpy")
    if np is None or type(value) is not np.ndarray:
        return None
    array: Untyped = value
    if array.dtype.hasobject or array.dtype.kind not in _KINDS:
        raise Refused(
            f"a numpy array of type {array.dtype.kind!r} holds Python objects, which do not travel "
            "as an array; return `array.tolist()`, or an array of a numeric type"
        )
    if array.size and not array.dtype.itemsize:
        raise Refused("a numpy array whose elements have no bytes; return its shape")
    if not array.flags.c_contiguous and not array.flags.f_contiguous:
        array = np.ascontiguousarray(array)
    head = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array)
    if np.lib.format.descr_to_dtype(described["descr"]) != array.dtype:
        raise Refused("a numpy array of a type that the NPY format does not keep")
    try:
        np.lib.format.write_array_header_1_0(head, described)
    except ValueError as error:
        raise Refused("a numpy array whose field names the NPY format 1.0 does not keep") from error
    return [head.getvalue(), _memory(np, array)]


def _memory(np: Untyped, array: Untyped) -> memoryview:
    """The elements' bytes in the order in which they lie, not copied."""
    if not array.nbytes:
        return memoryview(b"")
    straight = array if array.flags.c_contiguous else array.T
    return as_bytes_view(straight.reshape(-1).view(np.uint8))


def decode(source: Source) -> object:
    """An array of its own memory, writable, in the order in which it was encoded.

    Raises:
        FormatError: it is not an array in NPY format, or not exactly one.
        CodecError: numpy is missing.
    """
    np = need("numpy")
    shape, fortran_order, dtype = _header(np, source)
    if any(type(length) is not int or length < 0 for length in shape):
        raise FormatError("The encoded array declares a shape that is not of lengths.")
    size = math.prod(shape)
    # Elements without bytes could be any number of them.
    if source.left_bytes != size * dtype.itemsize or (size and not dtype.itemsize):
        raise FormatError("The encoded array's length is not the one that its header declares.")
    try:
        array = np.empty(shape, dtype, order="F" if fortran_order else "C")
    except ValueError:
        raise FormatError("The encoded array has a shape that numpy does not know.") from None
    target = _memory(np, array)
    start = 0
    for piece in source.pieces(source.left_bytes):
        target[start : start + len(piece)] = piece
        start += len(piece)
    return array


def _header(np: Untyped, source: Source) -> tuple[tuple[int, ...], bool, Untyped]:
    magic = bytes(source.take(_MAGIC_BYTES))
    length_bytes = _LENGTH_BYTES.get(magic[6])
    if magic[:6] != b"\x93NUMPY" or length_bytes is None or magic[7]:
        raise FormatError("The encoded array is not in NPY format 1.0 or 2.0.")
    length = source.take(length_bytes)
    head = io.BytesIO(bytes(length) + bytes(source.take(int.from_bytes(length, "little"))))
    read = (
        np.lib.format.read_array_header_1_0
        if length_bytes == _LENGTH_BYTES[1]
        else np.lib.format.read_array_header_2_0
    )
    fields = None
    with contextlib.suppress(Exception):  # numpy evaluates a literal: junk gives many classes
        fields = read(head, max_header_size=_HEADER_BYTES_MAX)
    if fields is None:
        raise FormatError("The encoded array's header is not one that numpy reads here.")
    shape, fortran_order, dtype = fields
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise FormatError("The encoded array declares elements that this format does not allow.")
    return shape, fortran_order, dtype
