from __future__ import annotations

from servers.storage_fixtures import bucket, gcs_proxy, gcs_server

__all__ = ["bucket", "gcs_proxy", "gcs_server"]
