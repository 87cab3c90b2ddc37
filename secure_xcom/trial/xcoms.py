"""Reads XComs from the metadata database and the store, by no code of the backend that writes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from secure_xcom.errors import FormatError
from secure_xcom.format.envelope import parse_preamble
from secure_xcom.format.reference import from_row, is_tagged, loads
from secure_xcom.model import Coordinate, Expected, Inline, Remote

#: One statement for each table of XComs: 3.4 has two, older ones a single one.
_TABLES = {
    "xcom": "SELECT dag_id, run_id, task_id, map_index, key, value FROM xcom",
    "xcom_v1": "SELECT dag_id, run_id, task_id, map_index, key, value FROM xcom_v1",
    "xcom_v2": (
        "SELECT ti.dag_id, ti.run_id, ti.task_id, ti.region_index, x.key, x.value "
        "FROM xcom_v2 x JOIN task_instance ti ON ti.id = x.task_instance_id"
    ),
}


@dataclass(frozen=True, slots=True)
class StoredXCom:
    """One XCom as the database and the store hold it."""

    coordinate: Coordinate
    #: What the database's column holds, as bytes.
    row: bytes = field(repr=False)
    #: `inline`, `offloaded` or `clear`.
    placement: str
    #: The object in the store, where there is one: its file and its name.
    file: Path | None
    object_name: str
    #: The envelope, from the row or from the object; empty where nothing is sealed.
    envelope: bytes = field(repr=False)
    #: What is wrong with it; empty where nothing is.
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        """How a person calls it."""
        index = "" if self.coordinate.map_index == -1 else f"[{self.coordinate.map_index}]"
        return f"{self.coordinate.task_id}{index} · {self.coordinate.key}"

    @property
    def stored_bytes(self) -> int:
        """The length of what holds the value: of the object if there is one, else of the row."""
        return len(self.envelope) if self.file else len(self.row)


def read(database: Path, store: Path, dag_id: str) -> list[StoredXCom]:
    """Read every XCom of a DAG, in the order in which they were written."""
    return [_read(Coordinate(*ids), row, store) for ids, row in _rows(database) if ids[0] == dag_id]


def stray_objects(store: Path, stored_xcoms: list[StoredXCom]) -> list[str]:
    """Name the objects that no XCom refers to."""
    known = {stored.file for stored in stored_xcoms}
    return [str(file.relative_to(store)) for file in _files(store) if file not in known]


def states(database: Path, dag_id: str) -> dict[tuple[str, int], str]:
    """Read the state of every task instance of a DAG, by task and map index."""
    with closing(sqlite3.connect(database)) as connection:
        columns = {row[1] for row in connection.execute("PRAGMA table_info(task_instance)")}
        # What was the map index is called otherwise from 3.4 on.
        index = "region_index" if "region_index" in columns else "map_index"
        # It also keeps tries that are over, beside the one that counts.
        current = "AND working_set" if "working_set" in columns else ""
        rows = connection.execute(
            f"SELECT task_id, {index}, state FROM task_instance WHERE dag_id = ? {current}",  # noqa: S608
            (dag_id,),
        ).fetchall()
    return {(task_id, map_index): str(state) for task_id, map_index, state in rows}


def _tables(connection: sqlite3.Connection) -> list[str]:
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    return [table for table in _TABLES if table in there]


def _rows(database: Path) -> list[tuple[tuple[str, str, str, int, str], bytes]]:
    with closing(sqlite3.connect(database)) as connection:
        rows = [row for table in _tables(connection) for row in connection.execute(_TABLES[table])]
    return [((row[0], row[1], row[2], row[3], row[4]), _bytes(row[5])) for row in rows]


def _bytes(column: object) -> bytes:
    if isinstance(column, bytes):
        return column
    return b"" if column is None else str(column).encode()


def _files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if not path.is_dir())


def _read(coordinate: Coordinate, row: bytes, store: Path) -> StoredXCom:
    try:
        parsed = loads(row)
        reference = from_row(parsed) if is_tagged(parsed) else None
    except FormatError as error:
        fault = f"its row is malformed: {error}"
        return StoredXCom(coordinate, row, "clear", None, "", b"", (fault,))
    if reference is None:
        return StoredXCom(coordinate, row, "clear", None, "", b"", ("it is not sealed",))
    if isinstance(reference, Inline):
        faults = _envelope_faults(reference.envelope, coordinate)
        return StoredXCom(coordinate, row, "inline", None, "", reference.envelope, faults)
    name = reference.name
    file = store / name
    if reference.store_uri != f"file://{store}" or not file.is_file():
        fault = f"its object {name} is not in the store"
        return StoredXCom(coordinate, row, "offloaded", None, name, b"", (fault,))
    envelope = file.read_bytes()
    faults = _object_faults(envelope, reference) + _envelope_faults(envelope, coordinate)
    return StoredXCom(coordinate, row, "offloaded", file, name, envelope, faults)


def _object_faults(envelope: bytes, reference: Remote) -> tuple[str, ...]:
    if len(envelope) != reference.length_bytes:
        return ("its object does not have the length that the row says",)
    if google_crc32c.value(envelope) != reference.crc32c:
        return ("its object does not have the checksum that the row says",)
    return ()


def _envelope_faults(envelope: bytes, coordinate: Coordinate) -> tuple[str, ...]:
    try:
        sealed_for = parse_preamble(envelope).unverified_header.coordinate
    except FormatError as error:
        return (f"its envelope is malformed: {error}",)
    if not Expected.exactly(coordinate).matches(sealed_for):
        return ("its envelope was sealed for another XCom",)
    return ()
