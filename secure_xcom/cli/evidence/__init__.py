"""`secure-xcom evidence`: one folder for an auditor, with what this deployment is and how it is."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        required=True,
        help="where the files go: a new folder, or one that is empty",
    )
    parser.add_argument(
        "--profile", choices=("regulated",), help="have doctor check by it, as its own option does"
    )
    parser.add_argument(
        "--retention-days",
        metavar="DAYS",
        type=int,
        help="how long rows live in the metadata database, as for doctor",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Look, and write the folder.

    Raises:
        ConfigError: there is no Airflow here, the folder is not empty or cannot be written, or a
            place of the audit log takes no lines.
    """
    # --help need not wait for these.
    from secure_xcom.cli.evidence import collection, folder  # noqa: PLC0415

    # Airflow, and whoever logs below it, may write to standard output, which is for the answer.
    with redirect_stdout(sys.stderr):
        collection.check_airflow()
        folder.claim(arguments.out)
        ok, digest, files = collection.write(
            arguments.out, arguments.profile, arguments.retention_days
        )
    for name, described in collection.FILES.items():
        output.line(f"  {name}: {described}")
    output.line()
    output.paragraph(
        f"{arguments.out} has {len(files)} files and their digests in {folder.DIGESTS}, whose own "
        f"SHA-256 is {digest}. Keep that elsewhere: who can write the folder can change all of it."
    )
    if ok:
        output.line("OK: nothing failed", "good")
    else:
        output.line("NOT OK: doctor.json or scan.json tells of what failed or was not seen", "bad")
    return Answer(ok, {"ok": ok, "folder": str(arguments.out), "files": files, "sha256": digest})


COMMAND = Command(
    "evidence",
    "write a folder for an auditor: checks, settings, keys, counts, last runs, digests",
    (
        "Makes the checks of doctor, reads the settings and where they come from, counts all rows, "
        "looks for the last runs of gc and rewrap in the files of the audit log, and writes "
        "it all into a folder, with the digests of this package's files and of the folder's own. "
        "No value, key or token is in it. Changes nothing else, but for what doctor writes and "
        "deletes. Exits with 1 if a check failed, or rows could not be read or are broken."
    ),
    _add_arguments,
    _run,
)
