"""The command line: `secure-xcom`."""

from __future__ import annotations

import argparse
import io
import json
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import secure_xcom
from secure_xcom.cli import census_command, doctor, inspect
from secure_xcom.cli.output import escaped
from secure_xcom.errors import SecureXComError

_INTERRUPTED = 130
_TERMINATED = 143
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
            status: int = arguments.run(arguments)
    except SecureXComError as error:
        # What it names may come from whoever wrote the row.
        print(f"secure-xcom: {escaped(str(error), keep=_LINE_END)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("secure-xcom: interrupted; nothing is left behind.", file=sys.stderr)
        return _INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secure-xcom",
        description="An Apache Airflow XCom backend that seals every value on the worker.",
    )
    parser.add_argument(
        "--version", action="version", version=f"secure-xcom {secure_xcom.__version__}"
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="run a DAG on a throw-away Airflow and see what lies where",
        description=(
            "Makes a throw-away AIRFLOW_HOME with a SQLite database, runs a DAG on it whose values "
            "are sealed under a local key and kept in the database and in a local folder, and "
            "shows what each task returned, what the row holds and what the store holds. Exits "
            "with 1 if anything is off. Your own Airflow is not touched."
        ),
    )
    demo.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    demo.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="make the home in this new or empty directory, and leave it there",
    )
    demo.set_defaults(run=_demo)

    census = commands.add_parser(
        "census",
        help="run a DAG under real daemons and list each place where a value stands readable",
        description=census_command.DESCRIPTION,
    )
    census_command.add_arguments(census)

    doctor_parser = commands.add_parser(
        "doctor",
        help="check the deployment of this environment, line by line",
        description=doctor.DESCRIPTION,
    )
    doctor.add_arguments(doctor_parser)

    inspect_parser = commands.add_parser(
        "inspect",
        help="show what stands in clear in a sealed value, and open it on request",
        description=inspect.DESCRIPTION,
    )
    inspect.add_arguments(inspect_parser)
    return parser


def _demo(arguments: argparse.Namespace) -> int:
    from secure_xcom.cli.demo_show import show  # noqa: PLC0415 - --help need not wait for it
    from secure_xcom.cli.output import Output, Progress  # noqa: PLC0415
    from secure_xcom.trial import demo  # noqa: PLC0415

    outcome = demo.run(arguments.keep, Progress(Output(sys.stderr)))
    if arguments.json:
        print(json.dumps(outcome.as_json(), indent=2))
        if not outcome.ok:
            show(outcome, Output(sys.stderr))
    else:
        show(outcome, Output(sys.stdout))
    return 0 if outcome.ok else 1


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
