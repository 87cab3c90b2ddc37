"""Asynchronous pushes and pulls, from Airflow 3.3 on: the event loop goes on meanwhile."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import VERSION, WHERE

if VERSION < (3, 3):
    pytest.skip("for Airflow 3.3 and later", allow_module_level=True)

from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    GetXCom,
    GetXComSequenceSlice,
    SetXCom,
    XComResult,
    XComSequenceSliceResult,
)

from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import AuthenticationError, ObjectNotFound, UnsealedError
from secure_xcom.stack import Stack


class Supervisor:
    """Keeps rows, as the supervisor and the server behind it do."""

    def __init__(self):
        self.rows = {}

    def send(self, msg):
        where = (msg.task_id, msg.key)
        match msg:
            case SetXCom():
                self.rows.setdefault(where, {})[msg.map_index] = msg.value
            case GetXCom():
                row = self.rows.get(where, {}).get(msg.map_index or -1)
                return XComResult(key=msg.key, value=row)
            case GetXComSequenceSlice():
                rows = self.rows.get(where, {})
                return XComSequenceSliceResult(root=[rows[index] for index in sorted(rows)])
        return None

    async def asend(self, msg):
        await asyncio.sleep(0)
        return self.send(msg)


@pytest.fixture
def supervisor(monkeypatch, deployment):
    supervisor = Supervisor()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)
    return supervisor


def where(**changed):
    return {**{name: value for name, value in WHERE.items() if name != "key"}, **changed}


def asked(**changed):
    return {**WHERE, **changed}


async def test_push_and_pull(supervisor):
    await SecureXComBackend.aset("k", {"card": "4111"}, **where())
    row = supervisor.rows["t", "k"][-1]
    assert row["__secure_xcom__"] == 1
    assert "4111" not in str(row)
    assert await SecureXComBackend.aget_one(**asked()) == {"card": "4111"}
    assert await SecureXComBackend.aget_one(**asked(key="absent")) is None
    assert SecureXComBackend.get_one(**asked()) == {"card": "4111"}


async def test_many(supervisor):
    for index in range(5):
        await SecureXComBackend.aset("k", index, **where(map_index=index))
    everything = {name: value for name, value in WHERE.items() if name != "map_index"}
    assert await SecureXComBackend.aget_all(**everything) == [0, 1, 2, 3, 4]
    rows = supervisor.rows["t", "k"]
    rows[3] = rows[1]
    with pytest.raises(AuthenticationError):
        await SecureXComBackend.aget_all(**everything)
    rows[3] = 3
    with pytest.raises(UnsealedError):
        await SecureXComBackend.aget_all(**everything)


async def test_an_error_names_its_element_of_all(supervisor, deployment, configure):
    configure(unsealed_reads="allow", threshold_bytes=0)
    for index in range(5):
        await SecureXComBackend.aset("k", index, **where(map_index=index))
    rows = supervisor.rows["t", "k"]
    rows[0], rows[1] = "plain", "plain, too"
    (deployment.store / rows[3]["object"]).unlink()
    everything = {name: value for name, value in WHERE.items() if name != "map_index"}
    with pytest.raises(ObjectNotFound) as caught:
        await SecureXComBackend.aget_all(**everything)
    assert caught.value.__notes__ == ["This was element 3."]


async def test_a_moved_row_is_refused(supervisor):
    await SecureXComBackend.aset("k", "value", **where())
    supervisor.rows["u", "k"] = supervisor.rows["t", "k"]
    with pytest.raises(AuthenticationError):
        await SecureXComBackend.aget_one(**asked(task_id="u"))


async def test_concurrent_pushes_and_pulls_keep_apart(supervisor):
    await asyncio.gather(
        *(SecureXComBackend.aset(f"k{n}", f"value {n}", **where()) for n in range(50))
    )
    values = await asyncio.gather(
        *(SecureXComBackend.aget_one(**asked(key=f"k{n}")) for n in range(50))
    )
    assert values == [f"value {n}" for n in range(50)]


async def test_a_clear_key_passes_in_clear(supervisor):
    await SecureXComBackend.aset("skipmixin_key", {"followed": ["a"]}, **where())
    assert supervisor.rows["t", "skipmixin_key"][-1] == {"followed": ["a"]}
    assert await SecureXComBackend.aget_one(**asked(key="skipmixin_key")) == {"followed": ["a"]}


@pytest.mark.parametrize("method", ["put", "get"])
async def test_the_event_loop_goes_on(supervisor, monkeypatch, method):
    await SecureXComBackend.aset("k", "value", **where())
    went_on = threading.Event()
    stock = getattr(Stack, method)

    def wait_for_the_loop(*args):
        assert went_on.wait(timeout=10), "the event loop stood still"
        return stock(*args)

    async def go_on():
        await asyncio.sleep(0.01)
        went_on.set()

    monkeypatch.setattr(Stack, method, wait_for_the_loop)
    other = asyncio.create_task(go_on())
    if method == "put":
        await SecureXComBackend.aset("k", "value", **where())
    else:
        assert await SecureXComBackend.aget_one(**asked()) == "value"
    await other


async def test_the_event_loop_goes_on_while_many_are_read(supervisor, monkeypatch):
    for index in range(3):
        await SecureXComBackend.aset("k", index, **where(map_index=index))
    went_on = threading.Event()
    stock = Stack.get_many

    def wait_for_the_loop(*args):
        assert went_on.wait(timeout=10), "the event loop stood still"
        return stock(*args)

    async def go_on():
        await asyncio.sleep(0.01)
        went_on.set()

    monkeypatch.setattr(Stack, "get_many", wait_for_the_loop)
    other = asyncio.create_task(go_on())
    assert await SecureXComBackend.aget_all(dag_id="d", run_id="r", task_id="t", key="k") == [
        *range(3)
    ]
    await other
