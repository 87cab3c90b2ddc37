from __future__ import annotations

from support.databases import database_url, metadata, postgres_server

__all__ = ["database_url", "metadata", "postgres_server"]
