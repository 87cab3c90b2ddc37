"""The state store: texts that are written over and over come back, sealed, newest first."""

from __future__ import annotations

import asyncio
import inspect
import json
from uuid import uuid4

import pytest
from conftest import VERSION

from secure_xcom.airflow import core
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    ObjectNotFound,
    UnsealedError,
)

if VERSION < (3, 3):
    pytest.skip("Airflow has state stores from 3.3 on", allow_module_level=True)

from airflow.sdk.execution_time.context import TaskStateStoreAccessor
from airflow.sdk.state import AssetScope, BaseStoreBackend, TaskScope

from secure_xcom.airflow.state_store import SecureStateStoreBackend, _asking, _expected

TASK = TaskScope("dag", "run", "task", 3)
ASSET = AssetScope(name="orders")
CANARY = "canary-of-the-state-store"
VALUES = [None, True, 7, 2.5, "text", [1, [2]], {"a": {"b": CANARY}}, CANARY * 10_000]


@pytest.fixture
def backend(deployment):
    assert deployment is not None
    core._built_states.cache_clear()
    return SecureStateStoreBackend()


def sides(backend):
    return {
        "task": (
            TASK,
            backend.serialize_task_state_store_to_ref,
            backend.deserialize_task_state_store_from_ref,
        ),
        "asset": (
            ASSET,
            backend.serialize_asset_state_store_to_ref,
            backend.deserialize_asset_state_store_from_ref,
        ),
    }


@pytest.fixture(params=["task", "asset"])
def side(request, backend):
    return sides(backend)[request.param]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("threshold_bytes", [0, -1, 49152])
def test_a_value_comes_back_and_nothing_of_it_is_readable(
    side, configure, deployment, value, threshold_bytes
):
    configure(threshold_bytes=threshold_bytes)
    scope, to_ref, from_ref = side
    stored = to_ref(value=value, key="k", scope=scope)
    assert from_ref(stored) == value
    held = deployment.objects()
    # The longest one here is short once it is compressed.
    assert bool(held) is (threshold_bytes == 0)
    assert CANARY not in stored
    assert all(CANARY.encode() not in path.read_bytes() for path in held)


def test_the_reference_of_an_object_is_the_same_for_every_write(side, configure, deployment):
    configure(threshold_bytes=0)
    scope, to_ref, from_ref = side
    first = to_ref(value=1, key="k", scope=scope)
    second = to_ref(value=2, key="k", scope=scope)
    other = to_ref(value=3, key="other", scope=scope)
    assert first == second != other
    assert (from_ref(first), from_ref(other)) == (2, 3)
    assert len(deployment.objects()) == 2, "the older object was left"


def test_a_row_in_the_database_stays_readable_when_a_short_value_follows_a_long_one(
    side, configure
):
    scope, to_ref, from_ref = side
    configure(threshold_bytes=0)
    before = to_ref(value="long", key="k", scope=scope)
    configure(threshold_bytes=-1)
    after = to_ref(value="short", key="k", scope=scope)
    assert (from_ref(before), from_ref(after)) == ("long", "short")


@pytest.mark.parametrize("scope", [TASK, ASSET, AssetScope(uri="s3://b/k"), AssetScope(asset_id=4)])
def test_get_set_delete(backend, deployment, scope):
    assert backend.get(scope, "k") is None
    backend.delete(scope, "k")
    text = json.dumps({"a": CANARY})
    backend.set(scope, "k", '"first"')
    backend.set(scope, "k", text)
    backend.set(scope, "other", "1")
    assert (backend.get(scope, "k"), backend.get(scope, "other")) == (text, "1")
    held = deployment.objects()
    assert len(held) == 2
    assert all(CANARY.encode() not in path.read_bytes() for path in held)
    backend.delete(scope, "k")
    assert (backend.get(scope, "k"), backend.get(scope, "other")) == (None, "1")


