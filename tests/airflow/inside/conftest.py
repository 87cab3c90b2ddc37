"""For tests that run inside the Airflow of an environment, in a home of their own.

`tests/airflow/test_inside.py` starts them, once for each version, by that environment's Python.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import os
from types import SimpleNamespace

import airflow
import pytest

from secure_xcom.airflow import clear_keys, reading
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.airflow.process import process

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])

#: Where the values of these tests belong.
WHERE = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "key": "k"}


@pytest.fixture(autouse=True)
def _fresh():
    """Start each test, and leave the next, without settings and without a stack."""
    _forget()
    yield
    _forget()


def _forget():
    process.forget()
    clear_keys.first.cache_clear()
    reading._warn_once.cache_clear()


@pytest.fixture
def configure(monkeypatch):
    """Set options of airflow.cfg by name, or unset them with None."""

    def set_(**settings):
        for name, value in settings.items():
            variable = f"AIRFLOW__SECURE_XCOM__{name.upper()}"
            if value is None:
                monkeypatch.delenv(variable, raising=False)
            else:
                monkeypatch.setenv(variable, str(value))
        _forget()

    return set_


@pytest.fixture
def deployment(tmp_path, configure):
    """Give a key and a store, on which the backend works."""
    kek = tmp_path / "kek"
    kek.touch(mode=0o600)
    kek.write_text(f"secure-xcom-local-kek-1 {base64.b64encode(os.urandom(32)).decode()}\n")
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    configure(kek_uri=f"local-kek://{kek}", store_uri=f"file://{store}")
    return SimpleNamespace(kek=kek, store=store, objects=lambda: _objects(store))


def _objects(store):
    return [path for path in store.rglob("*") if path.is_file()]


def push(value, **where):
    """Give the row for a value, parsed as a database would keep it."""
    row = SecureXComBackend.serialize_value(value, **{**WHERE, **where})
    return json.loads(row if VERSION < (3, 0) else json.dumps(row))


def stored(row):
    """Give the row as this version's table holds it."""
    return json.dumps(row).encode() if VERSION < (3, 0) else row


def pull(row, **where):
    """Give the value of a row; on Airflow 3 the key alone is told."""
    return SecureXComBackend.deserialize_value(
        SimpleNamespace(value=stored(row), **{**WHERE, **where})
    )


def pytest_pyfunc_call(pyfuncitem):
    """Run tests that are coroutines; no plugin is needed for that."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True
