"""The backend switched on in a home, on a laptop's key and store, and looks at what it left."""

from __future__ import annotations

import base64
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from support.environments import Home

BACKEND = "secure_xcom.airflow.backend.SecureXComBackend"


def switch_on(home: Home, **settings: object) -> dict[str, str]:
    """Give the environment of a deployment: key and store lie in the home; settings by name."""
    store = home.path / "store"
    store.mkdir(mode=0o700, exist_ok=True)
    kek = make_kek(home.path / "kek")
    named = {"kek_uri": kek, "store_uri": f"file://{store}", **settings}
    return {"AIRFLOW__CORE__XCOM_BACKEND": BACKEND} | {
        f"AIRFLOW__SECURE_XCOM__{name.upper()}": str(value) for name, value in named.items()
    }


def make_kek(path: Path) -> str:
    """Write a local KEK as `docs/format.md`, section 3.1, has it; its URI."""
    line = f"secure-xcom-local-kek-1 {base64.b64encode(os.urandom(32)).decode()}\n"
    path.touch(mode=0o600)
    path.write_text(line)
    return f"local-kek://{path}"


def make_canary() -> str:
    """Make a string that no file holds before a task returns it."""
    return f"canary-{secrets.token_hex(12)}"


def xcoms(home: Home) -> dict[tuple[str, int, str], Any]:
    """Read the table of XComs, parsed, by task, map index and key."""
    with home.connect() as database:
        v2 = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'xcom_v2'").fetchone()
        rows = database.execute(
            "SELECT task_id, region_index, key, value FROM xcom_v2 JOIN task_instance "
            "ON task_instance.id = task_instance_id WHERE working_set"
            if v2
            else "SELECT task_id, map_index, key, value FROM xcom"
        ).fetchall()
    return {tuple(where): json.loads(value) for *where, value in rows}


def objects(home: Home) -> dict[str, bytes]:
    """Read the store, by object name."""
    store = home.path / "store"
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file()
    }


def raw_xcoms(home: Home) -> bytes:
    """Read all that the tables of XComs hold, as bytes, tries that are over included."""
    with home.connect() as database:
        tables = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'xcom%'"
        ).fetchall()
        cells = [
            cell
            for (table,) in tables
            for row in database.execute(f"SELECT * FROM {table}")  # noqa: S608
            for cell in row
        ]
    return b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)
