"""Connections whose timeouts mean time without real progress.

A timeout of a socket starts anew with every byte, so whoever sends one now and then holds a reader
for ever; and what is sent in pieces has one for each piece. Here a timeout is how long a phase of
an exchange (to send a request; to wait for an answer's head; to read its body) may wait in total
before `PROGRESS_BYTES` more have gone through, in calls of the socket only: how long the caller
takes between them does not count.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from secure_xcom.stores.gcs.retry import PROGRESS_BYTES

if TYPE_CHECKING:
    from requests import Session
    from urllib3 import PoolManager

    from secure_xcom.model import Buffer


class PacedSocket:
    """A socket, of TLS or not, that gives up once too little has gone through for too long."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.settimeout(inner.gettimeout())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the socket has
        return getattr(self._inner, name)

    def settimeout(self, seconds: float | None) -> None:
        """A phase begins that may wait for so long without progress; None for no bound."""
        self._seconds = self._left_seconds = seconds
        self._moved_bytes = 0
        self._inner.settimeout(seconds)

    def sendall(self, data: Buffer) -> None:
        """Send all of it, as a socket does."""
        view = memoryview(data).cast("B")
        while view:
            # TLS sends no part of what it is given.
            view = view[self.paced(self._inner.send, view[:PROGRESS_BYTES]) :]

    def makefile(self, mode: Literal["rb"]) -> io.BufferedReader:
        """What an answer is read from."""
        return io.BufferedReader(_PacedReader(self, self._inner.makefile(mode, buffering=0)))

    def paced(self, call: Callable[[Any], int], argument: object) -> int:
        """Make a call that moves bytes, and give the number of these; its time counts."""
        if self._seconds is None or self._left_seconds is None:
            return call(argument)
        if self._left_seconds <= 0:
            raise TimeoutError("timed out")
        self._inner.settimeout(self._left_seconds)
        started = time.monotonic()
        count = call(argument)
        self._left_seconds -= time.monotonic() - started
        self._moved_bytes += count
        if self._moved_bytes >= PROGRESS_BYTES:
            self._left_seconds = self._seconds
            self._moved_bytes = 0
        return count


class _PacedReader(io.RawIOBase):
    def __init__(self, paced: PacedSocket, raw: io.RawIOBase) -> None:
        self._paced = paced
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - as the base class has it
        return self._paced.paced(self._raw.readinto, buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = PacedSocket(self.sock)


class _TlsConnection(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        self.sock = PacedSocket(self.sock)

    def _tunnel(self) -> None:
        # TLS, which comes next, wants the socket itself.
        inner = self.sock
        self.sock = PacedSocket(inner)
        try:
            super()._tunnel()
        finally:
            if self.sock is not None:
                self.sock = inner


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().init_poolmanager(*args, **kwargs)
        _pace(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> PoolManager:  # noqa: ANN401
        manager: PoolManager = super().proxy_manager_for(*args, **kwargs)
        _pace(manager)
        return manager


def _pace(manager: PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}


def pace(session: Session, connections: int) -> None:
    """Have a session make its connections here, so many at once."""
    for prefix, mounted in list(session.adapters.items()):
        if type(mounted) is HTTPAdapter:
            session.mount(prefix, _Adapter(pool_maxsize=connections))
        elif isinstance(mounted, HTTPAdapter):
            # It brings a client's certificate.
            _pace(mounted.poolmanager)
