"""`secure-xcom gc`: objects that no row names are deleted, and nothing else is.

The order is what makes it safe. The time is asked first, and only objects count that were older
than the grace by then: a row appears after its object, and a push takes less than the grace. What
was listed is compared with all rows twice. The mark is raised before the first deletion, so that
of a database and its copy only one gets through. Each object is deleted by its generation: a state
that was written again meanwhile is another one.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom import audit
from secure_xcom.errors import ConfigError, SecureXComError
from secure_xcom.lifecycle.mark import Mark, Memory
from secure_xcom.lifecycle.objects import (
    Listed,
    Listing,
    Told,
    folders,
    list_objects,
    read_names,
)
from secure_xcom.lifecycle.terms import GRACE_SECONDS, SHARE
from secure_xcom.stores.protocol import Store
from secure_xcom.threads import Crew
from secure_xcom.uris import BucketPrefix, parse_store

if TYPE_CHECKING:
    from secure_xcom.lifecycle.rows import Rows

#: An audit line for each so many objects.
BATCH = 1000
_DELETIONS = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of a collection."""

    store_uri: str
    instance: str
    #: Former names of this deployment that its settings trust.
    trusted_instances: tuple[str, ...] = ()
    grace_seconds: float = GRACE_SECONDS
    #: Whether the grace may be under `GRACE_SECONDS`.
    short_grace: bool = False
    #: The name that the deployment had before; its folders are taken, too.
    former_instance: str | None = None
    adopt: bool = False
    #: The largest part of all objects that may go at once.
    share: float = SHARE
    #: Whether a database without a single row may be the whole truth.
    no_rows: bool = False
    dry_run: bool = False
    #: Where to write what would be deleted, instead of deleting it.
    manifest: Path | None = None
    #: The first hexadecimal digits of the names that are looked at; empty for all.
    beginning: str = ""


@dataclass(slots=True)
class Collected:
    """What a collection came to."""

    objects: int = 0
    young: int = 0
    other: int = 0
    rows: int = 0
    #: Old enough, and named by no row at the first reading.
    orphans: int = 0
    #: Those of them that a row named at the second reading.
    named_later: int = 0
    deleted: int = 0
    #: Deleted or replaced by somebody else in the meantime.
    gone: int = 0
    listed_in_manifest: int = 0
    #: SHA-256 over what was deleted or listed, in order: `name#generation` and a line end.
    digest: str = ""
    #: Why deletions ended before all orphans were gone.
    failure: str = ""
    #: The numbers of the marks that were left.
    marks: list[int] = field(default_factory=list)


def collect(
    wanted: Wanted,
    rows: Rows,
    open_store: Callable[[str], Store],
    memory: Memory,
    told: Told = lambda _what, _count: None,
) -> Collected:
    """Delete the objects of a deployment that no row names.

    Args:
        wanted: what is asked for.
        rows: the deployment's.
        open_store: gives the store of a URI.
        memory: the database's, of the marks that it left.
        told: is told how far it is.

    Raises:
        ConfigError: it is refused; the message says how to go on.
        SecureXComError: rows or objects could not be read whole, and nothing was deleted.
    """
    _check(wanted)
    former = [] if wanted.former_instance is None else [wanted.former_instance]
    store = open_store(wanted.store_uri)
    marks = [Mark(store, instance, memory) for instance in (wanted.instance, *former)]
    for mark in marks:
        mark.check(adopt=wanted.adopt, is_former=mark is not marks[0])
    with ExitStack() as stack:
        run = _Run(wanted, rows, open_store, told, stack)
        done = run.done
        # Before anything is listed: what is written from now on is young.
        before = store.now() - wanted.grace_seconds
        listing = run.listed(before)
        orphans = run.unnamed(listing)
        done.orphans = orphans.count
        _check_share(wanted, done)
        if orphans.count:
            orphans = run.unnamed(orphans)
            done.named_later = done.orphans - orphans.count
        if wanted.dry_run:
            return done
        done.marks = [mark.raise_() for mark in marks]
        if wanted.manifest is None:
            _delete(orphans, done, told)
        else:
            _write_manifest(orphans, wanted.manifest, done)
    return done


