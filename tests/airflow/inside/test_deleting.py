"""Airflow 3: the row goes first, and its object after, when it is deleted or written over."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from uuid import uuid4

import pytest
from conftest import VERSION, WHERE

if VERSION < (3, 0):
    pytest.skip("for Airflow 3", allow_module_level=True)

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DeleteXCom, GetXCom, SetXCom, XComResult

from secure_xcom.airflow import overwriting
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import StoreUnavailable
from secure_xcom.stack import Stack

PLACE = {name: value for name, value in WHERE.items() if name != "key"}


class Supervisor:
    """Keeps rows; says at each change how many objects there are, and may fail before it."""

    def __init__(self, objects):
        self.rows = {}
        self.objects = objects
        self.seen = []
        self.fails = False
        self.before = lambda _message: None

    def send(self, message):
        # The server takes a missing index for that of a task that is not mapped.
        map_index = -1 if message.map_index is None else message.map_index
        where = (message.dag_id, message.run_id, message.task_id, map_index, message.key)
        if isinstance(message, GetXCom):
            return XComResult(key=message.key, value=self.rows.get(where))
        self.before(message)
        if self.fails:
            raise ConnectionError("the server is away")
        assert isinstance(message, SetXCom | DeleteXCom)
        if isinstance(message, SetXCom):
            self.rows[where] = message.value
        else:
            self.rows.pop(where, None)
        self.seen.append(len(self.objects()))
        return None

    async def asend(self, message):
        await asyncio.sleep(0)
        return self.send(message)


@pytest.fixture(params=[False, True], ids=["at once", "on the event loop"])
def push(request):
    """Push as a task does, at once or where this version can on the event loop."""
    if request.param and not hasattr(SecureXComBackend, "aset"):
        pytest.skip("from 3.3 on")

    def call(value, key="k", **where):
        if request.param:
            asyncio.run(SecureXComBackend.aset(key, value, **{**PLACE, **where}))
        else:
            SecureXComBackend.set(key, value, **{**PLACE, **where})

    return call


@pytest.fixture
def supervisor(monkeypatch, deployment, configure):
    configure(threshold_bytes=0)
    supervisor = Supervisor(deployment.objects)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    monkeypatch.setattr(overwriting, "_pushed", overwriting._Pushed())
    return supervisor


def delete(key="k", **where):
    SecureXComBackend.delete(key=key, **{**PLACE, **where})


def pull(key="k", **where):
    return SecureXComBackend.get_one(key=key, **{**PLACE, **where})


@pytest.mark.parametrize("map_index", [-1, None, 2])
def test_the_object_is_there_until_its_row_is_gone(deployment, supervisor, map_index):
    SecureXComBackend.set("k", "value", **{**PLACE, "map_index": map_index or -1})
    delete(map_index=map_index)
    assert supervisor.rows == {}
    assert supervisor.seen == [1, 1]
    assert deployment.objects() == []


def test_a_row_that_could_not_be_deleted_keeps_its_object(deployment, supervisor, push):
    push("value")
    supervisor.fails = True
    with pytest.raises(ConnectionError):
        delete()
    supervisor.fails = False
    assert pull() == "value"


def test_another_rows_object_stays_when_a_row_that_names_it_is_deleted(deployment, supervisor):
    SecureXComBackend.set("k", "value", **PLACE)
    rows = supervisor.rows
    rows["d", "r", "t", -1, "forged"] = rows["d", "r", "t", -1, "k"]
    delete("forged")
    assert pull() == "value"


def test_the_object_of_a_row_that_is_written_over_goes_after_it(deployment, supervisor, push):
    for number in range(4):
        push(f"value {number}")
    assert supervisor.seen == [1, 2, 2, 2]
    assert len(deployment.objects()) == 1
    assert pull() == "value 3"


def test_and_by_a_value_that_is_inline(deployment, supervisor, push, configure):
    push("long")
    configure(threshold_bytes=-1)
    push("short")
    assert deployment.objects() == []
    configure(threshold_bytes=0)
    push("long again")
    assert len(deployment.objects()) == 1
    assert pull() == "long again"


def test_other_keys_and_indexes_keep_theirs(deployment, supervisor, push):
    others = [
        {"key": "other"},
        {"map_index": 1},
        {"task_id": "u"},
        {"run_id": "s"},
        {"dag_id": "e"},
    ]
    for where in ({}, *others):
        push("value", **where)
    assert len(deployment.objects()) == 1 + len(others)


def test_a_push_that_fails_deletes_nothing(deployment, supervisor, push):
    push("former")
    supervisor.fails = True
    with pytest.raises(ConnectionError):
        push("lost")
    supervisor.fails = False
    assert pull() == "former"
    push("next")
    assert pull() == "next"
    # That of the push whose outcome nobody knows is left to the collector.
    assert len(deployment.objects()) == 2


def test_of_two_pushes_side_by_side_neither_object_goes(deployment, supervisor):
    """Either row may be the one that stays, whichever call comes back first."""
    SecureXComBackend.set("k", "former", **PLACE)
    both = threading.Barrier(2)
    supervisor.before = lambda _message: both.wait(20)
    threads = [
        threading.Thread(target=SecureXComBackend.set, args=("k", f"value {number}"), kwargs=PLACE)
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pull() in ("value 0", "value 1")
    assert len(deployment.objects()) == 2, "only the former one went"


def test_a_deletion_that_fails_is_a_warning_and_no_failed_push(
    deployment, supervisor, push, monkeypatch, caplog
):
    def away(*_):
        raise StoreUnavailable("the store is away")

    push("former")
    monkeypatch.setattr(Stack, "delete", away)
    with caplog.at_level("WARNING", "secure_xcom"):
        push("next")
    assert pull() == "next"
    [warning] = [r.getMessage() for r in caplog.records if r.name == "secure_xcom"]
    assert "k of d.t in run r was not deleted: StoreUnavailable" in warning


def test_only_so_many_are_remembered(deployment, supervisor, monkeypatch):
    monkeypatch.setattr(overwriting, "ROWS_MAX", 3)
    for number in range(5):
        SecureXComBackend.set(f"k{number}", "value", **PLACE)
    assert len(overwriting._pushed._rows) == 3
    for number in range(5):
        SecureXComBackend.set(f"k{number}", "again", **PLACE)
        assert pull(f"k{number}") == "again"


@pytest.mark.skipif(VERSION < (3, 4), reason="tasks push by `set` before")
@pytest.mark.parametrize("name", ["_push", "_apush"])
def test_iterations_of_a_loop_keep_their_own(deployment, supervisor, name):
    def push(value, ti):
        pushed = getattr(SecureXComBackend, name)(ti, "k", value)
        if pushed is not None:
            asyncio.run(pushed)

    first, second = (
        SimpleNamespace(
            **{name: PLACE[name] for name in ("dag_id", "run_id", "task_id", "map_index")},
            id=uuid4(),
            region_id=uuid4(),
            region_index=number,
        )
        for number in range(2)
    )
    push("value", first)
    push("value", second)
    assert len(deployment.objects()) == 2
    push("again", first)
    assert len(deployment.objects()) == 2
