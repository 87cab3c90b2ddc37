"""What is read from database and store is what they hold, and each fault is seen."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from uuid import UUID

import google_crc32c
import pytest

from secure_xcom.format import envelope
from secure_xcom.format.names import object_name
from secure_xcom.format.reference import dumps, to_row
from secure_xcom.model import Coordinate, Inline, Offloaded, WrappedKey
from secure_xcom.trial import xcoms

HERE = Coordinate("d", "r", "t", -1, "return_value")
INDEXED = Coordinate("d", "r", "m", 2, "return_value")
SCHEMA_1 = "CREATE TABLE {} (dag_id, run_id, task_id, map_index, key, value)"
SCHEMA_2 = """
CREATE TABLE xcom_v2 (id, task_instance_id, key, value);
CREATE TABLE task_instance (id, dag_id, run_id, task_id, region_index, state);
"""


@pytest.fixture
def database(tmp_path):
    return tmp_path / "airflow.db"


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


#: Bytes that nobody can open, of a length that a body has.
BODY = b"\x28" + bytes(311)
ABOUT = "Sealed by secure_xcom: as it is told."


def preamble_of(coordinate):
    """What nobody can open, but whose clear parts are as they should be; and its object's name."""
    header = envelope.marshal_header(envelope.Header(bytes(16), bytes(32), "", coordinate))
    key_block = envelope.marshal_key_block(WrappedKey("local-kek:///kek", b"w" * 60))
    return envelope.marshal_preamble(key_block, header, bytes(32)), object_name("", header)


def inline(coordinate):
    return dumps(to_row(Inline(preamble_of(coordinate)[0] + BODY), ABOUT))


def fill(database, rows, table="xcom"):
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(SCHEMA_1.format(table))
        for coordinate, value in rows:
            ids = (coordinate.dag_id, coordinate.run_id, coordinate.task_id, coordinate.map_index)
            connection.execute(
                f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
                (*ids, coordinate.key, value),
            )


def offload(store, coordinate, data=BODY, **changes):
    preamble, name = preamble_of(coordinate)
    fields = {
        "store_uri": f"file://{store}",
        "name": name,
        "generation": "1",
        "length_bytes": len(data),
        "crc32c": google_crc32c.value(data),
        "preamble": preamble,
    }
    reference = Offloaded(**(fields | changes))
    file = store / reference.name
    file.parent.mkdir()
    file.write_bytes(data)
    return dumps(to_row(reference, ABOUT))


@pytest.mark.parametrize("as_text", [True, False], ids=["3.x", "2.x"])
def test_inline_and_offloaded_are_told_apart(as_text, database, store):
    rows = [inline(HERE), offload(store, INDEXED)]
    values = [row.decode() for row in rows] if as_text else rows
    fill(database, zip((HERE, INDEXED), values, strict=True))
    first, second = xcoms.read(database, store, "d")
    assert (first.coordinate, first.placement, first.file) == (HERE, "inline", None)
    assert (first.row, first.about, first.faults) == (rows[0], ABOUT, ())
    assert first.stored_bytes == len(rows[0])
    assert (second.coordinate, second.placement) == (INDEXED, "offloaded")
    assert second.file == store / preamble_of(INDEXED)[1]
    assert second.object_name == preamble_of(INDEXED)[1]
    assert (second.row, second.body, second.faults) == (rows[1], BODY, ())
    assert second.about == ABOUT
    assert second.stored_bytes == len(BODY)
    assert (first.name, second.name) == ("t · return_value", "m[2] · return_value")
    assert xcoms.stray_objects(store, [first, second]) == []


def test_the_two_tables_of_3_4_are_both_read(database, store):
    fill(database, [(HERE, inline(HERE))], "xcom_v1")
    instance = UUID(int=7).hex
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript(SCHEMA_2)
        connection.execute(
            "INSERT INTO task_instance VALUES (?, 'd', 'r', 'm', 2, 'success')", (instance,)
        )
        row = inline(INDEXED).decode()
        connection.execute("INSERT INTO xcom_v2 VALUES (1, ?, 'return_value', ?)", (instance, row))
    seen = xcoms.read(database, store, "d")
    assert [(stored.coordinate, stored.faults) for stored in seen] == [(HERE, ()), (INDEXED, ())]
    assert xcoms.states(database, "d") == {("m", 2): "success"}


