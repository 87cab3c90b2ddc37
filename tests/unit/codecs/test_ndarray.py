"""numpy arrays: every numeric type, in both orders, in the NPY format that others read."""

from __future__ import annotations

import io

import numpy as np
import pytest
from support.sameness import assert_same

from secure_xcom.codecs import decode, encode
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

TYPES = (
    *("?", "i1", "<i2", ">i2", "<i4", ">i8", "u1", "<u2", "<u4", "<u8"),
    *("<f2", "<f4", "<f8", ">f8", "g", "<c8", "<c16", "G"),
    *("<M8[D]", "<M8[ns]", ">M8[us]", "<M8", "<m8[s]", "<m8[25us]", "<m8"),
    *("S3", "<U3", ">U2", "V4"),
)
RECORD = np.dtype([("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "S2")])])


def raw(value):
    return b"".join(encode(value).buffers)


@pytest.mark.parametrize("dtype", [*TYPES, RECORD, np.dtype("i1,f8", align=True)], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 3), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_comes_back_with_all_that_it_is(dtype, shape, order):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    filled = np.frombuffer(bytes(at % 2 for at in range(size)) or b"", dtype)
    array = np.array(filled.reshape(shape, order=order), order=order)
    payload = encode(array)
    assert payload.codec is CodecId.NUMPY
    restored = decode(payload)
    assert_same(restored, array)
    assert restored.flags.c_contiguous == array.flags.c_contiguous
    assert restored.flags.writeable
    assert restored.flags.owndata


@pytest.mark.parametrize(
    "array",
    [
        np.arange(10)[::2],
        np.arange(10)[::-1],
        np.arange(12).reshape(3, 4)[:, 1:3],
        np.broadcast_to(np.arange(3), (2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    ],
    ids=["steps", "backwards", "window", "broadcast", "transposed"],
)
def test_a_view_comes_back_as_an_array(array):
    assert_same(decode(encode(array)), np.array(array, order="C"))


def test_the_bytes_are_those_of_numpy_itself():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    assert raw(array) == file.getvalue()
    assert_same(np.load(io.BytesIO(raw(array)), allow_pickle=False), array)


def test_an_array_in_npy_2_is_read_as_well():
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(3), version=(2, 0))
    assert_same(decode(Payload(CodecId.NUMPY, (file.getvalue(),))), np.arange(3))


def test_memory_is_not_copied():
    for array in (np.arange(1000), np.asfortranarray(np.arange(1000).reshape(10, 100))):
        assert np.shares_memory(np.frombuffer(encode(array).buffers[1], np.uint8), array)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a", object()], dtype=object),
        np.array([(1, None)], dtype=[("a", "i4"), ("b", object)]),
        np.ma.masked_array([1, 2], [True, False]),
        np.array([(1,)], dtype=[("a", "i4")]).view(np.recarray),
    ],
    ids=["objects", "objects in records", "masked", "recarray"],
)
def test_an_array_that_would_not_come_back_is_refused(array):
    with pytest.raises(CodecError, match=r"^The value cannot be encoded: \$: .*numpy"):
        encode(array)


def test_new_text_is_refused():
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("numpy 1")
    with pytest.raises(CodecError, match="numpy array of type 'T'"):
        encode(np.array(["a"], dtype=np.dtypes.StringDType()))


def header(text):
    padded = text.encode("latin1")
    return b"\x93NUMPY\x01\0" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPX\x01\0",
        b"\x93NUMPY\x03\0\x10\0\0\0",
        b"\x93NUMPY\x01\x01\x10\0",
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}") + bytes(8),
        header("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}") + bytes(8),
        header("{'descr': 'i4', 'fortran_order': False, 'shape': (1,)}") + bytes(5),
        header("{'descr': 'i4', 'fortran_order': False, 'shape': (1,)}") + bytes(3),
        header("{'descr': 'i4', 'fortran_order': 0, 'shape': (1,)}") + bytes(4),
        header("{'descr': 'i4', 'shape': (1,)}") + bytes(4),
        header("{'descr': 'i4', 'fortran_order': False, 'shape': (-1,)}"),
        header("{'descr': 'i4', 'fortran_order': False, 'shape': 1}") + bytes(4),
        header("__import__('os').abort()"),
        header("(" * 5000),
        header("{'descr': 'i4', 'fortran_order': False, 'shape': (1,)}\0") + bytes(4),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}" + " " * 20_000),
    ],
)
def test_what_is_no_array_is_refused(data):
    with pytest.raises(FormatError):
        decode(Payload(CodecId.NUMPY, (data,)))
