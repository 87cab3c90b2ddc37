"""The backends that are compared: this package's, and those that it is compared with.

All have the same threshold and speak to the same emulator in one process. Each is a `Backend`, of
which every method is a call of the class that Airflow would call, and nothing more.
"""
# ruff: noqa: PLC0415 - Airflow is imported once its home is set

from __future__ import annotations

import itertools
import os
import re
from gzip import GzipFile
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

from cloud import BUCKET, KEK_URI
from names import GZIP, OURS, OURS_HELD, PLAIN, STOCK, WRITTEN

if TYPE_CHECKING:
    from pathlib import Path

THRESHOLD_BYTES = 49_152


def configure(home: Path) -> None:
    """Set the environment for all backends; before Airflow is imported."""
    for name in [name for name in os.environ if name.startswith("AIRFLOW")]:
        del os.environ[name]
    os.environ |= {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__XCOM_BACKEND": "secure_xcom.airflow.backend.SecureXComBackend",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__SECRETS__BACKEND": "look_ups.LookUps",
        "AIRFLOW__SECURE_XCOM__KEK_URI": KEK_URI,
        "AIRFLOW__SECURE_XCOM__STORE_URI": f"gs://{BUCKET}/sealed",
        "AIRFLOW__SECURE_XCOM__THRESHOLD_BYTES": str(THRESHOLD_BYTES),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"gs://{BUCKET}/common-io",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": str(THRESHOLD_BYTES),
        # Or gcsfs looks for kinds of buckets that the server does not have, at its own cost.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        # Nobody fetches a token from Google here.
        "FSSPEC_GS_TOKEN": "anon",
    }


class Backend:
    """One of the backends, by its name."""

    def __init__(self, name: str, face: type) -> None:
        self.name = name
        self._face = face
        self._slug = re.sub(r"\W+", "_", name)
        self._numbers = itertools.count()

    def push(self, value: object, *, task: str | None = None, map_index: int = -1) -> object:
        """Give the row; without `task` as a task instance of its own."""
        return self._face.serialize_value(
            value,
            key="return_value",
            # Not one folder for two backends: gcsfs lists folders, and keeps the lists.
            task_id=f"{self._slug}.{task or next(self._numbers)}",
            dag_id="benchmark",
            run_id="scheduled__2026-01-01T00:00:00+00:00",
            map_index=map_index,
        )

    def pull(self, row: object) -> object:
        return self._face.deserialize_value(SimpleNamespace(key="return_value", value=row))

    def pull_all(self, rows: list[object], task: str) -> list[object]:
        """Read the values of all map indexes of a task, as `get_all` does."""
        del task
        return [self.pull(row) for row in rows]

    def forget(self) -> None:
        """Be as in a new process, as far as one can be without one."""


class Ours(Backend):
    """This package; a task instance that pushes has a data key of its own, by one call of KMS."""

    def __init__(self) -> None:
        from secure_xcom.airflow.backend import SecureXComBackend

        super().__init__(OURS, SecureXComBackend)

    def pull_all(self, rows: list[object], task: str) -> list[object]:
        from secure_xcom.airflow.deferred import deferring
        from secure_xcom.airflow.v3 import _open_all

        wanted = {
            "dag_id": "benchmark",
            "run_id": "scheduled__2026-01-01T00:00:00+00:00",
            "task_id": f"{self._slug}.{task}",
            "key": "return_value",
        }
        with deferring():
            rows = [self._face.deserialize_value(SimpleNamespace(value=row)) for row in rows]
        return _open_all(rows, wanted)

    def forget(self) -> None:
        from secure_xcom.airflow.process import process

        process.forget()


class Held(Ours):
    """The same, for a task that has pushed before, or whose other value was pulled before."""

    def __init__(self) -> None:
        super().__init__()
        self.name = OURS_HELD

    def push(self, value: object, *, task: str | None = None, map_index: int = -1) -> object:
        return super().push(value, task=task or "held", map_index=map_index)


class CommonIo(Backend):
    """The object storage backend of apache-airflow-providers-common-io."""

    def __init__(self, name: str, compression: str | None) -> None:
        import fsspec.compression
        from airflow.providers.common.io.xcom import backend

        super().__init__(name, backend.XComObjectStorageBackend)
        self._module = backend
        self._compression = compression
        if compression == "gzip":
            fsspec.compression.register_compression("gzip", _closed_gzip, "gz", force=True)

    def push(self, value: object, *, task: str | None = None, map_index: int = -1) -> object:
        # It caches the setting for the process.
        self._module._get_compression = lambda: self._compression
        return super().push(value, task=task, map_index=map_index)

    def forget(self) -> None:
        from airflow.sdk.io import store
        from gcsfs import GCSFileSystem

        store._STORE_CACHE.clear()
        GCSFileSystem.clear_instance_cache()
        self._module._get_base_path.cache_clear()


def backends() -> dict[str, Backend]:
    """All of them, by name, ours first."""
    from airflow.sdk.bases.xcom import BaseXCom
    from hand_written_top import Early

    made = (
        Ours(),
        Held(),
        Backend(STOCK, BaseXCom),
        CommonIo(PLAIN, None),
        CommonIo(GZIP, "gzip"),
        Backend(WRITTEN, Early),
    )
    return {one.name: one for one in made}


def _closed_gzip(file: IO[bytes], **options: Any) -> GzipFile:
    """Give what compresses into a file, and closes it.

    As fsspec makes it, the file stays open when it is closed, and gcsfs writes the object only when
    Python collects it, which may be after it is read.
    """
    made = GzipFile(fileobj=file, **options)
    made.myfileobj = file
    return made
