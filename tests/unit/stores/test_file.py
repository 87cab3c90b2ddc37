"""What a directory does beyond the contract of stores: modes, links, crashes."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    ObjectNotFound,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
)
from secure_xcom.stores.file import Directory
from secure_xcom.stores.protocol import Stored

NAME = "dag/run/task/-1/key/token"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a" / "store"


@pytest.fixture
def store(root: Path) -> Directory:
    return Directory(f"file://{root}")


def _get(store: Directory, stored: Stored, name: str = NAME) -> bytes:
    return b"".join(
        store.get(
            name,
            generation=stored.generation,
            length_bytes=stored.length_bytes,
            crc32c=stored.crc32c,
        )
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    old = os.umask(request.param)
    yield
    os.umask(old)


@pytest.mark.usefixtures("_umask")
def test_files_are_0600_in_0700_directories(store: Directory, root: Path):
    store.create(NAME, lambda: [b"x"], {})
    assert _mode(root / NAME) == 0o600
    for folder in [root, *(root / NAME).parents]:
        if folder == root.parent.parent:
            break
        assert _mode(folder) == 0o700


def test_a_directory_that_exists_keeps_its_mode(store: Directory, root: Path):
    root.mkdir(parents=True)
    root.chmod(0o750)
    store.create(NAME, lambda: [b"x"], {})
    assert _mode(root) == 0o750
    assert _mode(root / "dag") == 0o700


def test_the_generation_is_the_time_of_modification(store: Directory, root: Path):
    stored = store.create(NAME, lambda: [b"x"], {})
    assert stored.generation == str((root / NAME).stat().st_mtime_ns)


def test_a_file_that_was_touched_holds_the_same_bytes(store: Directory, root: Path):
    stored = store.create(NAME, lambda: [b"x"], {})
    later = int(stored.generation) + 1
    os.utime(root / NAME, ns=(1, later))
    assert _get(store, stored) == b"x"
    assert store.find(NAME) == Stored(str(later), stored.length_bytes, stored.crc32c)
    assert store.delete(NAME, generation=stored.generation) is False


@pytest.mark.parametrize("resolution_ns", [1, 1_000_000, 2_000_000_000])
def test_a_replacement_is_later_however_coarse_the_file_systems_times_are(
    store: Directory, monkeypatch: pytest.MonkeyPatch, resolution_ns: int
):
    utime = os.utime

    def coarse(file: int, ns: tuple[int, int]) -> None:
        utime(file, ns=(ns[0] // resolution_ns * resolution_ns,) * 2)

    clock = iter([10**18, 10**18, 10**18 - 10**9, 1, 10**18])
    monkeypatch.setattr(os, "utime", coarse)
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    generations = []
    for turn in range(4):
        monkeypatch.setattr("secure_xcom.stores.file._sweep", lambda _root: None)
        generations.append(int(store.replace(NAME, [b"%d" % turn], {}).generation))
    assert generations == sorted(set(generations))
    assert generations[-1] - generations[0] <= 4 * max(2, 2 * resolution_ns)


def test_a_deletion_waits_for_a_replacement_and_spares_it(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
):
    first = store.replace(NAME, [b"first"], {})
    rename, deleted = os.rename, []
    deletion = threading.Thread(
        target=lambda: deleted.append(store.delete(NAME, generation=first.generation))
    )

    def slow(*arguments: object, **options: object) -> None:
        deletion.start()
        deletion.join(0.2)
        rename(*arguments, **options)

    monkeypatch.setattr(os, "rename", slow)
    store.replace(NAME, [b"second"], {})
    deletion.join()
    assert deleted == [False]
    assert (root / NAME).read_bytes() == b"second"


def test_a_child_that_was_forked_in_the_middle_keeps_no_lock(
    store: Directory, monkeypatch: pytest.MonkeyPatch
):
    store.replace(NAME, [b"first"], {})
    rename, children = os.rename, []

    def forking(*arguments: object, **options: object) -> None:
        if child := os.fork():
            children.append(child)
            rename(*arguments, **options)
        else:
            signal.pause()

    monkeypatch.setattr(os, "rename", forking)
    store.replace(NAME, [b"second"], {})
    monkeypatch.setattr(os, "rename", rename)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.alarm(10)
    try:
        store.replace(NAME, [b"third"], {})
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        os.kill(children[0], signal.SIGKILL)
        os.waitpid(children[0], 0)


def test_nothing_is_visible_under_the_name_before_the_end(store: Directory, root: Path):
    def chunks() -> Iterator[bytes]:
        yield b"x" * 2_000_000
        [aside] = root.iterdir()
        assert aside.stat().st_size == 2_000_000
        assert aside.name.startswith(".")
        assert _mode(aside) == 0o600
        with pytest.raises(ObjectNotFound):
            list(store.get(NAME, generation="1", length_bytes=1, crc32c=0))
        yield b"y"

    stored = store.create(NAME, chunks, {})
    assert _get(store, stored) == b"x" * 2_000_000 + b"y"
    assert [path for path in root.rglob("*") if path.is_file()] == [root / NAME]


@pytest.mark.parametrize("call", ["fsync", "utime", "link"])
def test_a_write_that_fails_leaves_nothing(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    store.create("dag/other", lambda: [b"x"], {})

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        # The directory is there already, so only the file is synced.
        with pytest.raises(StoreUnavailable, match="No space left"):
            store.create("dag/name", lambda: [b"y"], {})
    assert [path.name for path in (root / "dag").iterdir()] == ["other"]


def test_all_is_synced_before_it_is_referenced(store: Directory, monkeypatch: pytest.MonkeyPatch):
    store.create("dag/run/former", lambda: [b"x"], {})
    events: list[str] = []
    fsync, link, rename = os.fsync, os.link, os.rename

    def noted_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        events.append(path.name if not path.name.startswith(".") else "file")
        fsync(descriptor)

    def noted_link(*arguments: object, **options: object) -> None:
        events.append("link")
        link(*arguments, **options)

    monkeypatch.setattr(os, "fsync", noted_fsync)

    def noted_rename(*arguments: object, **options: object) -> None:
        events.append("rename")
        rename(*arguments, **options)

    monkeypatch.setattr(os, "link", noted_link)
    monkeypatch.setattr(os, "rename", noted_rename)
    store.create("dag/run/new/name", lambda: [b"x"], {})
    # Each directory after the entry of the next one; the file; the file's entry.
    assert events == ["run", "file", "link", "new"]
    events.clear()
    store.replace("dag/run/new/name", [b"y"], {})
    assert events == ["file", "rename", "new"]


def test_links_are_not_followed(store: Directory, root: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    stored = store.create("real/name", lambda: [b"secret"], {})
    (root / "link").symlink_to(elsewhere)
    (root / "real" / "link").symlink_to("name")
    (root / "dangling").symlink_to(elsewhere / "new")
    with pytest.raises(StoreError, match="link"):
        store.create("link/name", lambda: [b"x"], {})
    with pytest.raises(StoreError, match="link"):
        _get(store, stored, "real/link")
    with pytest.raises(StoreError, match="link"):
        _get(store, stored, "link/name")
    with pytest.raises(StoreError, match="link"):
        store.delete("link/name", generation=stored.generation)
    with pytest.raises(StoreError, match="exists"):
        store.create("dangling", lambda: [b"x"], {})
    store.delete("real/link", generation=stored.generation)
    assert list(elsewhere.iterdir()) == []
    assert (root / "real" / "link").is_symlink()
    assert _get(store, stored, "real/name") == b"secret"


def test_the_root_may_be_a_link(root: Path, tmp_path: Path):
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    store = Directory(f"file://{tmp_path}/link")
    stored = store.create(NAME, lambda: [b"x"], {})
    assert (root / NAME).read_bytes() == b"x"
    assert _get(store, stored) == b"x"


@pytest.mark.parametrize("what", ["fifo", "directory", "socket"])
def test_what_is_not_a_file_is_not_read(store: Directory, root: Path, what: str):
    root.mkdir(parents=True)
    if what == "fifo":
        os.mkfifo(root / "name")
    elif what == "directory":
        (root / "name").mkdir()
    else:
        os.mknod(root / "name", stat.S_IFSOCK)
    with pytest.raises(StoreError, match="not an object"):
        list(store.get("name", generation="1", length_bytes=1, crc32c=0))
    store.delete("name", generation=str((root / "name").stat().st_mtime_ns))
    assert (root / "name").exists()


def test_a_deletion_takes_the_directories_that_are_empty_then(store: Directory, root: Path):
    one = store.create("dag/run/task/-1/key/1", lambda: [b"x"], {})
    two = store.create("dag/run/other/-1/key/1", lambda: [b"x"], {})
    store.delete("dag/run/task/-1/key/1", generation=one.generation)
    assert sorted(path.name for path in (root / "dag" / "run").iterdir()) == ["other"]
    store.delete("dag/run/other/-1/key/1", generation=two.generation)
    assert list(root.iterdir()) == []


def test_writes_and_deletions_in_one_directory_do_not_trip_each_other(store: Directory, root: Path):
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for turn in range(60):
                name = f"dag/run/task/-1/key/{worker}-{turn}"
                stored = store.create(name, lambda: [b"x"], {})
                assert _get(store, stored, name) == b"x"
                store.delete(name, generation=stored.generation)
        except BaseException as error:  # noqa: BLE001 - to be seen by the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert list(root.iterdir()) == []


def test_a_directory_that_keeps_vanishing_is_an_error(
    store: Directory, monkeypatch: pytest.MonkeyPatch
):
    real_open = os.open

    def vanishing(path: object, flags: int, *arguments: object, **options: object) -> int:
        if flags & os.O_CREAT:
            raise FileNotFoundError(errno.ENOENT, "gone")
        return real_open(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", vanishing)
    with pytest.raises(StoreUnavailable):
        store.create(NAME, lambda: [b"x"], {})


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.EACCES, StoreAccessDenied, "owner and mode"),
        (errno.EPERM, StoreAccessDenied, "hard links"),
        (errno.EOPNOTSUPP, StoreAccessDenied, "hard links"),
        (errno.EROFS, StoreAccessDenied, "Read-only file system"),
        (errno.EIO, StoreUnavailable, "Check the disk"),
    ],
)
def test_what_the_system_refuses(
    store: Directory,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[StoreError],
    message: str,
):
    stored = store.create("dag/other", lambda: [b"x"], {})

    def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(os, "open", fail)
    calls = (
        lambda: store.create(NAME, lambda: [b"x"], {}),
        lambda: _get(store, stored, "dag/other"),
        lambda: store.delete("dag/other", generation=stored.generation),
    )
    for call in calls:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert type(caught.value) is kind


def test_a_store_whose_directory_is_missing_says_so(store: Directory, root: Path):
    with pytest.raises(StoreUnavailable, match=f"There is no directory {root}"):
        _get(store, Stored("1", 1, 1))
    assert not root.exists()


def test_opening_a_store_touches_nothing(store: Directory, root: Path):
    assert store.uri == f"file://{root}"
    assert not root.exists()


@pytest.mark.parametrize(
    "uri",
    [
        "file://",
        "file:///",
        "file://host/dir",
        "file:///dir/",
        "file:///dir//x",
        "file:///dir/../x",
        "file:///dir/.",
        "file:/dir",
        "/dir",
        "file:///dir\n",
        "file:///dir\x00",
        "FILE:///dir",
    ],
)
def test_a_uri_that_names_no_directory(uri: str):
    with pytest.raises(ConfigError, match="names no store"):
        Directory(uri)


def test_a_bucket_is_no_directory():
    with pytest.raises(ConfigError, match="names no directory"):
        Directory("gs://bucket/prefix")


def test_a_directory_may_have_any_printable_name(tmp_path: Path):
    store = Directory(f"file://{tmp_path}/with spaces, é and %20")
    stored = store.create(NAME, lambda: [b"x"], {})
    assert (tmp_path / "with spaces, é and %20" / NAME).read_bytes() == b"x"
    assert _get(store, stored) == b"x"


@pytest.mark.parametrize("data", [b"seale", b"sealed!", b"sealeD", b""])
def test_a_file_that_was_changed_and_made_to_look_old_is_noticed(
    store: Directory, root: Path, data: bytes
):
    stored = store.create(NAME, lambda: [b"sealed"], {})
    (root / NAME).write_bytes(data)
    os.utime(root / NAME, ns=(int(stored.generation), int(stored.generation)))
    with pytest.raises(AuthenticationError):
        _get(store, stored)


def test_a_file_that_shrinks_or_grows_while_it_is_read_is_noticed(store: Directory, root: Path):
    data = b"x" * 3_000_000
    stored = store.create(NAME, lambda: [data], {})
    for size in (2_500_000, 3_500_000):
        blocks = store.get(
            NAME, generation=stored.generation, length_bytes=len(data), crc32c=stored.crc32c
        )
        next(blocks)
        os.truncate(root / NAME, size)
        with pytest.raises(AuthenticationError):
            list(blocks)
        (root / NAME).write_bytes(data)
        os.utime(root / NAME, ns=(int(stored.generation), int(stored.generation)))
    assert _get(store, stored) == data


def test_only_objects_are_listed(
    store: Directory, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stored = store.create("dag/run/1", lambda: [b"sealed"], {})
    store.create("dag/run/2", lambda: [b"gone"], {})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "object").write_bytes(b"foreign")
    for name, target in {
        "to-file": "1",
        "to-folder": tmp_path / "outside",
        "to-itself": "to-itself",
        "to-nothing": "nothing",
        "to-above": "..",
    }.items():
        (root / "dag" / "run" / name).symlink_to(target)
    (root / "dag" / "folder").symlink_to("run")
    (root / "dag" / "run" / ".aside").write_bytes(b"unfinished")
    (root / "dag" / "run" / "not a name").write_bytes(b"foreign")
    (root / "dag" / "not a name").mkdir()
    (root / "dag" / "not a name" / "1").write_bytes(b"foreign")
    (root / "dag" / "empty").mkdir()
    os.mkfifo(root / "dag" / "run" / "pipe")
    os.mknod(root / "dag" / "run" / "socket", stat.S_IFSOCK)
    if os.geteuid() == 0:
        os.mknod(root / "dag" / "run" / "device", stat.S_IFCHR, os.makedev(1, 3))
    real_open = os.open
    opened = []

    def vanishing(path: object, *arguments: object, **options: object) -> int:
        opened.append(path)
        if path == "2":
            raise FileNotFoundError(errno.ENOENT, "gone")
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", vanishing)
    assert list(store.objects("dag/")) == [("dag/run/1", stored)]
    assert sorted(map(str, opened)) == sorted(["1", "2", str(root), "dag", "empty", "run"])
    # Neither is a link on the way followed.
    assert list(store.objects("dag/folder/")) == []


@pytest.mark.parametrize("name", ["dag", "run", "1"])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO, errno.ELOOP])
def test_what_cannot_be_opened_is_not_passed_over(
    store: Directory, monkeypatch: pytest.MonkeyPatch, name: str, number: int
):
    store.create("dag/run/1", lambda: [b"sealed"], {})
    store.create("dag/another/1", lambda: [b"sealed"], {})
    real_open = os.open

    def refusing(path: object, *arguments: object, **options: object) -> int:
        if path == name:
            raise OSError(number, "no")
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(StoreError, match="Could not list"):
        list(store.objects("dag/"))


def test_a_file_in_the_place_of_the_store_is_not_an_empty_store(store: Directory, root: Path):
    assert list(store.objects("dag/")) == []
    root.parent.mkdir()
    root.write_bytes(b"")
    with pytest.raises(StoreError, match="Could not list"):
        list(store.objects("dag/"))
