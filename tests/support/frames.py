"""DataFrames of every kind that travels, for the pandas that is installed."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa

UNITS = ("s", "ms", "us", "ns")
NUMBERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "f16")


def _objects(*cells):
    return pd.Series(cells, dtype=object)


def frames():
    """Give each by name."""
    made = {
        "empty": pd.DataFrame(),
        "no columns": pd.DataFrame(index=[1, 2, 3]),
        "no rows": pd.DataFrame(
            {"a": pd.Series([], dtype="int64"), "b": _objects(), "c": pd.to_datetime([])}
        ),
        "basic": pd.DataFrame(
            {"i": [1, 2], "f": [1.5, np.nan], "s": ["a", "é\0😀"], "b": [True, False]}
        ),
        "numbers": pd.DataFrame({kind: np.array([0, 1, 2], dtype=kind) for kind in NUMBERS}),
        "big-endian numbers": pd.DataFrame(
            {"a": np.array([1, 2], dtype=">i4"), "b": np.array([1, 2], dtype=">f8")}
        ),
        "every second row": pd.DataFrame(np.arange(12).reshape(4, 3)[::2]),
        "times": pd.DataFrame(
            {unit: pd.Series(["2020-01-01", None]).astype(f"datetime64[{unit}]") for unit in UNITS}
            | {f"d{unit}": pd.Series(np.array([1, "NaT"], f"m8[{unit}]")) for unit in UNITS}
        ),
        "zones": pd.DataFrame(
            {
                "a": pd.date_range(
                    "2020-03-29", periods=3, freq="h", tz=zoneinfo.ZoneInfo("Europe/Amsterdam")
                ),
                "b": pd.date_range("2020", periods=3, tz="UTC"),
                "c": pd.date_range("2020", periods=3, tz=dt.timezone(dt.timedelta(minutes=-90))),
                "d": [pd.Timestamp("2020", tz="Asia/Tokyo"), pd.NaT, pd.NaT],
            }
        ),
        "categories": pd.DataFrame(
            {
                "a": pd.Categorical(["a", None, "b"], categories=["b", "a", "z"], ordered=True),
                "b": pd.Categorical([3, 1, 3]),
                "c": pd.Categorical(pd.date_range("2020", periods=3)),
            },
            index=pd.CategoricalIndex(["x", "y", "x"], name="c"),
        ),
        "gaps": pd.DataFrame(
            {
                "i": pd.array([1, None], dtype="Int8"),
                "u": pd.array([2**64 - 1, None], dtype="UInt64"),
                "f": pd.array([1.5, None], dtype="Float32"),
                "b": pd.array([True, None], dtype="boolean"),
                "n": pd.arrays.FloatingArray(np.array([np.nan, 1]), np.array([False, True])),
            }
        ),
        "text": pd.DataFrame(
            {
                kind: pd.array(["x", None, ""], dtype=kind)
                for kind in ("string", "string[python]", "string[pyarrow]")
            }
            | {"plain": ["x", None, ""], "object": _objects("x", None, "")}
        ),
        "arrow types": pd.DataFrame(
            {
                "i": pd.array([1, None], dtype="int64[pyarrow]"),
                "l": pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
                "d": pd.array([decimal.Decimal("1.20"), None], pd.ArrowDtype(pa.decimal128(5, 2))),
            }
        ),
        "periods": pd.DataFrame(
            {"m": [pd.Period("2020-01", "M"), pd.NaT, pd.Period("2021-02", "M")]},
            index=pd.period_range("2020", periods=3, freq="Q"),
        ),
        "intervals": pd.DataFrame(
            {
                "cut": pd.cut([1, 5, 9, np.nan], [0, 5, 10]),
                "both": pd.arrays.IntervalArray.from_breaks([0, 1, 2, 3, 4], closed="both"),
                "times": pd.arrays.IntervalArray.from_breaks(
                    pd.date_range("2020", periods=5, tz="UTC")
                ),
            }
        ),
        "objects": pd.DataFrame(
            {
                "mixed": _objects(1, "a", None, 2.5, float("nan"), b"x", True, [1, {"a": None}]),  # noqa: FBT003
                "long": _objects(*(2**100 + at for at in range(8))),
                "array": _objects(*(np.arange(at) for at in range(8))),
                "dict": _objects(*({"at": at} for at in range(8))),
            }
        ),
        "missing objects": pd.DataFrame(
            {
                "text": _objects("a", np.nan, None, pd.NA, pd.NaT),
                "nan": _objects("a", np.nan, "b", np.nan, "c"),
                "none": _objects(None, None, None, None, None),
                "any": _objects(np.nan, None, pd.NA, 1, "x"),
            }
        ),
        "typed objects": pd.DataFrame(
            {
                "date": _objects(dt.date(2020, 1, 1), None),
                "time": _objects(dt.time(1, 2, 3, 4), None),
                "far": _objects(dt.datetime(9999, 12, 31), None),  # noqa: DTZ001
                "span": _objects(dt.timedelta(1, 2, 3), None),
                "money": _objects(decimal.Decimal("1.20"), decimal.Decimal("1E+30")),
                "id": _objects(uuid.UUID(int=7), None),
                "blob": _objects(b"\0a", None),
            }
        ),
        "numbered columns": pd.DataFrame(np.arange(6).reshape(2, 3), columns=[5, 1, 9]),
        "duplicate columns": pd.DataFrame([[1, "x", 2.0]], columns=["a", "a", "b"]),
        "mixed columns": pd.DataFrame([[1, "x", 2.0]], columns=["a", 3, None]),
        "times for columns": pd.DataFrame(
            np.ones((2, 3)), columns=pd.date_range("2020", periods=3, name="day")
        ),
        "levels of columns": pd.DataFrame(
            np.ones((2, 4)),
            columns=pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["l", None]),
        ),
        "levels of rows": pd.DataFrame(
            {"v": range(4)},
            index=pd.MultiIndex.from_product(
                [["a", "b"], pd.date_range("2020", periods=2, tz="Europe/Paris")],
                names=["l", ("a", 1)],
            ),
        ),
        "named rows": pd.DataFrame({"v": [1, 2]}, index=pd.Index([9, 8], name="id", dtype="int32")),
        "ranged rows": pd.DataFrame({"v": [1, 2]}, index=pd.RangeIndex(10, 30, 10, name="r")),
        "interval rows": pd.DataFrame({"v": [1, 2]}, index=pd.IntervalIndex.from_breaks([0, 1, 2])),
        "spans for rows": pd.DataFrame(
            {"v": range(5)}, index=pd.timedelta_range("1h", periods=5, freq="2h")
        ),
    }
    for freq in ("D", "h", "MS", "W-TUE", "B", "QS-FEB"):
        index = pd.date_range("2020-03-27", periods=5, freq=freq, name="when")
        made[f"every {freq}"] = pd.DataFrame({"v": range(5)}, index=index)
        zoned = pd.date_range("2020-03-27", periods=5, freq=freq, tz="Europe/Amsterdam")
        made[f"every {freq}, zoned"] = pd.DataFrame({"v": range(5)}, index=zoned)
    month_end = pd.date_range("2020", periods=5, freq=pd.offsets.MonthEnd(2))
    made["every other month's end"] = pd.DataFrame({"v": range(5)}, index=month_end)
    made["attributes"] = pd.DataFrame({"a": [1]})
    made["attributes"].attrs = {"source": "x", "rows": [1, 2**70, {"raw": b"\0"}]}
    made["unique labels"] = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    return made


def refused():
    """Give DataFrames that do not travel, with the path that the error names."""
    mixed_zones = _objects(dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None)
    return {
        "an object": (pd.DataFrame({"a": [1, 2], "b": [1, object()]}), "$.b[1]"),
        "a sparse column": (pd.DataFrame({"x": pd.arrays.SparseArray([0, 1])}), "$.x"),
        "a card number for a column": (
            pd.DataFrame({"a": [1], "4111 1111 1111 1111": [object()]}),
            "${1}[0]",
        ),
        "a zoned time among objects": (
            pd.DataFrame({"when": mixed_zones, "x": _objects(object(), 1)}),
            "$.when[0]",
        ),
    }
