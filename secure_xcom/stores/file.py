"""Objects in a directory: `file:///absolute/directory`, for laptops and tests.

An object is written aside, synced, and then linked to its name, which fails if the name is taken,
or renamed to it, which replaces what has the name. So it appears whole or not at all, also after a
crash. The link or the renaming decides: what fails before it leaves the name as it was, and what
fails after it is a warning. Directories are opened one inside the other without following links,
so no name leads out of the store.

What is written aside lies in the store's own directory, under a hidden name. A process that is
killed leaves it there; the next write to the store removes it after `GRACE_SECONDS`.

A generation is the file's time of modification in nanoseconds, set when the file is written: to
the clock's, or where that is not later than the replaced file's, to the next one after it. Who
replaces or deletes holds a lock on the directory meanwhile, so of two writers the second sees the
first one's file. Nothing here is protected against who may write to the directory; the seal is.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, TypeVar

import google_crc32c

from secure_xcom.errors import (
    ConfigError,
    FormatError,
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Checksummed, errors_of_source_first
from secure_xcom.stores.names import is_name
from secure_xcom.stores.protocol import Damaged, Entry, Stored
from secure_xcom.uris import FILE, parse_store

BLOCK_BYTES = 1_048_576
#: How long nothing must have been written to what a killed process left before it is removed. A
#: push writes all the time, so one that lives is never this old.
GRACE_SECONDS = 86_400

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DENIED = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV)
)
_NOT_AN_OBJECT = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO))
#: How often a directory may vanish, emptied by a deletion, before a file is in it.
_ATTEMPTS = 100
#: How many nanoseconds later than the replaced one a file may have to be, as a power of two: file
#: systems keep times to the second or two, where not more finely.
_STEPS = 33
# No object's name begins with a dot.
_ASIDE = re.compile(r"\.[0-9a-f]{32}")
#: In how many directories a write that finds a killed one's file looks for empty ones.
_SWEPT_FOLDERS = 1000

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class _Aside(NamedTuple):
    """A file that is complete and has no name yet, and the store's directory, which it lies in."""

    name: str
    file: int
    root: int


class _OtherGeneration(Exception):  # noqa: N818 - nobody outside sees it
    """A name has another file than the one that was to be replaced."""