def test_other_dags_are_left_out(database, store):
    other = Coordinate("other", "r", "t", -1, "k")
    fill(database, [(other, "1"), (HERE, inline(HERE))])
    assert [stored.coordinate for stored in xcoms.read(database, store, "d")] == [HERE]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ('{"card": "9785541247384469"}', "it is not sealed"),
        (b'{"card": 1}', "it is not sealed"),
        (3, "it is not sealed"),
        ('"text"', "it is not sealed"),
        ("[]", "it is not sealed"),
        (None, "its row is malformed: "),
        ("not json", "its row is malformed: "),
        (b"\x80", "its row is malformed: "),
        ('{"__secure_xcom__": 1, "card": "9785541247384469"}', "its row is malformed: "),
    ],
)
def test_what_is_not_sealed_is_clear_and_a_fault(value, fault, database, store):
    fill(database, [(HERE, value)])
    (seen,) = xcoms.read(database, store, "d")
    assert seen.placement == "clear"
    assert (seen.about, seen.body) == ("", b"")
    assert len(seen.faults) == 1
    assert seen.faults[0].startswith(fault)
    assert seen.stored_bytes == len(seen.row)


def faults_of(database, store, row):
    fill(database, [(INDEXED, row)])
    (seen,) = xcoms.read(database, store, "d")
    return seen.faults


def test_an_envelope_of_another_row_is_a_fault(database, store):
    row = inline(HERE)
    assert faults_of(database, store, row) == ("it was sealed for another XCom",)


def test_a_malformed_envelope_is_a_fault(database, store):
    row = json.loads(inline(INDEXED))
    row["envelope"] = base64.b64encode(b'{"card": "9785541247384469"}').decode()
    (fault,) = faults_of(database, store, json.dumps(row))
    assert fault.startswith("its envelope is malformed:")


def test_an_envelope_without_a_body_is_a_fault(database, store):
    row = dumps(to_row(Inline(preamble_of(INDEXED)[0]), ABOUT))
    (fault,) = faults_of(database, store, row)
    assert fault.startswith("its envelope is malformed: No body")


def test_a_missing_object_is_a_fault(database, store):
    row = offload(store, INDEXED)
    name = preamble_of(INDEXED)[1]
    (store / name).unlink()
    assert faults_of(database, store, row) == (f"its object {name} is not in the store",)


def test_an_object_of_another_store_is_a_fault(database, store):
    row = offload(store, INDEXED, store_uri="file:///elsewhere")
    (fault,) = faults_of(database, store, row)
    assert fault.endswith("is not in the store")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"length_bytes": 400}, "its object does not have the length that the row says"),
        ({"crc32c": 1}, "its object does not have the checksum that the row says"),
        (
            {"name": f"{'0' * 16}/{'1' * 64}"},
            "its object does not have the name that its header gives",
        ),
    ],
)
def test_an_object_that_is_not_the_row_s_is_a_fault(database, store, changes, fault):
    assert faults_of(database, store, offload(store, INDEXED, **changes)) == (fault,)


def test_a_preamble_of_another_row_is_a_fault(database, store):
    row = offload(store, HERE)
    assert faults_of(database, store, row) == ("it was sealed for another XCom",)


def test_a_malformed_preamble_is_a_fault(database, store):
    row = offload(store, INDEXED, preamble=preamble_of(INDEXED)[0] + b"x")
    (fault,) = faults_of(database, store, row)
    assert fault.startswith("its preamble is malformed:")


def test_an_object_in_clear_is_a_fault(database, store):
    row = offload(store, INDEXED)
    (store / preamble_of(INDEXED)[1]).write_bytes(b'{"card": "9785541247384469"}')
    (fault,) = faults_of(database, store, row)
    assert fault == "its object does not have the length that the row says"


def test_a_stray_object_is_named(database, store):
    fill(database, [(INDEXED, offload(store, INDEXED))])
    (store / "folder").mkdir()
    (store / "folder" / ".aside").write_bytes(b"x")
    seen = xcoms.read(database, store, "d")
    assert xcoms.stray_objects(store, seen) == ["folder/.aside"]
