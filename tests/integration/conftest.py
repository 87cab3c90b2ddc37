from __future__ import annotations

from servers.storage_fixtures import bucket, gcs_proxy, gcs_server, wire_proxy

__all__ = ["bucket", "gcs_proxy", "gcs_server", "wire_proxy"]