class _Run:
    """The steps of one collection that look, and change nothing."""

    def __init__(
        self,
        wanted: Wanted,
        rows: Rows,
        open_store: Callable[[str], Store],
        told: Told,
        stack: ExitStack,
    ) -> None:
        self.done = Collected()
        self._wanted = wanted
        self._rows = rows
        self._open_store = open_store
        self._told = told
        self._stack = stack

    def listed(self, before: float) -> Listing:
        """The objects of all folders that were written before a time."""
        listing = self._listing()
        self._list(self._wanted.instance, before, listing)
        former = self._wanted.former_instance
        if former is not None and self._list(former, before, listing) >= before:
            raise ConfigError(
                f"The deployment {former!r} has written objects within the grace: it still lives, "
                "or was renamed not long ago. Its objects belong to another database while it "
                "lives. If it was renamed, wait until the grace has passed since its last task."
            )
        return listing

    def _list(self, instance: str, before: float, listing: Listing) -> float:
        """List a deployment's folders; when the last object there was written."""
        newest = 0.0
        for folder in folders(self._wanted.store_uri, instance, self._open_store):
            census = list_objects(
                folder, before, listing, self._told, beginning=self._wanted.beginning
            )
            self.done.objects += census.objects
            self.done.young += census.young
            self.done.other += census.other
            newest = max(newest, census.newest)
        return newest

    def unnamed(self, listing: Listing) -> Listing:
        """What of a listing no row names."""
        reading = read_names(self._rows, listing.sketch, self._told)
        self.done.rows = reading.rows
        if not reading.rows and not self._wanted.no_rows:
            raise ConfigError(
                "The database has no rows at all, so that every object would go. If it is the "
                "right one, and all of its XComs were deleted, add --no-rows."
            )
        left = self._listing()
        for one in listing:
            if one.digits not in reading.names:
                left.add(one.folder, one.name, one.generation)
        return left

    def _listing(self) -> Listing:
        listing = Listing()
        self._stack.callback(listing.close)
        return listing


def _check(wanted: Wanted) -> None:
    if not wanted.instance:
        raise ConfigError(
            "`instance` is empty, so the objects of this deployment cannot be told from those of "
            "another one without a name. Set it ([secure_xcom] instance), and let the objects that "
            "were written without a name go by a lifecycle rule of the bucket."
        )
    if wanted.grace_seconds < GRACE_SECONDS and not wanted.short_grace:
        raise ConfigError(
            "Objects younger than 24 hours may belong to a push that is under way, or that was "
            "deferred. If no push of this deployment takes that long, add --short-grace."
        )
    former = wanted.former_instance
    if former is not None and (
        not former or former == wanted.instance or former not in wanted.trusted_instances
    ):
        raise ConfigError(
            f"--former-instance {former!r} is no former name of this deployment: it has to stand "
            "in `trusted_instances`, and not in `instance`."
        )
    if wanted.manifest is not None and not isinstance(parse_store(wanted.store_uri), BucketPrefix):
        raise ConfigError(
            "A manifest is for Storage Batch Operations of Cloud Storage, and the store is a "
            "directory. Run it without --manifest."
        )


def _check_share(wanted: Wanted, done: Collected) -> None:
    if done.orphans > wanted.share * done.objects:
        raise ConfigError(
            f"{done.orphans} of {done.objects} objects have no row, which is more than --max-share "
            f"{wanted.share:g}. If that is what is to be expected, such as after a long time "
            "without gc, or after `airflow db clean`, run it with --max-share 1."
        )


def _batches(orphans: Iterable[Listed]) -> Iterator[list[Listed]]:
    iterator = iter(orphans)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _delete(orphans: Listing, done: Collected, told: Told) -> None:
    """Delete side by side, batch by batch; each batch leaves its line in the audit log."""
    whole = hashlib.sha256()
    with Crew(_DELETIONS, "secure-xcom-delete") as crew:
        for batch in _batches(orphans):
            futures = [crew.submit(partial(_delete_one, one)) for one in batch]
            deleted: list[Listed] = []
            for one, future in zip(batch, futures, strict=True):
                try:
                    if future.result():
                        deleted.append(one)
                    else:
                        done.gone += 1
                except SecureXComError as error:
                    done.failure = done.failure or str(error)
            lines = "".join(map(_line, deleted)).encode()
            whole.update(lines)
            done.deleted += len(deleted)
            done.digest = whole.hexdigest()
            audit.changed("gc", "objects", len(deleted), hashlib.sha256(lines).hexdigest())
            told("objects deleted", done.deleted)
            if done.failure:
                return


def _delete_one(one: Listed) -> bool:
    return one.folder.store.delete(one.name, generation=one.generation)


def _line(one: Listed) -> str:
    return f"{one.folder.store.uri}/{one.name}#{one.generation}\n"


def _write_manifest(orphans: Iterable[Listed], path: Path, done: Collected) -> None:
    """Write what Storage Batch Operations takes: bucket, name and generation of each object.

    Raises:
        ConfigError: there is something of that name, or it cannot be written.
    """
    whole = hashlib.sha256()
    try:
        with path.open("x", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("bucket", "name", "generation"))
            for one in orphans:
                place = parse_store(one.folder.store.uri)
                if isinstance(place, BucketPrefix):
                    writer.writerow((place.bucket, place.object_name(one.name), one.generation))
                    whole.update(_line(one).encode())
                    done.listed_in_manifest += 1
    except OSError as error:
        raise ConfigError(
            f"The manifest {str(path)!r} cannot be written: {error.strerror}. Name a new file."
        ) from error
    done.digest = whole.hexdigest()
    audit.changed("gc", "manifest", done.listed_in_manifest, done.digest)
