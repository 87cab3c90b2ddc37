"""A whole deployment on the embedded default: a directory, a key file, and the stack over them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from secure_xcom.keys.local import create_key_file
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import Stack, build

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Never in an error, a row or a store.
CANARY = "4111-1111-1111-1111"
WHERE = Coordinate("payments", "manual__2026-11-22", "load", -1, "return_value")


@dataclass
class Deployment:
    """Put and get values as `Stack` does, and look at what truly lies where."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key_file = self.folder / "kek"
        self.folder.mkdir(exist_ok=True)
        if not self.key_file.exists():
            create_key_file(self.key_file)
        self.store_folder = self.folder / "store"
        self.kek_uri = f"local-kek://{self.key_file}"
        self.store_uri = f"file://{self.store_folder}"

    def stack(self, **settings: str) -> Stack:
        """A stack of its own, as a new process would have."""
        section = {"kek_uri": self.kek_uri, "store_uri": self.store_uri, "instance": "prod"}
        return build(load(section | self.settings | settings, None, None))

    def objects(self) -> dict[str, Path]:
        """The store's files by the names of the objects."""
        files = (path for path in self.store_folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.store_folder)): path for path in files}

    def overwrite(self, row: dict[str, Any], data: bytes) -> None:
        """Replace the row's object behind the store's back, as the same generation."""
        path = self.objects()[row["object"]]
        before = path.stat()
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def refused(error: type[Exception], *secrets: str) -> Iterator[None]:
    """Expect exactly this class, and nothing secret in it or in what led to it."""
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    chain: list[BaseException] = [caught.value]
    while chain:
        link = chain.pop()
        for secret in (CANARY, *secrets):
            assert secret not in str(link) + repr(link) + repr(link.args)
        chain += [cause for cause in (link.__cause__, link.__context__) if cause]


def exactly(where: Coordinate = WHERE) -> Expected:
    return Expected.exactly(where)
