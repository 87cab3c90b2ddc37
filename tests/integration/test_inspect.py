"""`secure-xcom inspect` in a Cloud Storage, over Google's own client."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from secure_xcom.airflow import versions
from secure_xcom.cli import main
from secure_xcom.cli.inspect import stores
from secure_xcom.keys.local import create_key_file
from secure_xcom.model import Coordinate
from secure_xcom.settings import load
from secure_xcom.stack import build, build_states

WHERE = Coordinate("payments", "manual__2026-11-22", "load", 3, "return_value")
VALUE = os.urandom(12_000_000)


@pytest.fixture
def deployed(gcs_proxy, gcs_server, bucket, tmp_path, monkeypatch):
    """A value in a bucket, of a deployment that the environment alone configures."""
    monkeypatch.setattr(versions, "is_installed", lambda: False)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_proxy.url)
    stores.settings.cache_clear()
    create_key_file(tmp_path / "kek")
    section = {
        "store_uri": f"gs://{bucket}/xcom",
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "store_deadline_seconds": "1",
    }
    for name, value in section.items():
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)
    row = build(load(section, None, None)).put(VALUE, WHERE)
    yield SimpleNamespace(
        row=row, proxy=gcs_proxy, server=gcs_server, bucket=bucket, section=section
    )
    stores.settings.cache_clear()


def inspect(capfd, *arguments):
    capfd.readouterr()  # where Airflow logs to standard output, the value's sealing left a line
    code = main(["inspect", *arguments, "--json"])
    out, err = capfd.readouterr()
    return code, json.loads(out) if out else None, err


def test_an_object_is_compared_with_its_row(deployed, capfd):
    code, report, _ = inspect(capfd, json.dumps(deployed.row))
    assert code == 0
    assert {check["holds"] for check in report["checks"]} == {True}
    assert report["object"]["generation"] == deployed.row["generation"]
    assert report["object"]["crc32c"] == deployed.row["crc32c"]
    assert report["envelope"]["map_index"] == 3
    assert report["envelope"]["body_bytes"] == deployed.row["length_bytes"]


def test_an_object_alone_shows_its_size(deployed, capfd):
    uri = f"{deployed.row['store']}/{deployed.row['object']}"
    code, report, _ = inspect(capfd, uri)
    assert (code, report["kind"], report["envelope"]) == (0, "body", None)
    assert report["object"]["length_bytes"] == deployed.row["length_bytes"]
    # The object itself was not fetched: it tells nothing.
    assert deployed.proxy.counts().get("download", 0) == 0


def test_a_row_is_opened_to_a_file(deployed, capfd, tmp_path):
    output = tmp_path / "value"
    code, report, err = inspect(capfd, json.dumps(deployed.row), "--open", "--output", str(output))
    assert code == 0
    assert report["opened"]["bytes"] == len(VALUE)
    assert output.read_bytes() == VALUE
    assert json.loads(err.splitlines()[-1])["object"] == deployed.row["object"]


def test_an_object_that_was_restored_is_said_and_opened(deployed, capfd, tmp_path):
    name = f"xcom/{deployed.row['object']}"
    data = deployed.server.read(deployed.bucket, name)
    deployed.server.write(deployed.bucket, name, data)
    output = tmp_path / "value"
    code, report, _ = inspect(capfd, json.dumps(deployed.row), "--open", "--output", str(output))
    assert code == 0
    (there,) = [check for check in report["checks"] if check["what"] == "the object is there"]
    assert f"the row says {deployed.row['generation']}" in there["detail"]
    assert "tasks read it" in there["detail"]
    assert output.read_bytes() == VALUE


def test_an_object_that_was_replaced_disagrees(deployed, capfd):
    name = f"xcom/{deployed.row['object']}"
    data = bytearray(deployed.server.read(deployed.bucket, name))
    data[-1] ^= 1
    deployed.server.write(deployed.bucket, name, bytes(data))
    code, report, _ = inspect(capfd, json.dumps(deployed.row))
    assert code == 1
    assert [check["what"] for check in report["checks"] if not check["holds"]] == [
        "row and object agree: checksum"
    ]
    code, _, err = inspect(capfd, json.dumps(deployed.row), "--open")
    assert code == 2
    assert '"operation": "refuse"' in err


def test_a_state_is_looked_at_in_its_object(deployed, capfd):
    states = build_states(load(deployed.section, None, None), "task")
    value = os.urandom(100_000).hex()
    row = states.to_row(json.dumps(value), WHERE)
    before = deployed.proxy.counts().get("download", 0)
    code, report, _ = inspect(capfd, row)
    assert (code, report["kind"], report["envelope"]["dag_id"]) == (0, "state", "payments")
    assert {check["holds"] for check in report["checks"]} == {True}
    assert deployed.proxy.counts()["download"] == before + 1
    code, report, _ = inspect(capfd, row, "--open")
    assert (code, report["opened"]["value"]) == (0, value)


def test_a_store_that_does_not_answer_is_said_and_the_row_is_shown(deployed, capfd):
    deployed.proxy.fail("stat", "status", code=503, times=10_000)
    code, report, _ = inspect(capfd, json.dumps(deployed.row))
    assert code == 0
    assert report["row"]["object"] == deployed.row["object"]
    (unknown,) = [check for check in report["checks"] if check["holds"] is None]
    assert unknown["what"] == "the object is there"
    code, _, err = inspect(capfd, f"{deployed.row['store']}/{deployed.row['object']}")
    assert code == 2
    assert "secure-xcom:" in err
