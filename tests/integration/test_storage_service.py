"""The storage service of tests, as a process of its own: what other programs are led to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from servers.fault_proxy import Remote
from servers.gcs import make_client

from secure_xcom.stores.gcs.store import Gcs


def test_a_process_serves_and_is_steered_from_outside(tmp_path: Path):
    ready_file = tmp_path / "ready"
    script = Path(__file__).parents[1] / "servers" / "fault_proxy.py"
    process = subprocess.Popen(
        [sys.executable, script, "--ready-file", ready_file, "--bucket", "xcom"]
    )
    try:
        deadline = time.monotonic() + 30
        while not ready_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        ready = json.loads(ready_file.read_text(encoding="utf-8"))
        assert ready["environment"] == {"STORAGE_EMULATOR_HOST": ready["url"]}
        store = Gcs("gs://xcom/p", make_client=lambda _: make_client(ready["url"]))
        remote = Remote(ready["url"])
        remote.fail("upload", "status", code=503)
        stored = store.create("name", lambda: [b"sealed"], {})
        assert remote.counts() == {"upload": 2}
        remote.reset()
        program = (
            "from secure_xcom.stores import open_store\n"
            "store = open_store('gs://xcom/p')\n"
            f"blocks = store.get('name', generation='{stored.generation}', length_bytes=6,"
            f" crc32c={stored.crc32c})\n"
            "print(b''.join(blocks).decode())\n"
        )
        read = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **ready["environment"]},
            capture_output=True,
            text=True,
            check=True,
        )
        assert read.stdout == "sealed\n"
        assert remote.counts() == {"download": 1}
    finally:
        process.terminate()
        process.wait(10)
    assert process.returncode == 0
