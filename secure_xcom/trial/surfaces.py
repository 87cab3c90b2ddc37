"""Searches every surface of a home for texts: its database, its store, its logs, all its files."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from secure_xcom.trial.home import Home
from secure_xcom.trial.search import Search

STORE = "store: objects"
NAMES = "store: names of objects"
DATABASE = "database file, deleted rows included"
TASK_LOGS = "task logs"
OTHER_LOGS = "other logs"
PRINTED = "printed by Airflow's processes"
TEMPORARY = "temporary directory"
REST = "rest of the home"
FILES = (DATABASE, STORE, NAMES, TASK_LOGS, OTHER_LOGS, PRINTED, TEMPORARY, REST)

#: How the names of those surfaces begin that XComs are kept on.
XCOMS = ("table xcom", "store: ")


class Hit(NamedTuple):
    """Where a text stands, and how."""

    surface: str
    #: The row, the object or the file.
    place: str
    #: The name of the text.
    value: str
    #: As `Search` says it.
    how: str


@dataclass(slots=True)
class Found:
    """What a search has found."""

    places: list[Hit] = field(default_factory=list)
    #: How many rows, objects and files were looked at, by surface.
    looked: Counter[str] = field(default_factory=Counter)

    def on(self, surface: str) -> list[Hit]:
        """Pick what stands on one surface."""
        return [place for place in self.places if place.surface == surface]


class _Piece(NamedTuple):
    surface: str
    place: str
    data: bytes


def search(
    home: Home,
    texts: Mapping[str, str],
    left_out: Collection[Path] = (),
    only: tuple[str, ...] = ("",),
) -> Found:
    """Search all that a home holds for texts, by a name for each.

    Args:
        home: a home in which nothing runs any more.
        texts: what is searched for.
        left_out: files that are not searched.
        only: how the names of the surfaces begin that are searched.
    """
    for_texts = Search(texts)
    found = Found()
    for piece in _pieces(home, left_out):
        if not piece.surface.startswith(only):
            continue
        found.looked[piece.surface] += 1
        found.places += [
            Hit(piece.surface, piece.place, name, how)
            for name, how in for_texts.found_in(piece.data).items()
        ]
    return found


def _pieces(home: Home, left_out: Collection[Path]) -> Iterator[_Piece]:
    yield from _rows(home.database)
    for file in sorted(home.path.rglob("*")):
        if file.is_file() and file not in left_out:
            name = str(file.relative_to(home.path))
            surface, place = _surface(home, file)
            data = file.read_bytes()
            if surface == STORE:
                yield _Piece(NAMES, place, place.encode())
                yield _Piece(STORE, place, data)
            else:
                yield _Piece(surface, place, name.encode() + b"\n" + data)


def _rows(database: Path) -> Iterator[_Piece]:
    with closing(sqlite3.connect(database)) as connection:
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for table in sorted(name.decode() for (name,) in tables.fetchall()):
            rows = connection.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - as the database has it
            columns = [column for column, *_ in rows.description]
            for number, row in enumerate(rows, start=1):
                task = row[columns.index("task_id")] if "task_id" in columns else None
                place = f"row {number}" + (f", task {task.decode()}" if task else "")
                cells = [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
                yield _Piece(f"table {table}", place, b"\n".join(cells))


def _surface(home: Home, file: Path) -> tuple[str, str]:
    """Say which surface a file belongs to, and what it is called there."""
    logs = home.path / "logs"
    for surface, folder in (
        (STORE, home.store),
        (PRINTED, home.printed),
        (TEMPORARY, home.temporary),
        (OTHER_LOGS, logs),
    ):
        if file.is_relative_to(folder):
            parts = file.relative_to(folder).parts
            tasks = [number for number, part in enumerate(parts) if part.startswith("task_id=")]
            if surface == OTHER_LOGS and tasks:
                return TASK_LOGS, "/".join(parts[tasks[0] :])
            return surface, "/".join(parts)
    name = str(file.relative_to(home.path))
    # SQLite's own files beside it, too.
    return (DATABASE if name.startswith(home.database.name) else REST), name
