"""A task's time-out in a batch whose reads stall: it comes through, and its process ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from secure_xcom.keys.local import create_key_file

PROGRAM = """
import signal, sys, time
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import build

kek_uri, store_uri, ready, go, kind = sys.argv[1:]
settings = load({"kek_uri": kek_uri, "store_uri": store_uri, "threshold_bytes": "0"}, None, None)
reads = {}
for number in range(40):
    where = Coordinate("d", "r", "t", number, "k")
    reads[number] = build(settings).put(number, where), Expected.exactly(where)
open(ready, "w").close()
while not __import__("os").path.exists(go):
    time.sleep(0.01)

class AirflowTaskTimeout(BaseException):
    pass

mine = {"TimeoutError": TimeoutError, "BaseException": AirflowTaskTimeout}[kind]("mine")

def handle(*_):
    raise mine

signal.signal(signal.SIGALRM, handle)
signal.alarm(2)
started = time.monotonic()
try:
    build(settings).get_many(reads)
except BaseException as error:
    print(error is mine, round(time.monotonic() - started, 1), flush=True)
"""


@pytest.mark.parametrize("kind", ["TimeoutError", "BaseException"])
def test_a_time_out_ends_a_stalled_batch_and_its_process(gcs_proxy, bucket, tmp_path, kind):
    create_key_file(tmp_path / "kek")
    ready, go = tmp_path / "ready", tmp_path / "go"
    arguments = (f"local-kek://{tmp_path}/kek", f"gs://{bucket}/xcom", ready, go, kind)
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
        env=os.environ | gcs_proxy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not ready.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        gcs_proxy.fail("download", "stall", times=1_000, seconds=100)
        started = time.monotonic()
        go.touch()
        said, complaints = process.communicate(timeout=130)
        seconds = time.monotonic() - started
    assert process.returncode == 0, complaints
    came_through, left_after_seconds = said.split()
    assert came_through == "True"
    assert float(left_after_seconds) < 4
    assert seconds < 10
    assert gcs_proxy.counts()["download"] <= 32
