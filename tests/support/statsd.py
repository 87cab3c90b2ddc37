"""A server for StatsD's protocol on the loopback: it keeps what it is sent."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the names of our metrics begin with, after Airflow's own prefix.
PREFIX = "airflow.secure_xcom."


class Statsd(NamedTuple):
    """Where it listens, and the lines that came in until now, as `name:value|type`."""

    port: int
    lines: list[str]

    @property
    def env(self) -> dict[str, str]:
        """Give what has Airflow send there, and only what is ours."""
        section = "AIRFLOW__METRICS__"
        return {
            f"{section}STATSD_ON": "True",
            f"{section}STATSD_HOST": "127.0.0.1",
            f"{section}STATSD_PORT": str(self.port),
            f"{section}METRICS_ALLOW_LIST": "secure_xcom",
        }

    def counters(self) -> dict[str, int]:
        """Give each counter's sum."""
        sums: dict[str, int] = {}
        for name, value, kind in self._split():
            if kind == "c":
                sums[name] = sums.get(name, 0) + int(value)
        return sums

    def timers(self) -> set[str]:
        """Give the names of timers; their milliseconds are those of steps that a test takes."""
        found = {name: float(value) for name, value, kind in self._split() if kind == "ms"}
        assert all(0 < value < 600_000 for value in found.values())
        return set(found)

    def _split(self) -> Iterator[tuple[str, str, str]]:
        for line in tuple(self.lines):
            name, _, rest = line.removeprefix(PREFIX).partition(":")
            value, kind = rest.split("|")[:2]
            yield name, value, kind


@contextmanager
def statsd() -> Iterator[Statsd]:
    """Listen until the end of the block."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        received = Statsd(server.getsockname()[1], [])

        def listen() -> None:
            while line := server.recv(65_536).decode():
                received.lines.append(line)

        thread = Thread(target=listen)
        thread.start()
        try:
            yield received
        finally:
            server.sendto(b"", ("127.0.0.1", received.port))
            thread.join()
