"""A secrets backend that knows what XCom backends ask for, and counts it; Airflow asks it first."""

from __future__ import annotations

import json
from collections import Counter

from airflow.secrets import BaseSecretsBackend
from cloud import BUCKET, BUCKET_VARIABLE, CONNECTION

#: How often a `Variable` and a `Connection` were looked up.
counted: Counter[str] = Counter()


class LookUps(BaseSecretsBackend):
    """The bucket's name, and a connection for which no token is fetched from Google."""

    def get_variable(self, key: str, *_: object) -> str | None:
        counted["Variable"] += 1
        return {BUCKET_VARIABLE: BUCKET}.get(key)

    def get_conn_value(self, conn_id: str, *_: object) -> str | None:
        counted["Connection"] += 1
        extra = {"is_anonymous": True, "project": "test-project"}
        found = json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
        return found if conn_id == CONNECTION else None
