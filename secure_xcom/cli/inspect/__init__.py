"""`secure-xcom inspect`: what stands in clear in a sealed value; and, on request, the value."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output
from secure_xcom.errors import ConfigError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="REFERENCE|OBJECT|FILE",
        help=(
            "a row as JSON (- reads it from standard input), an object (gs://… or file:///…), or "
            "a file that holds a row or an envelope"
        ),
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="open the value with the deployment's settings and key; the audit log says so",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="write the opened value to this new file, for its owner alone, and not to the screen",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Report what stands in clear, open the value if asked to, and show both.

    Raises:
        SecureXComError: it could not be looked at, or not be opened.
    """
    # --help need not wait for these.
    from secure_xcom.cli.inspect import clear, show, subject  # noqa: PLC0415

    if arguments.output is not None and not arguments.open:
        raise ConfigError("--output is where an opened value goes: it needs --open.")
    given = subject.given(arguments.what)
    # Airflow, and whoever logs below it, may write to standard output, which is for the answer.
    with redirect_stdout(sys.stderr):
        report = clear.report_on(given)
    show.show(report, output)
    opened = None
    if arguments.open:
        from secure_xcom.cli.inspect import opening  # noqa: PLC0415 - it needs the cryptography

        opened = opening.open_(given, report, arguments.output)
        show.show_opened(opened, arguments.output, output)
    return Answer(report.ok, show.members(report, opened, arguments.output))


COMMAND = Command(
    "inspect",
    "show what stands in clear in a sealed value, and open it on request",
    (
        "Shows all that stands in clear in a row, an object or an envelope, whether row and "
        "object agree, and what a task would refuse to read. That needs no key. What is trusted, "
        "and which stores may be looked into, the deployment's settings say, or, where there is "
        "no Airflow, its environment variables, such as AIRFLOW__SECURE_XCOM__STORE_URI. Exits "
        "with 1 if anything disagrees or is not sealed."
    ),
    _add_arguments,
    _run,
)
