"""Fixtures for tests that need a Cloud Storage; a folder's `conftest.py` imports what it uses."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.fault_proxy import FaultProxy
    from servers.gcs import GcsServer


@pytest.fixture(scope="session")
def gcs_server() -> Iterator[GcsServer]:
    """One server for all tests of a process."""
    from servers.gcs import GcsServer  # noqa: PLC0415 - not every environment has its wheel

    with GcsServer() as server:
        yield server


@pytest.fixture
def gcs_proxy(gcs_server: GcsServer) -> Iterator[FaultProxy]:
    """A proxy in front of it, without faults."""
    from servers.fault_proxy import FaultProxy  # noqa: PLC0415

    with FaultProxy(gcs_server.url) as proxy:
        yield proxy


@pytest.fixture(params=["http", "tls"])
def wire_proxy(
    request: pytest.FixtureRequest, gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultProxy]:
    """A proxy over plain HTTP and over TLS, in turn; this process trusts the latter."""
    from servers.fault_proxy import FaultProxy  # noqa: PLC0415

    with FaultProxy(gcs_server.url, tls=request.param == "tls") as proxy:
        if "REQUESTS_CA_BUNDLE" in proxy.environment:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", proxy.environment["REQUESTS_CA_BUNDLE"])
        yield proxy


@pytest.fixture
def bucket(gcs_server: GcsServer) -> str:
    """An empty bucket's name."""
    return gcs_server.create_bucket(f"bucket-{secrets.token_hex(8)}")
