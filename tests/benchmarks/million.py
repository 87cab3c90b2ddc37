"""Measures `scan` and `gc` over a million rows and two million objects; no part of the suite.

    PYTHONPATH=tests .venv/bin/python tests/benchmarks/million.py [--rows N] [--postgres]

The rows are real ones in a database, whose objects are those of a listing that is made up: half of
the objects have a row. Each command runs in a process of its own, whose peak memory is told.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from support.deployment import WHERE, Deployment
from support.metadata import WRITTEN, Metadata

from secure_xcom import audit
from secure_xcom.format.names import deployment
from secure_xcom.lifecycle.gc import Wanted, collect
from secure_xcom.lifecycle.mark import Memory
from secure_xcom.lifecycle.objects import folders
from secure_xcom.lifecycle.scan import Compared, scan
from secure_xcom.stores.file import Directory
from secure_xcom.stores.protocol import Entry

FOLDER = deployment("prod")
BATCH = 10_000


def digits(number: int) -> str:
    # The first digit says of which part of the listing it is.
    return f"{number % 16:x}{hashlib.sha256(str(number).encode()).hexdigest()[1:]}"


class MadeUp(Directory):
    """A directory whose listing is made up; marks are real."""

    count = 0

    def entries(self, beginning: str) -> Iterator[Entry]:
        if beginning.startswith("~gc/") or not self.uri.endswith("/store"):
            yield from super().entries(beginning)
            return
        first = beginning.removeprefix(f"{FOLDER}/")
        for number in range(int(first, 16), self.count, 16):
            yield Entry(f"{FOLDER}/{digits(number)}", str(1_000_000 + number), 0.0, "1")

    def delete(self, name: str, *, generation: str) -> bool:
        return super().delete(name, generation=generation) if name.startswith("~") else True


def fill(url: str, folder: Path, rows: int) -> None:
    engine = sa.create_engine(url, poolclass=NullPool)
    metadata = Metadata(engine, "3.3")
    row = Deployment(folder / "deployment", {"threshold_bytes": "0"}).stack().put("x", WHERE)
    before, _, after = json.dumps(row).partition(row["object"])
    table = metadata.metadata.tables["xcom"]
    for first in range(0, rows, BATCH):
        batch = [
            {
                "dag_run_id": number // 100,
                "dag_id": f"dag_{number % 50}",
                "run_id": f"run_{number // 100}",
                "task_id": f"task_{number % 100}",
                "map_index": -1,
                "key": "return_value",
                "timestamp": WRITTEN,
                "value": json.loads(f"{before}{FOLDER}/{digits(number)}{after}"),
            }
            for number in range(first, min(first + BATCH, rows))
        ]
        with engine.begin() as connection:
            connection.execute(table.insert(), batch)
    engine.dispose()


def measured(name: str, url: str, folder: str, rows: int, told: object) -> None:
    """One command in this process; its outcome, seconds and peak memory in MiB."""
    audit.configure([], required=False)
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metadata = Metadata(sa.create_engine(url, poolclass=NullPool), "3.3")
    MadeUp.count = 2 * rows
    memory = Path(folder) / "memory"
    if name == "gc":
        done = collect(
            Wanted(f"file://{folder}/store", "prod", adopt=True, share=1.0),
            metadata.rows(),
            MadeUp,
            Memory(lambda: memory.read_text() if memory.exists() else None, memory.write_text),
        )
        outcome = f"{done.objects} objects, {done.rows} rows twice, {done.deleted} deleted"
        assert done.deleted == rows
    else:
        found = scan(
            metadata.rows(),
            (),
            compared=Compared(folders(f"file://{folder}/store", "prod", MadeUp), 86_400.0)
            if name == "scan --objects"
            else None,
        )
        outcome = f"{found.rows} rows, {found.objects}"
        assert (found.rows, found.missing) == (rows, 0)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = (name, outcome, seconds, time.process_time(), before / 1024, peak / 1024)
    told.put(figures)  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        url = f"sqlite:///{folder}/airflow.db"
        if arguments.postgres:
            from servers.postgres import PostgresServer  # noqa: PLC0415

            url = stack.enter_context(PostgresServer()).create_database()
        began = time.monotonic()
        fill(url, Path(folder), arguments.rows)
        print(f"filled in {time.monotonic() - began:.0f} s")  # noqa: T201
        processes = multiprocessing.get_context("spawn")
        for name in ("scan", "scan --objects", "gc"):
            told = processes.Queue()
            process = processes.Process(
                target=measured, args=(name, url, folder, arguments.rows, told)
            )
            process.start()
            found, outcome, seconds, cpu_seconds, before, peak = told.get()
            process.join()
            print(  # noqa: T201
                f"{found}: {seconds:.0f} s, of which {cpu_seconds:.0f} of processor time; "
                f"{peak:.0f} MiB at most ({before:.0f} before): {outcome}"
            )


if __name__ == "__main__":
    main()