class Directory:
    """A directory of objects; threads and processes may share it.

    Args:
        uri: `file:///absolute/directory`. It is created at the first write.

    Raises:
        ConfigError: the URI does not name a directory by its absolute path.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        root = parse_store(uri)
        if not isinstance(root, Path):
            raise ConfigError(f"{uri!r} names no directory; {FILE}/absolute/directory does.")
        self._root = root

    def __repr__(self) -> str:
        return f"Directory({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the store was opened by."""
        return self._uri

    def create(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        metadata: Mapping[str, str],
    ) -> Stored:
        """Write a new object (`Store.create`). A file has no place for metadata."""
        del metadata
        return self._write(name, make_chunks, self._link)

    def replace(self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Write an object in the place of another one (`Store.replace`)."""
        del metadata
        return self._write(name, lambda: data, self._rename)

    def exchange(
        self, name: str, data: Sequence[Buffer], metadata: Mapping[str, str], *, generation: str
    ) -> Stored | None:
        """Write an object in the place of one generation (`Store.exchange`)."""
        del metadata
        with suppress(_OtherGeneration):
            return self._write(
                name, lambda: data, lambda aside, name: self._rename(aside, name, generation)
            )
        return None

    def _write(
        self,
        name: str,
        make_chunks: Callable[[], Iterable[Buffer]],
        publish: Callable[[_Aside, str], str],
    ) -> Stored:
        self._components(name)
        attempt = Checksummed(make_chunks)
        with errors_of_source_first([attempt]), self._errors("write", name), ExitStack() as stack:
            aside = _unless_removed(lambda: self._create_aside(stack))
            for block in attempt:
                write_all(aside.file, block)
            generation = _unless_removed(lambda: publish(aside, name))
        return Stored(generation, attempt.length_bytes, attempt.crc32c)

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object in blocks of `BLOCK_BYTES` (`Store.get`).

        There is but the live one, so the generation is that of no other.
        """
        del generation
        with self._errors("read", name), ExitStack() as stack:
            file = self._open(stack, name)
            yield from _blocks(file, length_bytes, crc32c)

    def fetch(self, name: str) -> tuple[Stored, Iterator[Buffer]]:
        """The live object of a name (`Store.fetch`). It is read once more for its checksum.

        A directory that is missing holds nothing: one may ask before the first write.
        """
        fetched = self._fetch(name)
        return next(fetched), fetched

    def _fetch(self, name: str) -> Iterator[Any]:
        """Yield what the object is, and then its blocks."""
        with self._errors("read", name), ExitStack() as stack:
            try:
                file = self._open(stack, name)
            except FileNotFoundError:
                raise self._no_object(name) from None
            stored = _inspected(file)
            yield stored
            os.lseek(file, 0, os.SEEK_SET)
            yield from _blocks(file, stored.length_bytes, stored.crc32c)

    def beginning(self, name: str, length_bytes: int) -> bytes:
        """The first bytes of an object (`Store.beginning`)."""
        with self._errors("read", name), ExitStack() as stack:
            try:
                file = self._open(stack, name)
            except FileNotFoundError:
                raise self._no_object(name) from None
            return os.read(file, length_bytes)

    def find(self, name: str) -> Stored | None:
        """What has that name now (`Store.find`). It is read for its checksum."""
        with self._errors("read", name), ExitStack() as stack:
            try:
                return _inspected(self._open(stack, name))
            except FileNotFoundError:
                return None

    def delete(self, name: str, *, generation: str) -> bool:
        """Delete an object, and the directories that are empty then (`Store.delete`)."""
        *parents, leaf = self._components(name)
        with self._errors("delete", name), ExitStack() as stack:
            try:
                folders = [_opened(stack, self._root, _DIRECTORY)]
                for parent in parents:
                    folders.append(_opened(stack, parent, _DIRECTORY, folders[-1]))
                with _locked(folders[-1]):
                    status = os.stat(leaf, dir_fd=folders[-1], follow_symlinks=False)
                    if str(status.st_mtime_ns) != generation or not stat.S_ISREG(status.st_mode):
                        return False
                    os.unlink(leaf, dir_fd=folders[-1])
            except FileNotFoundError:
                return False
            with _tidying(
                f"{self._of(name)} is deleted, but its directory could not be synced; if the "
                "machine stops now, it may be there again"
            ):
                os.fsync(folders[-1])
            _remove_empty(folders, parents)
            return True

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder (`Store.objects`). Each is read for its checksum.

        What cannot be an object is passed over and not opened: links, pipes, sockets, devices,
        and names that are never given. What can be one and does not open is an error.
        """
        parents = self._components(folder.removesuffix("/"))
        with self._errors("list", folder), ExitStack() as stack:
            try:
                root = _opened(stack, self._root, _DIRECTORY)
            except FileNotFoundError:
                return
            try:
                top = self._open_folder(stack, parents, root)
            except (FileNotFoundError, NotADirectoryError):
                return
            yield from _objects(top, folder)

    def entries(self, beginning: str) -> Iterator[Entry]:
        """Yield what a directory lists (`Store.entries`), by the files' times of modification."""
        folder, _, rest = beginning.rpartition("/")
        parents = self._components(folder)
        if rest:
            self._components(rest)
        with self._errors("list", beginning), ExitStack() as stack:
            try:
                top = self._open_folder(stack, parents, _opened(stack, self._root, _DIRECTORY))
            except (FileNotFoundError, NotADirectoryError):
                return
            yield from _entries(top, f"{folder}/", rest)

    def now(self) -> float:
        """The clock that files get their times from, which is this machine's (`Store.now`)."""
        return time.time()

    def _of(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _components(self, name: str) -> list[str]:
        if not is_name(name):
            raise FormatError(f"{name[:200]!r} is not the name of an object.")
        return name.split("/")

    def _open(self, stack: ExitStack, name: str) -> int:
        *parents, leaf = self._components(name)
        folder = self._open_folder(stack, parents, _opened(stack, self._root, _DIRECTORY))
        file = _opened(stack, leaf, os.O_RDONLY | os.O_NONBLOCK, folder)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENXIO, "not a file")
        return file

    def _open_folder(self, stack: ExitStack, parents: list[str], folder: int) -> int:
        for parent in parents:
            folder = _opened(stack, parent, _DIRECTORY, folder)
        return folder

    def _create_aside(self, stack: ExitStack) -> _Aside:
        """Create a file aside; it is closed with the stack, and removed where it has no name."""
        root = _create_root(stack, self._root)
        _sweep(root)
        name = f".{secrets.token_hex(16)}"
        stack.callback(self._remove_aside, name, root)
        file = _opened(stack, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, root)
        return _Aside(name, file, root)

    def _remove_aside(self, aside: str, root: int) -> None:
        with (
            _tidying(
                f"The temporary file {self._of(aside)} could not be removed; a later write is to"
            ),
            suppress(FileNotFoundError),
        ):
            os.unlink(aside, dir_fd=root)

    def _link(self, aside: _Aside, name: str) -> str:
        """Give a complete file its name, if it is free; the file's generation."""
        is_there = False
        with self._made_folders(aside.root, name) as (leaf, folder):
            try:
                generation = _stamp(aside.file, 0)
                with _lost_answer(aside.file, leaf, folder):
                    os.link(
                        aside.name,
                        leaf,
                        src_dir_fd=aside.root,
                        dst_dir_fd=folder,
                        follow_symlinks=False,
                    )
                is_there = True
                self._sync_folder(folder, name)
            except FileExistsError:
                raise StoreError(
                    f"The object {self._of(name)} exists already; it was left as it is. Names are "
                    "drawn at random: find out who else writes to the store."
                ) from None
            except BaseException:
                # Only what interrupts the caller, such as its time-out, comes here after the link.
                if is_there:
                    with suppress(OSError):
                        os.unlink(leaf, dir_fd=folder)
                raise
            return generation

    def _rename(self, aside: _Aside, name: str, only: str | None = None) -> str:
        """Give a complete file its name, in another's place; the file's generation.

        Raises:
            _OtherGeneration: the file that has the name is not that of `only`.
        """
        with self._made_folders(aside.root, name) as (leaf, folder), _locked(folder):
            former_ns = _modified_ns(leaf, folder)
            if only not in (None, str(former_ns)):
                raise _OtherGeneration
            generation = _stamp(aside.file, former_ns)
            with _lost_answer(aside.file, leaf, folder):
                os.rename(aside.name, leaf, src_dir_fd=aside.root, dst_dir_fd=folder)
            self._sync_folder(folder, name)
            return generation

    @contextmanager
    def _made_folders(self, root: int, name: str) -> Iterator[tuple[str, int]]:
        """The last part of a name, and its directory, which is created and goes if it is empty."""
        *parents, leaf = self._components(name)
        folders = [root]
        with ExitStack() as stack:
            try:
                for parent in parents:
                    _create_folder(parent, folders[-1])
                    folders.append(_opened(stack, parent, _DIRECTORY, folders[-1]))
                yield leaf, folders[-1]
            except BaseException:
                _remove_empty(folders, parents)
                raise

    def _sync_folder(self, folder: int, name: str) -> None:
        with _tidying(
            f"{self._of(name)} is written, but its directory could not be synced; if the machine "
            "stops now, it may be lost, and reads of it fail"
        ):
            os.fsync(folder)

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        """Turn the system's errors into those of this package."""
        try:
            yield
        except OSError as error:
            if error.errno is None:
                # Not the system's: a signal's handler of the caller raises `TimeoutError`.
                raise
            raise self._translated(error, verb, name) from error

    def _translated(self, error: OSError, verb: str, name: str) -> SecureXComError:
        failed = f"Could not {verb} {self._of(name)} ({os.strerror(error.errno or 0)})"
        if error.errno in _DENIED:
            return StoreAccessDenied(
                f"{failed}: this process runs as user {os.getuid()}, who may not do so, or the "
                "file system does not allow it (it must allow hard links, and hold the whole "
                "store). Check the owner and mode of the store's directory."
            )
        if error.errno == errno.ENOENT and verb == "read":
            if not os.path.isdir(self._root):  # noqa: PTH112 - `Path.is_dir` raises
                return StoreUnavailable(
                    f"There is no directory {self._root}. Check `store_uri`, and that the disk "
                    "is mounted on this machine: workers share a `file://` store only if they "
                    "share its directory."
                )
            return self._no_object(name)
        if error.errno in _NOT_AN_OBJECT:
            return StoreError(
                f"{failed}: what lies there is not an object, or a link stands on the way, which "
                "is never followed. Find out who writes to the store's directory."
            )
        return StoreUnavailable(
            f"{failed}. Check the disk and the limits of this process, then try again."
        )

    def _no_object(self, name: str) -> ObjectNotFound:
        return ObjectNotFound(
            f"There is no object {self._of(name)}. It was deleted, by a purge or a person; "
            "clear the task that wrote it to produce the value again."
        )


def _opened(stack: ExitStack, path: str | Path, flags: int, folder: int | None = None) -> int:
    # The root may be a link: it is the administrator's. Nothing below it may.
    if folder is not None:
        flags |= os.O_NOFOLLOW
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=folder)
    stack.callback(_close, descriptor)
    return descriptor


