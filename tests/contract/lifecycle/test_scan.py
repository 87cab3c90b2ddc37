"""What a scan counts, in rows and in objects."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime

import pytest
from support.metadata import WRITTEN

from secure_xcom.errors import AuthenticationError
from secure_xcom.lifecycle.objects import folders
from secure_xcom.lifecycle.scan import Compared, scan
from secure_xcom.lifecycle.tables import Selection
from secure_xcom.model import Coordinate
from secure_xcom.stores import open_store

PREFIXES = ("gcs://",)
one_version = pytest.mark.parametrize("metadata", ["3.3"], indirect=True)
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
one_store = pytest.mark.parametrize("store_uri", ["file"], indirect=True)


def compared(scene, grace_seconds=-3600.0):
    return Compared(folders(scene.store_uri, scene.instance, open_store), grace_seconds)


def inline(scene, task):
    stack = scene.deployment.stack(**{**scene.settings(), "threshold_bytes": "-1"})
    return stack.put("short", Coordinate("d", "r", task, -1, "return_value"))


@one_store
def test_rows_are_counted_by_what_they_hold(scene):
    scene.push("archived")
    scene.metadata.clean(scene.metadata.xcom)
    row = scene.push("a", run=2)
    scene.metadata.push({**row, "placement": "?"}, task_id="b", run=2)
    scene.metadata.push("gcs://r/c/x.json", task_id="c", run=2)
    scene.metadata.push({"plain": 1}, task_id="d", run=2)
    scene.metadata.push({"plain": 2}, task_id="e", run=2)
    found = scan(scene.metadata.rows(), PREFIXES)
    tables = {
        name: (table.archived, dict(table.states))
        for name, table in found.tables.items()
        if table.states
    }
    assert tables == {
        scene.metadata.xcom: (False, {"offloaded": 1, "broken": 1, "legacy": 1, "clear": 2}),
        f"_airflow_deleted__{scene.metadata.xcom}__20261125170000": (True, {"offloaded": 1}),
    }
    assert found.keys == {(scene.deployment.kek_uri, ""): 2}
    assert (found.rows, found.broken, found.ok, found.objects) == (6, 1, False, None)
    assert [(what, where.task_id) for what, _, where in found.wrong] == [("broken", "b")]
    assert abs((found.at - datetime.now(UTC)).total_seconds()) < 60


@one_version
@one_database
@one_store
def test_a_selection_is_counted_alone(scene):
    scene.push("a")
    scene.metadata.push({"plain": 1}, dag_id="e", task_id="d", run=2)
    assert scan(scene.metadata.rows(), PREFIXES, selection=Selection("e")).rows == 1
    assert scan(scene.metadata.rows(), PREFIXES, selection=Selection(before=WRITTEN)).rows == 0


@one_version
@one_database
def test_rows_are_compared_with_objects(scene):
    row = scene.push("live")
    scene.upload("orphan")
    lost = scene.push("lost")
    scene.metadata.push(inline(scene, "inline"), dag_id="d", run_id="r", task_id="inline")
    store = open_store(scene.store_uri)
    assert store.delete(lost["object"], generation=lost["generation"])
    found = scan(scene.metadata.rows(), PREFIXES, compared=compared(scene))
    objects = found.objects
    assert (objects.total, objects.named, objects.orphans, objects.young) == (2, 1, 1, 0)
    assert (found.missing, found.ok) == (1, False)
    assert [(what, where.task_id) for what, _, where in found.wrong] == [("missing", "lost")]
    young = scan(scene.metadata.rows(), PREFIXES, compared=compared(scene, 60.0))
    assert (young.objects.young, young.objects.orphans, young.missing) == (2, 0, 1)
    # What is about as new as the listing, or of another store, cannot be told.
    scene.metadata.run("DELETE FROM xcom WHERE task_id = 'lost'")
    scene.metadata.push(lost, task_id="new", written=datetime.now(UTC))
    scene.metadata.push({**lost, "store": "gs://elsewhere/x"}, task_id="elsewhere")
    found = scan(scene.metadata.rows(), PREFIXES, compared=compared(scene))
    assert (found.missing, found.ok) == (0, True)
    assert scene.open(row) == "value"


@one_version
@one_database
@one_store
def test_rows_are_opened_where_they_stand(scene):
    stack = scene.deployment.stack(**scene.settings())
    scene.push("good")
    moved = scene.upload("elsewhere")
    scene.metadata.push(moved, dag_id="d", run_id="r", task_id="moved")
    scene.metadata.push({"plain": 1}, task_id="plain")

    def check(row, held):
        stack.check(held.row, row.where)

    found = scan(scene.metadata.rows(), PREFIXES, check=check)
    assert (found.opened, dict(found.failures)) == (1, {AuthenticationError.__name__: 1})
    assert [(what, where.task_id) for what, _, where in found.wrong] == [
        ("AuthenticationError", "moved")
    ]


@one_version
@one_database
@one_store
def test_a_row_in_digits_takes_no_memory_and_names_what_it_names(scene):
    row = scene.upload("named in digits")
    noise = hashlib.shake_256(b"x").hexdigest(50_000)
    scene.metadata.push(noise + row["object"][17:] + noise, task_id="digits")
    found = scan(scene.metadata.rows(), PREFIXES, compared=compared(scene))
    assert (found.objects.named, found.objects.orphans) == (1, 0)


@one_version
@one_database
@one_store
def test_the_key_and_the_hint_come_from_the_row(scene):
    row = inline(scene, "a")
    envelope = base64.b64decode(row["envelope"])
    old, new = scene.deployment.kek_uri, "gcp-kms://" + "x" * (len(scene.deployment.kek_uri) - 10)
    forged = envelope.replace(old.encode(), new.encode())
    row["envelope"] = base64.b64encode(forged).decode()
    scene.metadata.push(json.loads(json.dumps(row)), task_id="a")
    assert scan(scene.metadata.rows(), PREFIXES).keys == {(new, ""): 1}