def test_clear_takes_its_scope_and_no_more(backend):
    scopes = [
        TASK,
        TaskScope("dag", "run", "task", 4),
        TaskScope("dag", "run", "task2", 3),
        TaskScope("dag", "run2", "task", 3),
        ASSET,
        AssetScope(name="orders2"),
        AssetScope(uri="orders"),
    ]

    def left():
        return [scope for scope in scopes if backend.get(scope, "k")]

    for scope in scopes:
        backend.set(scope, "k", "1")
    backend.clear(TASK)
    assert left() == scopes[1:]
    backend.clear(TaskScope("dag", "run", "task"), all_map_indices=True)
    assert left() == scopes[2:]
    backend.clear(ASSET, all_map_indices=True)
    assert left() == [*scopes[2:4], *scopes[5:]]


def test_the_asynchronous_methods_do_the_same_off_the_event_loop(backend):
    async def run():
        await backend.aset(TASK, "k", "1")
        await backend.aset(TASK, "other", "2")
        got = await backend.aget(TASK, "k")
        await backend.adelete(TASK, "k")
        gone = await backend.aget(TASK, "k")
        await backend.aclear(TASK)
        return got, gone, await backend.aget(TASK, "other")

    assert asyncio.run(run()) == ("1", None, None)


def test_every_method_of_the_interface_is_ours():
    ours = vars(SecureStateStoreBackend)
    stock = {
        name
        for name, member in vars(BaseStoreBackend).items()
        if inspect.isfunction(member) and not name.startswith("_")
    }
    # `cleanup` removes what the backend keeps besides rows and objects, which is nothing.
    assert stock - set(ours) == {"cleanup"}


def test_a_row_of_another_key_or_task_is_refused_where_the_accessor_says_what_it_reads(backend):
    stored = backend.serialize_task_state_store_to_ref(value=1, key="k", scope=TASK)
    accessor = TaskStateStoreAccessor(uuid4(), TASK)
    with _asking(_expected(accessor, "k")):
        assert backend.deserialize_task_state_store_from_ref(stored) == 1
    other = TaskStateStoreAccessor(uuid4(), TaskScope("dag", "run", "task", 4))
    for elsewhere in (_expected(accessor, "k2"), _expected(other, "k")):
        with _asking(elsewhere), pytest.raises(AuthenticationError):
            backend.deserialize_task_state_store_from_ref(stored)


def test_the_accessor_is_bound():
    """Fails when Airflow renames what `state_store` wraps."""
    assert hasattr(TaskStateStoreAccessor.get, "__wrapped__")
    accessor = TaskStateStoreAccessor(uuid4(), TASK)
    assert _expected(accessor, "k").task_id == "task"
    if hasattr(TaskStateStoreAccessor, "aget"):
        assert hasattr(TaskStateStoreAccessor.aget, "__wrapped__")


def test_a_state_is_no_xcom_and_a_tasks_state_no_assets(backend, configure):
    configure(threshold_bytes=-1)
    states = sides(backend)
    rows = {
        kind: to_ref(value=1, key="k", scope=scope) for kind, (scope, to_ref, _) in states.items()
    }
    with pytest.raises(AuthenticationError):
        states["asset"][2](rows["task"])
    with pytest.raises(AuthenticationError):
        states["task"][2](rows["asset"])
    _, stack = core._process.current()
    for row in rows.values():
        with pytest.raises(AuthenticationError):
            stack.get(json.loads(row), core.Expected())


def test_rows_that_are_none_of_ours(side, configure):
    _, _, from_ref = side
    for row in ('{"a": 1}', '"text"', "7"):
        with pytest.raises(UnsealedError):
            from_ref(row)
    folder = {"__secure_xcom_state__": 1, "store": "file:///elsewhere", "folder": "a/b/"}
    with pytest.raises(ConfigError):
        from_ref(json.dumps(folder))
    for change in ({"folder": "../x/"}, {"folder": "a"}, {"more": 1}, {"__secure_xcom_state__": 2}):
        with pytest.raises(FormatError):
            from_ref(json.dumps(folder | change))
    configure(unsealed_reads="allow")
    assert from_ref('{"a": 1}') == {"a": 1}


def test_a_missing_object_raises_and_is_not_none(side, configure, deployment):
    configure(threshold_bytes=0)
    scope, to_ref, from_ref = side
    stored = to_ref(value=1, key="k", scope=scope)
    for path in deployment.objects():
        path.unlink()
    with pytest.raises(ObjectNotFound):
        from_ref(stored)
