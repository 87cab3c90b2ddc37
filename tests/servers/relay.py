"""A line to a server that breaks, stalls or drips: bytes are passed on as they are."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from typing import Self

#: How often a line that drips lets a byte through.
DRIP_SECONDS = 0.1


class Relay:
    """Stands before a port of the loopback.

    Args:
        port: where bytes go.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        #: `pass`, `reset` and `hang_up` (before a word), `stall` (nothing goes back), `drip`.
        self.what = "pass"
        #: How many connections, from now on, meet that; those after them pass.
        self.times = 0
        self.stopping = threading.Event()
        self._server = _Server(self)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, what: str, times: int = 1) -> None:
        """Disturb the next connections."""
        self.what, self.times = what, times

    def next(self) -> str:
        """What the connection that has just come meets."""
        if self.times:
            self.times -= 1
            return self.what
        return "pass"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        super().__init__(("127.0.0.1", 0), _Line)


class _Line(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        relay: Relay = self.server.relay
        what = relay.next()
        if what == "hang_up":
            return
        if what == "reset":
            linger = struct.pack("ii", 1, 0)
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.request.close()
            return
        with socket.create_connection(("127.0.0.1", relay.port)) as there:
            forth = threading.Thread(target=_pump, args=(self.request, there), daemon=True)
            forth.start()
            if what == "stall":
                relay.stopping.wait(60)
            _pump(there, self.request, relay.stopping if what == "drip" else None)
            forth.join()


def _pump(
    source: socket.socket, sink: socket.socket, dripping: threading.Event | None = None
) -> None:
    try:
        while data := source.recv(1 if dripping else 65_536):
            if dripping and dripping.wait(DRIP_SECONDS):
                break
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The other side is gone.
