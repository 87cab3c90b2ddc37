"""`secure-xcom doctor` as a command: its arguments, and what a person or a program sees."""

from __future__ import annotations

import argparse
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output

if TYPE_CHECKING:
    from secure_xcom.cli.doctor.check import Check

_STYLES = {"pass": "", "warn": "bold", "unseen": "bold", "fail": "bad"}
_INDENT = "      "


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--retention-days",
        metavar="DAYS",
        type=int,
        help="how long rows live in the metadata database (else 60 is assumed, as on Composer)",
    )
    parser.add_argument(
        "--fail-on",
        choices=("fail", "warn"),
        default="fail",
        help="exit with 1 if a check failed; with warn, also if one warned or could not look",
    )
    parser.add_argument(
        "--profile",
        choices=("regulated",),
        help="what a bank wants: fail where a check of the profile does not pass or was not made",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="write a new file with what --json prints, the time and the versions, and beside it "
        "FILE.sha256, for sha256sum --check",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Make all checks, and show each as soon as it is made.

    Raises:
        ConfigError: there is no Airflow here, or the report's file is there already.
    """
    # --help need not wait for these.
    from secure_xcom.cli.doctor import examination, profile, report  # noqa: PLC0415

    if arguments.report is not None:
        report.claim(arguments.report)
    found = examination.examine(arguments.retention_days)
    if arguments.profile:
        found = profile.regulated(found)
    checks: list[Check] = []
    for check in found:
        checks.append(check)
        show(check, output)
    ok = is_ok(checks, arguments.fail_on)
    conclude(checks, output, ok=ok)
    members = as_json(checks, ok=ok)
    if arguments.report is not None:
        report.write(arguments.report, members, arguments.profile)
    return Answer(ok, members)


COMMAND = Command(
    "doctor",
    "check the deployment of this environment, line by line",
    (
        "Reads the configuration of the Airflow in this environment as the backend does, tries key "
        "and bucket by the clients that workers use, and says of each thing whether it is as it "
        "should be, and if not, what to do. Changes nothing, but for one object of random bytes in "
        "the store, which it deletes. Exits with 1 if a check failed (see --fail-on)."
    ),
    _add_arguments,
    _run,
)


def is_ok(checks: Sequence[Check], fail_on: str = "fail") -> bool:
    """Whether none failed; with `warn`, whether all passed."""
    bad = ("fail",) if fail_on == "fail" else ("fail", "unseen", "warn")
    return not any(check.status in bad for check in checks)


def as_json(checks: Sequence[Check], *, ok: bool) -> dict[str, object]:
    """What `--json` prints; docs/operations.md documents it."""
    return {
        "ok": ok,
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


def conclude(checks: Sequence[Check], output: Output, *, ok: bool) -> None:
    """Say what it comes to."""
    counts = Counter(check.status for check in checks)
    summary = (
        f"{counts['pass']} passed, {counts['warn']} to know of, {counts['unseen']} not looked at, "
        f"{counts['fail']} failed"
    )
    output.line()
    if ok:
        output.line(f"OK: {summary}", "good")
    else:
        output.line(f"NOT OK: {summary}", "bad")
