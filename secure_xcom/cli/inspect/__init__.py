"""`secure-xcom inspect`: what stands in clear in a sealed value; and, on request, the value."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output
from secure_xcom.errors import ConfigError
from secure_xcom.model import Expected


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        nargs="?",
        metavar="REFERENCE|OBJECT|FILE",
        help=(
            "a row as JSON (- reads it from standard input), an object (gs://… or file:///…), or "
            "a file that holds a row or an envelope"
        ),
    )
    asked = parser.add_argument_group(
        "an XCom in the metadata database", "in place of a row; an opened value has to be this one"
    )
    asked.add_argument("--dag-id", metavar="ID")
    asked.add_argument("--run-id", metavar="ID")
    asked.add_argument("--task-id", metavar="ID")
    asked.add_argument("--key", help="(default: return_value)")
    asked.add_argument("--map-index", metavar="N", type=int, help="(default: -1, not mapped)")
    parser.add_argument(
        "--open",
        action="store_true",
        help="open the value with the deployment's settings and key; the audit log says so",
    )
    parser.add_argument(
        "--reason",
        metavar="TEXT",
        default="",
        help="why the value is opened, as the audit log says it; strict asks for one",
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
    if arguments.reason and not arguments.open:
        raise ConfigError("--reason is why a value is opened: it needs --open.")
    asked = _asked(arguments)
    # Airflow, and whoever logs below it, may write to standard output, which is for the answer.
    with redirect_stdout(sys.stderr):
        given = subject.stored(asked) if arguments.what is None else subject.given(arguments.what)
        report = clear.report_on(given)
    show.show(report, output)
    opened = None
    if arguments.open:
        from secure_xcom.cli.inspect import opening  # noqa: PLC0415 - it needs the cryptography

        opened = opening.open_(given, asked, report, arguments.output, arguments.reason)
        show.show_opened(opened, arguments.output, output)
    return Answer(report.ok, show.members(report, opened, arguments.output))


def _asked(arguments: argparse.Namespace) -> Expected:
    """Which XCom is asked for; nothing is known of it where a row, an object or a file is given.

    Raises:
        ConfigError: not enough is said, or both.
    """
    named = {
        "--dag-id": arguments.dag_id,
        "--run-id": arguments.run_id,
        "--task-id": arguments.task_id,
        "--key": arguments.key,
        "--map-index": arguments.map_index,
    }
    said = {name: value for name, value in named.items() if value is not None}
    if arguments.what is not None:
        if said:
            raise ConfigError(
                f"{', '.join(said)} names an XCom in the database: leave out either that or "
                f"{arguments.what[:200]!r}."
            )
        return Expected()
    missing = [name for name in ("--dag-id", "--run-id", "--task-id") if not named[name]]
    if missing:
        raise ConfigError(
            "Give a row, an object or a file; or name an XCom in the metadata database, by "
            f"--dag-id, --run-id and --task-id ({', '.join(missing)} is missing)."
        )
    return Expected(
        arguments.dag_id,
        arguments.run_id,
        arguments.task_id,
        -1 if arguments.map_index is None else arguments.map_index,
        arguments.key or "return_value",
    )


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
