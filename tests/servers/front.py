"""Leads programs that know nothing of tests to the services of a test.

A program that gets `Front.environment` resolves, authenticates and encrypts as in production:
gRPC goes to `cloudkms.googleapis.com:443` through a proxy, which stands here and connects to the
test's server; the server has a certificate for that name, which the program is told to trust; and
application default credentials are a service account whose key was made for the occasion.
"""

from __future__ import annotations

import datetime as dt
import json
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

SERVICE_ACCOUNT = "worker@test-project.iam.gserviceaccount.com"


class Certificate:
    """A self-signed certificate for some names, and its key."""

    def __init__(self, *names: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secure_xcom tests")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._key_pem = _pem(key)

    def server_credentials(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(self._key_pem, self.pem)])


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
        "private_key": _pem(key).decode(),
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


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
