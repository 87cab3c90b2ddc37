"""How tables that hold rows are described to this room."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

#: What a row is of: an XCom, or the state of a task or of an asset.
Kind: TypeAlias = Literal["xcom", "task", "asset"]
#: What the column of values gives: JSON as text, or bytes; None where it holds nothing.
Text: TypeAlias = str | bytes | None


class Owner(NamedTuple):
    """The table that knows dag, run and task of rows which do not say so themselves."""

    table: str
    #: Its column that the rows name.
    column: str
    #: The column of the rows that names it.
    named_by: str


@dataclass(frozen=True, slots=True)
class RowTable:
    """A table of rows, as Airflow keeps it in some version."""

    name: str
    kind: Kind
    #: The columns of the primary key. An archived copy has the columns, but no such constraint.
    key: tuple[str, ...]
    #: When a row was written last.
    time: str
    owner: Owner | None = None
    value: str = "value"


class Layout(NamedTuple):
    """Which tables hold rows, whichever of them a database has."""

    #: Rows that move go from an earlier table of these to a later one.
    tables: tuple[RowTable, ...]
    #: What the name of an archive begins with, before the table's name and two underscores.
    archive_prefix: str
    #: Archives with a name of their own, and the table that they are copies of.
    archives: dict[str, str]
    #: What the names of tables begin with that hold rows, in versions that are not known, too.
    suspects: tuple[str, ...]
    #: The region that a whole run is, in hexadecimal digits. In any other, what stands in the place
    #: of a map index is the number of an iteration.
    whole_run: str
    schema: str | None = None


class Selection(NamedTuple):
    """Which rows are meant; all of them unless it says otherwise."""

    dag_id: str | None = None
    run_id: str | None = None
    #: Rows that were written before this, by the database's own record.
    before: datetime | None = None


ALL = Selection()
