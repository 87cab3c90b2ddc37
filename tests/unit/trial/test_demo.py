"""The demo's judgement of what lies in the database and the store, on homes made by hand."""

from __future__ import annotations

import io
import random
import sqlite3
from contextlib import closing

import google_crc32c
import pandas as pd
import pytest

from secure_xcom.cli.output import Output, Progress
from secure_xcom.format import envelope
from secure_xcom.format.names import object_name
from secure_xcom.format.reference import dumps, to_row
from secure_xcom.model import Coordinate, Inline, Offloaded, WrappedKey
from secure_xcom.trial import demo, values
from secure_xcom.trial.home import Home
from secure_xcom.trial.report import Outcome

CARD = "9785541247384469"
PLACEMENTS = {
    ("customer", -1): "inline",
    ("records", -1): "offloaded",
    ("frame", -1): "offloaded",
    ("charge", 0): "inline",
    ("charge", 1): "inline",
    ("charge", 2): "inline",
    ("settle", -1): "inline",
}


class ByHand:
    """A home in which everything is as it should be, until a test changes it."""

    def __init__(self, path):
        self.home = Home(path, {})
        self.home.store.mkdir()
        self.file_of = {}
        self.sql(
            "CREATE TABLE xcom (dag_id, run_id, task_id, map_index, key, value)",
            "CREATE TABLE task_instance (dag_id, task_id, map_index, state)",
        )
        for (task_id, map_index), placement in PLACEMENTS.items():
            coordinate = Coordinate(demo.DAG_ID, "run", task_id, map_index, "return_value")
            self.push(coordinate, placement)
            self.sql(
                f"INSERT INTO task_instance VALUES "  # noqa: S608
                f"('{demo.DAG_ID}', '{task_id}', {map_index}, 'success')"
            )

    def sql(self, *statements):
        with closing(sqlite3.connect(self.home.database)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    def push(self, coordinate, placement):
        header = envelope.marshal_header(envelope.Header(bytes(16), bytes(32), "", coordinate))
        key_block = envelope.marshal_key_block(WrappedKey("local-kek:///kek", b"w" * 60))
        preamble = envelope.marshal_preamble(key_block, header, bytes(32))
        body = b"\x28" + bytes(311)
        reference = Inline(preamble + body)
        if placement == "offloaded":
            name = object_name("", header)
            self.file_of[coordinate.task_id] = self.home.store / name
            self.file_of[coordinate.task_id].parent.mkdir(exist_ok=True)
            self.file_of[coordinate.task_id].write_bytes(body)
            reference = Offloaded(
                f"file://{self.home.store}",
                name,
                "1",
                len(body),
                google_crc32c.value(body),
                preamble,
            )
        with closing(sqlite3.connect(self.home.database)) as connection, connection:
            connection.execute(
                "INSERT INTO xcom VALUES (?, ?, ?, ?, ?, ?)",
                (
                    coordinate.dag_id,
                    coordinate.run_id,
                    coordinate.task_id,
                    coordinate.map_index,
                    coordinate.key,
                    dumps(to_row(reference, "")),
                ),
            )

    def problems(self):
        outcome = Outcome("3.3.2", texts={values.CARD: CARD})
        for step in (demo._check_xcoms, demo._search):
            step(self.home, outcome, Progress(Output(io.StringIO())))
        faults = [f"{xcom.stored.name}: {fault}" for xcom in outcome.xcoms for fault in xcom.faults]
        return outcome.problems + faults


@pytest.fixture
def by_hand(tmp_path):
    return ByHand(tmp_path)


def test_all_is_well_where_all_is_sealed(by_hand):
    assert by_hand.problems() == []


def test_a_value_in_the_wrong_place_is_off(by_hand):
    by_hand.sql("DELETE FROM xcom WHERE task_id = 'customer'")
    by_hand.push(Coordinate(demo.DAG_ID, "run", "customer", -1, "return_value"), "offloaded")
    assert by_hand.problems() == ["customer · return_value: it is offloaded, not inline"]


def test_a_missing_value_is_off(by_hand):
    by_hand.sql("DELETE FROM xcom WHERE map_index = 1")
    assert by_hand.problems() == ["Task charge (map index 1) left no return value."]


def test_a_task_that_did_not_succeed_is_off(by_hand):
    by_hand.sql(
        "DELETE FROM xcom WHERE task_id = 'settle'",
        "UPDATE task_instance SET state = 'failed' WHERE task_id = 'settle'",
        "UPDATE task_instance SET state = NULL WHERE task_id = 'customer'",
    )
    assert by_hand.problems() == [
        "Task customer (map index -1) is None.",
        "Task settle (map index -1) is failed.",
    ]


def test_a_value_that_no_task_returned_is_off(by_hand):
    by_hand.push(Coordinate(demo.DAG_ID, "run", "customer", -1, "card"), "inline")
    assert by_hand.problems() == ["An XCom that no task returned: customer · card"]


def test_an_object_that_no_row_names_is_off(by_hand):
    (by_hand.home.store / "stray").write_bytes(b"SXCM")
    assert by_hand.problems() == ["An object that no row refers to: stray"]


def test_the_card_number_is_found_in_any_row_and_object(by_hand):
    by_hand.file_of["records"].write_bytes(CARD.encode())
    name = by_hand.file_of["records"].relative_to(by_hand.home.store)
    by_hand.sql(f"UPDATE xcom SET run_id = '{CARD}' WHERE task_id = 'settle'")  # noqa: S608
    assert by_hand.problems() == [
        "The card number stands in row 7 of the table xcom, in clear",
        f"The card number stands in the object {name}, in clear",
        "records · return_value: its object does not have the length that the row says",
        "settle · return_value: it was sealed for another XCom",
    ]


def test_card_numbers_are_made_up_and_pass_the_check_of_luhn():
    source = random.Random(7)  # noqa: S311 - made-up numbers
    cards = {values.made_up_card(source) for _ in range(100)}
    assert len(cards) == 100
    for card in cards:
        assert len(card) == 16
        assert card.startswith("9")
        digits = [int(digit) for digit in reversed(card)]
        doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
        assert (sum(digits[::2]) + sum(doubled)) % 10 == 0


@pytest.mark.parametrize("task_id", ["customer", "records", "frame", "charge", "settle"])
def test_every_value_holds_the_card_number_and_depends_on_it_alone(task_id):
    index = 1 if task_id == "charge" else -1
    value = values.expected(CARD, task_id, index)
    assert values.same(value, values.expected(CARD, task_id, index))
    assert not values.same(value, values.expected("9000000000000001", task_id, index))
    held = value.to_csv() if isinstance(value, pd.DataFrame) else repr(value)
    assert CARD in held


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1], (1,)),
        (1, True),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), {"a": [1]}),
    ],
)
def test_values_of_different_types_are_not_the_same(one, other):
    assert not values.same(one, other)
