"""`secure-xcom inspect` beside a real Airflow, whose settings stand in a Variable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.deployed import BACKEND, make_canary, make_kek, objects, xcoms
from support.environments import DEFAULT

DAG = Path(__file__).parent / "dags" / "inspected.py"


def inspect(home, *arguments, code=0):
    """Run it; what it printed as JSON, and what went to standard error."""
    done = home.run("secure-xcom", "inspect", *arguments, "--json", check=False)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else None, done.stderr


def audited(printed):
    """Give the audit log's lines in what was printed, whatever stands around them."""
    decoder = json.JSONDecoder()
    starts = (max(line.find('{"time"'), line.find('{"severity"')) for line in printed.splitlines())
    lines = [
        decoder.raw_decode(line[at:])[0]
        for line, at in zip(printed.splitlines(), starts, strict=False)
        if at >= 0
    ]
    return [line for line in lines if "operation" in line]


def _run_id(home):
    with home.connect() as database:
        return database.execute("SELECT run_id FROM dag_run").fetchone()[0]


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_what_a_dag_wrote_is_shown_and_opened(home):
    canary = make_canary()
    (home.dags / DAG.name).write_bytes(DAG.read_bytes())
    kek = make_kek(home.path / "kek")
    settings = {"kek_uri": kek, "store_uri": f"file://{home.path}/store", "instance": "prod"}
    home.run("airflow", "variables", "set", "SECURE_XCOM", json.dumps(settings))
    env = {"AIRFLOW__CORE__XCOM_BACKEND": BACKEND, "CANARY": canary}
    ran = home.run("airflow", "dags", "test", "inspected", env=env)

    # The lines of the audit log are where the tasks log to.
    logged = audited((ran.stdout + ran.stderr).replace('\\"', '"'))
    assert {(line["operation"], line["task_id"], line["outcome"]) for line in logged} >= {
        (operation, task, "ok") for operation in ("seal", "open") for task in ("short", "long")
    }

    rows = xcoms(home)
    ((name, body),) = objects(home).items()
    long = json.dumps(rows["long", -1, "return_value"])
    found, _ = inspect(home, long)
    assert {check["holds"] for check in found["checks"]} == {True}
    assert found["object"]["object"] == name
    assert found["envelope"]["body_bytes"] == len(body)
    assert (found["envelope"]["task_id"], found["envelope"]["instance"]) == ("long", "prod")
    body_alone, _ = inspect(home, f"{settings['store_uri']}/{name}")
    assert (body_alone["kind"], body_alone["envelope"]) == ("body", None)

    where = ("--dag-id", "inspected", "--run-id", _run_id(home))
    given, printed = inspect(home, *where, "--task-id", "short", "--open", "--reason", "ticket 7")
    assert given["opened"]["value"] == {"card": canary}
    assert [(line["reason"], line["task_id"]) for line in audited(printed)] == [
        ("ticket 7", "short")
    ]
    with home.connect() as database:
        database.execute(
            "UPDATE xcom SET value = (SELECT value FROM xcom WHERE task_id = 'long') "
            "WHERE task_id = 'pull' AND key = 'return_value'"
        )
    _, printed = inspect(home, *where, "--task-id", "pull", "--open", code=2)
    (line,) = audited(printed)
    assert (line["operation"], line["task_id"]) == ("refuse", "pull")
    assert line["unverified_task_id"] == "long"

    output = home.path / "opened"
    found, printed = inspect(home, long, "--open", "--output", str(output))
    assert found["authenticated"] is True
    assert output.read_bytes().endswith(canary.encode())
    assert len(output.read_bytes()) == 60_000 + len(canary)
    (line,) = audited(printed)
    assert (line["operation"], line["object"], line["task_id"]) == ("open", name, "long")
    assert line["actor"].startswith("inspect:")

    kek_file = home.path / "kek"
    kek_file.unlink()
    make_kek(kek_file)
    short = json.dumps(rows["short", -1, "return_value"])
    _, printed = inspect(home, short, "--open", code=2)
    assert [line["error"] for line in audited(printed)] == ["AuthenticationError"]
    assert canary not in printed
