"""Small values and holders: what of them comes back exactly, and what is refused."""

from __future__ import annotations

import datetime as dt
from collections import deque
from functools import reduce

import numpy as np
import ormsgpack
import pandas as pd
import pytest
from support.sameness import assert_same

from secure_xcom.codecs import decode, encode
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload


def test_rows_of_a_frame_come_back():
    frame = pd.DataFrame(
        {
            "when": pd.to_datetime(["2020-01-01", None]),
            "zoned": pd.to_datetime(["2020-01-01", "2020-06-01"]).tz_localize("Europe/Paris"),
            "for": pd.to_timedelta([1, 2], "s"),
            "n": pd.array([1, None], "Int64"),
        }
    )
    for rows in (frame.to_dict("records"), frame.to_dict("list"), frame.to_dict("split")):
        payload = encode(rows)
        assert payload.codec is CodecId.PLAIN
        assert_same(decode(payload), rows)


class Named(dt.tzinfo):
    def utcoffset(self, _):
        return dt.timedelta(hours=1)


REFUSED = [
    dt.time(1, fold=1),
    dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=1), "one")),
    pd.Timestamp("2020-01-01", tz=Named()),
    deque([(1, 2)]),
    deque([bytearray(b"x")]),
    np.array([{1}], dtype=object),
    reduce(lambda held, _: deque([held]), range(9), 1),
    type("Mine", (deque,), {})([1]),
    type("Mine", (complex,), {})(1),
]


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_what_would_not_come_back_exactly_is_refused(value):
    with pytest.raises(CodecError, match=r"encoded: \$\[0\]\[1\]"):
        encode([(1, value)])


def test_as_many_holders_are_written_as_are_read():
    deepest = reduce(lambda held, _: deque([held]), range(8), 1)
    assert_same(decode(encode([deepest])), [deepest])
    tree = ormsgpack.packb([1])
    for _ in range(9):
        tree = ormsgpack.packb([None, [ormsgpack.Ext(9, b"\x01" + tree)]])
    with pytest.raises(FormatError):
        decode(Payload(CodecId.PLAIN, (len(tree).to_bytes(8, "big") + tree,)))


def test_side_by_side_there_may_be_any_number_of_holders():
    value = [deque([at]) for at in range(100)]
    assert_same(decode(encode(value)), value)


def test_what_a_holder_holds_is_no_class_of_airflows():
    value = deque([{"__classname__": "builtins.tuple", "__version__": 1, "__data__": [1]}])
    assert_same(decode(encode((value,)))[0], value)
