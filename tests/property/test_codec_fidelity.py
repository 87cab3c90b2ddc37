"""Whatever is drawn comes back as it went in, or is refused with its path.

How values compare with what the stock backend gives back is tested inside each Airflow
(`tests/airflow/inside/test_fidelity.py`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import pathlib
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from support.sameness import assert_same

from secure_xcom.codecs import decode, document, encode
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

atoms = st.one_of(
    *(st.none(), st.booleans(), st.floats(), st.text(max_size=20)),
    *(st.integers(), st.integers(-(2**80), 2**80)),
    *(st.binary(max_size=20), st.binary(max_size=5).map(bytearray)),
    st.text(max_size=8).map(lambda text: pathlib.PurePosixPath(text.replace("\0", ""))),
)
RESERVED = ("__classname__", "__id__", "__type")
keys = st.text(max_size=8).filter(lambda key: key not in RESERVED)
trees = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(keys, inner, max_size=5)
)


def raw(payload):
    return b"".join(
        memoryview(part).cast("B") for part in payload.buffers if memoryview(part).nbytes
    )


def travelled(value):
    payload = encode(value)
    return decode(Payload(payload.codec, (bytearray(raw(payload)),)))


@given(trees)
@example([[bytearray(b"\xc4")], {"a": [{}, bytearray()]}])
@example({"a": "\ud800", "b": [b"", float("nan"), 2**64]})
def test_plain_data_comes_back_exactly(value):
    assert_same(travelled(value), value)


def holds_mutable_bytes(value):
    """The same by a plain walk."""
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return type(value) in (bytearray, memoryview) or any(map(holds_mutable_bytes, inner))


mutable = st.sampled_from([bytearray(), bytearray(b"\xc4"), memoryview(b"view")])
#: Levels of one kind of container, of both, and with what the collector tracks besides lists.
looked_at = st.recursive(
    st.one_of(atoms, mutable, st.just(object())),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.lists(st.lists(inner, max_size=3), max_size=3)
        | st.lists(st.dictionaries(keys, inner, max_size=2), max_size=3)
    ),
    max_leaves=30,
)


@given(looked_at)
@example([[], [[bytearray()]], 1, "a", None, 1.5, True, b""])
@example([{"a": bytearray()}])
@example([{"a": [1, [bytearray()]]}, {"a": [2, []]}])
@example({"a": {"b": bytearray()}, "c": []})
@example([object(), [bytearray()]])
@example([[memoryview(b"")], "a"])
@example(memoryview(b"\xc4"))
def test_a_mutable_buffer_is_found_wherever_it_is(value):
    assert document._holds_mutable_bytes(value) is holds_mutable_bytes(value)


@given(
    npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, min_side=0), fill=st.nothing())
)
def test_an_array_comes_back_exactly(array):
    assert_same(travelled(array), array)
    assert_same(travelled({"a": [array]}), {"a": [array]})


@given(npst.arrays(npst.scalar_dtypes(), ()).map(lambda array: array[()]))
def test_a_scalar_comes_back_exactly(scalar):
    if isinstance(scalar, (str, bytes, np.float64)):  # Airflow's, or nobody's
        return
    assert_same(travelled([scalar]), [scalar])


def column(kind, cells):
    return st.lists(cells, min_size=3, max_size=3).map(lambda items: pd.Series(items, dtype=kind))


moments = st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))  # noqa: DTZ001
columns = st.one_of(
    column("int64", st.integers(-(2**63), 2**63 - 1)),
    column("uint8", st.integers(0, 255)),
    column("float64", st.floats()),
    column("float32", st.floats(width=32)),
    column("bool", st.booleans()),
    column("datetime64[ns]", st.none() | moments),
    column("datetime64[us, Europe/Amsterdam]", st.none() | moments),
    column("timedelta64[ns]", st.none() | st.timedeltas(dt.timedelta(-9999), dt.timedelta(9999))),
    column("Int64", st.none() | st.integers(-(2**63), 2**63 - 1)),
    column("boolean", st.none() | st.booleans()),
    column("string", st.none() | st.text(st.characters(codec="utf-8"), max_size=5)),
    column("category", st.none() | st.sampled_from("abc")),
    column(object, st.none() | st.text(st.characters(codec="utf-8"), max_size=5)),
    column(object, st.none() | st.decimals(allow_nan=False)),
    column(object, st.none() | st.dates() | st.just(float("nan")) | st.just(pd.NaT)),
    column(object, st.none() | st.times()),
    column(object, st.none() | st.uuids() | st.just(pd.NA)),
    column(object, trees),
)
labels = st.one_of(
    *(st.none(), st.integers(-9, 9), st.text(st.characters(codec="utf-8"), max_size=3)),
    st.tuples(st.integers(0, 9), st.text(st.characters(codec="utf-8"), max_size=3)),
)
indexes = st.one_of(
    st.just(pd.RangeIndex(3)),
    st.lists(st.integers(), min_size=3, max_size=3).map(lambda items: pd.Index(items, name="i")),
    st.lists(st.text(st.characters(codec="utf-8"), max_size=3), min_size=3, max_size=3).map(
        pd.Index
    ),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), min_size=3, max_size=3).map(
        pd.MultiIndex.from_tuples
    ),
    st.sampled_from(["D", "h", "MS", "W-MON", "2D"]).map(
        lambda freq: pd.date_range("2020-03-27", periods=3, freq=freq, tz="Europe/Amsterdam")
    ),
)


@given(st.lists(columns, max_size=5), indexes, st.lists(labels, min_size=5, max_size=5), trees)
def test_a_frame_comes_back_exactly(made, index, names, note):
    # A bytearray in a cell or an attribute is refused, as is what cannot be UTF-8.
    frame = pd.DataFrame(dict(enumerate(made)), index=pd.RangeIndex(3) if made else None)
    if made:
        frame.index = index
        frame.columns = pd.Index(names[: len(made)], tupleize_cols=False)
    frame.attrs = {"note": note}
    try:
        payload = encode(frame)
    except CodecError as error:
        if not re.match(r"The value cannot be encoded: \$[.{]", str(error)):
            raise
        return
    if payload.codec is CodecId.ARROW:
        assert_same(decode(payload), frame)


@given(
    st.dictionaries(
        st.text(max_size=3),
        st.one_of(
            st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
            st.lists(st.none() | st.text(max_size=5), min_size=3, max_size=3),
            st.lists(st.none() | st.binary(max_size=5), min_size=3, max_size=3),
            st.lists(st.none() | st.dates(), min_size=3, max_size=3),
            st.lists(st.lists(st.integers(0, 9), max_size=2), min_size=3, max_size=3),
        ),
        max_size=4,
    )
)
def test_a_polars_frame_comes_back_exactly(data):
    try:
        frame = pl.DataFrame(data)
    except UnicodeEncodeError:  # lone surrogates
        return
    assert_same(travelled(frame), frame)


def steps(value, path):
    """Every place in a tree, with the path to it."""
    yield path
    if isinstance(value, list):
        for at, item in enumerate(value):
            yield from steps(item, [*path, (at, f"[{at}]")])
    elif isinstance(value, dict):
        for at, (key, item) in enumerate(value.items()):
            step = f".{key}" if key.isidentifier() else f"{{{at}}}"
            yield from steps(item, [*path, (key, step)])


@given(trees, st.data())
def test_a_refusal_names_the_path_to_what_is_refused(value, data):
    path = data.draw(st.sampled_from([*steps(value, [])]))
    root = [value]
    held, last = root, 0
    for key, _ in path:
        held, last = held[last], key
    held[last] = range(1)
    with pytest.raises(CodecError) as caught:
        encode(root[0])
    written = "".join(step for _, step in path)
    assert str(caught.value).startswith(
        f"The value cannot be encoded: ${written}: a value of type builtins.range"
    )


@given(st.sampled_from([codec for codec in CodecId if codec is not CodecId.BYTES]), st.binary())
def test_junk_is_an_error_of_ours(codec, data):
    with contextlib.suppress(FormatError, CodecError):
        decode(Payload(codec, (data,)))


@given(st.binary(max_size=300))
def test_a_tree_of_junk_is_an_error_of_ours(tree):
    for codec in (CodecId.PLAIN, CodecId.SERDE):
        with contextlib.suppress(FormatError, CodecError):
            decode(Payload(codec, (len(tree).to_bytes(8, "big") + tree,)))
