"""What the backend wrote on Airflow 2 is read on Airflow 3.

Airflow's own migration is not run here: on SQLite it drops task instances and XComs. On other
databases it turns the bytes of a row into the JSON that they are (its revision 0049).
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.deployed import make_canary, objects, switch_on
from support.environments import DEFAULT, provide

WRITE = """
import os, sys
from secure_xcom.airflow.backend import SecureXComBackend

for key, value in (("small", {"canary": os.environ["CANARY"]}), ("large", ["x"] * 50_000)):
    row = SecureXComBackend.serialize_value(
        value, key=key, task_id="t", dag_id="d", run_id="r", map_index=-1
    )
    print("row", row.decode())
"""

READ = """
import json, os, sys
from types import SimpleNamespace
from secure_xcom.airflow.backend import SecureXComBackend

small, large = (
    SecureXComBackend.deserialize_value(SimpleNamespace(value=json.loads(row), key=key))
    for key, row in zip(("small", "large"), sys.argv[1:])
)
assert small == {"canary": os.environ["CANARY"]}
assert large == ["x"] * 50_000
"""


@pytest.mark.parametrize("environment", ["2.11.2"], indirect=True)
def test_rows_of_airflow_2_are_read_on_airflow_3(home):
    env = {**switch_on(home, compression="none"), "CANARY": make_canary()}
    printed = home.run("python", "-c", WRITE, env=env).stdout.splitlines()
    rows = [line.removeprefix("row ") for line in printed if line.startswith("row ")]
    assert [json.loads(row)["placement"] for row in rows] == ["inline", "offloaded"]
    assert len(objects(home)) == 1

    replace(home, environment=provide(DEFAULT)).run("python", "-c", READ, *rows, env=env)
