"""An HTTP proxy in front of fake-gcs-server: counts, faults, distance, and what the server lacks.

In a test:

    with GcsServer() as gcs, FaultProxy(gcs.url) as proxy:
        store = Gcs("gs://bucket", make_client=proxy.make_client)
        proxy.fail("download", "truncate", after_bytes=1000)
        ...
        assert proxy.counts() == {"download": 2}

As a process: `python tests/servers/fault_proxy.py --ready-file FILE --bucket xcom` starts a server
and a proxy, with `--latency-ms 20 --megabytes-per-second 100` a distant one; the file gets a JSON
object with `url`, `server_url` and `environment`. Such a proxy is steered by HTTP, see `Remote`.

With `tls=True` it speaks TLS as the service does; a client that has `FaultProxy.environment`
trusts it (`REQUESTS_CA_BUNDLE`), and another does not.

Kinds of request: `upload` (one request), `start`, `part`, `status` and `cancel` (of a resumable
upload), `download`, `stat`, `list`, `delete`, `bucket`, `other`. And `connection`: a new one,
before anything is said on it; its faults are `stall`, `reset`, and `hang_up`, which closes it in
order.

Faults:

- `status`: answers `code`, once the request has been read.
- `refuse`: answers `code` at once and hangs up, as front ends do that are overrun.
- `reset`: reads `after_bytes` of the body and resets the connection; nothing reaches the server.
- `lose_answer`: the server does what it is asked, and the answer is lost in a reset.
- `truncate`: answers with only `after_bytes` of the body, and hangs up.
- `cut`: answers with only `after_bytes` of the body, as if that were all of it.
- `unnamed`: leaves out the header `Location`.
- `drip`: answers a byte at a time, head and body, one each `seconds`.
- `drip_body`: the same, once the head and `after_bytes` of the body are out.
- `stall`: reads no more and says nothing, for `seconds`, and hangs up.
- `corrupt`: flips a bit of the answer's body at `after_bytes`.
- `corrupt_upload`: flips a bit of the request's body at `after_bytes`.
- `keep_part`: keeps only `after_bytes` of a part.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import socket
import ssl
import struct
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.certificate import Certificate
from servers.gaps import Answer, Gaps, error
from servers.gcs import GcsServer, make_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.cloud.storage import Client

_BLOCK_BYTES = 256 * 1024
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
_CONTROL = "/proxy/"


@dataclass
class Fault:
    """What happens to the next `times` requests of a kind, after `skip` that pass."""

    kind: str
    what: str
    times: int = 1
    skip: int = 0
    after_bytes: int = 0
    code: int = 503
    seconds: float = 0.0
    #: What `status` says besides, in the service's words.
    reason: str = ""


@dataclass
class Seen:
    """A request as it came, with the first block of its body."""

    kind: str
    path: str
    headers: dict[str, str]
    head: bytes = b""


class Link:
    """One direction of a line with so many bytes a second, shared by all who send."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, count: int) -> None:
        """Take as long as `count` bytes take."""
        if not self._bytes_per_second:
            return
        with self._lock:
            start = max(self._free_at, time.monotonic())
            self._free_at = start + count / self._bytes_per_second
            wait = self._free_at - time.monotonic()
        if wait > 0:
            time.sleep(wait)


