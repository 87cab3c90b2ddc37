"""Real daemons, and tasks that pass values on: no copy of one stays in database, log or printout.

Each closure is then opened in turn, to see that the value would stand there.
"""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import pytest
from support.daemons import daemons, wait_for
from support.deployed import make_canary, switch_on
from support.environments import DEFAULT

from secure_xcom.cli.search import found_in

PROGRAM = Path(__file__).parent / "dags" / "leaks.py"
STATES = dict.fromkeys(
    ("returns", "many", "argument", "mapped", "shell", "bash", "plain"), "success"
) | {"fails": "failed"}
SEALED = "(sealed XCom)"


def run(home, canary, number, **settings):
    (home.dags / PROGRAM.name).write_bytes(PROGRAM.read_bytes())
    env = switch_on(home, **settings) | {"CANARY": canary, "NUMBER": str(number)}
    with daemons(home, env):
        wait_for(home, "leaks", STATES)


def places(home, *texts):
    """Say where in the home one of the texts stands, however it is written."""
    found = set()
    with home.connect() as database:
        database.text_factory = bytes
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            name = table.decode()
            for row in database.execute(f'SELECT * FROM "{name}"'):  # noqa: S608
                cells = b"\n".join(c if isinstance(c, bytes) else str(c).encode() for c in row)
                if any(found_in(cells, text) for text in texts):
                    found.add(name)
    for path in home.path.rglob("*"):
        if path.is_file() and path != home.database:
            data = path.read_bytes()
            if any(found_in(data, text) for text in texts):
                tasks = re.findall(r"task_id=(\w+)", str(path))
                found.add(f"log of {tasks[0]}" if tasks else str(path.relative_to(home.path)))
    return found


def rendered(home):
    with home.connect() as database:
        rows = database.execute(
            "SELECT task_id, rendered_fields FROM rendered_task_instance_fields"
        ).fetchall()
    return {task: json.loads(fields) for task, fields in rows}


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_no_copy_of_a_value_stays_anywhere(home):
    canary, number = make_canary(), 10**15 + secrets.randbelow(10**15)
    run(home, canary, number)
    assert places(home, canary, str(number), str(number + 1)) == set()

    fields = rendered(home)
    assert fields["argument"]["op_args"] == SEALED
    assert fields["mapped"]["op_kwargs"] == SEALED
    assert fields["bash"]["bash_command"] == SEALED
    assert fields["shell"]["bash_command"] == SEALED
    # What no value went into is as readable as ever.
    assert fields["bash"]["env"] == {"DAY": "a plain day"}
    assert fields["plain"]["bash_command"].startswith("echo nothing but 20")
    logs = "\n".join(path.read_text() for path in home.logs.rglob("*.log"))
    assert "nothing but 20" in logs
    assert "cannot charge" in logs
    assert "failed with" in logs
    assert "***" in logs


@pytest.mark.parametrize("environment", [DEFAULT], indirect=True)
def test_without_the_measures_the_copies_would_be_there(home):
    canary, number = make_canary(), 10**15 + secrets.randbelow(10**15)
    run(home, canary, number, log_return_values="true", mask_pulled_values="false")
    logs = {
        f"log of {task}"
        for task in ("returns", "many", "argument", "mapped", "fails", "shell", "bash")
    }
    assert places(home, canary) - {"scheduler.log"} == logs
