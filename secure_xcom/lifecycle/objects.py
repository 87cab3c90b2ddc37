"""The objects of a deployment's folders, and which of them no row names.

What was listed lies in a temporary file without a name, and not in memory: names of objects, which
are hashes. What is in memory is what rows name, 32 bytes each.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from secure_xcom.errors import SecureXComError
from secure_xcom.format.names import deployment, is_object_name, is_state_name
from secure_xcom.format.reference import STATE_MARKS, STATE_STORES, VERSION
from secure_xcom.lifecycle import content
from secure_xcom.lifecycle.names import NAME_BYTES, Names, Sketch
from secure_xcom.stores.protocol import Entry, Store
from secure_xcom.threads import Crew

if TYPE_CHECKING:
    from secure_xcom.lifecycle.rows import Rows, StoredRow

_DIGITS = "0123456789abcdef"
_GENERATION_BYTES = 8
_READ_RECORDS = 4096
#: How many listings are asked for side by side.
_LISTINGS = 8
#: How many objects, or rows, pass between two words on how far it is.
_TOLD_EACH = 1000

#: Is told what was counted, and how many of it by now.
Told = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Folder:
    """The objects of one deployment in one store: XComs, or the states of a kind."""

    store: Store
    name: str
    is_states: bool

    @property
    def parts(self) -> int:
        """How many times 64 digits a name has behind the folder's."""
        return 3 if self.is_states else 1

    def fits(self, name: str) -> bool:
        """Whether a name has the form that is written."""
        return is_state_name(name) if self.is_states else is_object_name(name)


def folders(store_uri: str, instance: str, open_store: Callable[[str], Store]) -> list[Folder]:
    """The folders of a deployment: of XComs, and of both kinds of states.

    Args:
        store_uri: of the XComs.
        instance: the deployment's, without a mark of states.
        open_store: gives the store of a URI.
    """
    states = [
        Folder(
            open_store(store_uri + STATE_STORES[kind]),
            deployment(instance + STATE_MARKS[kind]),
            is_states=True,
        )
        for kind in STATE_STORES
    ]
    return [Folder(open_store(store_uri), deployment(instance), is_states=False), *states]


class Listed(NamedTuple):
    """An object of a listing."""

    folder: Folder
    #: Its name in the store.
    name: str
    generation: str
    #: The last 64 digits of its name: what a row has to have to name it.
    digits: bytes


class Listing:
    """Objects in a temporary file, of some folders. Threads may add to it."""

    def __init__(self) -> None:
        self._folders: list[Folder] = []
        self._files: dict[int, tempfile.SpooledTemporaryFile[bytes]] = {}
        self._lock = threading.Lock()
        self.count = 0
        self.sketch = Sketch()

    def add(self, folder: Folder, name: str, generation: str) -> None:
        """Add an object."""
        digits = bytes.fromhex(name.partition("/")[2].replace("/", ""))
        record = digits + int(generation).to_bytes(_GENERATION_BYTES, "big")
        with self._lock:
            if folder not in self._folders:
                self._folders.append(folder)
            number = self._folders.index(folder)
            if number not in self._files:
                self._files[number] = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115
            self._files[number].write(record)
            self.sketch.add(digits[-NAME_BYTES:])
            self.count += 1

    def __iter__(self) -> Iterator[Listed]:
        for number, file in self._files.items():
            folder = self._folders[number]
            width = folder.parts * NAME_BYTES + _GENERATION_BYTES
            at = 0
            while True:
                file.seek(at)
                block = file.read(width * _READ_RECORDS)
                if not block:
                    break
                at += len(block)
                for first in range(0, len(block), width):
                    yield _listed(folder, block[first : first + width])

    def close(self) -> None:
        """Let go of the file."""
        for file in self._files.values():
            file.close()


def _listed(folder: Folder, record: bytes) -> Listed:
    digits, generation = record[:-_GENERATION_BYTES], record[-_GENERATION_BYTES:]
    parts = (digits[at : at + NAME_BYTES] for at in range(0, len(digits), NAME_BYTES))
    return Listed(
        folder,
        "/".join((folder.name, *(part.hex() for part in parts))),
        str(int.from_bytes(generation, "big")),
        digits[-NAME_BYTES:],
    )


