"""A search of the XComs alone reads all that they are kept on, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from secure_xcom.trial.home import throw_away_home
from secure_xcom.trial.surfaces import XCOMS, Hit, search

TEXTS = {
    "bytes": "in bytes",
    "text": "in text",
    "key": "in the key",
    "number": "9785541247384469",
    "no task": "of no task",
    "object": "in the object",
    "name": "in-the-name",
}


def test_every_column_every_object_and_every_name_is_searched(tmp_path):
    with throw_away_home(tmp_path / "home", {}) as home:
        with closing(sqlite3.connect(home.database)) as connection, connection:
            connection.executescript(
                """
                CREATE TABLE xcom_v1 (dag_id, run_id, task_id, map_index, key, value);
                CREATE TABLE xcom_v2 (id, task_instance_id, key, value);
                CREATE TABLE log (id, extra);
                INSERT INTO xcom_v1 VALUES ('another dag', 'r', 't', -1, 'in the key', 'in text');
                INSERT INTO xcom_v1 VALUES ('d', 'r', 'm', 2, 'return_value', 9785541247384469);
                INSERT INTO xcom_v2 VALUES (1, NULL, 'k', 'of no task');
                INSERT INTO log VALUES (1, 'in text');
                """
            )
            connection.execute(
                "INSERT INTO xcom_v1 VALUES ('d', 'r', 't', -1, 'k', ?)", (b"in bytes",)
            )
        (home.store / "in-the-name").write_bytes(b"in the object")
        (home.printed / "scheduler.log").write_text("in text")
        found = search(home, TEXTS, only=XCOMS)
    assert sorted(found.places) == [
        Hit("store: names of objects", "in-the-name", "name", "in clear"),
        Hit("store: objects", "in-the-name", "object", "in clear"),
        Hit("table xcom_v1", "row 1, task t", "key", "in clear"),
        Hit("table xcom_v1", "row 1, task t", "text", "in clear"),
        Hit("table xcom_v1", "row 2, task m", "number", "in clear"),
        Hit("table xcom_v1", "row 3, task t", "bytes", "in clear"),
        Hit("table xcom_v2", "row 1", "no task", "in clear"),
    ]
    assert found.looked == {
        "table xcom_v1": 3,
        "table xcom_v2": 1,
        "store: objects": 1,
        "store: names of objects": 1,
    }
