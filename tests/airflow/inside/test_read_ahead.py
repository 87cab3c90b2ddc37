"""Reading ahead in a lazy sequence: the cache fills with what comes next; nothing is trusted."""

from __future__ import annotations

import gc
import os
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import VERSION, push

from secure_xcom.airflow.process import process
from secure_xcom.errors import FormatError

if VERSION < (3, 0):
    pytest.skip("Airflow 2 reads a sequence by one query", allow_module_level=True)

from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.lazy_sequence import LazyXComIterator, LazyXComSequence

COUNT = 40
VALUES = [os.urandom(2_000) for _ in range(COUNT)]


class Supervisor:
    """Answers for rows, by their place, as Airflow's supervisor does."""

    def __init__(self, rows):
        self.rows = rows
        self.slices = []

    def send(self, message):
        if isinstance(message, comms.GetXComCount):
            return comms.XComCountResponse(len=len(self.rows))
        if isinstance(message, comms.GetXComSequenceSlice):
            self.slices.append((message.start, message.stop))
            found = self.rows[message.start : message.stop : message.step]
            return comms.XComSequenceSliceResult(root=found)
        try:
            return comms.XComSequenceIndexResult(root=self.rows[message.offset])
        except IndexError:
            return comms.ErrorResponse(error=comms.ErrorType.XCOM_NOT_FOUND)


@pytest.fixture
def supervisor(monkeypatch):
    supervisor = Supervisor([])
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


@pytest.fixture
def mapped(deployment, configure, supervisor):
    """Push the values of a mapped task; gives a sequence of them, made anew at each call."""

    def make(**settings):
        configure(threshold_bytes=0, compression="none", **settings)
        supervisor.rows = [push(value, map_index=at) for at, value in enumerate(VALUES)]
        assert len(deployment.objects()) == COUNT
        operator = SimpleNamespace(dag_id="d", task_id="t")
        return LazyXComSequence(
            xcom_arg=SimpleNamespace(operator=operator, key="k"), ti=SimpleNamespace(run_id="r")
        )

    return make


def cache():
    _, stack = process.current()
    return next(iter(stack._sealed._below._stores.values()))


def settle():
    """Wait until nothing is fetched any longer, and give how many objects the cache holds."""
    held = -1
    while held != (held := len(cache()._held)):
        time.sleep(0.1)
    return held


def test_two_neighbours_in_order_bring_in_what_follows(mapped):
    sequence = mapped()
    assert sequence[0] == VALUES[0]
    assert settle() == 1
    assert sequence[1] == VALUES[1]
    assert settle() > 20
    assert list(sequence) == VALUES
    assert settle() == COUNT


@pytest.mark.parametrize("positions", [[0], [5, 3], [0, 2, 4], [3, 2, 1], [1, 1, 1]])
def test_other_orders_fetch_what_is_read_and_no_more(mapped, positions):
    sequence = mapped()
    for position in positions:
        assert sequence[position] == VALUES[position]
    assert settle() == len(set(positions))


def test_what_lies_ahead_is_bounded_in_bytes(mapped):
    # Of 20 kB, half may lie ahead: four objects of a little over 2 kB.
    sequence = mapped(cache_max_bytes=20_000)
    assert (sequence[0], sequence[1]) == (VALUES[0], VALUES[1])
    assert settle() == 6
    assert list(sequence) == VALUES
    assert cache().held_bytes <= 20_000


def test_without_a_cache_nothing_is_fetched_ahead(mapped):
    sequence = mapped(cache_max_bytes=0)
    assert list(sequence) == VALUES
    assert settle() == 0


def test_inline_values_ask_for_no_rows_ahead(mapped, supervisor, configure):
    sequence = mapped()
    configure(threshold_bytes=-1)
    supervisor.rows = [push(value, map_index=at) for at, value in enumerate(VALUES)]
    assert list(sequence) == VALUES
    assert supervisor.slices == []


def test_a_reader_that_stops_cancels_what_has_not_begun(mapped, monkeypatch):
    sequence = mapped()
    _, stack = process.current()
    gate, begun = threading.Event(), []

    def fetch(row):
        begun.append(row)
        gate.wait(20)

    monkeypatch.setattr(stack, "fetch", fetch)
    iterator = iter(sequence)
    assert isinstance(iterator, LazyXComIterator)
    assert [next(iterator), next(iterator)] == VALUES[:2]
    deadline = time.monotonic() + 20
    while len(begun) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    del iterator
    gc.collect()
    gate.set()
    time.sleep(0.3)
    assert len(begun) == 8, "no more than there are threads"


def test_what_is_used_is_what_the_row_names_when_it_is_read(mapped, supervisor):
    sequence = mapped()
    iterator = iter(sequence)
    assert [next(iterator), next(iterator)] == VALUES[:2]
    settle()
    supervisor.rows[2] = push(b"written meanwhile", map_index=2)
    assert next(iterator) == b"written meanwhile"


def test_a_broken_row_ahead_is_an_error_only_when_it_is_read(mapped, supervisor, deployment):
    sequence = mapped()
    supervisor.rows[3] = {"__secure_xcom__": 9}
    (deployment.store / supervisor.rows[4]["object"]).unlink()
    iterator = iter(sequence)
    assert [next(iterator) for _ in range(3)] == VALUES[:3]
    with pytest.raises(FormatError):
        next(iterator)