class FaultProxy:
    """The proxy, on a free port of the loopback.

    Args:
        upstream: the URL of fake-gcs-server.
        latency_seconds: a round trip, paid once by each connection and once by each request.
        bytes_per_second: of the line, in each direction; None for no bound.
        tls: whether it speaks TLS.
    """

    def __init__(
        self,
        upstream: str,
        *,
        tls: bool = False,
        latency_seconds: float = 0.0,
        bytes_per_second: float | None = None,
    ) -> None:
        self.upstream = upstream
        self.latency_seconds = latency_seconds
        self.up, self.down = Link(bytes_per_second), Link(bytes_per_second)
        self.gaps = Gaps(upstream)
        #: Members that the bucket is said to have, in the place of its own or besides.
        self.bucket: dict[str, object] = {}
        #: Headers that all answers have, in the place of their own.
        self.headers: dict[str, str] = {}
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._seen: list[Seen] = []
        self._connections = 0
        self._server = _Server(self)
        self.scheme = "https" if tls else "http"
        self.url = f"{self.scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._directory = tempfile.TemporaryDirectory(prefix="fault-proxy-")
        self._roots = Path(self._directory.name) / "roots.pem"
        self.context: ssl.SSLContext | None = None
        if tls:
            certificate = Certificate("127.0.0.1")
            self._roots.write_bytes(certificate.pem)
            self.context = certificate.server_context()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What leads Google's client, and gcsfs, of another process here."""
        environment = {"STORAGE_EMULATOR_HOST": self.url}
        if self.context:
            environment["REQUESTS_CA_BUNDLE"] = str(self._roots)
        return environment

    def make_client(self, _credentials: object = None) -> Client:
        """Google's own client, led here."""
        return make_client(self.url)

    def shape(self, latency_seconds: float, bytes_per_second: float | None) -> None:
        """Become as distant as that from now on."""
        self.latency_seconds = latency_seconds
        self.up, self.down = Link(bytes_per_second), Link(bytes_per_second)

    def fail(self, kind: str, what: str, **details: float | str) -> None:
        """Disturb the next requests of that kind; the module says how."""
        with self._lock:
            self._faults.append(Fault(kind, what, **details))

    def counts(self) -> dict[str, int]:
        """How many requests of each kind came."""
        with self._lock:
            return dict(Counter(seen.kind for seen in self._seen))

    def connections(self) -> int:
        """How many connections came."""
        with self._lock:
            return self._connections

    def seen(self, kind: str) -> list[Seen]:
        """The requests of that kind, in order."""
        with self._lock:
            return [seen for seen in self._seen if seen.kind == kind]

    def reset(self) -> None:
        """Forget requests and faults."""
        with self._lock:
            self._seen.clear()
            self._faults.clear()
            self._connections = 0

    def note(self, seen: Seen) -> Fault | None:
        """Count a request; the fault that it meets."""
        with self._lock:
            self._seen.append(seen)
            return self._fault(seen.kind)

    def note_connection(self) -> Fault | None:
        """Count a connection; the fault that it meets."""
        with self._lock:
            self._connections += 1
            return self._fault("connection")

    def _fault(self, kind: str) -> Fault | None:
        for fault in self._faults:
            if fault.kind != kind or not fault.times:
                continue
            if fault.skip:
                fault.skip -= 1
                return None
            fault.times -= 1
            return fault
        return None


