"""A backend of the kind that many teams have written for themselves, on Airflow 2 and 3.

As `[core] xcom_backend`: `hand_written.Lazy` imports the provider's hook where it is used;
`hand_written_top.Early` at the top of its module, for every process that loads the backend.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import json
import tempfile
import uuid

try:
    from airflow.sdk import Variable
    from airflow.sdk.bases.xcom import BaseXCom
except ImportError:
    from airflow.models import Variable
    from airflow.models.xcom import BaseXCom
from airflow.utils.json import XComDecoder, XComEncoder

CONNECTION = "google_cloud_storage_default"
BUCKET_VARIABLE = "XCOM_BACKEND_DATA_GCS_NAME"


def _hook() -> object:
    from airflow.providers.google.cloud.hooks.gcs import GCSHook

    return GCSHook(gcp_conn_id=CONNECTION)


class Lazy(BaseXCom):
    """JSON to a temporary file, upload by the hook, `gcs://` in the row."""

    @staticmethod
    def serialize_value(  # noqa: PLR0913 - Airflow 2 calls by this signature only
        value, *, key=None, task_id=None, dag_id=None, run_id=None, map_index=None
    ):
        del key, dag_id, map_index
        name = f"{run_id}/{task_id}/{uuid.uuid4()}.json"
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(json.dumps(value, cls=XComEncoder))
            file.flush()
            _hook().upload(
                bucket_name=Variable.get(BUCKET_VARIABLE), object_name=name, filename=file.name
            )
        return BaseXCom.serialize_value(f"gcs://{name}")

    @staticmethod
    def deserialize_value(result):
        found = BaseXCom.deserialize_value(result)
        if not (isinstance(found, str) and found.startswith("gcs://")):
            return found
        with tempfile.NamedTemporaryFile("r", suffix=".json") as file:
            _hook().download(
                bucket_name=Variable.get(BUCKET_VARIABLE),
                object_name=found.removeprefix("gcs://"),
                filename=file.name,
            )
            return json.load(file, cls=XComDecoder)
