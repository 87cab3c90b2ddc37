"""The rows of a metadata database: streamed in a stable order, read again, changed, deleted.

Every transaction is short: a page of rows, or one row. What has happened in between shows when a
row is changed or deleted, since both compare the text that the database has with the text that
was read. Typed comparison would not do: SQLite keeps the white space of JSON, and PostgreSQL gives
long numbers as they were not written.

Live tables are streamed first and archives after, and archives are looked for when it is their
turn: `airflow db clean` commits the copy of a row before it deletes the row, so that a row which
is moved meanwhile is seen at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from secure_xcom.errors import SecureXComError
from secure_xcom.lifecycle.tables import ALL, Kind, Layout, RowTable, Selection, Text
from secure_xcom.model import Expected

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

#: A page has at most so many rows, and about so many bytes of them where it has more than one.
PAGE_ROWS = 1000
PAGE_BYTES = 8_388_608
_DIALECTS = ("sqlite", "postgresql")

_Done = TypeVar("_Done")


class RowsUnreadable(SecureXComError):  # noqa: N818 - it says what happened, as its kin do
    """The rows of a database could not be read whole, or one of them not be written."""


@dataclass(frozen=True, slots=True)
class RowSource:
    """A table with rows that a database has: a live one, or an archive."""

    #: What the database calls it.
    name: str
    table: RowTable
    archived: bool


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row, as the database had it when it was read."""

    source: RowSource
    #: The values of the primary key's columns.
    key: tuple[Any, ...]
    #: What the value's column holds: JSON as text, or bytes; None where it holds nothing.
    text: Text = field(repr=False)
    #: Its coordinate, as far as the database tells.
    where: Expected
    #: When it was written, if the database tells; with a time zone.
    written: datetime | None

    @property
    def kind(self) -> Kind:
        """What it is of."""
        return self.source.table.kind


