"""What the commands that look after rows and objects have in common."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from secure_xcom import audit
from secure_xcom.cli.auditing import audited
from secure_xcom.cli.output import Output, Progress
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.lifecycle.tables import Selection
from secure_xcom.stores import open_store

if TYPE_CHECKING:
    from secure_xcom.settings import Settings
    from secure_xcom.stores.protocol import Store

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
#: How many seconds pass between two words on how far it is: on a terminal, and elsewhere.
_TOLD_SECONDS = (0.2, 10.0)


def duration(text: str) -> float:
    """Parse `90s`, `15m`, `36h` or `7d`; in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is none of the form 90s, 15m, 36h or 7d")
    return float(int(match[1]) * _UNITS[match[2]])


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Take which rows are meant."""
    parser.add_argument("--dag-id", metavar="DAG", help="rows of this DAG only")
    parser.add_argument("--run-id", metavar="RUN", help="rows of runs of this id only")
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=duration,
        help="rows only that were written longer ago than this, such as 36h or 7d",
    )


def selection(arguments: argparse.Namespace) -> Selection:
    """The rows that are meant."""
    age = arguments.older_than
    before = None if age is None else datetime.now(UTC) - timedelta(seconds=age)
    return Selection(arguments.dag_id, arguments.run_id, before)


def settings() -> Settings:
    """The deployment's settings.

    Raises:
        ConfigError: they are wrong, or there is no Airflow here.
    """
    from secure_xcom.airflow import configuration, versions  # noqa: PLC0415

    if not versions.is_installed():
        raise ConfigError("There is no Airflow in this environment, and so no deployment.")
    versions.use_database()
    return configuration.read()


@contextmanager
def run(command: str) -> Iterator[tuple[Settings, audit.Run]]:
    """Read the settings, and write the command's lines where they say, the last when it has ended.

    Raises:
        ConfigError: the settings are wrong, or a place of the audit log takes no lines.
    """
    # Airflow, and whoever logs below it, may write to standard output, which is for the answer.
    with redirect_stdout(sys.stderr):
        try:
            found = settings()
        except SecureXComError:
            with audited(command), audit.run(command):
                raise
        with audited(command, found.audit_log), audit.run(command) as done:
            audit.check()
            yield found, done


def stores(of: Settings) -> Callable[[str], Store]:
    """What opens stores under a deployment's settings.

    Raises:
        ConfigError: there are no credentials.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415

    return partial(
        open_store,
        credentials=configuration.credentials(of),
        deadline_seconds=of.store_deadline_seconds,
    )


class Rate:
    """Tells on standard error how far it is, and how fast, now and then."""

    def __init__(self, progress: Progress, *, is_terminal: bool) -> None:
        self._progress = progress
        self._each_seconds = _TOLD_SECONDS[0 if is_terminal else 1]
        self._what = ""
        self._began = self._told = 0.0
        self._began_count = 0

    def __call__(self, what: str, count: int) -> None:
        """Tell that so much of something is done."""
        now = time.monotonic()
        if what != self._what or count < self._began_count:
            self._what, self._began, self._told, self._began_count = what, now, now, count
        if now - self._told < self._each_seconds:
            return
        self._told = now
        rate = (count - self._began_count) / max(now - self._began, 1e-9)
        self._progress.detail(f"{count:,} {what}, {rate:,.0f} a second")


def progress() -> tuple[Progress, Rate]:
    """Progress on standard error."""
    output = Output(sys.stderr)
    shown = Progress(output)
    return shown, Rate(shown, is_terminal=output.is_terminal)
