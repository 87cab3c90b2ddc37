"""Writes the vectors: `python tests/vectors/generate.py`, and with `--objects DIR` the large ones.

A vector that exists is never written again; one that would come out differently is an error.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from vectors import (  # noqa: E402
    bad_bodies,
    bad_envelopes,
    bad_rows,
    codec_faults,
    codec_values,
    good,
    orders,
    states,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vectors.case import Vector

FILES = HERE / "v1"
MANIFEST = FILES / "MANIFEST"


def vectors() -> Iterator[Vector]:
    """Each vector there is, made anew."""
    modules = (
        good,
        codec_values,
        bad_envelopes,
        bad_bodies,
        bad_rows,
        orders,
        codec_faults,
        states,
    )
    return chain.from_iterable(module.vectors() for module in modules)


@cache
def objects() -> dict[str, bytes]:
    """The object of each vector that has one."""
    return {vector.name: vector.object[2] for vector in vectors() if vector.object}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=Path, help="write each object to this folder, too")
    folder = parser.parse_args().objects
    changed = []
    for vector in vectors():
        path = FILES / f"{vector.name}.txt"
        text = vector.dump().encode()
        if not path.exists():
            path.write_bytes(text)
        elif path.read_bytes() != text:
            changed.append(path.name)
        if folder and vector.object:
            (folder / vector.name).write_bytes(vector.object[2])
    if changed:
        sys.stderr.write(f"A vector is never edited, and these would change: {changed}\n")
        return 1
    paths = sorted(FILES.glob("*.txt"))
    MANIFEST.write_text("".join(f"{digest(path)}  {path.name}\n" for path in paths))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