class Rows:
    """The rows of one database.

    Args:
        engine: SQLAlchemy's, for SQLite or PostgreSQL.
        layout: the tables that may hold rows.
    """

    def __init__(self, engine: Engine, layout: Layout) -> None:
        if engine.dialect.name not in _DIALECTS:
            raise RowsUnreadable(
                f"The metadata database is {engine.dialect.name}; rows are read in SQLite and "
                "PostgreSQL only."
            )
        self._engine = engine
        self._layout = layout
        self._known: dict[str, _Reader] = {}

    def live(self) -> list[RowSource]:
        """The live tables that the database has, in the order in which rows move among them.

        Raises:
            RowsUnreadable: the database cannot be read.
        """
        names = self._names()
        return [
            RowSource(table.name, table, archived=False)
            for table in self._layout.tables
            if table.name in names
        ]

    def archives(self) -> list[RowSource]:
        """The archives that the database has now, by name.

        Raises:
            RowsUnreadable: the database cannot be read.
        """
        found = ((name, self._archived(name)) for name in sorted(self._names()))
        return [RowSource(name, table, archived=True) for name, table in found if table]

    def unknown(self) -> list[str]:
        """Tables that are called as if they held rows, and are not known to.

        Raises:
            RowsUnreadable: the database cannot be read.
        """
        known = {source.name for source in (*self.live(), *self.archives())}
        prefix = self._layout.archive_prefix
        return [
            name
            for name in sorted(self._names())
            if name not in known and name.removeprefix(prefix).startswith(self._layout.suspects)
        ]

    def stream(self, selection: Selection = ALL) -> Iterator[StoredRow]:
        """Yield every row: of the live tables, and then of the archives.

        Raises:
            RowsUnreadable: the database cannot be read whole.
        """
        for source in self.live():
            yield from self.of(source, selection)
        for source in self.archives():
            yield from self.of(source, selection)

    def of(self, source: RowSource, selection: Selection = ALL) -> Iterator[StoredRow]:
        """Yield the rows of one table, in the order of the primary key.

        A row that is there all the while is yielded exactly once, whatever happens to others.

        Raises:
            RowsUnreadable: the table cannot be read whole.
        """
        start: tuple[Any, ...] | None = None
        while True:
            page, start = self._page(source, selection, start)
            yield from page
            if start is None:
                return

    def _page(
        self, source: RowSource, selection: Selection, start: tuple[Any, ...] | None
    ) -> tuple[list[StoredRow], tuple[Any, ...] | None]:
        return self._on(source, lambda on, reader: reader.page(on, selection, start))

    def count(self, source: RowSource, selection: Selection = ALL) -> int:
        """How many rows a table has.

        Raises:
            RowsUnreadable: the table cannot be read.
        """
        return self._on(source, lambda on, reader: reader.count(on, selection))

    def again(self, row: StoredRow) -> StoredRow | None:
        """The row as it is now; None if it is gone.

        Raises:
            RowsUnreadable: the table cannot be read.
        """
        return self._on(row.source, lambda on, reader: reader.again(on, row.key))

    def change(self, row: StoredRow, text: str | bytes) -> bool:
        """Put another text in the place of the one that was read, if it is still there.

        Args:
            row: as it was read.
            text: as that of the row: text for text, and bytes for bytes.

        Returns:
            Whether it was; if not, `again` tells what is there now.

        Raises:
            RowsUnreadable: the database did not take it.
        """
        return self._on(row.source, lambda on, reader: reader.change(on, row, text), "written")

    def delete(self, row: StoredRow) -> bool:
        """Delete a row if its text is still the one that was read; whether it was.

        Raises:
            RowsUnreadable: the database did not do it.
        """
        return self._on(row.source, lambda on, reader: reader.delete(on, row), "written")

    def _archived(self, name: str) -> RowTable | None:
        """The table that an archive is a copy of, if it is one of rows."""
        tables = {table.name: table for table in self._layout.tables}
        if name in self._layout.archives:
            return tables[self._layout.archives[name]]
        prefix = self._layout.archive_prefix
        base = name.removeprefix(prefix).partition("__")[0]
        return tables.get(base) if name.startswith(prefix) else None

    def _names(self) -> set[str]:
        schema = self._layout.schema
        return self._transact(
            "the list of tables", lambda on: set(sa.inspect(on).get_table_names(schema=schema))
        )

    def _on(
        self, source: RowSource, work: Callable[[Connection, _Reader], _Done], verb: str = "read"
    ) -> _Done:
        def done(connection: Connection) -> _Done:
            if source.name not in self._known:
                self._known[source.name] = _Reader(connection, source, self._layout)
            return work(connection, self._known[source.name])

        return self._transact(source.name, done, verb)

    def _transact(
        self, what: str, work: Callable[[Connection], _Done], verb: str = "read"
    ) -> _Done:
        """Do something in a transaction; what a driver raises may hold rows, and goes no further.

        Raises:
            RowsUnreadable: it failed; only the class of the driver's error is told.
        """
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except sa.exc.SQLAlchemyError as error:
            fault = type(getattr(error, "orig", None) or error).__name__
        raise RowsUnreadable(
            f"The metadata database could not be {verb} ({what}: {fault}). Its log has the "
            "cause; what was done before stays done, and the command can be run again."
        )


