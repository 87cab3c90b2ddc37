"""What one Airflow encoded, with the libraries of its day, is decoded after an upgrade."""

from __future__ import annotations

import pytest
from support.environments import DEFAULT, ROOT, new_home, provide

BOTH = """
import datetime as dt, decimal, json, pathlib, sys, uuid, zoneinfo
import numpy as np, pandas as pd, pendulum
sys.path.insert(0, sys.argv[1])
from support.frames import frames
from support.sameness import difference
from secure_xcom.codecs import decode, encode
from secure_xcom.model import CodecId, Payload

# None of these is something else on another version.
VALUES = {
    "plain": {"rows": [{"id": 1, "raw": b"x", "big": 2**70, "path": pathlib.Path("/a")}]},
    "tuple": (1, "x", None),
    "set": {"a": {1, 2}},
    "dates": [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.timedelta(1)],
    "zone": (pendulum.datetime(2020, 1, 1, tz="Europe/Amsterdam"),),
    "offset": [dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))],
    "decimal": {"m": decimal.Decimal("1.5")},
    "numbers": [np.int64(1), np.float32(1.5), np.bool_(False)],
    "array": np.arange(6).reshape(2, 3),
    "mixed": (b"x", np.arange(3), dt.date(2020, 1, 1)),
    "bytes": b"x",
}
"""
WRITE = """
def write(value):
    payload = encode(value)
    return [int(payload.codec), b"".join(map(bytes, payload.buffers)).hex()]

made = {name: write(value) for name, value in VALUES.items()}
made |= {f"frame {name}": write(frame) for name, frame in frames().items()}
pathlib.Path(sys.argv[2]).write_text(json.dumps(made))
"""
READ = """
loose = {"check_dtype": False, "check_index_type": False, "check_column_type": False}
checked = 0

def in_ns(frame):
    # Text was an object, and nanoseconds were the unit of times, before pandas 3.
    for at, dtype in enumerate(frame.dtypes):
        if dtype.kind == "M":
            frame.isetitem(at, frame.iloc[:, at].dt.as_unit("ns"))
    return frame

for name, (codec, data) in json.loads(pathlib.Path(sys.argv[2]).read_text()).items():
    value = decode(Payload(CodecId(codec), (bytes.fromhex(data),)))
    kind, _, of = name.partition(" ")
    if kind == "frame" and of in ("categories", "intervals", "text"):
        # The same values, in categories of text and intervals of times that were of other types.
        assert value.astype(str).shape == frames()[of].shape
    elif kind == "frame":
        pd.testing.assert_frame_equal(in_ns(value), in_ns(frames()[of]), check_freq=True, **loose)
    else:
        assert difference(value, VALUES[name]) is None, (name, value)
    checked += 1
print(checked)
"""


@pytest.mark.parametrize("environment", ["2.10.5", "2.11.2", "3.1.8"], indirect=True)
def test_what_an_older_airflow_encoded_is_decoded_after_an_upgrade(home, tmp_path):
    file = tmp_path / "made.json"
    home.run("python", "-c", BOTH + WRITE, ROOT / "tests", file)
    newer = new_home(provide(DEFAULT), tmp_path / "newer")
    done = newer.run("python", "-c", BOTH + READ, ROOT / "tests", file)
    assert int(done.stdout.splitlines()[-1]) > 50
