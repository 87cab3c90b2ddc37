"""`secure-xcom scan`: what rows there are, under which keys, and whether objects are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from secure_xcom.errors import SecureXComError
from secure_xcom.lifecycle import content
from secure_xcom.lifecycle.content import Content
from secure_xcom.lifecycle.names import NAME_BYTES, Names
from secure_xcom.lifecycle.objects import Folder, Listing, Told, list_objects
from secure_xcom.lifecycle.tables import ALL, Selection
from secure_xcom.model import Expected, Offloaded, StateObject

if TYPE_CHECKING:
    from secure_xcom.lifecycle.rows import Rows, StoredRow

_TOLD_EACH = 1000
#: How many rows are named that something is wrong with, of each kind.
SHOWN = 20
#: A row that is about as new as the listing may have an object that is newer.
_MARGIN = timedelta(minutes=5)


@dataclass(slots=True)
class Table:
    """The rows of one table."""

    archived: bool
    states: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Objects:
    """The objects of a deployment, compared with its rows."""

    total: int = 0
    named: int = 0
    young: int = 0
    orphans: int = 0
    other: int = 0


@dataclass(slots=True)
class Scanned:
    """What a scan counted."""

    at: datetime
    tables: dict[str, Table] = field(default_factory=dict)
    #: By KEK and version hint, neither of them authenticated.
    keys: Counter[tuple[str, str]] = field(default_factory=Counter)
    opened: int = 0
    #: Rows that do not open, by the class of the error.
    failures: Counter[str] = field(default_factory=Counter)
    objects: Objects | None = None
    #: Rows whose object is not there.
    missing: int = 0
    #: The first rows of each kind that something is wrong with.
    wrong: list[tuple[str, str, Expected]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many there are, archived ones included."""
        return sum(table.states.total() for table in self.tables.values())

    @property
    def broken(self) -> int:
        """How many claim to be sealed, and are nothing that this release reads."""
        return sum(table.states["broken"] for table in self.tables.values())

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with any row."""
        return not (self.broken or self.failures.total() or self.missing)


@dataclass(frozen=True, slots=True)
class Compared:
    """What rows are compared with."""

    folders: list[Folder]
    #: An object younger than this may belong to a push that is under way.
    grace_seconds: float


def scan(  # noqa: PLR0913 - each is a thing to compare rows with
    rows: Rows,
    legacy_prefixes: tuple[str, ...],
    *,
    selection: Selection = ALL,
    check: Callable[[StoredRow, Content], None] | None = None,
    compared: Compared | None = None,
    told: Told = lambda _what, _count: None,
) -> Scanned:
    """Count the rows of a deployment.

    Args:
        rows: the deployment's.
        legacy_prefixes: what the paths begin with that former backends wrote.
        selection: which rows; all of them where they are compared with objects.
        check: opens a sealed row; None if none is to be opened.
        compared: the objects that rows are compared with; None if they are not.
        told: is told how far it is.

    Raises:
        SecureXComError: rows or objects could not be read whole.
    """
    found = Scanned(datetime.now(UTC))

    def read(listed: _Listed | None) -> None:
        for source in rows.live():
            found.tables[source.name] = Table(archived=False)
        for number, row in enumerate(rows.stream(selection), 1):
            if number % _TOLD_EACH == 0:
                told("rows read", number)
            _count(found, row, content.read(row, legacy_prefixes), check, listed)

    if compared is None:
        read(None)
        return found
    with closing(Listing()) as listing:
        listed = _Listed(compared, listing, found.at)
        objects = found.objects = Objects()
        for folder in compared.folders:
            before = folder.store.now() - compared.grace_seconds
            census = list_objects(folder, before, listing, told, all_names=listed.names)
            objects.total += census.objects
            objects.young += census.young
            objects.other += census.other
        read(listed)
        for one in listing:
            if one.digits in listed.named:
                objects.named += 1
            else:
                objects.orphans += 1
    return found


class _Listed:
    """What was listed, and what rows name of it."""

    def __init__(self, compared: Compared, listing: Listing, at: datetime) -> None:
        self.names = Names()
        self.named = Names()
        self._sketch = listing.sketch
        self._places = {(folder.store.uri, folder.name) for folder in compared.folders}
        self._at = at

    def take(self, row: StoredRow, held: Content) -> bool:
        """Take down what a row names; whether its own object is there, as far as can be told."""
        for name in content.names(row.text):
            if self._sketch.may_have(name):
                self.named.add(name)
        reference = held.reference
        if not isinstance(reference, Offloaded | StateObject):
            return True
        place = (reference.store_uri, reference.name.partition("/")[0])
        if place not in self._places or row.written is None:
            return True
        if row.written >= self._at - _MARGIN:
            return True
        return bytes.fromhex(reference.name[-2 * NAME_BYTES :]) in self.names


def _count(
    found: Scanned,
    row: StoredRow,
    held: Content,
    check: Callable[[StoredRow, Content], None] | None,
    listed: _Listed | None,
) -> None:
    """Count one row."""
    table = found.tables.setdefault(row.source.name, Table(row.source.archived))
    table.states[held.state] += 1
    if held.preamble is not None:
        wrapped = held.preamble.unverified_wrapped
        found.keys[wrapped.kek_uri, wrapped.unverified_version] += 1
    if held.state == "broken":
        _note(found, "broken", row, found.broken)
    if listed is not None and not listed.take(row, held):
        found.missing += 1
        _note(found, "missing", row, found.missing)
    if check is not None and held.reference is not None:
        try:
            check(row, held)
            found.opened += 1
        except SecureXComError as error:
            kind = type(error).__name__
            found.failures[kind] += 1
            _note(found, kind, row, found.failures[kind])


def _note(found: Scanned, what: str, row: StoredRow, count: int) -> None:
    if count <= SHOWN:
        found.wrong.append((what, row.source.name, row.where))
