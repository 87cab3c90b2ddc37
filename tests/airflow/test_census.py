"""`secure-xcom census` as a user runs it: nothing is found, unless a closure is opened."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
from support.environments import DEFAULT, provide

SEALED = "(sealed XCom)"
RENDERED = "table rendered_task_instance_fields"
DATABASE = "database file, deleted rows included"
TASK_LOGS = "task logs"
OTHER_LOGS = "other logs"
PRINTED = "printed by Airflow's processes"

#: What stands in logs of what was told past Python's streams, and by processes that run no task.
TOLD = (
    *("written: ***", "written to the buffer: ***", "written by a program: ***"),
    *("killed with ***", "resumed: {'text': '***', 'number': "),
)

#: The command, with Airflow's environment changed in a way that no option can.
CHANGED = """
import functools, json, sys
from secure_xcom.cli import main
from secure_xcom.trial import census
census.run = functools.partial(census.run, overrides=json.loads(sys.argv[1]))
raise SystemExit(main(["census", "--json", *sys.argv[2:]]))
"""


@pytest.fixture
def census(as_user):
    """Run the command in the environment of an Airflow version."""

    def run(environment, *arguments, **changes):
        done = as_user(environment, "python", "-c", CHANGED, json.dumps(changes), *arguments)
        said = json.loads(done.stdout)
        # What it says counts only if its look can be relied upon.
        assert said["problems"] == [], done.stderr
        assert said["ok"] == (not said["places"])
        assert done.returncode == (1 if said["places"] else 0)
        return said

    return run


def on(said, surface):
    """What was found on a surface: its values by place."""
    found = {}
    for place in said["places"]:
        if place["surface"] == surface:
            found.setdefault(place["place"], set()).add(place["value"])
    return found


def surfaces(said):
    return {place["surface"] for place in said["places"]}


def tasks(said):
    """The tasks whose logs something was found in."""
    return {place.split("=")[1].split("/")[0] for place in on(said, TASK_LOGS)}


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_nothing_readable_is_left(environment, census, tmp_path):
    keep = tmp_path / "kept"
    said = census(environment, "--keep", keep)
    assert said["places"] == []
    assert said["ok"] is True
    assert said["airflow_version"] == environment.airflow
    assert said["backend"] == "secure"
    assert said["notes"] == []
    looked = said["looked"]
    # What the control prints there, what the sensor remembers, and a signal to one task.
    assert (looked["store: objects"], looked["temporary directory"]) == (1, 3)
    # One for each try of each task.
    assert looked[TASK_LOGS] >= 25
    assert min(looked["table xcom"], looked[RENDERED]) > 20
    if environment.airflow == DEFAULT:
        assert (looked["table task_state_store"], looked["table asset_state_store"]) == (1, 1)

    # The same by other eyes, and without undoing any encoding.
    canaries = json.loads((keep / "canaries").read_text())
    texts = [text.encode() for name, text in canaries.items() if name != "control"]
    assert len(texts) == 21
    held = {path: path.read_bytes() for path in keep.rglob("*") if path.is_file()}
    assert [path for path, data in held.items() for text in texts if text in data] == [
        keep / "canaries"
    ] * len(texts)

    with closing(sqlite3.connect(keep / "airflow.db")) as connection:
        rows = connection.execute(
            "SELECT task_id, rendered_fields FROM rendered_task_instance_fields"
        ).fetchall()
    fields = {task: json.loads(rendered) for task, rendered in rows}
    assert fields["argument"]["op_args"] == SEALED
    assert fields["mapped"]["op_kwargs"] == SEALED
    assert fields["template"]["bash_command"] == SEALED
    assert fields["shell"]["bash_command"] == SEALED
    # What no value went into is as readable as ever.
    control = canaries["control"]
    assert fields["control"]["bash_command"] == f'echo {control} | tee "$TMPDIR/control"'
    logs = "\n".join(path.read_text() for path in (keep / "logs").rglob("*.log"))
    assert control in logs
    assert "cannot charge" in logs
    assert "failed with" in logs
    assert "***" in logs
    told = logs + "\n".join(path.read_text() for path in (keep / "printed").glob("*.log"))
    for line in TOLD:
        assert line in told, line


def test_another_backend_leaves_values_in_clear(census):
    said = census(provide(DEFAULT), "--backend", "common-io")
    assert said["backend"] == "common-io"
    # All else has run as it should.
    assert [note.partition(" is failed")[0] for note in said["notes"]] == [
        "Task binary",
        "Task columns",
    ]
    assert {"dict", "number in a dict", "string", "mapped number"} <= set.union(
        *on(said, "table xcom").values()
    )
    assert {"dict", "number", "list"} <= set.union(*on(said, RENDERED).values())
    assert [*on(said, "table task_state_store").values()] == [{"task's state"}]
    assert [*on(said, "table asset_state_store").values()] == [{"asset's state"}]
    [(name, values)] = on(said, "store: objects").items()
    assert "/lines/" in name
    assert values == {"list"}
    assert {"record", "argument", "again", "template", "mapped", "fails"} <= tasks(said)
    assert {"tells", "sensor", "killed", "triggered", "deferring"} <= tasks(said)
    assert {"string"} in on(said, OTHER_LOGS).values()
    assert on(said, PRINTED)
    assert len(said["places"]) > 40


def test_without_sealed_fields_rendered_ones_hold_values(census, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "from secure_xcom.airflow import rendered\nrendered.blank = lambda task, fields: fields\n"
    )
    said = census(provide(DEFAULT), PYTHONPATH=str(tmp_path))
    assert surfaces(said) == {RENDERED, DATABASE}
    # Airflow's masker, which was told of texts, does not reach numbers there.
    assert {"number", "mapped number", "number in a dict"} <= set.union(
        *on(said, RENDERED).values()
    )


def test_without_masking_logs_hold_what_tasks_pull(census):
    said = census(provide(DEFAULT), AIRFLOW__SECURE_XCOM__MASK_PULLED_VALUES="false")
    assert {TASK_LOGS, OTHER_LOGS} <= surfaces(said) <= {TASK_LOGS, PRINTED, OTHER_LOGS}
    assert tasks(said) == {
        *("argument", "again", "mapped", "fails", "shell", "template", "deferring"),
        *("tells", "sensor", "killed", "triggered", "string"),
    }
    # Each sort of value would stand there, and what the DAG processor called back.
    told = set.union(*(v for place, v in on(said, TASK_LOGS).items() if "=tells/" in place))
    assert told >= {
        *("list", "dict", "number in a dict", "string", "bytes", "DataFrame", "Series"),
        *("number in a DataFrame", "number in a Series", "Arrow table", "polars frame"),
        *("array of texts", "array of numbers", "mapped number", "number among outputs"),
    }
    assert {"string"} in on(said, OTHER_LOGS).values()


def test_without_the_policy_logs_hold_what_tasks_return(census):
    said = census(provide(DEFAULT), AIRFLOW__SECURE_XCOM__LOG_RETURN_VALUES="true")
    assert surfaces(said) <= {TASK_LOGS, PRINTED}
    assert tasks(said) == {
        *("record", "string", "number", "binary", "lines", "outputs", "pieces", "frame"),
    }
