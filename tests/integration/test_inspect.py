"""`secure-xcom inspect` in a Cloud Storage, over Google's own client."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from secure_xcom.cli import main
from secure_xcom.cli.inspect import stores
from secure_xcom.keys.local import create_key_file
from secure_xcom.model import Coordinate
from secure_xcom.settings import load
from secure_xcom.stack import build
from secure_xcom.stores.gcs import retry

WHERE = Coordinate("payments", "manual__2026-11-22", "load", 3, "return_value")
VALUE = os.urandom(12_000_000)


@pytest.fixture
def deployed(gcs_proxy, gcs_server, bucket, tmp_path, monkeypatch):
    """A value in a bucket, of a deployment that the environment alone configures."""
    monkeypatch.setattr(stores, "find_spec", lambda _: None)
    monkeypatch.setattr(retry, "DEADLINE_SECONDS", 1.0)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_proxy.url)
    stores.settings.cache_clear()
    create_key_file(tmp_path / "kek")
    section = {"store_uri": f"gs://{bucket}/xcom", "kek_uri": f"local-kek://{tmp_path}/kek"}
    for name, value in section.items():
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)
    row = build(load(section, None, None)).put(VALUE, WHERE)
    yield SimpleNamespace(row=row, proxy=gcs_proxy, server=gcs_server, bucket=bucket)
    stores.settings.cache_clear()


def inspect(capsys, *arguments):
    capsys.readouterr()  # where Airflow logs to standard output, the value's sealing left a line
    code = main(["inspect", *arguments, "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, err


def test_an_object_is_compared_with_its_row(deployed, capsys):
    code, report, _ = inspect(capsys, json.dumps(deployed.row))
    assert code == 0
    assert {check["holds"] for check in report["checks"]} == {True}
    assert report["object"]["generation"] == deployed.row["generation"]
    assert report["object"]["crc32c"] == deployed.row["crc32c"]
    assert report["envelope"]["map_index"] == 3
    assert report["envelope"]["length_bytes"] == deployed.row["length_bytes"]


def test_an_object_is_opened_to_a_file(deployed, capsys, tmp_path):
    uri = f"{deployed.row['store']}/{deployed.row['object']}"
    output = tmp_path / "value"
    code, report, err = inspect(capsys, uri, "--open", "--output", str(output))
    assert code == 0
    assert report["opened"]["bytes"] == len(VALUE)
    assert output.read_bytes() == VALUE
    assert json.loads(err.splitlines()[-1])["object"] == deployed.row["object"]


def test_an_object_that_was_replaced_disagrees(deployed, capsys):
    name = f"xcom/{deployed.row['object']}"
    data = deployed.server.read(deployed.bucket, name)
    deployed.server.write(deployed.bucket, name, data)
    code, report, _ = inspect(capsys, json.dumps(deployed.row))
    assert code == 1
    assert [check["what"] for check in report["checks"] if not check["holds"]] == [
        "row and object agree: generation"
    ]
    code, _, err = inspect(capsys, json.dumps(deployed.row), "--open")
    assert code == 2
    assert '"operation": "refuse"' in err


def test_a_store_that_does_not_answer_is_said_and_the_row_is_shown(deployed, capsys):
    deployed.proxy.fail("list", "status", code=503, times=100)
    code, report, _ = inspect(capsys, json.dumps(deployed.row))
    assert code == 0
    assert report["row"]["object"] == deployed.row["object"]
    (unknown,) = [check for check in report["checks"] if check["holds"] is None]
    assert unknown["what"] == "the object is there"
    deployed.proxy.fail("list", "status", code=503, times=100)
    code, _, err = inspect(capsys, f"{deployed.row['store']}/{deployed.row['object']}")
    assert code == 2
    assert "secure-xcom:" in err
