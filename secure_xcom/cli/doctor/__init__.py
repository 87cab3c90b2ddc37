"""`secure-xcom doctor` as a command: its arguments, and what a person or a program sees."""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output

if TYPE_CHECKING:
    from secure_xcom.cli.doctor.check import Check

_STYLES = {"pass": "", "warn": "bold", "fail": "bad"}
_INDENT = "      "


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retention-days",
        metavar="DAYS",
        type=int,
        help="how long rows live in the metadata database (else 60 is assumed, as on Composer)",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Make all checks, and show each as soon as it is made.

    Raises:
        ConfigError: there is no Airflow here.
    """
    from secure_xcom.cli.doctor import examination  # noqa: PLC0415 - --help need not wait for it

    checks: list[Check] = []
    for check in examination.examine(arguments.retention_days):
        checks.append(check)
        show(check, output)
    conclude(checks, output)
    return Answer(is_ok(checks), as_json(checks))


COMMAND = Command(
    "doctor",
    "check the deployment of this environment, line by line",
    (
        "Reads the configuration of the Airflow in this environment as the backend does, tries key "
        "and bucket by the clients that workers use, and says of each thing whether it is as it "
        "should be, and if not, what to do. Changes nothing, but for one object of random bytes in "
        "the store, which it deletes. Exits with 1 if a check failed."
    ),
    _add_arguments,
    _run,
)


def is_ok(checks: Sequence[Check]) -> bool:
    """Whether none failed."""
    return all(check.status != "fail" for check in checks)


def as_json(checks: Sequence[Check]) -> dict[str, object]:
    """What `--json` prints; docs/operations.md documents it."""
    return {
        "ok": is_ok(checks),
        "checks": [
            {
                "name": check.name,
                "status": check.status,
                "detail": check.detail,
                "fix": check.fix,
            }
            for check in checks
        ],
    }


def show(check: Check, output: Output) -> None:
    """Show one check, and what to do about it: in one line, so that a command can be copied."""
    begin = f"{check.status}  {check.name}: "
    for line in check.detail.splitlines():
        for part in textwrap.wrap(
            begin + line,
            output.width,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            output.line(part, _STYLES[check.status])
        begin = _INDENT
    if check.fix:
        output.line(f"{_INDENT}Fix: {check.fix}", _STYLES[check.status])


def conclude(checks: Sequence[Check], output: Output) -> None:
    """Say what it comes to."""
    counts = Counter(check.status for check in checks)
    summary = f"{counts['pass']} passed, {counts['warn']} to know of, {counts['fail']} failed"
    output.line()
    if is_ok(checks):
        output.line(f"OK: {summary}", "good")
    else:
        output.line(f"NOT OK: {summary}", "bad")
