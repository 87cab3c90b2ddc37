"""Leads programs that know nothing of tests to the services of a test.

A program that gets `Front.environment` resolves, authenticates and encrypts as in production:
gRPC goes to `cloudkms.googleapis.com:443` through a proxy, which stands here and connects to the
test's server; the server has a certificate for that name, which the program is told to trust; and
application default credentials are a service account whose key was made for the occasion.
"""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from servers.certificate import private_pem

if TYPE_CHECKING:
    from pathlib import Path

    from servers.certificate import Certificate

SERVICE_ACCOUNT = "worker@test-project.iam.gserviceaccount.com"


class Front:
    """A proxy on the loopback, and the environment that leads through it.

    Args:
        ports: the local port that stands for port 443 of a host name.
        certificate: what the servers behind those ports show.
        directory: where the files go that the environment names.
    """

    def __init__(self, ports: dict[str, int], certificate: Certificate, directory: Path) -> None:
        self._proxy = _Proxy(ports)
        roots, account = directory / "roots.pem", directory / "service-account.json"
        roots.write_bytes(certificate.pem)
        account.write_text(json.dumps(service_account()), encoding="ascii")
        self.environment = {
            "grpc_proxy": f"http://127.0.0.1:{self._proxy.server_address[1]}",
            "no_grpc_proxy": "localhost,127.0.0.1",
            # What is asked by HTTPS finds nobody here, and does not get out.
            "https_proxy": f"http://127.0.0.1:{self._proxy.server_address[1]}",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(roots),
            "GOOGLE_APPLICATION_CREDENTIALS": str(account),
        }

    def __enter__(self) -> Self:
        threading.Thread(target=self._proxy.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()


def service_account() -> dict[str, str]:
    """A service account's key file; its tokens are signed by the client, so no server is asked."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "1",
        "private_key": private_pem(key).decode(),
        "client_email": SERVICE_ACCOUNT,
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
        "universe_domain": "googleapis.com",
    }


class _Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that knows CONNECT only, and only to the hosts it was given."""

    daemon_threads = True

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports
        super().__init__(("127.0.0.1", 0), _Tunnel)


class _Tunnel(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self) -> None:
        _method, target, _version = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        port = self.server.ports.get(target.removesuffix(":443"))
        if port is None:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as server:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pump, args=(server, self.connection), daemon=True)
            back.start()
            _pump(self.connection, server)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The other side is gone, and with it the tunnel.
