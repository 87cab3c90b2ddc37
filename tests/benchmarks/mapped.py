"""How long it takes to read all values of a mapped task that lie in a distant Cloud Storage.

    uv run python tests/benchmarks/mapped.py [--count 1000] [--peer-count 100] [--json]

A fake Cloud Storage stands behind a proxy that answers after 20 ms. Into it go `--count` values of
100 KB, each of a task instance of its own, and so with a data key of its own, which a call of Cloud
KMS would unwrap (here, 20 ms too). Then all are read, as by `get_all`: by this package, and, in the
same run, by the object storage backend of apache-airflow-providers-common-io over gcsfs, which
reads one after another. The peer's time is for `--peer-count` of the values, and is
scaled to `--count`. What comes back is compared with what went in.
"""
# ruff: noqa: T201, PLC0415 - a program; Airflow is imported once its home is set

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

TESTS = Path(__file__).resolve().parents[1]
BUCKET = "xcom"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--peer-count", type=int, default=100)
    parser.add_argument("--value-bytes", type=int, default=100_000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--kms-ms", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        server = _serve(Path(scratch), wanted.latency_ms)
        try:
            figures = _measure(Path(scratch), wanted)
        finally:
            server.terminate()
            server.wait(20)
    if wanted.json:
        print(json.dumps(figures))
        return
    print(
        f"{figures['count']} values of {wanted.value_bytes} bytes, store at "
        f"{wanted.latency_ms:g} ms, keys at {wanted.kms_ms:g} ms:\n"
        f"  secure_xcom, get_all   {figures['ours_seconds']:8.2f} s\n"
        f"  common-io over gcsfs   {figures['peer_seconds']:8.2f} s "
        f"(scaled from {figures['peer_count']})\n"
        f"  ratio                  {figures['ratio']:8.1f}"
    )


def _serve(scratch: Path, latency_ms: float) -> subprocess.Popen[bytes]:
    """Start the storage and what stands before it, in processes of their own."""
    ready = scratch / "ready"
    program = TESTS / "servers" / "fault_proxy.py"
    options = ("--ready-file", ready, "--bucket", BUCKET, "--latency-ms", str(latency_ms))
    server = subprocess.Popen([sys.executable, program, *options])
    deadline = time.monotonic() + 30
    while not ready.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise SystemExit("The storage did not start.")
        time.sleep(0.05)
    os.environ |= json.loads(ready.read_text())["environment"]
    return server


def _measure(scratch: Path, wanted: argparse.Namespace) -> dict[str, float]:
    os.environ |= {
        "AIRFLOW_HOME": str(scratch / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # It would look for kinds of buckets that the server does not have, at the peer's cost.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"gs://{BUCKET}/peer",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
    }
    values = [
        {"n": n, "text": os.urandom(wanted.value_bytes // 2).hex()} for n in range(wanted.count)
    ]
    ours_seconds = _ours(scratch / "kek", values, wanted.kms_ms / 1000)
    peer_values = values[: wanted.peer_count]
    peer_seconds = _peer(peer_values) * len(values) / len(peer_values)
    return {
        "count": len(values),
        "peer_count": len(peer_values),
        "ours_seconds": ours_seconds,
        "peer_seconds": peer_seconds,
        "ratio": peer_seconds / ours_seconds,
    }


def _ours(key_file: Path, values: list[object], kms_seconds: float) -> float:
    from secure_xcom.keys.local import create_key_file
    from secure_xcom.model import Coordinate, Expected
    from secure_xcom.settings import load
    from secure_xcom.stack import build

    create_key_file(key_file)
    settings = load(
        {
            "kek_uri": f"local-kek://{key_file}",
            "store_uri": f"gs://{BUCKET}",
            "cache_max_bytes": "0",
        },
        None,
        None,
    )
    places = [Coordinate("d", "r", "mapped", n, "return_value") for n in range(len(values))]
    with ThreadPoolExecutor(16) as pool:
        rows = list(pool.map(build(settings).put, values, places))
    reads = {
        n: (row, Expected.exactly(place))
        for n, (row, place) in enumerate(zip(rows, places, strict=True))
    }
    # A new process has nothing: no connection, no key.
    stack = build(settings)
    keys = stack._sealed._keys
    keys._keks = {uri: _Distant(kek, kms_seconds) for uri, kek in keys._keks.items()}
    started = time.perf_counter()
    read = stack.get_many(reads)
    seconds = time.perf_counter() - started
    _check(list(read.values()), values)
    return seconds


class _Distant:
    """A KEK that takes as long as a service."""

    def __init__(self, kek: object, seconds: float) -> None:
        self._kek = kek
        self._seconds = seconds

    def unwrap(self, wrapped: object, aad: bytes) -> bytes:
        time.sleep(self._seconds)
        return self._kek.unwrap(wrapped, aad)


def _peer(values: list[object]) -> float:
    from airflow.providers.common.io.xcom.backend import XComObjectStorageBackend

    def push(number: int, value: object) -> object:
        where = {"dag_id": "d", "run_id": "r", "task_id": "mapped", "map_index": number}
        return XComObjectStorageBackend.serialize_value(value, key="return_value", **where)

    rows = [push(number, value) for number, value in enumerate(values)]
    if any(not str(row).startswith("gs://") for row in rows):
        raise SystemExit("The peer did not write to the storage.")
    started = time.perf_counter()
    read = [XComObjectStorageBackend.deserialize_value(SimpleNamespace(value=row)) for row in rows]
    seconds = time.perf_counter() - started
    _check(read, values)
    return seconds


def _check(read: list[object], values: list[object]) -> None:
    if read != values:
        raise SystemExit("What was read is not what was written.")


if __name__ == "__main__":
    main()
