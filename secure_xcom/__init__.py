"""An Apache Airflow XCom backend that seals every value on the worker.

What a DAG or a script may want to import stands here; the backend itself is named in airflow.cfg
and lives in `secure_xcom.airflow.backend`.
"""

from __future__ import annotations

from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    KeyAccessDenied,
    KeyServiceError,
    KeyUnavailable,
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreError,
    StoreUnavailable,
    UnsealedError,
)

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "CodecError",
    "ConfigError",
    "FormatError",
    "KeyAccessDenied",
    "KeyServiceError",
    "KeyUnavailable",
    "ObjectNotFound",
    "SecureXComError",
    "StoreAccessDenied",
    "StoreError",
    "StoreUnavailable",
    "UnsealedError",
    "__version__",
]
