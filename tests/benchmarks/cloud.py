"""A Cloud Storage and a Cloud KMS for a benchmark, near or far, in processes of their own.

The near link leads straight to the servers. The far one has a round trip of 20 ms, paid once by
each connection and once by each request, and 100 MB/s in each direction, by the test proxy; calls
of KMS take 20 ms more, too. The counted link is the proxy without distance, which counts.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Self
from urllib.parse import quote

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from names import FAR, NEAR  # noqa: E402 - the tests are found there
from servers.fault_proxy import Remote as RemoteProxy  # noqa: E402 - it is found there
from servers.kms import KEY, URI  # noqa: E402
from servers.wire import Remote  # noqa: E402

BUCKET = "xcom"
KEK_URI = URI
BUCKET_VARIABLE = "XCOM_BACKEND_DATA_GCS_NAME"
CONNECTION = "google_cloud_storage_default"
LATENCY_SECONDS = 0.020
BYTES_PER_SECOND = 100e6


class Cloud:
    """Both services; `with` starts and stops them. The environment leads this process there."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-")
        self.folder = Path(self._folder.name)
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            proxy = self._start("fault_proxy", "--bucket", BUCKET)
            kms = self._start("kms", "--key", KEY)
            storage, ready = self._wait(proxy), self._wait(kms)
        except BaseException:
            self.__exit__()
            raise
        self.near_url, self.proxy_url = storage["server_url"], storage["url"]
        self.proxy = RemoteProxy(self.proxy_url)
        self.kms = Remote(ready["address"])
        os.environ |= ready["environment"]
        self.link(NEAR)
        return self

    def __exit__(self, *_exc: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(20)
        self._folder.cleanup()

    def link(self, link: str) -> None:
        """Be near or far from now on, for those who connect anew."""
        os.environ["STORAGE_EMULATOR_HOST"] = self.near_url if link == NEAR else self.proxy_url
        self._far = link == FAR
        self.proxy.shape(*(LATENCY_SECONDS, BYTES_PER_SECOND) if self._far else (0.0, None))
        self.calls()

    def calls(self) -> Counter[str]:
        """What was called since the last time: of KMS by method, of storage by kind of request."""
        found = Counter(
            {f"KMS {name}": count for name, count in self.kms.traffic.calls().items()}
        ) + Counter({f"storage {kind}": count for kind, count in self.proxy.counts().items()})
        self.kms.traffic.reset()
        self.proxy.reset()
        if self._far:
            for method in ("Encrypt", "Decrypt"):
                self.kms.traffic.delay(method, LATENCY_SECONDS)
        return found

    def add_bucket(self) -> str:
        """Make another bucket, and give its name."""
        name = f"{BUCKET}-{secrets.token_hex(4)}"
        request = urllib.request.Request(  # noqa: S310 - our own
            f"{self.near_url}/storage/v1/b?project=test-project",
            json.dumps({"name": name}).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=60).close()  # noqa: S310
        return name

    def empty(self) -> None:
        """Delete all objects of the one bucket, or the server's memory would fill up."""
        path = f"{self.near_url}/storage/v1/b/{BUCKET}/o"
        with urllib.request.urlopen(path, timeout=60) as answer:  # noqa: S310 - our own
            names = [item["name"] for item in json.load(answer).get("items", ())]
        for name in names:
            request = urllib.request.Request(  # noqa: S310
                f"{path}/{quote(name, safe='')}", method="DELETE"
            )
            urllib.request.urlopen(request, timeout=60).close()  # noqa: S310

    def _start(self, program: str, *options: str) -> Path:
        ready = self.folder / program / "ready"
        ready.parent.mkdir()
        command = [sys.executable, TESTS / "servers" / f"{program}.py", "--ready-file", ready]
        self._processes.append(subprocess.Popen([*command, *options]))
        return ready

    def _wait(self, ready: Path) -> dict[str, object]:
        deadline = time.monotonic() + 60
        while not ready.exists():
            ended = [one for one in self._processes if one.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise SystemExit("A test server did not start.")
            time.sleep(0.02)
        return json.loads(ready.read_text(encoding="utf-8"))
