"""Rows of the backends that teams come from: a path in the row, the value in clear in a bucket.

Setting `legacy_reads` names the kinds that are read; nothing writes or deletes them.

`gcs`        the row is `gcs://{run_id}/{task_id}/{uuid}.json`, and the rest after the scheme is the
             name of a JSON object in the bucket of the Variable `XCOM_BACKEND_DATA_GCS_NAME`
`common-io`  the row is a path below `[common.io] xcom_objectstorage_path`, which goes on with the
             ids of dag, run and task; its suffix names the compression

A row that has the form of a reference is followed or refused, and never handed out as a value.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from secure_xcom import signals
from secure_xcom.airflow import configuration, versions
from secure_xcom.errors import (
    AuthenticationError,
    FormatError,
    ObjectNotFound,
    SecureXComError,
    StoreError,
)
from secure_xcom.model import Expected
from secure_xcom.stores.gcs.legacy import read_object
from secure_xcom.text import escaped
from secure_xcom.uris import LEGACY, legacy_object, scheme

if TYPE_CHECKING:
    from secure_xcom.settings import Settings

HAND_WRITTEN = "gcs"
COMMON_IO = "common-io"

_FILE = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.json")
#: dag, run, task, and one level or two that name the write.
_LEVELS = (4, 5)


def is_reference(value: object, kinds: tuple[str, ...]) -> bool:
    """Whether a plain row has the form of a reference of one of these kinds."""
    if not isinstance(value, str):
        return False
    if HAND_WRITTEN in kinds and scheme(value) == LEGACY:
        return True
    return COMMON_IO in kinds and value.startswith(f"{_base()}/")


def read(reference: str, expected: Expected, settings: Settings) -> object:
    """Read the value that a legacy row refers to.

    Raises:
        AuthenticationError: the reference names another dag, run or task than was asked for.
        FormatError: it has a form that was never written, or its object is not what was written.
        ConfigError: where the legacy backend kept its objects is not set.
        ObjectNotFound: its object is gone.
        StoreError: its object could not be read.
    """
    if HAND_WRITTEN in settings.legacy_reads and scheme(reference) == LEGACY:
        data = _read_gcs(reference, expected, settings)
        hooks: dict[str, Any] = {}
    else:
        from airflow.utils.json import XComDecoder  # noqa: PLC0415 - not at import

        data = _read_common_io(reference, expected, settings.max_value_bytes)
        hooks = {"cls": XComDecoder}
    try:
        return json.loads(data, **hooks)
    except (ValueError, RecursionError):
        fault = FormatError(f"The legacy object {escaped(reference)} does not hold JSON.")
    except Exception as error:  # a class's own methods run here
        if signals.is_callers(error):
            raise
        fault = FormatError(
            f"The legacy object {escaped(reference)} holds what Airflow does not deserialise "
            f"({type(error).__name__}). `[core] allowed_deserialization_classes` says what it may."
        )
    raise fault


def _read_gcs(reference: str, expected: Expected, settings: Settings) -> bytes:
    name = legacy_object(reference)
    # A run id may hold slashes.
    run_id, _, file = name.rpartition("/")
    run_id, _, task_id = run_id.rpartition("/")
    if not _FILE.fullmatch(file) or not _plain((*run_id.split("/"), task_id)):
        raise _never_written(reference)
    _compare(Expected(None, run_id, task_id), expected)
    bucket = configuration.legacy_bucket()
    credentials = configuration.credentials(settings)
    return read_object(bucket, name, max_bytes=settings.max_value_bytes, credentials=credentials)


def _base() -> str:
    return configuration.common_io_path().rstrip("/")


def _read_common_io(reference: str, expected: Expected, max_bytes: int) -> bytes:
    parts, shown = reference.removeprefix(f"{_base()}/").split("/"), escaped(reference)
    if len(parts) not in _LEVELS or not _plain(tuple(parts)):
        raise _never_written(reference)
    _compare(Expected(parts[0], parts[1], parts[2]), expected)
    try:
        with versions.object_storage_path(reference).open(mode="rb", compression="infer") as file:
            data: bytes = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise ObjectNotFound(
            f"The legacy object {shown} does not exist. Clear the task that wrote it."
        ) from None
    except SecureXComError:
        raise
    except Exception as error:
        if signals.is_callers(error):
            raise
        raise StoreError(
            f"The legacy object {shown} could not be read ({type(error).__name__}): it is "
            "damaged, or the connection of `xcom_objectstorage_path` does not reach it."
        ) from error
    if len(data) > max_bytes:
        raise FormatError(
            f"The legacy object {shown} has more than {max_bytes} bytes (`max_value_bytes`)."
        )
    return data


def _plain(segments: tuple[str, ...]) -> bool:
    return not {"", ".", ".."} & set(segments)


def _compare(named: Expected, expected: Expected) -> None:
    """Compare what a path names with what was asked, as far as both are known."""
    for ours, asked in (
        (named.dag_id, expected.dag_id),
        (named.run_id, expected.run_id),
        (named.task_id, expected.task_id),
    ):
        if ours is not None and asked is not None and ours != asked:
            raise AuthenticationError


def _never_written(reference: str) -> FormatError:
    return FormatError(
        f"The row holds {reference[:200]!r}, which has the form of a legacy reference but is none "
        "that was ever written (`legacy_reads`). It is not followed."
    )
