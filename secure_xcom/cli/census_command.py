"""`secure-xcom census` as the command line has it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

BACKENDS = ("secure", "common-io", "stock")

DESCRIPTION = (
    "Makes a throw-away AIRFLOW_HOME as the quickstart does, and runs Airflow's own daemons and a "
    "DAG on it, whose tasks return, pull, log and fail with texts and numbers made up for this "
    "run. Then looks for each of these in every table of the database, every object of the store, "
    "every log and every other file, in clear and through encodings. Exits with 1 if anything is "
    "found. Your own Airflow is not touched."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes, and what runs it."""
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="look at another XCom backend instead, to see the difference",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object and nothing else"
    )
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="make the home in this new or empty directory, and leave it there",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from secure_xcom.cli.census_show import show  # noqa: PLC0415 - --help need not wait for it
    from secure_xcom.cli.output import Output, Progress  # noqa: PLC0415
    from secure_xcom.trial import census  # noqa: PLC0415

    outcome = census.run(arguments.keep, arguments.backend, Progress(Output(sys.stderr)))
    if arguments.json:
        print(json.dumps(outcome.as_json(), indent=2))
    if not arguments.json or outcome.problems:
        show(outcome, Output(sys.stderr if arguments.json else sys.stdout))
    return 0 if outcome.ok else 1
