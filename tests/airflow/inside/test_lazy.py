"""A lazy sequence of a mapped task: each row stands where its map index lets it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import VERSION, push

from secure_xcom.errors import AuthenticationError

if VERSION < (3, 0):
    pytest.skip("Airflow 2 selects the coordinate with the row", allow_module_level=True)

from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

VALUES = [f"value {number}" for number in range(5)]
#: An index or a slice, from either end, and in either direction.
KEYS = (
    *range(-5, 5),
    *(
        slice(start, stop, step)
        for start in (None, -4, 1, 9)
        for stop in (None, -1, 4, 9)
        for step in (None, 1, 2, -1, -2)
    ),
)


@pytest.fixture
def rows(deployment, monkeypatch):  # noqa: ARG001 - what rows are sealed for
    """The rows of a mapped task as the supervisor answers for them; they can be changed."""
    rows = [push(value, map_index=at) for at, value in enumerate(VALUES)]
    counted = []

    def send(message):
        if isinstance(message, comms.GetXComCount):
            counted.append(message)
            return comms.XComCountResponse(len=len(rows))
        if isinstance(message, comms.GetXComSequenceSlice):
            found = rows[message.start : message.stop : message.step]
            return comms.XComSequenceSliceResult(root=found)
        try:
            return comms.XComSequenceIndexResult(root=rows[message.offset])
        except IndexError:
            return comms.ErrorResponse(error=comms.ErrorType.XCOM_NOT_FOUND)

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
    return SimpleNamespace(rows=rows, counted=counted)


def sequence():
    operator = SimpleNamespace(dag_id="d", task_id="t")
    return LazyXComSequence(
        xcom_arg=SimpleNamespace(operator=operator, key="k"), ti=SimpleNamespace(run_id="r")
    )


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_rows_in_their_places_are_read(rows, key):
    assert sequence()[key] == VALUES[key]
    once = sequence()
    assert [once[key], once[key], list(once), once[key]] == [
        *[VALUES[key]] * 2,
        VALUES,
        VALUES[key],
    ]
    assert len(rows.counted) <= 2


def test_nobody_counts_for_what_is_read_from_the_start(rows):
    once = sequence()
    assert [once[0], once[1:3], once[4]] == [VALUES[0], VALUES[1:3], VALUES[4]]
    assert rows.counted == []


@pytest.mark.parametrize("key", [-1, -2, -4, slice(-1, None), slice(-2, -1), slice(None, -3, -1)])
def test_an_envelope_of_a_lower_index_is_refused_when_it_is_counted_from_the_end(rows, key):
    stands = range(5)[key]
    position = stands if isinstance(key, int) else stands[0]
    rows.rows[position] = rows.rows[0]
    with pytest.raises(AuthenticationError):
        sequence()[key]


@pytest.mark.parametrize("key", [slice(1, None), slice(3, 4), slice(1, 5, 2)])
def test_and_when_it_is_in_a_slice(rows, key):
    rows.rows[range(5)[key][0]] = rows.rows[0]
    with pytest.raises(AuthenticationError):
        sequence()[key]


def test_an_envelope_stands_at_one_position_whichever_way_it_is_counted(rows):
    rows.rows[2] = rows.rows[4]
    for first, second in ((2, -1), (-1, 2), (slice(2, 3), -1), (-1, slice(2, 3)), (4, -3)):
        once = sequence()
        assert once[first] in (VALUES[4], [VALUES[4]])
        with pytest.raises(AuthenticationError):
            once[second]


@pytest.mark.parametrize("key", [5, -6, 99, -99])
def test_what_is_not_there_is_an_index_error(rows, key):
    with pytest.raises(IndexError):
        sequence()[key]
    rows.rows.clear()
    with pytest.raises(IndexError):
        sequence()[key]
    assert sequence()[:] == sequence()[-3:] == []
