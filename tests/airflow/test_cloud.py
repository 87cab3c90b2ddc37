"""The same DAG through Google's own clients: Cloud KMS over gRPC, Cloud Storage over HTTP."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from servers.gcs import GcsServer
from servers.kms import URI, KmsServer
from support.deployed import BACKEND, make_canary, raw_xcoms, xcoms
from support.environments import DEFAULT

from secure_xcom.uris import parse_kek

DAG = Path(__file__).parent / "dags" / "travel.py"


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_values_travel_through_the_cloud(home, tmp_path):
    (home.dags / DAG.name).write_bytes(DAG.read_bytes())
    canary, probes = make_canary(), home.path / "probes"
    with KmsServer(tmp_path) as kms, GcsServer() as gcs:
        kms.create_key()
        gcs.create_bucket("the-bucket-that-was-there")
        home.run(
            *("airflow", "dags", "test", "travel"),
            env={
                **kms.environment,
                **gcs.environment,
                "AIRFLOW__CORE__XCOM_BACKEND": BACKEND,
                "AIRFLOW__SECURE_XCOM__KEK_URI": URI,
                "AIRFLOW_VAR_XCOM_BACKEND_DATA_GCS_NAME": "the-bucket-that-was-there",
                "CANARY": canary,
                "PROBES": str(probes),
                "DATABASE": str(home.database),
            },
        )
        calls = kms.traffic.calls()
        names = gcs.names("the-bucket-that-was-there")
        stored = {name: gcs.read("the-bucket-that-was-there", name) for name in names}

    notes = {one["name"]: one["value"] for one in map(json.loads, probes.read_text().splitlines())}
    assert notes["canary through arguments"] == [True, True]
    assert notes["put back"] == [1, 4, 9]
    assert notes["moved: pulled by task id"] == "AuthenticationError False"

    rows = {where: row for where, row in xcoms(home).items() if where[2] != "trigger_run_id"}
    offloaded = {row["object"]: row for row in rows.values() if row["placement"] == "offloaded"}
    # What the failed try of `source` pushed is gone with it.
    assert set(stored) == set(offloaded)
    assert len(stored) == 2
    for name, row in offloaded.items():
        assert row["store"] == "gs://the-bucket-that-was-there"
        assert row["length_bytes"] == len(stored[name])
        assert canary.encode() not in stored[name]
    assert all(row["about"].startswith("Sealed by secure_xcom: ") for row in rows.values())
    assert all(f"under key {parse_kek(URI).key} (" in row["about"] for row in rows.values())
    assert canary.encode() not in raw_xcoms(home)

    # One data key for each task instance that pushed, however much it pushed.
    instances = {(task_id, map_index) for task_id, map_index, _ in rows}
    assert calls["Encrypt"] == len(instances)
    assert set(calls) == {"Encrypt", "Decrypt"}
