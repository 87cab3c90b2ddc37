"""Rows of former backends, as each Airflow's own tables hold them."""

from __future__ import annotations

import json
import uuid
from types import SimpleNamespace

import pytest
from conftest import WHERE, stored

from secure_xcom.airflow import configuration, legacy, reading
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import AuthenticationError, ObjectNotFound, UnsealedError
from secure_xcom.model import Expected

VALUE = {"card": "4000 0012 3456 7899", "rows": [1, 2.5, None, True]}


@pytest.fixture
def base(deployment, configure, tmp_path, monkeypatch):
    """The folder of an object-storage backend."""
    assert deployment is not None
    configure(legacy_reads="gcs, common-io")
    folder = tmp_path / "objects"
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{folder}")
    (folder / "d" / "r" / "t").mkdir(parents=True)
    return folder


@pytest.fixture
def bucket(base, monkeypatch):
    """The objects of a hand-written backend, by name; the client is tested elsewhere."""
    assert base is not None
    objects = {}

    def read_object(bucket, name, *, max_bytes, credentials):
        assert (bucket, credentials) == ("old-bucket", None)
        assert max_bytes > 0
        if name not in objects:
            raise ObjectNotFound(name)
        return objects[name]

    monkeypatch.setattr(legacy, "read_object", read_object)
    monkeypatch.setattr(
        configuration, "_variable", {"XCOM_BACKEND_DATA_GCS_NAME": "old-bucket"}.get
    )
    return objects


def pull(row, **where):
    """Read a plain row, with what this version's read of one task instance tells of it."""
    result = SimpleNamespace(value=stored(row), **{**WHERE, **where})
    expected = Expected(**{**WHERE, **where})
    return reading.read(row, expected, lambda _: stock().deserialize_value(result)).value


def stock():
    return next(base for base in SecureXComBackend.__mro__ if base.__name__ == "BaseXCom")


def test_a_hand_written_row_gives_its_object(bucket):
    name = f"r/t/{uuid.uuid4()}.json"
    bucket[name] = json.dumps(VALUE).encode()
    assert pull(f"gcs://{name}") == VALUE
    with pytest.raises(AuthenticationError):
        pull(f"gcs://{name}", task_id="other")
    del bucket[name]
    with pytest.raises(ObjectNotFound):
        pull(f"gcs://{name}")


def test_an_object_storage_row_gives_its_object(base, bucket):
    assert bucket == {}
    path = base / "d" / "r" / "t" / str(uuid.uuid4())
    path.write_text(json.dumps(VALUE))
    assert pull(f"file://{path}") == VALUE
    with pytest.raises(AuthenticationError):
        pull(f"file://{path}", run_id="other")
    path.unlink()
    with pytest.raises(ObjectNotFound):
        pull(f"file://{path}")


def test_it_is_off_unless_it_is_set(bucket, configure):
    name = f"r/t/{uuid.uuid4()}.json"
    bucket[name] = b"1"
    configure(legacy_reads=None)
    with pytest.raises(UnsealedError):
        pull(f"gcs://{name}")