class Remote:
    """A proxy in another process: `shape`, `fail`, `counts`, `reset`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def shape(self, latency_seconds: float, bytes_per_second: float | None) -> None:
        arguments = {"latency_seconds": latency_seconds, "bytes_per_second": bytes_per_second}
        self._call("shape", arguments)

    def fail(self, kind: str, what: str, **details: float | str) -> None:
        self._call("fail", asdict(Fault(kind, what, **details)))

    def counts(self) -> dict[str, int]:
        return self._call("counts", {})

    def reset(self) -> None:
        self._call("reset", {})

    def _call(self, what: str, arguments: dict[str, object]) -> dict[str, int]:
        data = json.dumps(arguments).encode()
        with urllib.request.urlopen(self.url + _CONTROL + what, data, timeout=10) as response:  # noqa: S310
            return json.load(response)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_request: object) -> None:
        pass  # A connection that broke, mostly because it was to break.


class _HungUp(Exception):  # noqa: N818 - nothing went wrong
    """This connection carries nothing more."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 0
    cut_bytes: int | None = None
    unnamed = False

    def setup(self) -> None:
        self.proxy: FaultProxy = self.server.proxy
        time.sleep(self.proxy.latency_seconds)
        if fault := self.proxy.note_connection():
            self._break(fault)
            raise _HungUp
        if self.proxy.context:
            # Here and not where connections are accepted, so that none waits for another's.
            self.request = self.proxy.context.wrap_socket(self.request, server_side=True)
        super().setup()
        host = urlsplit(self.proxy.upstream)
        self.upstream = http.client.HTTPConnection(host.hostname, host.port, timeout=60)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()
        if self.proxy.context:
            # The server closes the socket that it accepted, which is an empty shell by now.
            self.connection.close()

    def log_message(self, *_args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.unread_bytes = int(self.headers.get("Content-Length", 0))
        self.chunked = self.headers.get("Transfer-Encoding", "").lower() == "chunked"
        kind = _kind(self.command, self.path, self.headers.get("Content-Range"))
        self.seen = Seen(kind, self.path, dict(self.headers))
        if self.path.startswith(_CONTROL):
            self._control()
            return
        fault = self.proxy.note(self.seen)
        try:
            time.sleep(self.proxy.latency_seconds)
            if fault:
                self._disturb_answer(fault)
            if fault is None or not self._keep_back(fault):
                self._serve(kind, fault)
            self.cut_bytes, self.unnamed = None, False
        except (_HungUp, http.client.HTTPException, OSError, ValueError):
            # Also a body that ends before its time.
            self.close_connection = True

    do_POST = do_PUT = do_DELETE = do_PATCH = do_GET  # noqa: N815 - the base class names them

    def _break(self, fault: Fault) -> None:
        """End a connection before anything is said on it."""
        if fault.what == "stall":
            self.proxy.stopping.wait(fault.seconds)
            return
        self.request.recv(_BLOCK_BYTES)
        if fault.what == "reset":
            _reset_at_close(self.request)

    def _control(self) -> None:
        arguments = json.loads(b"".join(self._body()) or b"{}")
        what = self.path.removeprefix(_CONTROL)
        answer = getattr(self.proxy, what)(**arguments)
        self._answer(Answer(200, json.dumps(answer or {}).encode()))

    def _keep_back(self, fault: Fault) -> bool:
        """Whether the fault was one that keeps a request from the server."""
        if fault.what == "status":
            for _ in self._body():
                pass
            self._answer(error(fault.code, fault.reason))
            return True
        if fault.what == "refuse":
            self._answer(error(fault.code, fault.reason))
        elif fault.what == "reset":
            left = fault.after_bytes
            for block in self._body():
                left -= len(block)
                if left <= 0:
                    break
            self._reset()
        elif fault.what == "stall":
            self.proxy.stopping.wait(fault.seconds)
        else:
            return False
        raise _HungUp

    def _disturb_answer(self, fault: Fault) -> None:
        """Have the answer that comes be another, or come otherwise."""
        if fault.what in ("drip", "drip_body"):
            self.wfile = _Drip(self.wfile, fault, self.proxy.stopping)
        self.cut_bytes = fault.after_bytes if fault.what == "cut" else None
        self.unnamed = fault.what == "unnamed"

    def _serve(self, kind: str, fault: Fault | None) -> None:
        gaps = self.proxy.gaps
        if answer := gaps.before(kind, self.path):
            self._answer(answer)
        elif kind == "bucket" and self.proxy.bucket:
            response = self._send(self._body(), self.unread_bytes)
            body = json.dumps(json.loads(response.read()) | self.proxy.bucket).encode()
            self._answer(Answer(response.status, body, tuple(response.getheaders())))
        elif kind == "start":
            body = b"".join(self._body())
            if answer := gaps.refuses_start(self.path, body):
                self._answer(answer)
                return
            response = self._send([body], len(body))
            gaps.started(self.path, body, response.headers["Location"])
            self._relay(response, fault)
        elif kind in ("part", "status"):
            self._answer_part(fault)
        else:
            chunked = self.chunked
            body = self._flipped(self._body(), fault, "corrupt_upload")
            response = self._send(body, None if chunked else self.unread_bytes)
            if kind == "cancel":
                gaps.cancelled(self.path)
            self._relay(response, fault)

    def _answer_part(self, fault: Fault | None) -> None:
        body = b"".join(self._flipped(self._body(), fault, "corrupt_upload"))
        content_range = self.headers["Content-Range"]
        if fault and fault.what == "keep_part":
            body = body[: fault.after_bytes]
            content_range = content_range.split("/")[0] + "/*"
        todo = self.proxy.gaps.part(self.path, content_range, body)
        if isinstance(todo, Answer):
            self._answer(todo)
            return
        content_range, body = todo
        response = self._send([body], len(body), {"Content-Range": content_range})
        answer = Answer(response.status, response.read(), tuple(response.getheaders()))
        self.proxy.gaps.sent(self.path, len(body), answer)
        if fault and fault.what == "lose_answer":
            self._reset()
            raise _HungUp
        self._answer(answer)

    def _send(
        self, body: object, length: int | None, changed: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP
        }
        headers |= changed or {}
        if length is not None:
            headers["Content-Length"] = str(length)
        self.upstream.request(self.command, self.path, body, headers, encode_chunked=length is None)
        return self.upstream.getresponse()

    def _relay(self, response: http.client.HTTPResponse, fault: Fault | None) -> None:
        if fault and fault.what == "lose_answer":
            response.read()
            self._reset()
            raise _HungUp
        if response.length is None or self.cut_bytes is not None:
            self._answer(Answer(response.status, response.read(), tuple(response.getheaders())))
            return
        left = response.length
        self._head(response.status, response.getheaders(), left)
        if fault and fault.what == "truncate":
            left = fault.after_bytes
        blocks = self._flipped(_blocks(response, left), fault, "corrupt")
        for block in blocks:
            self.proxy.down.carry(len(block))
            self.wfile.write(block)
        if fault and fault.what == "truncate":
            raise _HungUp
        # Only then does the connection take another request.
        response.read()

    def _answer(self, answer: Answer) -> None:
        body = answer.body[: self.cut_bytes]
        self._head(answer.status, answer.headers, len(body))
        self.proxy.down.carry(len(body))
        self.wfile.write(body)

    def _head(self, status: int, headers: object, length: int) -> None:
        self.send_response_only(status)
        changed = {name.lower() for name in self.proxy.headers}
        for name, value in headers:
            if self.unnamed and name.lower() == "location":
                continue
            if name.lower() not in _HOP_BY_HOP | changed:
                # The server, which hears http, names addresses such as that of an upload session.
                self.send_header(name, value.replace("http:", f"{self.proxy.scheme}:", 1))
        for name, value in self.proxy.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self) -> Iterator[bytes]:
        for block in self._unread():
            self.seen.head = self.seen.head or block
            yield block

    def _unread(self) -> Iterator[bytes]:
        """What is left of the request's body."""
        while self.chunked:
            size = int(self.rfile.readline(), 16)
            for block in _blocks(self.rfile, size):
                self.proxy.up.carry(len(block))
                yield block
            self.rfile.readline()
            self.chunked = size > 0
        while self.unread_bytes:
            for block in _blocks(self.rfile, min(self.unread_bytes, _BLOCK_BYTES)):
                self.unread_bytes -= len(block)
                self.proxy.up.carry(len(block))
                yield block

    @staticmethod
    def _flipped(blocks: Iterator[bytes], fault: Fault | None, what: str) -> Iterator[bytes]:
        position = 0
        for block in blocks:
            end = position + len(block)
            if fault and fault.what == what and position <= fault.after_bytes < end:
                flipped = bytearray(block)
                flipped[fault.after_bytes - position] ^= 1
                yield bytes(flipped)
            else:
                yield block
            position = end

    def _reset(self) -> None:
        """Have the kernel send a reset instead of an orderly end."""
        _reset_at_close(self.connection)
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


