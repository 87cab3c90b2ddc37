"""`secure-xcom demo` as a user runs it; what it says is compared with what truly lies there."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import stat
from contextlib import closing

import pytest
from support.environments import DEFAULT, provide

EXPECTED = {
    ("charge", 0): "inline",
    ("charge", 1): "inline",
    ("charge", 2): "inline",
    ("customer", -1): "inline",
    ("frame", -1): "offloaded",
    ("records", -1): "offloaded",
    ("settle", -1): "inline",
}
V2 = """
SELECT ti.task_id, ti.region_index, x.key, x.value
FROM xcom_v2 x JOIN task_instance ti ON ti.id = x.task_instance_id
"""

#: The command, with Airflow's environment changed in a way that no option can.
CHANGED = """
import functools, json, sys
from secure_xcom.cli import main
from secure_xcom.trial import demo
demo.run = functools.partial(demo.run, overrides=json.loads(sys.argv[1]))
raise SystemExit(main(["demo", *sys.argv[2:]]))
"""


def rows_of(database):
    """The XComs of a kept home by task and map index, read with no code of the package."""
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        query = V2 if "xcom_v2" in tables else "SELECT task_id, map_index, key, value FROM xcom"
        rows = connection.execute(query).fetchall()
    assert {key for _, _, key, _ in rows} == {"return_value"}
    return {
        (task_id, map_index): value if isinstance(value, bytes) else value.encode()
        for task_id, map_index, _, value in rows
    }


def card_of(keep):
    """The card number of a kept home."""
    return json.loads((keep / "canaries").read_text())["card number"]


def test_what_it_says_is_what_lies_there(environment, as_user, tmp_path):
    keep = tmp_path / "kept"
    done = as_user(environment, "secure-xcom", "demo", "--json", "--keep", keep)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert said["airflow_version"] == environment.airflow
    assert said["problems"] == said["notes"] == []
    assert "✓ airflow db migrate" in done.stderr
    assert "7 of 7 task runs: settle" in done.stderr

    assert stat.S_IMODE(keep.stat().st_mode) == 0o700
    rows, card = rows_of(keep / "airflow.db"), card_of(keep).encode()
    objects = {path for path in (keep / "store").rglob("*") if path.is_file()}
    by_task = {(one["task_id"], one["map_index"]): one for one in said["xcoms"]}
    assert {name: one["placement"] for name, one in by_task.items()} == EXPECTED
    assert set(rows) == set(EXPECTED)
    for name, one in by_task.items():
        assert set(one) == {
            *("task_id", "key", "map_index", "placement", "plain_bytes", "stored_bytes"),
        }
        assert one["key"] == "return_value"
        row = json.loads(rows[name])
        assert row["__secure_xcom__"] == 1
        assert row["placement"] == one["placement"]
        assert card not in rows[name]
        if one["placement"] == "inline":
            assert one["stored_bytes"] == len(rows[name])
            sealed = base64.b64decode(row["envelope"])
        else:
            file = keep / "store" / row["object"]
            objects.remove(file)
            sealed = file.read_bytes()
            assert one["stored_bytes"] == len(sealed) == row["length_bytes"]
        assert sealed.startswith(b"SXCM")
        assert card not in sealed
    assert objects == set()
    # Records are alike, and compression is on; the digits of card numbers cannot be had shorter.
    for name in (("records", -1), ("frame", -1)):
        assert by_task[name]["stored_bytes"] < 0.7 * by_task[name]["plain_bytes"]
    # A record takes more than 40 bytes in any encoding; a name, two numbers and a flag hardly any.
    assert 2_000_000 < by_task["records", -1]["plain_bytes"] < 10_000_000
    assert 60 < by_task["customer", -1]["plain_bytes"] < 120
    assert 5_000 * 16 < by_task["frame", -1]["plain_bytes"] < 1_000_000


def rereading(environment, as_user, keep, card):
    """Read a kept home back once more, comparing with what `card` would have given."""
    texts = keep / "other texts"
    texts.write_text(json.dumps({"card number": card}))
    settings = {
        "AIRFLOW_HOME": keep,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{keep}/airflow.db",
        "AIRFLOW__SECURE_XCOM__STORE_URI": f"file://{keep}/store",
        "AIRFLOW__SECURE_XCOM__KEK_URI": f"local-kek://{keep}/kek",
        "AIRFLOW__CORE__XCOM_BACKEND": "secure_xcom.airflow.backend.SecureXComBackend",
        "TRIAL_TEXTS": texts,
    }
    done = as_user(
        environment,
        *("python", "-c"),
        "import os, runpy, sys\n"
        "os.environ.update(item.split('=', 1) for item in sys.argv.pop(1).split('\\n'))\n"
        "os.environ.pop('AIRFLOW_VAR_SECURE_XCOM')\n"
        "runpy.run_module('secure_xcom.trial.reread', run_name='__main__')\n",
        "\n".join(f"{name}={value}" for name, value in settings.items()),
        keep / "printed" / "rows.json",
        keep / "printed" / "again.json",
    )
    assert done.returncode == 0, done.stderr
    return [one["fault"] for one in json.loads((keep / "printed" / "again.json").read_text())]


@pytest.mark.parametrize("environment", ["2.11.2"], indirect=True)
def test_a_person_sees_what_was_returned_and_what_lies_there(environment, as_user, tmp_path):
    keep = tmp_path / "kept"
    done = as_user(environment, "secure-xcom", "demo", "--keep", keep)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    for heading in (
        "customer · return_value  inline",
        "records · return_value  offloaded",
        "frame · return_value  offloaded",
        "charge[2] · return_value  inline",
        "settle · return_value  inline",
    ):
        assert heading in done.stdout
    assert "a list of 50,000: [{'id': 0, " in done.stdout
    assert "a DataFrame of 5,000 rows and 4 columns: card, amount, at, country" in done.stdout
    (card,) = set(re.findall(r"The card number (9\d{15}), made up", done.stdout))
    assert f"'card': '{card}'" in done.stdout
    assert card == card_of(keep)
    assert "\nOK: 7 XComs sealed on Airflow 2.11.2, 5 inline and 2 offloaded, in " in done.stdout
    assert f"\nKept: {keep}\n" in done.stdout

    # The same home read back again, as if the tasks had returned other values.
    other = next(one for one in ("9000000000000001", "9000000000000019") if one != card)
    assert rereading(environment, as_user, keep, card) == [""] * 7
    faults = rereading(environment, as_user, keep, other)
    assert faults == ["what the backend reads is not what the task returned"] * 7


def test_values_in_clear_are_not_ok(as_user):
    changed = {"AIRFLOW__SECURE_XCOM__CLEAR_KEYS": "return_value"}
    done = as_user(provide("2.11.2"), "python", "-c", CHANGED, json.dumps(changed), "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["ok"] is False
    assert {one["placement"] for one in said["xcoms"]} == {"clear"}
    # The stock backend of this version does not take the DataFrame, and so neither the task after.
    assert {one["task_id"] for one in said["xcoms"]} == {"customer", "records", "charge"}
    for problem in (
        "The card number stands in row 1 of the table xcom, in clear",
        "customer · return_value: it is not sealed",
        "Task frame (map index -1) is failed.",
    ):
        assert problem in said["problems"]
    assert "Object of type DataFrame is not JSON serializable" in done.stderr


def test_a_task_that_fails_is_named_with_its_error(as_user):
    changed = {"AIRFLOW__SECURE_XCOM__KEK_URI": "local-kek:///nowhere/kek"}
    done = as_user(provide(DEFAULT), "python", "-c", CHANGED, json.dumps(changed))
    assert done.returncode == 1
    assert f"NOT OK on Airflow {DEFAULT}" in done.stdout
    assert "airflow dags test secure_xcom_demo failed (exit 1)." in done.stdout
    assert re.search(r"Task \w+ \(map index -1\) is failed\.", done.stdout)
    assert "There is no key file /nowhere/kek" in done.stdout
    assert not re.search(r"9\d{15}", done.stdout)


def test_without_pandas_it_goes_without_a_frame_and_says_what_to_install(as_user, tmp_path):
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['pandas'] = None")
    hide = f"""
import os, sys
sys.modules["pandas"] = None
os.environ["PYTHONPATH"] = {str(hidden)!r}
"""
    done = as_user(provide("2.11.2"), "python", "-c", hide + CHANGED, "{}", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ok"] is True
    assert "pip install 'secure-xcom[arrow]' pandas" in said["notes"][0]
    assert {one["task_id"] for one in said["xcoms"]} == {"customer", "records", "charge", "settle"}