def _close(descriptor: int) -> None:
    # What was written is synced by then, so nothing hangs on it.
    with _tidying():
        os.close(descriptor)


@contextmanager
def _tidying(warning: str | None = None) -> Iterator[None]:
    """Let an error of the system pass, the outcome being decided, with a warning if one is due."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if warning:
            _log.warning("%s (%s).", warning, os.strerror(error.errno))


def _unless_removed(make: Callable[[], _T]) -> _T:
    """Do something again while deletions remove the empty directory that it is about to use."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            return make()
    raise OSError(errno.EAGAIN, "the directory keeps vanishing")


def _objects(folder: int, prefix: str) -> Iterator[tuple[str, Stored]]:
    for entry in os.listdir(folder):
        name = prefix + entry
        # One that is gone by now was deleted.
        with ExitStack() as stack, suppress(FileNotFoundError):
            if not is_name(name) or not _may_hold_objects(entry, folder):
                continue
            opened = _opened(stack, entry, os.O_RDONLY | os.O_NONBLOCK, folder)
            if stat.S_ISDIR(os.fstat(opened).st_mode):
                yield from _objects(opened, f"{name}/")
            else:
                yield name, _inspected(opened)


def _entries(folder: int, prefix: str, rest: str = "") -> Iterator[Entry]:
    for entry in os.listdir(folder):
        name = prefix + entry
        # One that is gone by now was deleted.
        with ExitStack() as stack, suppress(FileNotFoundError):
            if not entry.startswith(rest) or not is_name(name):
                continue
            status = os.stat(entry, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from _entries(_opened(stack, entry, _DIRECTORY, folder), f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                modified_ns = status.st_mtime_ns
                yield Entry(name, str(modified_ns), modified_ns / 1_000_000_000, None)


def _may_hold_objects(entry: str, folder: int) -> bool:
    mode = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _blocks(file: int, length_bytes: int, crc32c: int) -> Iterator[bytes]:
    """Yield a file from where it stands, if that is so long and has that checksum."""
    if os.fstat(file).st_size != length_bytes:
        raise Damaged
    read_bytes, checksum = 0, 0
    while block := os.read(file, BLOCK_BYTES):
        read_bytes += len(block)
        if read_bytes > length_bytes:
            raise Damaged
        checksum = google_crc32c.extend(checksum, block)
        yield block
    if (read_bytes, checksum) != (length_bytes, crc32c):
        raise Damaged


def _inspected(file: int) -> Stored:
    status = os.fstat(file)
    checksum = 0
    while block := os.read(file, BLOCK_BYTES):
        checksum = google_crc32c.extend(checksum, block)
    return Stored(str(status.st_mtime_ns), status.st_size, checksum)


def _create_root(stack: ExitStack, path: Path) -> int:
    try:
        return _opened(stack, path, _DIRECTORY)
    except FileNotFoundError:
        _create_folder(path.name, _create_root(stack, path.parent))
        return _opened(stack, path, _DIRECTORY)


def _create_folder(name: str, folder: int) -> None:
    # A umask takes from these modes, and never adds to them.
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
        os.fsync(folder)


@contextmanager
def _locked(folder: int) -> Iterator[None]:
    """Wait until nobody else replaces or deletes in a directory, if its file system can tell."""
    with _tidying():
        fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        # A child that was forked meanwhile keeps the directory open, so closing it is not enough.
        with _tidying():
            fcntl.flock(folder, fcntl.LOCK_UN)


def _modified_ns(leaf: str, folder: int) -> int:
    """When the file was modified that has a name now; 0 where there is none."""
    try:
        return os.stat(leaf, dir_fd=folder, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0


def _stamp(file: int, former_ns: int) -> str:
    """Make a file's time the clock's, but later than the former one's, and sync it.

    Returns:
        The file's generation.
    """
    now_ns = time.time_ns()
    for step in range(_STEPS):
        modified_ns = max(now_ns, former_ns + (1 << step))
        os.utime(file, ns=(modified_ns, modified_ns))
        modified_ns = os.fstat(file).st_mtime_ns
        if modified_ns > former_ns:
            break
    os.fsync(file)
    return str(modified_ns)


@contextmanager
def _lost_answer(file: int, leaf: str, folder: int) -> Iterator[None]:
    """Let an error pass if the file has its name: the file system may have lost the answer."""
    try:
        yield
    except OSError:
        status = os.fstat(file)
        if not status.st_nlink:
            raise OSError(errno.ESTALE, "what was written aside was removed") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(leaf, dir_fd=folder, follow_symlinks=False), status):
                return
        raise


def _remove_empty(folders: list[int], parents: list[str]) -> None:
    """Remove the directories on the way to an object, as far as they are empty."""
    for folder, parent in reversed([*zip(folders, parents, strict=False)]):
        with _tidying():
            os.rmdir(parent, dir_fd=folder)


def _sweep(root: int) -> None:
    """Remove what killed processes left behind.

    Nothing that happens here concerns the write that does it.
    """
    before_ns = time.time_ns() - GRACE_SECONDS * 1_000_000_000
    with _tidying():
        found = False
        for name in filter(_ASIDE.fullmatch, os.listdir(root)):
            with _tidying():
                if os.stat(name, dir_fd=root, follow_symlinks=False).st_mtime_ns < before_ns:
                    os.unlink(name, dir_fd=root)
                    found = True
        if found:
            # Directories may have been created for it.
            _remove_left(root, before_ns, iter(range(_SWEPT_FOLDERS)), Random())  # noqa: S311


def _remove_left(folder: int, before_ns: int, budget: Iterator[int], random: Random) -> None:
    """Remove empty directories below a directory: looked for at random, so that none is forgotten.

    Writers do it again if a directory vanishes under them.
    """
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in random.sample(names, min(len(names), _SWEPT_FOLDERS)):
        if not is_name(name) or next(budget, None) is None:
            continue
        with _tidying(), ExitStack() as stack:
            # Its time is that of the last change in it, and is gone once something is removed.
            changed_ns = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
            _remove_left(_opened(stack, name, _DIRECTORY, folder), before_ns, budget, random)
            if changed_ns < before_ns:
                os.rmdir(name, dir_fd=folder)


def write_all(file: int, block: bytes) -> None:
    """Write a block to an open file, in as many calls as the system takes."""
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]
