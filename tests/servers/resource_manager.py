"""Resource Manager in memory: the IAM policies of projects, by its REST API of version 3.

https://cloud.google.com/resource-manager/reference/rest/v3/projects/getIamPolicy

    with ResourceManager() as projects:
        projects.policies["my-project"] = {"bindings": [], "auditConfigs": []}
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_PATH = re.compile("/v3/projects/([a-z0-9-]+):getIamPolicy")


class ResourceManager:
    """The service on a free port of the loopback, and what a test arranges in it."""

    def __init__(self) -> None:
        self.policies: dict[str, dict[str, Any]] = {}
        #: Answers in the place of policies: a status and a body.
        self.answer: tuple[int, bytes] | None = None
        #: What it was asked: paths and bodies.
        self.asked: list[tuple[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def deny(self) -> None:
        """Refuse as the service does, which does not say whether there is such a project."""
        error = {"code": 403, "message": "The caller does not have permission"}
        self.answer = 403, json.dumps({"error": error}).encode()

    def serve(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of an answer."""
        request = json.loads(body)
        self.asked.append((path, request))
        found = _PATH.fullmatch(path)
        if self.answer is not None:
            return self.answer
        if found is None or found[1] not in self.policies:
            return 403, b"{}"
        policy = dict(self.policies[found[1]])
        if request.get("options", {}).get("requestedPolicyVersion") != 3:
            policy["bindings"] = [one for one in policy["bindings"] if "condition" not in one]
        return 200, json.dumps(policy).encode()


def _handler(service: ResourceManager) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            status, body = service.serve(self.path, self.rfile.read(length))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