@dataclass(slots=True)
class Census:
    """What a listing came upon."""

    #: All objects of the folders.
    objects: int = 0
    #: Written after the time that was asked for.
    young: int = 0
    #: Of a version of the format that this release does not know, or of another form of name.
    other: int = 0
    #: When the last one was written, by the store's clock, in seconds since 1970.
    newest: float = 0.0


def list_objects(  # noqa: PLR0913 - what a listing is told by
    folder: Folder,
    before: float,
    listing: Listing,
    told: Told,
    *,
    beginning: str = "",
    all_names: Names | None = None,
) -> Census:
    """List a folder side by side; what was written before a time goes into a listing.

    Args:
        folder: which one.
        before: the time, by the store's clock, in seconds since 1970.
        listing: gets the objects.
        told: is told how many there are by now.
        beginning: the first hexadecimal digits of the names that are wanted; empty for all.
        all_names: gets the names of all objects, old and young.

    Raises:
        StoreError: the store could not be listed whole.
    """
    census = Census()
    lock = threading.Lock()

    def take(prefix: str) -> None:
        for entry in folder.store.entries(prefix):
            old = _is_old(entry, before, folder)
            with lock:
                census.objects += 1
                census.newest = max(census.newest, entry.created)
                census.young += old is None
                if all_names is not None and folder.fits(entry.name):
                    all_names.add(bytes.fromhex(entry.name[-2 * NAME_BYTES :]))
                census.other += old is False
                if census.objects % _TOLD_EACH == 0:
                    told("objects listed", census.objects)
            if old:
                listing.add(folder, entry.name, entry.generation)

    with Crew(_LISTINGS, "secure-xcom-list") as crew:
        prefixes = [f"{folder.name}/{beginning}{digit}" for digit in _DIGITS]
        for listed in [crew.submit(lambda prefix=prefix: take(prefix)) for prefix in prefixes]:  # type: ignore[misc]
            listed.result()
    return census


def _is_old(entry: Entry, before: float, folder: Folder) -> bool | None:
    """Whether it is for a collection to look at; None where it is too young to tell."""
    if entry.format_version not in (None, str(VERSION)) or not folder.fits(entry.name):
        return False
    return True if entry.created < before else None


class Unnameable(SecureXComError):  # noqa: N818 - it says what it is, as its kin do
    """A row claims to be sealed, and what object it has cannot be told."""


@dataclass(slots=True)
class Reading:
    """One reading of all rows: what they name of a listing."""

    names: Names
    rows: int = 0


def read_names(rows: Rows, sketch: Sketch, told: Told) -> Reading:
    """Read all rows, and take down what they name, as far as a listing may have it.

    Raises:
        RowsUnreadable: the database could not be read whole.
        Unnameable: a row has a name that cannot be told.
    """
    unknown = rows.unknown()
    if unknown:
        raise Unnameable(
            f"The database has tables that are called as if they held XComs, and that this "
            f"release does not know: {', '.join(unknown)}. Rows in them may name objects. Use a "
            "release of secure-xcom that knows this Airflow, or drop or rename what is not "
            "Airflow's."
        )
    reading = Reading(Names())
    for row in rows.stream():
        reading.rows += 1
        if reading.rows % _TOLD_EACH == 0:
            told("rows read", reading.rows)
        named = False
        for name in content.names(row.text):
            named = True
            if sketch.may_have(name):
                reading.names.add(name)
        if not named:
            _check_nameless(row)
    return reading


def _check_nameless(row: StoredRow) -> None:
    """Raise if a row without a name claims to be sealed, and is not known to have no object."""
    held = content.read(row)
    # A later version names its objects in the same way: one without a name has none.
    if held.state != "broken" or held.other_version:
        return
    where = row.where
    raise Unnameable(
        f"A row in {row.source.name} claims to be sealed, and is broken: whether it has an object "
        f"cannot be told (dag {where.dag_id!r}, run {where.run_id!r}, task {where.task_id!r}, map "
        f"index {where.map_index}, key {where.key!r}). Look at it with `secure-xcom inspect`, and "
        "delete it or clear its task."
    )
