"""Fixtures for tests that need a database; a folder's `conftest.py` imports what it uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from servers.postgres import PostgresServer
from sqlalchemy.pool import NullPool
from support.metadata import VERSIONS, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of a process."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'airflow.db'}"
    return request.getfixturevalue("postgres_server").create_database()


@pytest.fixture(params=VERSIONS)
def metadata(request: pytest.FixtureRequest, database_url: str) -> Iterator[Metadata]:
    """The tables of each version in turn."""
    engine = sa.create_engine(database_url, poolclass=NullPool)
    yield Metadata(engine, request.param)
    engine.dispose()
