"""Objects in a directory: `file:///absolute/directory`, for laptops and tests.

An object is written aside, synced, and then linked to its name, which fails if the name is taken.
So it appears whole or not at all, also after a crash, and nothing is ever overwritten. Directories
are opened one inside the other without following links, so no name leads out of the store.

A generation is the file's time of modification in nanoseconds, set to the clock's when the file is
written: a file that is replaced has another one, whatever wrote it. Neither is protected against
who may write to the directory; the seal is.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import google_crc32c

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    GenerationMismatch,
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.model import Buffer
from secure_xcom.stores.blocks import Tally, errors_of_source_first
from secure_xcom.stores.names import is_name
from secure_xcom.stores.protocol import Stored

SCHEME = "file://"
BLOCK_BYTES = 1_048_576

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_DENIED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP, errno.ENOSYS))
_NOT_AN_OBJECT = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO))
#: How often a directory may vanish, emptied by a deletion, before a file is in it.
_ATTEMPTS = 100


class Directory:
    """A directory of objects; threads and processes may share it.

    Args:
        uri: `file:///absolute/directory`. It is created at the first write.

    Raises:
        ConfigError: the URI does not name a directory by its absolute path.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._root = _parse(uri)

    def __repr__(self) -> str:
        return f"Directory({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the store was opened by."""
        return self._uri

    def put(self, name: str, chunks: Iterable[Buffer], metadata: Mapping[str, str]) -> Stored:
        """Create an object (`Store.put`). A file has no place for metadata, so it has none."""
        del metadata
        *parents, leaf = self._components(name)
        tally = Tally(chunks)
        # No object's name begins with a dot.
        aside = f".{secrets.token_hex(16)}"
        with errors_of_source_first([tally]), self._errors("write", name), ExitStack() as stack:
            try:
                folder, file = self._create_aside(stack, parents, aside)
                try:
                    for block in tally:
                        _write(file, block)
                    os.utime(file, ns=(now := time.time_ns(), now))
                    os.fsync(file)
                    generation = str(os.fstat(file).st_mtime_ns)
                    os.link(
                        aside, leaf, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False
                    )
                finally:
                    os.unlink(aside, dir_fd=folder)
                os.fsync(folder)
            except FileExistsError:
                raise GenerationMismatch(
                    f"The object {self._of(name)} exists already; it was left as it is."
                ) from None
        return Stored(generation, tally.length_bytes, tally.crc32c)

    def get(
        self, name: str, *, generation: str, length_bytes: int, crc32c: int
    ) -> Iterator[Buffer]:
        """Yield an object in blocks of `BLOCK_BYTES` (`Store.get`)."""
        *parents, leaf = self._components(name)
        with self._errors("read", name), ExitStack() as stack:
            folder = self._open_folder(stack, parents)
            file = _opened(stack, leaf, os.O_RDONLY | os.O_NONBLOCK, folder)
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.ENXIO, "not a file")
            if str(status.st_mtime_ns) != generation:
                raise GenerationMismatch(
                    f"The object {self._of(name)} is no longer generation {generation}: somebody "
                    "replaced or changed it. Clear the task that wrote it."
                )
            if status.st_size != length_bytes:
                raise AuthenticationError
            read_bytes, checksum = 0, 0
            while block := os.read(file, BLOCK_BYTES):
                read_bytes += len(block)
                if read_bytes > length_bytes:
                    raise AuthenticationError
                checksum = google_crc32c.extend(checksum, block)
                yield block
            if (read_bytes, checksum) != (length_bytes, crc32c):
                raise AuthenticationError

    def delete(self, name: str, *, generation: str) -> None:
        """Delete an object, and the directories that are empty then (`Store.delete`)."""
        *parents, leaf = self._components(name)
        with self._errors("delete", name), ExitStack() as stack:
            try:
                folders = [_opened(stack, self._root, _DIRECTORY)]
                for parent in parents:
                    folders.append(_opened(stack, parent, _DIRECTORY, folders[-1]))
                status = os.stat(leaf, dir_fd=folders[-1], follow_symlinks=False)
            except FileNotFoundError:
                return
            if str(status.st_mtime_ns) != generation or not stat.S_ISREG(status.st_mode):
                return
            with suppress(FileNotFoundError):
                os.unlink(leaf, dir_fd=folders[-1])
            os.fsync(folders[-1])
            # The first that still holds something ends it.
            with suppress(OSError):
                for folder, parent in zip(folders[-2::-1], parents[::-1], strict=True):
                    os.rmdir(parent, dir_fd=folder)

    def objects(self, folder: str) -> Iterator[tuple[str, Stored]]:
        """Yield the objects of a folder (`Store.objects`). Each is read for its checksum."""
        with self._errors("list", folder), ExitStack() as stack:
            try:
                top = self._open_folder(stack, self._components(folder.removesuffix("/")))
            except (FileNotFoundError, NotADirectoryError):
                return
            for below, _, files, directory in os.fwalk(dir_fd=top, follow_symlinks=False):
                for file in files:
                    name = f"{folder}{Path(below, file)}"
                    if is_name(name) and (stored := _inspected(file, directory)):
                        yield name, stored

    def _of(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def _components(self, name: str) -> list[str]:
        if not is_name(name):
            raise FormatError(f"{name[:200]!r} is not the name of an object.")
        return name.split("/")

    def _open_folder(self, stack: ExitStack, parents: list[str]) -> int:
        folder = _opened(stack, self._root, _DIRECTORY)
        for parent in parents:
            folder = _opened(stack, parent, _DIRECTORY, folder)
        return folder

    def _create_aside(self, stack: ExitStack, parents: list[str], aside: str) -> tuple[int, int]:
        """The object's directory and a new file in it, both open."""
        self._create_root(stack)
        for _ in range(_ATTEMPTS):
            # A deletion may remove a directory while it is empty; then all is done again.
            with suppress(FileNotFoundError):
                folder = _opened(stack, self._root, _DIRECTORY)
                for parent in parents:
                    _create_folder(parent, folder)
                    folder = _opened(stack, parent, _DIRECTORY, folder)
                file = _opened(stack, aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, folder)
                return folder, file
        raise OSError(errno.EAGAIN, "the directory keeps vanishing")

    def _create_root(self, stack: ExitStack) -> None:
        missing = []
        path = self._root
        while not path.exists():
            missing.append(path)
            path = path.parent
        for path in reversed(missing):
            _create_folder(path.name, _opened(stack, path.parent, _DIRECTORY))

    @contextmanager
    def _errors(self, verb: str, name: str) -> Iterator[None]:
        """Turn the system's errors into those of this package."""
        try:
            yield
        except OSError as error:
            raise self._translated(error, verb, name) from error

    def _translated(self, error: OSError, verb: str, name: str) -> SecureXComError:
        failed = f"Could not {verb} {self._of(name)} ({os.strerror(error.errno or 0)})"
        if error.errno in _DENIED:
            return StoreAccessDenied(
                f"{failed}: this process runs as user {os.getuid()}, who may not do so, or the "
                "file system does not allow it (it must allow hard links). Check the owner and "
                "mode of the store's directory."
            )
        if error.errno == errno.ENOENT and verb == "read":
            if not self._root.is_dir():
                return StoreUnavailable(
                    f"There is no directory {self._root}. Check `store_uri`, and that the disk "
                    "is mounted on this machine: workers share a `file://` store only if they "
                    "share its directory."
                )
            return ObjectNotFound(
                f"There is no object {self._of(name)}. It was deleted, by a purge or a person; "
                "clear the task that wrote it to produce the value again."
            )
        if error.errno in _NOT_AN_OBJECT:
            return StoreError(
                f"{failed}: what lies there is not an object, or a link stands on the way, which "
                "is never followed. Find out who writes to the store's directory."
            )
        return StoreUnavailable(f"{failed}. Check the disk, then clear the task.")


def _parse(uri: str) -> Path:
    path = uri.removeprefix(SCHEME)
    segments = path.split("/")
    if (
        not uri.startswith(SCHEME)
        or segments[0]
        or len(segments) == 1
        or any(segment in {"", ".", ".."} or not segment.isprintable() for segment in segments[1:])
    ):
        raise ConfigError(
            f"{uri!r} does not name a directory; file:///absolute/directory does, with no slash "
            "at the end and no segment that is empty or of dots."
        )
    return Path(path)


def _opened(stack: ExitStack, path: str | Path, flags: int, folder: int | None = None) -> int:
    # The root may be a link: it is the administrator's. Nothing below it may.
    if folder is not None:
        flags |= os.O_NOFOLLOW
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600, dir_fd=folder)
    stack.callback(os.close, descriptor)
    return descriptor


def _inspected(file: str, directory: int) -> Stored | None:
    """What a file holds; None for what is not one, or is gone by now."""
    with ExitStack() as stack:
        try:
            descriptor = _opened(stack, file, os.O_RDONLY | os.O_NONBLOCK, directory)
        except FileNotFoundError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        checksum = 0
        while block := os.read(descriptor, BLOCK_BYTES):
            checksum = google_crc32c.extend(checksum, block)
        return Stored(str(status.st_mtime_ns), status.st_size, checksum)


def _create_folder(name: str, folder: int) -> None:
    # A umask takes from these modes, and never adds to them.
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
        os.fsync(folder)


def _write(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]
