"""What rows do in each kind of database, with the tables of each version of Airflow."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest
from support.metadata import WRITTEN

from secure_xcom.lifecycle import rows as rows_module
from secure_xcom.lifecycle.content import read
from secure_xcom.lifecycle.rows import RowsUnreadable
from secure_xcom.lifecycle.tables import Selection
from secure_xcom.model import Expected


def only(metadata):
    [row] = metadata.rows().stream()
    return row


def as_text(metadata, text):
    return text.encode() if metadata.version == "2.11" else text


def test_every_row_comes_once_in_order(metadata, monkeypatch):
    monkeypatch.setattr(rows_module, "PAGE_ROWS", 3)
    for run in (1, 2):
        for task in "abc":
            for index in (-1, 0):
                metadata.push(
                    {"n": 1}, dag_id="d", run_id=f"r{run}", task_id=task, map_index=index, run=run
                )
    found = list(metadata.rows().stream())
    assert len(found) == 12
    assert sorted((row.where.run_id, row.where.task_id, row.where.map_index) for row in found) == [
        (f"r{run}", task, index) for run in (1, 2) for task in "abc" for index in (-1, 0)
    ]
    assert [row.key for row in found] == sorted(row.key for row in found)


def test_a_row_says_what_the_database_knows(metadata):
    metadata.push({"a": 1}, "k", dag_id="d", run_id="r", task_id="t", map_index=3)
    row = only(metadata)
    assert row.where == Expected("d", "r", "t", 3, "k")
    assert (row.kind, row.written, row.source.archived) == ("xcom", WRITTEN, False)
    assert json.loads(row.text) == {"a": 1}
    assert [row.text] == metadata.texts(metadata.xcom)


def test_pages_are_bounded_by_bytes(metadata, monkeypatch):
    monkeypatch.setattr(rows_module, "PAGE_BYTES", 1000)
    for index in range(5):
        metadata.push("x" * 600, map_index=index)
    pages = []
    page = rows_module._Reader.page

    def noted(*arguments):
        found = page(*arguments)
        pages.append(len(found[0]))
        return found

    monkeypatch.setattr(rows_module._Reader, "page", noted)
    assert len(list(metadata.rows().stream())) == 5
    # Other tables of the version are empty.
    assert [page for page in pages if page] == [1, 1, 1, 1, 1]


def test_rows_that_come_and_go_meanwhile_hide_no_other(metadata, monkeypatch):
    monkeypatch.setattr(rows_module, "PAGE_ROWS", 2)
    for index in range(8):
        metadata.push({"n": index}, map_index=index)
    stream = metadata.rows().stream()
    first = [next(stream), next(stream)]
    for row in first:
        assert metadata.rows().delete(row)
    metadata.push({"n": 100}, task_id="a")
    rest = [json.loads(row.text)["n"] for row in stream]
    seen = sorted([json.loads(row.text)["n"] for row in first] + rest)
    assert [n for n in seen if n != 100] == list(range(8))


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [1, 2.50, None]},
        "a text",
        12345678901234567890123456789,
        0.1000000000000000055511151231257827,
        None,
        {"ü": "€\u2028"},
    ],
    ids=str,
)
def test_a_row_changes_only_from_what_was_read(metadata, value):
    metadata.push(value)
    rows, row = metadata.rows(), only(metadata)
    assert rows.again(row) == row
    assert rows.change(row, as_text(metadata, '{"new": true}'))
    assert not rows.change(row, as_text(metadata, '{"second": true}'))
    now = rows.again(row)
    assert json.loads(now.text) == {"new": True}
    assert [now.text] == metadata.texts(metadata.xcom)
    assert not rows.delete(row)
    assert rows.delete(now)
    assert rows.again(row) is None
    assert not rows.change(now, as_text(metadata, "{}"))
    assert metadata.texts(metadata.xcom) == []


def test_white_space_and_numbers_as_they_stand_are_compared(metadata):
    metadata.push({"a": 1})
    text = '{"a":   1, "b": 123456789012345678901234567890.10}'
    value = {"2.11": ":text", "3.3": "CAST(:text AS JSONB)", "3.4": "CAST(:text AS JSONB)"}
    is_sqlite = metadata.engine.dialect.name == "sqlite"
    held = text.encode() if metadata.version == "2.11" else text
    metadata.run(
        f"UPDATE {metadata.xcom} SET value = {':text' if is_sqlite else value[metadata.version]}",
        text=held,
    )
    row = only(metadata)
    assert [row.text] == metadata.texts(metadata.xcom)
    if is_sqlite or metadata.version == "2.11":
        assert row.text == held
    assert metadata.rows().change(row, as_text(metadata, "{}"))


def test_a_change_of_one_row_leaves_others(metadata):
    metadata.push({"same": 1}, map_index=0)
    metadata.push({"same": 1}, map_index=1)
    rows = metadata.rows()
    first, second = rows.stream()
    assert rows.change(first, as_text(metadata, '{"new": 1}'))
    assert rows.again(second) == second
    assert rows.delete(second)
    assert len(metadata.texts(metadata.xcom)) == 1


def test_archives_come_after_and_are_looked_for_then(metadata):
    metadata.push({"n": 1})
    stream = metadata.rows().stream()
    metadata.push({"n": 2}, task_id="u", run=2)
    archived = metadata.clean(metadata.xcom)
    metadata.push({"n": 3}, task_id="v", run=3)
    found = list(stream)
    assert [(row.source.name, row.source.archived) for row in found] == [
        (metadata.xcom, False),
        (archived, True),
        (archived, True),
    ]
    assert sorted(json.loads(row.text)["n"] for row in found) == [1, 2, 3]
    # An archive has neither key nor types of its own, and is changed as well.
    rows = metadata.rows()
    where = {row.where.task_id for row in found}
    assert where == {"t", "u", "v"}
    assert rows.change(found[1], as_text(metadata, '{"new": 1}'))
    assert rows.delete(found[2])
    assert [json.loads(text) for text in metadata.texts(archived)] == [{"new": 1}]
    assert all(row.written == WRITTEN for row in found)


def test_the_same_key_twice_in_an_archive_is_read_twice(metadata, monkeypatch):
    monkeypatch.setattr(rows_module, "PAGE_ROWS", 2)
    for index in range(4):
        metadata.push({"n": index}, map_index=index)
    archived = metadata.clean(metadata.xcom)
    metadata.run(f"INSERT INTO {archived} SELECT * FROM {archived}")
    assert len(list(metadata.rows().stream())) == 8
    metadata.run(f"INSERT INTO {archived} SELECT * FROM {archived}")
    with pytest.raises(RowsUnreadable, match="more than 2 times"):
        list(metadata.rows().stream())


def test_a_selection_takes_a_dag_a_run_and_an_age(metadata):
    metadata.push(1, dag_id="d", run_id="r1", run=1)
    metadata.push(2, dag_id="d", run_id="r2", run=2, written=WRITTEN + timedelta(days=1))
    metadata.push(3, dag_id="e", run_id="r1", run=3)
    rows = metadata.rows()

    def taken(**selection):
        wanted = Selection(**selection)
        found = sorted(json.loads(row.text) for row in rows.stream(wanted))
        counted = sum(rows.count(source, wanted) for source in (*rows.live(), *rows.archives()))
        assert counted == len(found)
        return found

    assert taken() == [1, 2, 3]
    assert taken(dag_id="d") == [1, 2]
    assert taken(dag_id="d", run_id="r1") == [1]
    assert taken(run_id="r1") == [1, 3]
    assert taken(before=WRITTEN + timedelta(seconds=1)) == [1, 3]
    assert taken(before=WRITTEN) == []


def test_states_are_rows_too(metadata):
    if metadata.version == "2.11":
        pytest.skip("Airflow 2 has no state stores")
    region = {"region_id": uuid.UUID(int=0), "region_index": -1}
    place = region if metadata.version == "3.4" else {"map_index": -1}
    text = '{"__airflow_state_ref__": "{\\"a\\": 1}"}'
    common = {"key": "k", "value": text, "updated_at": WRITTEN}
    metadata.put(
        "task_state_store", dag_run_id=1, dag_id="d", run_id="r", task_id="t", **place, **common
    )
    metadata.put("asset_state_store", asset_id=1, **common)
    task, asset = metadata.rows().stream()
    assert (task.kind, task.where, task.text) == ("task", Expected("d", "r", "t", -1, "k"), text)
    assert (asset.kind, asset.where) == ("asset", Expected("asset", None, None, -1, "k"))
    assert metadata.rows().change(task, "{}")
    assert metadata.rows().delete(asset)
    assert metadata.texts("task_state_store") == ["{}"]


def test_a_pickle_in_the_archive_of_the_migration_is_clear(metadata):
    if metadata.version != "3.3":
        pytest.skip("its tables are those of one version")
    metadata.put(
        "_xcom_archive",
        dag_run_id=1,
        task_id="t",
        key="k",
        dag_id="d",
        run_id="r",
        value=b"\x80\x04\x95\xff\xfe.",
        timestamp=WRITTEN,
    )
    row = only(metadata)
    assert (row.text, row.source.archived, read(row).state) == (
        *(b"\x80\x04\x95\xff\xfe.", True),
        "clear",
    )
    assert metadata.rows().delete(row)


def test_a_region_of_a_loop_has_no_map_index(metadata):
    if metadata.version != "3.4":
        pytest.skip("only 3.4 has regions")
    region = uuid.uuid4()
    metadata.push({"a": 1}, map_index=7, region=region)
    assert only(metadata).where == Expected("d", "r", "t", None, "return_value")
    metadata.run("DELETE FROM xcom_v2")
    metadata.put(
        "task_state_store",
        dag_run_id=1,
        dag_id="d",
        run_id="r",
        task_id="t",
        key="k",
        region_id=region,
        region_index=7,
        value="1",
        updated_at=WRITTEN,
    )
    assert only(metadata).where == Expected("d", f"r/{region}", "t", 7, "k")


def test_archived_owners_are_asked_too(metadata):
    if metadata.version != "3.4":
        pytest.skip("only 3.4 has rows without a run")
    metadata.push({"a": 1}, map_index=2)
    metadata.push({"a": 1}, dag_id="e", map_index=3)
    metadata.clean("xcom_v2")
    metadata.run(
        "CREATE TABLE _airflow_deleted__task_instance__20261125170000 AS "
        "SELECT * FROM task_instance WHERE dag_id = 'd'"
    )
    metadata.run("DELETE FROM task_instance")
    found = {row.where.dag_id: row.where for row in metadata.rows().stream()}
    assert found == {
        "d": Expected("d", "r", "t", 2, "return_value"),
        None: Expected(None, None, None, None, "return_value"),
    }
    assert len(list(metadata.rows().stream(Selection(dag_id="d")))) == 1


def test_tables_that_look_like_rows_are_told(metadata):
    assert metadata.rows().unknown() == []
    metadata.clean(metadata.xcom)
    assert metadata.rows().unknown() == []
    for name in ("xcom_v3", "_airflow_deleted__xcom_v3__2026", "xcoms_backup"):
        metadata.run(f"CREATE TABLE {name} (id INTEGER)")
    assert metadata.rows().unknown() == [
        "_airflow_deleted__xcom_v3__2026",
        "xcom_v3",
        "xcoms_backup",
    ]


def test_a_table_that_goes_meanwhile_is_no_whole_reading(metadata):
    metadata.push("4111-1111-1111-1111")
    archived = metadata.clean(metadata.xcom)
    rows = metadata.rows()
    list(rows.stream())
    [source] = [source for source in rows.archives() if source.name == archived]
    metadata.run(f"DROP TABLE {archived}")
    with pytest.raises(RowsUnreadable, match="could not be read") as caught:
        list(rows.of(source))
    assert "SELECT" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_table_of_another_shape_is_refused(metadata):
    metadata.run("CREATE TABLE _airflow_deleted__xcom__2026 (id INTEGER)")
    with pytest.raises(RowsUnreadable, match="_airflow_deleted__xcom__2026 has no column"):
        list(metadata.rows().stream())
