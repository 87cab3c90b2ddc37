"""The command line: `secure-xcom`."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import secure_xcom
from secure_xcom.cli import doctor, evidence, init, inspect, trials
from secure_xcom.cli.lifecycle import gc, rewrap, scan
from secure_xcom.errors import SecureXComError
from secure_xcom.text import escaped

_INTERRUPTED = 130
_TERMINATED = 143
COMMANDS = (
    *(init.COMMAND, trials.DEMO, trials.CENSUS, doctor.COMMAND, evidence.COMMAND),
    *(inspect.COMMAND, scan.COMMAND, gc.COMMAND, rewrap.COMMAND),
)
_LINE_END = "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit status: 0 all is well, 1 something is off, 2 it cannot be run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets a question mark, not a traceback.
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args(argv)
    try:
        with _terminable():
            status: int = arguments.command.answer(arguments)
    except SecureXComError as error:
        # What it names may come from whoever wrote the row.
        print(f"secure-xcom: {escaped(str(error), keep=_LINE_END)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("secure-xcom: interrupted; nothing is left behind.", file=sys.stderr)
        return _INTERRUPTED
    return status


def within_airflow(arguments: argparse.Namespace) -> NoReturn:
    """Run `airflow secure-xcom …`; the process ends with the command's exit status."""
    raise SystemExit(main(arguments.arguments))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secure-xcom",
        description="An Apache Airflow XCom backend that seals every value on the worker.",
    )
    parser.add_argument(
        "--version", action="version", version=f"secure-xcom {secure_xcom.__version__}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    for command in COMMANDS:
        command.configure(commands.add_parser(command.name, help=command.summary))
    return parser


@contextmanager
def _terminable() -> Iterator[None]:
    """Let what is temporary go away also when this process is told to end."""

    def end(*_: object) -> None:
        raise SystemExit(_TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
