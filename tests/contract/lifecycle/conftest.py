from __future__ import annotations

import pytest
from support.databases import database_url, metadata, postgres_server
from support.scenes import Scene

__all__ = ["database_url", "metadata", "postgres_server"]


@pytest.fixture(params=["file", "gcs"])
def store_uri(request, tmp_path, monkeypatch):
    """An empty store of each kind in turn."""
    if request.param == "file":
        return f"file://{tmp_path / 'store'}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", request.getfixturevalue("gcs_proxy").url)
    return f"gs://{request.getfixturevalue('bucket')}/xcom"


@pytest.fixture
def scene(request, metadata, store_uri, tmp_path):
    """A deployment; the tables are those of Airflow 3.3 unless a test says otherwise."""
    server = None if store_uri.startswith("file") else request.getfixturevalue("gcs_server")
    return Scene(metadata, tmp_path / "deployment", store_uri, server=server)
