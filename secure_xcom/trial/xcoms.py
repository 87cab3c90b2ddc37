"""Reads XComs from the metadata database and the store, by no code of the backend that writes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c

from secure_xcom.errors import FormatError
from secure_xcom.format import names
from secure_xcom.format.body import payload_length
from secure_xcom.format.envelope import Preamble, parse_preamble, parse_whole_preamble
from secure_xcom.format.reference import from_row, is_tagged, loads
from secure_xcom.model import Coordinate, Expected, Inline, Offloaded
from secure_xcom.uris import directory

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
    #: What the row says to people; empty where nothing is sealed.
    about: str = ""
    #: The object in the store, where the row names one: its name, its file and what that holds.
    object_name: str = ""
    file: Path | None = None
    body: bytes = field(default=b"", repr=False)
    #: What is wrong with it; empty where nothing is.
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """How a person calls it."""
        index = "" if self.coordinate.map_index == -1 else f"[{self.coordinate.map_index}]"
        return f"{self.coordinate.task_id}{index} · {self.coordinate.key}"

    @property
    def stored_bytes(self) -> int:
        """The length of what holds the value: of the object if there is one, else of the row."""
        return len(self.body) if self.file else len(self.row)


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
        return StoredXCom(coordinate, row, "clear", faults=(fault,))
    if reference is None:
        return StoredXCom(coordinate, row, "clear", faults=("it is not sealed",))
    about = json.loads(row)["about"]
    if isinstance(reference, Inline):
        faults = _inline_faults(reference, coordinate)
        return StoredXCom(coordinate, row, "inline", about, faults=faults)
    name = reference.name
    file = store / name
    if reference.store_uri != directory(store) or not file.is_file():
        fault = f"its object {name} is not in the store"
        return StoredXCom(coordinate, row, "offloaded", about, name, faults=(fault,))
    body = file.read_bytes()
    faults = _offloaded_faults(reference, coordinate, body)
    return StoredXCom(coordinate, row, "offloaded", about, name, file, body, faults)


def _inline_faults(reference: Inline, coordinate: Coordinate) -> tuple[str, ...]:
    try:
        preamble = parse_preamble(reference.envelope)
        payload_length(len(reference.envelope) - preamble.length_bytes)
    except FormatError as error:
        return (f"its envelope is malformed: {error}",)
    return _context_faults(preamble, coordinate)


def _offloaded_faults(reference: Offloaded, coordinate: Coordinate, body: bytes) -> tuple[str, ...]:
    try:
        preamble = parse_whole_preamble(reference.preamble)
    except FormatError as error:
        return (f"its preamble is malformed: {error}",)
    faults = _context_faults(preamble, coordinate)
    instance = preamble.unverified_header.instance
    if reference.name != names.object_name(instance, preamble.header_bytes):
        faults += ("its object does not have the name that its header gives",)
    if len(body) != reference.length_bytes:
        faults += ("its object does not have the length that the row says",)
    elif google_crc32c.value(body) != reference.crc32c:
        faults += ("its object does not have the checksum that the row says",)
    return faults


def _context_faults(preamble: Preamble, coordinate: Coordinate) -> tuple[str, ...]:
    if Expected.exactly(coordinate).matches(preamble.unverified_header.coordinate):
        return ()
    return ("it was sealed for another XCom",)
