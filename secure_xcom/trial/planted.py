"""Proves that the search of the census works: a text is planted everywhere, and has to be found."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from secure_xcom.errors import ConfigError
from secure_xcom.trial import surfaces
from secure_xcom.trial.home import Home
from secure_xcom.trial.search import zstd
from secure_xcom.trial.values import CONTROL, has_frames

#: The file in the store, by what is done to the text in it.
_NAME = "planted, {}"


@contextmanager
def planted(home: Home, text: str) -> Iterator[list[Path]]:
    """Have a program print the text, and the store hold it in each encoding, for the time being.

    In tables, task logs and the temporary directory the DAG has left it.
    """
    program = "import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])"
    home.run("print the planted text", "-c", program, str(home.texts), CONTROL)
    files = {home.store / _NAME.format(how): data for how, data in _written(text).items()}
    files[home.store / f"planted {text}"] = b""
    try:
        for file, data in files.items():
            file.write_bytes(data)
        yield list(files)
    finally:
        _remove(files)


def _remove(files: Iterable[Path]) -> None:
    """Remove all files that can be removed.

    Raises:
        ConfigError: some are left, which anybody who looks into the store would take for a leak.
    """
    left = []
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            left.append(f"{file} ({error.strerror})")
    if left:
        raise ConfigError(
            f"What was planted to try the search could not be removed: {', '.join(left)}."
        )


def missed(found: surfaces.Found, text: str) -> list[str]:
    """Say where the planted text was not found, and so where the search cannot be relied upon."""
    hits = [place for place in found.places if place.value == CONTROL]
    seen_on = {place.surface for place in hits}
    wanted = (
        surfaces.DATABASE,
        surfaces.NAMES,
        surfaces.TASK_LOGS,
        surfaces.PRINTED,
        surfaces.TEMPORARY,
    )
    faults = [surface for surface in wanted if surface not in seen_on]
    for title, beginnings in (
        ("the table of XComs", ("table xcom",)),
        ("the table of rendered fields", ("table rendered_task_instance_fields", "table rtif")),
    ):
        if not any(surface.startswith(beginnings) for surface in seen_on):
            faults.append(title)
    objects = {place.place for place in hits if place.surface == surfaces.STORE}
    return faults + [
        f"the store, {how}" for how in _written(text) if _NAME.format(how) not in objects
    ]


def _written(text: str) -> dict[str, bytes]:
    """Write a text in each of the ways that are undone."""
    # Among noise of few characters every compressor writes codes, and not the text as it is.
    noise = "".join(hashlib.sha256(b"%d" % line).hexdigest() for line in range(40))
    plain = f"{noise} {text} {noise}".encode()
    written = {
        "in clear": plain,
        "hexadecimal": plain.hex().encode(),
        "base64": base64.b64encode(plain),
        "gzip": gzip.compress(plain),
        "zlib": zlib.compress(plain),
        "zstd": zstd.compress(plain),
        "gzip in url-safe base64": base64.urlsafe_b64encode(gzip.compress(plain)),
        "zstd in zlib in hexadecimal": zlib.compress(zstd.compress(plain)).hex().encode(),
    }
    return written | (_columns(text) if has_frames() else {})


def _columns(text: str) -> dict[str, bytes]:
    """Write a text as tables that are compressed in ways of their own."""
    pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    # What is alike around it has a compressor refer back to it, and not write it out.
    table = pa.table({"text": [f"{text[:15]}{row:09}" for row in range(300)] + [text]})
    arrow, parquet = io.BytesIO(), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(arrow, table.schema, options=options) as stream:
        stream.write_table(table)
    pq.write_table(table, parquet, compression="snappy", write_statistics=False)
    return {"Arrow": arrow.getvalue(), "Parquet in hexadecimal": parquet.getvalue().hex().encode()}