class _Drip:
    """What an answer is written to, and leaves a byte at a time."""

    def __init__(self, inner: object, fault: Fault, stopping: threading.Event) -> None:
        self._inner = inner
        self._fault = fault
        self._stopping = stopping
        self._writes = 0
        # The head is the first write.
        self._fast_bytes = fault.after_bytes if fault.what == "drip_body" else 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def write(self, data: bytes) -> None:
        self._writes += 1
        if self._writes == 1 and self._fault.what == "drip_body":
            self._inner.write(data)
            return
        fast, slow = data[: self._fast_bytes], data[self._fast_bytes :]
        self._fast_bytes -= len(fast)
        self._inner.write(fast)
        for place in range(len(slow)):
            if self._stopping.wait(self._fault.seconds):
                raise _HungUp
            self._inner.write(slow[place : place + 1])


def _reset_at_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _blocks(source: object, count: int) -> Iterator[bytes]:
    while count:
        block = source.read1(min(count, _BLOCK_BYTES))
        if not block:
            raise _HungUp
        count -= len(block)
        yield block


def _kind(method: str, path: str, content_range: str | None) -> str:  # noqa: PLR0911
    split = urlsplit(path)
    query = split.query
    if split.path.startswith("/upload/"):
        if "uploadType=multipart" in query or "uploadType=media" in query:
            return "upload"
        if "upload_id=" not in query:
            return "start"
        if method == "DELETE":
            return "cancel"
        return "status" if content_range == "bytes */*" else "part"
    if split.path.startswith("/download/") or "alt=media" in query:
        return "download"
    if "/o/" in split.path:
        return {"GET": "stat", "DELETE": "delete"}.get(method, "other")
    if split.path.endswith("/o"):
        return "list"
    return "bucket" if "/b/" in split.path else "other"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--bucket", default="xcom")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--megabytes-per-second", type=float)
    arguments = parser.parse_args()
    rate = arguments.megabytes_per_second
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with (
        GcsServer() as server,
        FaultProxy(
            server.url,
            latency_seconds=arguments.latency_ms / 1000,
            bytes_per_second=rate * 1e6 if rate else None,
        ) as proxy,
    ):
        server.create_bucket(arguments.bucket)
        ready = {
            "url": proxy.url,
            "server_url": server.url,
            "environment": proxy.environment,
        }
        part = arguments.ready_file.with_suffix(".part")
        part.write_text(json.dumps(ready), encoding="utf-8")
        part.rename(arguments.ready_file)
        stopped.wait()


if __name__ == "__main__":
    main()