class _Reader:
    """The statements for one table."""

    def __init__(self, connection: Connection, source: RowSource, layout: Layout) -> None:
        self._source = source
        self._is_sqlite = connection.dialect.name == "sqlite"
        metadata = sa.MetaData(schema=layout.schema)
        table = self._table = self._reflected(connection, metadata, source.name)
        described = source.table
        missing = {described.value, described.time, *described.key} - set(table.c.keys())
        if missing:
            raise RowsUnreadable(
                f"The table {source.name} has no column {', '.join(sorted(missing))}, so its rows "
                "cannot be read. Is it a table of Airflow's?"
            )
        self._keys = [table.c[name] for name in described.key]
        self._value: Any = table.c[described.value]
        self._time: Any = table.c[described.time]
        self._is_bytes = isinstance(self._value.type, sa.LargeBinary)
        self._from: Any = table
        #: What of a row's coordinate is in some column.
        self._places = self._coordinate_columns(connection, metadata, layout)

    @staticmethod
    def _reflected(connection: Connection, metadata: sa.MetaData, name: str) -> sa.Table:
        return sa.Table(name, metadata, autoload_with=connection, resolve_fks=False)

    def _coordinate_columns(
        self, connection: Connection, metadata: sa.MetaData, layout: Layout
    ) -> dict[str, Any]:
        tables = [self._table]
        owner = self._source.table.owner
        if owner is not None:
            # The owners of archived rows may be archived beside them.
            _, _, suffix = self._source.name.removeprefix(layout.archive_prefix).partition("__")
            names = [owner.table]
            if self._source.archived:
                names.append(f"{layout.archive_prefix}{owner.table}__{suffix}")
            there = set(sa.inspect(connection).get_table_names(schema=layout.schema))
            tables = [
                self._reflected(connection, metadata, name) for name in names if name in there
            ]
            for table in tables:
                named_by = self._table.c[owner.named_by]
                self._from = self._from.outerjoin(table, table.c[owner.column] == named_by)
        places: dict[str, Any] = {}
        for place in ("dag_id", "run_id", "task_id", "map_index", "region_index", "region_id"):
            columns = [table.c[place] for table in tables if place in table.c]
            if columns:
                places[place] = sa.func.coalesce(*columns) if columns[1:] else columns[0]
        places["key"] = self._table.c["key"]
        region = places.pop("region_id", None)
        if region is not None:
            places["region"] = _text(region)
        self._whole_run = layout.whole_run
        return places

    def _text_of_value(self) -> Any:  # noqa: ANN401 - an expression of whatever type
        """The database's own text of the value."""
        if self._is_sqlite:
            # SQLite keeps what it was given, whatever the column's type; bytes need be no text.
            is_bytes = sa.func.typeof(self._value) == "blob"
            plain = sa.type_coerce(self._value, sa.types.NullType())
            return sa.type_coerce(
                sa.case((is_bytes, plain), else_=_text(self._value)), sa.types.NullType()
            )
        return self._value if self._is_bytes else _text(self._value)

    def _selected(self, selection: Selection) -> list[Any]:
        conditions = []
        for place in ("dag_id", "run_id"):
            wanted = getattr(selection, place)
            if wanted is not None:
                column = self._places.get(place)
                conditions.append(sa.false() if column is None else column == wanted)
        if selection.before is not None:
            before = selection.before.astimezone(UTC)
            if self._is_sqlite:
                # Times are texts there, in UTC.
                text = before.replace(tzinfo=None).isoformat(" ", "microseconds")
                conditions.append(_text(self._time) < text)
            else:
                conditions.append(self._time < before)
        return conditions

    def _from_key(self, start: Iterable[Any]) -> Any:  # noqa: ANN401
        return sa.tuple_(*self._keys) >= self._bound(start)

    def _bound(self, key: Iterable[Any]) -> Any:  # noqa: ANN401
        return sa.tuple_(
            *(sa.literal(part, column.type) for part, column in zip(key, self._keys, strict=True))
        )

    def _at(self, key: tuple[Any, ...]) -> list[Any]:
        return [column == part for column, part in zip(self._keys, key, strict=True)]

    def page(
        self, connection: Connection, selection: Selection, start: tuple[Any, ...] | None
    ) -> tuple[list[StoredRow], tuple[Any, ...] | None]:
        """The rows from a key on, and the key from which to go on; None at the end."""
        conditions = self._selected(selection)
        if start is not None:
            conditions.append(self._from_key(start))
        length = sa.func.length(self._text_of_value())
        ahead = connection.execute(
            sa.select(*self._keys, length)
            .select_from(self._from)
            .where(*conditions)
            .order_by(*self._keys)
            .limit(PAGE_ROWS + 1)
        ).all()
        stop = self._stop(ahead)
        if stop is not None:
            conditions.append(sa.tuple_(*self._keys) < self._bound(stop))
        return self._rows(connection, conditions), stop

    def _stop(self, ahead: Iterable[Any]) -> tuple[Any, ...] | None:
        """Where a page ends: before a key, since the rows of one key stay together."""
        total_bytes, rows = 0, 0
        previous: tuple[Any, ...] | None = None
        for number, (*parts, length) in enumerate(ahead):
            key = tuple(parts)
            is_full = total_bytes + (length or 0) > PAGE_BYTES or number == PAGE_ROWS
            if is_full and previous is not None and key != previous:
                return key
            total_bytes += length or 0
            previous, rows = key, number + 1
        if rows > PAGE_ROWS:
            raise RowsUnreadable(
                f"The table {self._source.name} has the key of one row more than {PAGE_ROWS} "
                "times, so it cannot be read in order. Is it a table of Airflow's?"
            )
        return None

    def count(self, connection: Connection, selection: Selection) -> int:
        counted = (
            sa.select(sa.func.count()).select_from(self._from).where(*self._selected(selection))
        )
        return int(connection.execute(counted).scalar() or 0)

    def again(self, connection: Connection, key: tuple[Any, ...]) -> StoredRow | None:
        return next(iter(self._rows(connection, self._at(key))), None)

    def change(self, connection: Connection, row: StoredRow, text: str | bytes) -> bool:
        value: Any = sa.literal(text, sa.LargeBinary() if isinstance(text, bytes) else sa.Text())
        if not self._is_sqlite and not self._is_bytes:
            value = sa.cast(value, self._value.type)
        changed = connection.execute(
            self._table.update().where(*self._unchanged(row)).values({self._value.name: value})
        )
        return changed.rowcount > 0

    def delete(self, connection: Connection, row: StoredRow) -> bool:
        return connection.execute(self._table.delete().where(*self._unchanged(row))).rowcount > 0

    def _unchanged(self, row: StoredRow) -> list[Any]:
        if row.text is None:
            return [*self._at(row.key), self._value.is_(sa.null())]
        kind = sa.LargeBinary() if isinstance(row.text, bytes) else sa.Text()
        same = self._text_of_value() == sa.literal(row.text, kind)
        return [*self._at(row.key), same]

    def _rows(self, connection: Connection, conditions: list[Any]) -> list[StoredRow]:
        places = list(self._places)
        found = connection.execute(
            sa.select(
                *self._keys,
                self._text_of_value().label("text_of_value"),
                _text(self._time).label("time_of_row"),
                *(self._places[place].label(f"place_{place}") for place in places),
            )
            .select_from(self._from)
            .where(*conditions)
            .order_by(*self._keys)
        )
        width = len(self._keys)
        return [
            StoredRow(
                self._source,
                tuple(parts[:width]),
                _as_held(parts[width]),
                self._where(dict(zip(places, parts[width + 2 :], strict=True))),
                _moment(parts[width + 1]),
            )
            for parts in found
        ]

    def _where(self, held: dict[str, Any]) -> Expected:
        kind = self._source.table.kind
        if kind == "asset":
            # Its own table says neither name nor URI, and it may be sealed by either.
            return Expected("asset", None, None, -1, held["key"])
        run_id, index = held.get("run_id"), held.get("map_index")
        region = str(held.get("region") or "").replace("-", "")
        in_region = bool(region) and region != self._whole_run
        if index is None and (kind == "task" or not in_region):
            index = held.get("region_index")
        if in_region and kind == "task":
            run_id = f"{run_id}/{_dashed(region)}"
        return Expected(held.get("dag_id"), run_id, held.get("task_id"), index, held["key"])


def _text(column: Any) -> Any:  # noqa: ANN401
    return sa.cast(column, sa.Text())


def _as_held(value: Any) -> Text:  # noqa: ANN401
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
