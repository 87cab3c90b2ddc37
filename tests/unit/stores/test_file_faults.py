"""Each call of the system fails once, and a process is killed: what a directory holds then."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secure_xcom.errors import ObjectNotFound, StoreError, StoreUnavailable
from secure_xcom.keys.local import create_key_file
from secure_xcom.layers.states import States, text_of
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import build_states
from secure_xcom.stores import file
from secure_xcom.stores.file import GRACE_SECONDS, Directory
from secure_xcom.stores.protocol import Stored

NAME = "dag/run/task/-1/key/token"
OTHER = "dag/other/task/-1/key/token"
DATA = b"canary" * 10_000
#: All that reach the disk; a test holds the list to the source.
CALLS = frozenset(
    (
        "open",
        "close",
        "read",
        "write",
        "stat",
        "fstat",
        "fsync",
        "link",
        "lseek",
        "rename",
        "unlink",
        "mkdir",
        "rmdir",
        "listdir",
        "scandir",
        "utime",
    )
)
NUMBERS = [errno.EIO, errno.ENOSPC, errno.EMFILE, errno.EINTR]


class FaultyOs:
    """`os` as the store sees it within a block, where the call of one number fails.

    Args:
        at: the number of calls before it.
        number: the error's.
        is_done: whether it does what was asked and only says otherwise.
    """

    def __init__(self, at: int, number: int, *, is_done: bool) -> None:
        self._left = at
        self._number = number
        self.is_done = is_done
        self.failed = ""

    def __enter__(self) -> None:
        file.os = self

    def __exit__(self, *_: object) -> None:
        file.os = os

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return real if name not in CALLS else lambda *args, **more: self._call(real, args, more)

    def _call(self, real: Callable[..., Any], args: Any, more: Any) -> Any:
        self._left -= 1
        if self._left != -1:
            return real(*args, **more)
        self.failed = real.__name__
        # A descriptor is closed whatever `close` answers.
        if self.is_done or self.failed == "close":
            result = real(*args, **more)
            if self.failed == "open":
                os.close(result)
        raise OSError(self._number, os.strerror(self._number))


Faults = Iterator[FaultyOs]


@pytest.fixture(params=NUMBERS, ids=errno.errorcode.get)
def number(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(params=[False, True], ids=["undone", "done"])
def faults(request: pytest.FixtureRequest, number: int) -> Faults:
    """One `os` after the other, each with the next call failing, until none did."""

    def each() -> Faults:
        for at in count():
            faulty = FaultyOs(at, number, is_done=request.param)
            yield faulty
            if not faulty.failed:
                assert at > 9, "the calls were not seen"
                return
            assert at < 200, "each call needs another"

    return each()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "parent" / "store"


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


def _hidden(root: Path) -> list[Path]:
    return list(root.rglob(".*"))


def _empty(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_every_call_of_the_store_is_made_to_fail():
    source = Path(file.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r"os\.([a-z]+)\(", source)) == CALLS | {"getuid", "strerror"}
    assert not re.findall(r"path\.(?:exists|is_\w+|mkdir|stat|unlink|open|iterdir)\(", source)


@pytest.mark.parametrize("is_new", [True, False], ids=["new-store", "old-store"])
def test_a_write_succeeds_or_leaves_nothing(
    store: Directory, root: Path, faults: Faults, *, is_new: bool
):
    if not is_new:
        other = store.create(OTHER, lambda: [b"other"], {})
    returned = set()
    for faulty in faults:
        stored = None
        try:
            with faulty:
                stored = store.create(NAME, lambda: [DATA[:1000], DATA[1000:]], {})
        except StoreError:
            assert not (root / NAME).exists()
        left = _hidden(root)
        assert len(left) == (faulty.failed == "unlink" and not faulty.is_done)
        for path in left:
            path.unlink()
        if stored:
            returned.add(faulty.failed)
            assert (root / NAME).read_bytes() == DATA == _get(store, stored)
            store.delete(NAME, generation=stored.generation)
        assert _empty(root) == []
        # What failed can be done again.
        again = store.create(NAME, lambda: [b"again"], {})
        assert _get(store, again) == b"again"
        store.delete(NAME, generation=again.generation)
        if is_new:
            shutil.rmtree(root.parent)
        else:
            assert _get(store, other, OTHER) == b"other"
    # After the link, nothing fails a write; nor what sweeps before it.
    assert {"fsync", "unlink", "close", "listdir", ""} <= returned


def test_a_read_gives_all_or_fails(store: Directory, faults: Faults):
    stored = store.create(NAME, lambda: [DATA], {})
    outcomes = set()
    for faulty in faults:
        try:
            with faulty:
                data = _get(store, stored)
        except StoreError:
            outcomes.add((faulty.failed, False))
        else:
            assert data == DATA
            outcomes.add((faulty.failed, True))
        assert _get(store, stored) == DATA
    assert outcomes == {
        ("open", False), ("fstat", False), ("read", False), ("close", True), ("", True)
    }  # fmt: skip


def test_a_read_that_is_given_up_closes_without_an_error(store: Directory, number: int):
    stored = store.create(NAME, lambda: [DATA], {})
    # Seven directories and a file are open by then.
    for at in range(8):
        blocks = store.get(
            NAME,
            generation=stored.generation,
            length_bytes=stored.length_bytes,
            crc32c=stored.crc32c,
        )
        next(blocks)
        with (faulty := FaultyOs(at, number, is_done=True)):
            blocks.close()
        assert faulty.failed == ("close" if at < 7 else "")


def test_a_deletion_that_fails_can_be_done_again(store: Directory, root: Path, faults: Faults):
    outcomes = set()
    for faulty in faults:
        other = store.create(OTHER, lambda: [b"other"], {})
        stored = store.create(NAME, lambda: [DATA], {})
        try:
            with faulty:
                store.delete(NAME, generation=stored.generation)
        except StoreError:
            outcomes.add((faulty.failed, False))
            if (root / NAME).exists():
                assert _get(store, stored) == DATA
            else:
                assert faulty.failed == "unlink"
            store.delete(NAME, generation=stored.generation)
        else:
            outcomes.add((faulty.failed, True))
        assert not (root / NAME).exists()
        assert _get(store, other, OTHER) == b"other"
        store.delete(OTHER, generation=other.generation)
        shutil.rmtree(root)
    assert outcomes == {
        ("open", False), ("stat", False), ("unlink", False),
        ("fsync", True), ("rmdir", True), ("close", True), ("", True),
    }  # fmt: skip


def test_a_listing_is_whole_or_fails(store: Directory, faults: Faults):
    held = {
        name: store.create(f"dag/{name}", lambda: [DATA], {})
        for name in ("a", "b/c", "b/d/e", "f/g")
    }
    expected = {f"dag/{name}": stored for name, stored in held.items()}
    outcomes = set()
    for faulty in faults:
        try:
            with faulty:
                found = dict(store.objects("dag/"))
        except StoreError:
            outcomes.add((faulty.failed, False))
        else:
            assert found == expected
            outcomes.add((faulty.failed, True))
    assert outcomes == {
        ("open", False), ("listdir", False), ("stat", False), ("fstat", False), ("read", False),
        ("close", True), ("", True),
    }  # fmt: skip


WHERE = Coordinate("dag", "run", "task", -1, "key")
LONG = {text: json.dumps(text * 60_000) for text in ("old", "new")}


def _opened(states: States, row: str) -> str:
    return text_of(states.from_row(row, Expected.exactly(WHERE)).payload)


@pytest.fixture
def states(tmp_path: Path) -> States:
    create_key_file(tmp_path / "kek")
    section = {
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "store_uri": f"file://{tmp_path}/store",
        "compression": "none",
    }
    return build_states(load(section, None, None), "task")


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EMFILE], ids=errno.errorcode.get, indirect=True
)
def test_a_state_is_the_new_one_or_the_write_fails(
    states: States, faults: Faults, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    outcomes = {True: set(), False: set()}
    for faulty in faults:
        row = states.to_row(LONG["old"], WHERE)
        expected = "new"
        caplog.clear()
        try:
            with faulty:
                assert states.to_row(LONG["new"], WHERE) == row
        except StoreError:
            expected = "old"
        outcomes[expected == "new"].add(faulty.failed)
        for path in _hidden(tmp_path / "store"):
            path.unlink()
        assert _opened(states, row) == LONG[expected]
        assert states.get(WHERE) == LONG[expected]
        assert LONG["old"][:20] not in caplog.text
    # Once it has its name nothing fails the write, but what tidies may be left undone.
    assert {"fsync", "unlink", "close", "listdir", ""} <= outcomes[True]
    assert {"open", "write", "stat", "utime", "fstat", "fsync"} <= outcomes[False]
    assert "rename" in outcomes[faulty.is_done]


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.EMFILE], ids=errno.errorcode.get, indirect=True
)
def test_a_state_that_was_deleted_is_gone(states: States, faults: Faults):
    for faulty in faults:
        row = states.to_row(LONG["old"], WHERE)
        try:
            with faulty:
                states.delete(WHERE)
        except StoreError:
            states.delete(WHERE)
        assert states.get(WHERE) is None
        with pytest.raises(ObjectNotFound):
            _opened(states, row)


def test_clearing_does_not_pass_over_what_cannot_be_opened(
    states: States,
):
    class Refusing(FaultyOs):
        def open(self, path: object, flags: int, *args: Any, **more: Any) -> int:
            if re.fullmatch("[0-9a-f]{64}", str(path)) and not flags & os.O_DIRECTORY:
                raise OSError(errno.EMFILE, "no")
            return os.open(path, flags, *args, **more)

    row = states.to_row(LONG["old"], WHERE)
    with pytest.raises(StoreUnavailable), Refusing(-1, 0, is_done=False):
        states.clear(WHERE, every_index=False)
    assert _opened(states, row) == LONG["old"]


def test_what_is_put_right_later_is_a_warning(
    store: Directory, root: Path, caplog: pytest.LogCaptureFixture
):
    class NoUnlink(FaultyOs):
        def unlink(self, *_: object, **__: object) -> None:
            raise OSError(errno.EIO, "no")

    with NoUnlink(-1, 0, is_done=False):
        stored = store.create(NAME, lambda: [DATA], {})
    assert _get(store, stored) == DATA
    [aside] = _hidden(root)
    assert aside.name in caplog.text
    assert "canary" not in caplog.text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TimeoutError("the caller's own")])
def test_an_interrupt_after_the_link_takes_the_object_back(
    store: Directory, root: Path, error: BaseException
):
    class Interrupted(FaultyOs):
        def fsync(self, descriptor: int) -> None:
            if (root / NAME).exists():
                raise error
            os.fsync(descriptor)

    with pytest.raises(type(error)) as caught, Interrupted(-1, 0, is_done=False):
        store.create(NAME, lambda: [DATA], {})
    assert caught.value is error
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("call", ["write", "read", "unlink", "stat"])
def test_what_a_signal_handler_of_the_caller_raises_is_not_the_systems(store: Directory, call: str):
    def raises(*_: object, **__: object) -> None:
        raise error

    error = TimeoutError("the caller's own")
    stored = store.create(NAME, lambda: [DATA], {})
    interrupted = FaultyOs(-1, 0, is_done=False)
    setattr(interrupted, call, raises)
    operation = {
        "write": lambda: store.create(OTHER, lambda: [DATA], {}),
        "read": lambda: _get(store, stored),
        "unlink": lambda: store.delete(NAME, generation=stored.generation),
        "stat": lambda: list(store.objects("dag/")),
    }[call]
    with pytest.raises(TimeoutError) as caught, interrupted:
        operation()
    assert caught.value is error


def test_a_link_whose_answer_was_lost_is_found(store: Directory, root: Path):
    class Lost(FaultyOs):
        def link(self, *args: Any, **more: Any) -> None:
            os.link(*args, **more)
            # What a server on the network answers to the second of two equal requests.
            os.link(*args, **more)

    with Lost(-1, 0, is_done=False):
        stored = store.create(NAME, lambda: [DATA], {})
    assert (root / NAME).read_bytes() == DATA == _get(store, stored)


KILLED = {
    "writing": """
        def chunks():
            yield DATA
            stop()
        """,
    "linking": "os.link = stop",
    "linked": """
        link = os.link
        def linked(*args, **more):
            link(*args, **more)
            stop()
        os.link = linked
        """,
}


def _kill(root: Path, when: str) -> None:
    """Have a process of its own write an object, and kill it on the way."""
    program = textwrap.dedent("""
        import os, time
        from secure_xcom.stores.file import Directory
        DATA = b"canary" * 10_000
        def stop(*_, **__):
            print("here", flush=True)
            time.sleep(600)
        def chunks():
            yield DATA
        """)
    program += textwrap.dedent(KILLED[when])
    program += f"\nDirectory({f'file://{root}'!r}).create({NAME!r}, chunks, {{}})\n"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"here\n"
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


def _clock_ahead(monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    now_ns = lambda: time.time_ns() + seconds * 1_000_000_000  # noqa: E731
    monkeypatch.setattr(file, "time", SimpleNamespace(time_ns=now_ns))


@pytest.mark.parametrize("when", KILLED)
def test_what_a_killed_process_left_goes_after_the_grace(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch, when: str
):
    for _ in range(2 if when != "linked" else 1):
        _kill(root, when)
    left = _hidden(root)
    assert left
    found = dict(store.objects("dag/"))
    assert [*found] == ([NAME] if when == "linked" else [])
    # Neither is anything taken from who may still be writing, nor kept for ever.
    for seconds, remains in ((GRACE_SECONDS - 60, True), (GRACE_SECONDS + 60, False)):
        _clock_ahead(monkeypatch, seconds)
        other = store.create(f"elsewhere/{seconds}", lambda: [b"other"], {})
        assert _get(store, other, f"elsewhere/{seconds}") == b"other"
        assert _hidden(root) == (left if remains else [])
    assert _empty(root) == []
    if when == "linked":
        assert (root / NAME).read_bytes() == DATA == _get(store, found[NAME])
    else:
        assert not (root / "dag").exists()


def test_a_write_that_takes_long_is_not_swept(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
):
    def chunks() -> Iterator[bytes]:
        yield b"begun "
        [aside] = _hidden(root)
        # It began a week ago; then it went on.
        os.utime(aside, (time.time() - 7 * 86_400,) * 2)
        yield b"and ended"
        _clock_ahead(monkeypatch, GRACE_SECONDS - 60)
        store.create(OTHER, lambda: [b"x"], {})

    stored = store.create(NAME, chunks, {})
    assert _get(store, stored) == b"begun and ended"


def test_a_write_that_was_swept_fails(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
):
    def chunks() -> Iterator[bytes]:
        yield b"begun"
        _clock_ahead(monkeypatch, GRACE_SECONDS + 60)
        store.create(OTHER, lambda: [b"x"], {})

    with pytest.raises(StoreUnavailable):
        store.create(NAME, chunks, {})
    assert not (root / "dag" / "run").exists()


def test_only_what_is_the_stores_own_is_swept(
    store: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
):
    store.create(NAME, lambda: [DATA], {})
    (root / f".{'0' * 32}").write_bytes(b"left")
    kept = [root / ".nfs0123", root / f".{'0' * 31}", root / f".{'0' * 32}.txt", root / "file"]
    for path in kept:
        path.write_bytes(b"foreign")
    (root / "lost+found").mkdir()
    (root / f".{'1' * 32}").mkdir()
    (root / "empty" / "below").mkdir(parents=True)
    (root / "link").symlink_to(root / "lost+found")
    _clock_ahead(monkeypatch, GRACE_SECONDS + 60)
    store.create(OTHER, lambda: [b"x"], {})
    assert {path.name for path in root.iterdir()} == {
        *(path.name for path in kept), "lost+found", f".{'1' * 32}", "link", "dag",
    }  # fmt: skip
    assert (root / NAME).read_bytes() == DATA
