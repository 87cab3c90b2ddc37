"""Reads XComs in all the ways there are outside of a task; `test_reads.py` says what is to be seen.

It is run by an environment's own Python, in a home whose DAG is `dags/reads.py`, and prints one
JSON object: what was seen by each way, with the key, and without.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

HOME = Path(os.environ["AIRFLOW_HOME"])
sys.path[:0] = [str(HOME / "dags"), str(HOME / "plugins")]
IS_2 = os.environ["AIRFLOW_MAJOR"] == "2"
if IS_2:
    (HOME / "webserver_config.py").write_text(
        "AUTH_ROLE_PUBLIC = 'Admin'\nWTF_CSRF_ENABLED = False\n", encoding="utf-8"
    )

import reads  # noqa: E402 - the path comes first
from airflow.models.taskinstance import TaskInstance  # noqa: E402
from airflow.utils.session import create_session  # noqa: E402
from sqlalchemy import text  # noqa: E402

RUN = reads.the_dag.test().run_id


def seen(act):
    try:
        found = act()
    except Exception as error:  # noqa: BLE001 - that is what was seen
        return f"{type(error).__name__}: {error}"
    return json.loads(json.dumps(found, default=str))


def move_a_row(task_id, key):
    """Put the sealed row of one task in the place of another."""
    with create_session() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE name = 'xcom_v2'"))
        if tables.first():
            table = "xcom_v2"
            of = "task_instance_id = (SELECT id FROM task_instance WHERE task_id = :{})"
        else:
            table, of = "xcom", "task_id = :{}"
        moved = session.execute(
            text(
                f"UPDATE {table} SET value = (SELECT value FROM {table} WHERE "  # noqa: S608
                f"{of.format('source')} AND key = 'return_value') "
                f"WHERE {of.format('target')} AND key = :key"
            ),
            {"source": "short", "target": task_id, "key": key},
        )
        assert moved.rowcount == 1


def pulled():
    def by(take, **asked):
        def pull():
            with create_session() as session:
                ti = session.query(TaskInstance).filter_by(dag_id="reads", task_id="linked").one()
                return take(ti.xcom_pull(session=session, **asked))

        return seen(pull)

    return {
        "short": by(lambda value: value, task_ids="short"),
        "long": by(lambda value: value[:40], task_ids="long"),
        "mapped": by(list, task_ids="mapped"),
        "last of mapped": by(lambda values: values[-1], task_ids="mapped"),
        "one of mapped": by(lambda value: value, task_ids="mapped", map_indexes=1),
        "several": by(
            lambda values: [str(value)[:60] for value in values], task_ids=["short", "long"]
        ),
        "moved": by(lambda value: value, task_ids="moved"),
    }


def client():
    if IS_2:
        from airflow.models import DagBag  # noqa: PLC0415
        from airflow.www.app import create_app  # noqa: PLC0415

        DagBag(HOME / "dags", include_examples=False).sync_to_db()
        app = create_app()
        return app.test_client(), "/api/v1"
    from airflow.api_fastapi.app import create_app  # noqa: PLC0415
    from fastapi.testclient import TestClient  # noqa: PLC0415

    made = TestClient(create_app(apps="core"))
    token = made.get("/auth/token").json()["access_token"]
    made.headers["Authorization"] = f"Bearer {token}"
    return made, "/api/v2"


def asked(made, base):
    run = f"{base}/dags/reads/dagRuns/{RUN.replace('+', '%2B')}"
    paths = {
        "row": "taskInstances/short/xcomEntries/return_value",
        "deserialize": "taskInstances/short/xcomEntries/return_value?deserialize=true",
        "links": "taskInstances/linked/links",
    }
    if not IS_2:
        paths["wait"] = "wait?interval=1&result=short&result=long"
    answers = {name: made.get(f"{run}/{path}") for name, path in paths.items()}
    return {name: [answer.status_code, answer.text] for name, answer in answers.items()}


def instances():
    """Rows as objects of the model, on Airflow 2."""
    from airflow.models.xcom import BaseXCom, XCom  # noqa: PLC0415

    with create_session() as session:
        return {
            f"{kind.__name__} {how}": seen(lambda: act(found))  # noqa: B023 - called at once
            for kind in (XCom, BaseXCom)
            for found in [session.query(kind).filter_by(task_id="short").first()]
            for how, act in (("value", lambda row: row.value), ("opened", XCom.deserialize_value))
        }


def rendered(made):
    """What Airflow 2 shows of a field of a task that has not run; and what its commands print."""
    from airflow.cli.cli_parser import get_parser  # noqa: PLC0415

    with create_session() as session:
        session.execute(text("DELETE FROM rendered_task_instance_fields"))
        date = session.query(TaskInstance).filter_by(task_id="shown").one().execution_date
    page = made.get(
        "/rendered-templates",
        query_string={"dag_id": "reads", "task_id": "shown", "execution_date": date.isoformat()},
    )

    def command(name):
        def run():
            arguments = get_parser().parse_args(["tasks", name, "reads", "shown", RUN])
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                arguments.func(arguments)
            return printed.getvalue()

        return seen(run)

    return {
        "page": [page.status_code, page.text],
        "render": command("render"),
        "test": command("test"),
    }


move_a_row("moved", "return_value")
http = client()
told = {}
for when in ("with the key", "without"):
    told[when] = {"pulled": pulled(), "asked": asked(*http)}
    if IS_2:
        told[when] |= {"instances": instances(), "rendered": rendered(http[0])}
    if when == "with the key":
        Path(os.environ["AIRFLOW__SECURE_XCOM__KEK_URI"].partition("://")[2]).unlink()
        from secure_xcom.airflow.process import process

        process.forget()
        if not IS_2:
            # In place of the address, which Airflow 3 keeps there in clear.
            move_a_row("linked", "_link_console")
sys.stdout.write(f"\nTOLD {json.dumps(told)}\n")
