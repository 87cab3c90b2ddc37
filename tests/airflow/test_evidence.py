"""`secure-xcom evidence` in a real Airflow home."""

from __future__ import annotations

import json

import pytest
from support.deployed import switch_on
from support.environments import DEFAULT


@pytest.mark.parametrize("environment", [DEFAULT], indirect=True)
def test_a_laptop(home):
    env = switch_on(home)
    out = home.path / "evidence"
    done = home.run("secure-xcom", "evidence", "--out", str(out), "--json", env=env)
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    found = {path.name: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert found.keys() == answer["files"].keys()
    assert found["about.json"]["airflow"] == DEFAULT
    checks = {check["name"]: check["status"] for check in found["doctor.json"]["checks"]}
    assert (checks["backend"], checks["audit_log"]) == ("pass", "pass")
    assert checks["key.round_trip"] == "pass"
    assert (found["scan.json"]["ok"], found["scan.json"]["rows"]) == (True, 0)
    (kek,) = [one for one in found["settings.json"]["settings"] if one["name"] == "kek_uri"]
    assert kek["origin"] == "AIRFLOW__SECURE_XCOM__KEK_URI"
