"""`secure-xcom init`: a key in a file, to try things on a laptop, and the settings that use it."""

from __future__ import annotations

import argparse
import os
import shlex
from contextlib import suppress
from pathlib import Path

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output
from secure_xcom.uris import directory, key_file, parse_kek, parse_store

#: What the file and the store's directory are called beside each other.
_KEY, _STORE = "kek", "xcom"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=f"where the key goes (default: {_KEY} in AIRFLOW_HOME); a file that is there is kept",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    # It imports `cryptography`, which no other command needs before it runs.
    from secure_xcom.keys.local import create_key_file  # noqa: PLC0415

    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    file = Path(os.path.abspath(arguments.file or home / _KEY))  # noqa: PTH100 - takes .. away
    settings = {
        "AIRFLOW__CORE__XCOM_BACKEND": "secure_xcom.airflow.backend.SecureXComBackend",
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": (
            "secure_xcom.airflow.state_store.SecureStateStoreBackend"
        ),
        "AIRFLOW__SECURE_XCOM__KEK_URI": key_file(file),
        "AIRFLOW__SECURE_XCOM__STORE_URI": directory(file.parent / _STORE),
    }
    parse_kek(key_file(file))
    parse_store(directory(file.parent / _STORE))
    if not arguments.file:
        # Airflow makes its home at its own first command, which may be yet to come. Where that
        # cannot be done, the file cannot be written either, and that is told.
        with suppress(OSError):
            home.mkdir(parents=True, exist_ok=True)
    create_key_file(file)

    output.paragraph(
        f"A new key is in {file}, for its owner's eyes only. Nothing else opens what it seals: "
        "keep it as long as the data. It is for laptops and tests; a deployment takes a key in "
        "Cloud KMS. These settings use it:"
    )
    output.line()
    for name, value in settings.items():
        output.line(f"export {name}={shlex.quote(value)}")
    return Answer(ok=True, members={"ok": True, "key_file": str(file), "settings": settings})


COMMAND = Command(
    "init",
    "make a key file for a laptop, and say which settings use it",
    "Make a key in a file, for laptops and tests, and print the settings that use it, with a "
    "directory beside the file as the store. A file that exists is never written over.",
    _add_arguments,
    _run,
)
