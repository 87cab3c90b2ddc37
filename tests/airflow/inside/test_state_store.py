"""The state store: texts that are written over and over come back, sealed, as written last."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import logging
import os
import subprocess
import sys
import traceback
from uuid import uuid4

import pytest
from conftest import VERSION

from secure_xcom import audit
from secure_xcom.airflow import policy, states
from secure_xcom.airflow.process import process
from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    ObjectNotFound,
    UnsealedError,
)

if VERSION < (3, 3):
    pytest.skip("Airflow has state stores from 3.3 on", allow_module_level=True)

from airflow.sdk.execution_time import comms, context, task_runner
from airflow.sdk.execution_time.context import AssetStateStoreAccessor, TaskStateStoreAccessor
from airflow.sdk.state import AssetScope, BaseStoreBackend, TaskScope

from secure_xcom.airflow.state_store import SecureStateStoreBackend, _of_asset, _of_task
from secure_xcom.model import Expected

TASK = TaskScope("dag", "run", "task", 3)
ASSET = AssetScope(name="orders")
CANARY = "canary-of-the-state-store"
VALUES = [None, True, 7, 2.5, "text", [1, [2]], {"a": {"b": CANARY}}, CANARY * 10_000]


@pytest.fixture
def backend(deployment):
    assert deployment is not None
    states.states.cache_clear()
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
    assert len(deployment.objects()) == 2, "each write takes the place of the former one"


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


@pytest.fixture
def configured(monkeypatch):
    """Name a backend of state stores, or none, as airflow.cfg does."""
    known = context._get_worker_state_store_backend

    def name(backend):
        monkeypatch.setenv("AIRFLOW__WORKERS__STATE_STORE_BACKEND", backend)
        known.cache_clear()

    yield name
    known.cache_clear()


@pytest.fixture
def served(deployment, configured, monkeypatch):
    """Have the accessors read what is given here, as if the server had sent it."""
    assert deployment is not None
    configured("secure_xcom.airflow.state_store.SecureStateStoreBackend")
    kinds = {
        TaskStateStoreAccessor: comms.TaskStateStoreResult,
        AssetStateStoreAccessor: comms.AssetStateStoreResult,
    }

    def read(accessor, key, row, *, at_once=True):
        class Comms:
            def send(self, _):
                if row is None:
                    return comms.ErrorResponse(error=MISSING[type(accessor)])
                return kinds[type(accessor)](value=row)

            async def asend(self, message):
                return self.send(message)

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
        if at_once:
            return accessor.get(key, "default")
        return asyncio.run(accessor.aget(key, "default"))

    return read


MISSING = {
    TaskStateStoreAccessor: comms.ErrorType.TASK_STORE_NOT_FOUND,
    AssetStateStoreAccessor: comms.ErrorType.ASSET_STORE_NOT_FOUND,
}


def of_task(scope=TASK):
    return TaskStateStoreAccessor(uuid4(), scope)


def sealed(backend, scope, key="k", value=1):
    side = sides(backend)["task" if isinstance(scope, TaskScope) else "asset"]
    return context._wrap_external_ref(side[1](value=value, key=key, scope=scope))


def ways(accessor):
    """Reading at once, and where this version has it, on the event loop."""
    return [True, False] if hasattr(type(accessor), "aget") else [True]


def test_a_key_is_text(backend):
    for call in (
        lambda: backend.serialize_task_state_store_to_ref(value=1, key=5, scope=TASK),
        lambda: backend.set(ASSET, 5, "1"),
        lambda: backend.get(TASK, 5),
        lambda: backend.delete(TASK, 5),
    ):
        with pytest.raises(FormatError, match=r"key of an XCom is text.*builtins\.int"):
            call()
    with pytest.raises(FormatError, match="key has 0 bytes"):
        backend.serialize_task_state_store_to_ref(value=1, key="", scope=TASK)


def test_a_row_of_another_key_or_task_is_refused(backend, served):
    row = sealed(backend, TASK)
    for at_once in ways(of_task()):
        assert served(of_task(), "k", row, at_once=at_once) == 1
        assert served(of_task(), "k", None, at_once=at_once) == "default"
        with pytest.raises(AuthenticationError):
            served(of_task(), "k2", row, at_once=at_once)
        with pytest.raises(AuthenticationError):
            served(of_task(TaskScope("dag", "run", "task", 4)), "k", row, at_once=at_once)


def test_a_row_of_another_asset_is_refused_as_far_as_its_name_is_known(backend, served):
    row = sealed(backend, ASSET)
    orders, bills = (AssetStateStoreAccessor(name=name) for name in ("orders", "bills"))
    by_uri = AssetStateStoreAccessor(uri="s3://orders")
    for at_once in ways(orders):
        assert served(orders, "k", row, at_once=at_once) == 1
        # That it is another asset's, only the server knows.
        assert served(by_uri, "k", row, at_once=at_once) == 1
        for accessor, key in ((orders, "k2"), (bills, "k"), (by_uri, "k2")):
            with pytest.raises(AuthenticationError):
                served(accessor, key, row, at_once=at_once)


def test_strict_compares_all_of_an_assets_state(backend, served, monkeypatch):
    row = sealed(backend, ASSET)
    be_strict(monkeypatch)
    assert served(AssetStateStoreAccessor(name="orders"), "k", row) == 1
    with pytest.raises(AuthenticationError):
        served(AssetStateStoreAccessor(uri="s3://orders"), "k", row)


def test_strict_refuses_states_that_are_read_without_a_word_of_where(side, monkeypatch):
    scope, to_ref, from_ref = side
    row = to_ref(value=1, key="k", scope=scope)
    assert from_ref(row) == 1
    be_strict(monkeypatch)
    with pytest.raises(ConfigError, match="state stores"):
        from_ref(row)


def be_strict(monkeypatch):
    settings, stack = process.current()
    strict = dataclasses.replace(settings, strict=True)
    monkeypatch.setattr(process, "current", lambda: (strict, stack))


@pytest.mark.parametrize("accessor", [of_task(), AssetStateStoreAccessor(name="orders")])
@pytest.mark.usefixtures("deployment")
def test_strict_writes_no_state_in_clear(configured, monkeypatch, lines, accessor):
    sent = []

    class Comms:
        def send(self, message):
            if "StateStore" in type(message).__name__:  # settings are asked for, too
                sent.append(str(message.value))

        async def asend(self, message):
            self.send(message)

    def written():
        sent.clear()
        accessor.set("k", {"card": CANARY})
        if hasattr(type(accessor), "aset"):
            asyncio.run(accessor.aset("k", {"card": CANARY}))
        return "\n".join(sent)

    policy.is_configured.cache_clear()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Comms(), raising=False)
    configured("")
    assert written().count(CANARY) == len(sent) > 0
    be_strict(monkeypatch)
    with pytest.raises(ConfigError, match="state_store_backend") as refused:
        accessor.set("k", {"card": CANARY})
    assert CANARY not in str(refused.value)
    if hasattr(type(accessor), "aset"):
        with pytest.raises(ConfigError, match="state_store_backend"):
            asyncio.run(accessor.aset("k", {"card": CANARY}))
    assert '"operation": "seal", "outcome": "refused"' in lines[0]
    configured("secure_xcom.airflow.state_store.SecureStateStoreBackend")
    assert "__secure_xcom" in written()
    assert CANARY not in written()
    # Where XComs are another backend's, this one has no say.
    configured("")
    monkeypatch.setattr(policy, "is_configured", lambda: False)
    assert written().count(CANARY) == len(sent) > 0


@pytest.mark.parametrize("accessor", [of_task(), AssetStateStoreAccessor(name="orders")])
@pytest.mark.parametrize("row", [{"card": CANARY}, CANARY, 7, None])
def test_what_airflow_hands_out_past_the_backend_follows_the_policy(
    served, configure, accessor, row
):
    """A row without the mark of a reference never reaches a backend's methods."""
    if row is None:
        assert served(accessor, "k", row) == "default"
        return
    for at_once in ways(accessor):
        configure(unsealed_reads="deny")
        with pytest.raises(UnsealedError) as refused:
            served(accessor, "k", row, at_once=at_once)
        assert CANARY not in str(refused.value)
        for reads in ("warn", "allow"):
            configure(unsealed_reads=reads)
            assert served(accessor, "k", row, at_once=at_once) == row


def test_under_another_backend_or_none_the_accessors_are_as_they_were(served, configured):
    configured("")
    assert served(of_task(), "k", {"a": 1}) == {"a": 1}


def test_the_accessors_are_bound():
    """Fails when Airflow renames what `state_store` wraps or looks at."""
    from secure_xcom.lifecycle.content import STATE_REFERENCE  # noqa: PLC0415

    for accessor in (TaskStateStoreAccessor, AssetStateStoreAccessor):
        assert hasattr(accessor.get, "__wrapped__")
        assert hasattr(accessor, "aget") == hasattr(getattr(accessor, "aget", None), "__wrapped__")
    assert _of_task(of_task(), "k").where.task_id == "task"
    assert _of_asset(AssetStateStoreAccessor(name="orders"), "k").where.task_id == "orders"
    assert context._get_worker_state_store_backend() is None
    assert context._wrap_external_ref("row") == {STATE_REFERENCE: "row"}  # for commands


def test_the_policy_binds_them_before_the_first_read():
    """Airflow imports the backend in the midst of the first read, which is too late for it."""
    code = """
import sys
from airflow import settings
from airflow.providers.standard.operators.bash import BashOperator

name = "secure_xcom.airflow.state_store"
assert name not in sys.modules
settings.task_policy(BashOperator(task_id="t", bash_command="true"))
raise SystemExit(0 if name in sys.modules else "the accessors are not bound")
"""
    backend = f"{SecureStateStoreBackend.__module__}.{SecureStateStoreBackend.__name__}"
    env = {**os.environ, "AIRFLOW__WORKERS__STATE_STORE_BACKEND": backend}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_a_state_is_no_xcom_and_a_tasks_state_no_assets(backend, configure):
    configure(threshold_bytes=-1)
    both = sides(backend)
    rows = {
        kind: to_ref(value=1, key="k", scope=scope) for kind, (scope, to_ref, _) in both.items()
    }
    with pytest.raises(AuthenticationError):
        both["asset"][2](rows["task"])
    with pytest.raises(AuthenticationError):
        both["task"][2](rows["asset"])
    _, stack = process.current()
    for row in rows.values():
        with pytest.raises(AuthenticationError):
            stack.get(json.loads(row), Expected())


def test_rows_that_are_none_of_ours(side, configure):
    scope, to_ref, from_ref = side
    for row in ('{"a": 1}', '"text"', "7"):
        with pytest.raises(UnsealedError):
            from_ref(row)
    configure(threshold_bytes=0)
    row = json.loads(to_ref(value=1, key="k", scope=scope))
    with pytest.raises(ConfigError):
        from_ref(json.dumps(row | {"store": "file:///elsewhere"}))
    for change in ({"object": "../x"}, {"object": "a"}, {"more": 1}, {"__secure_xcom_state__": 2}):
        with pytest.raises(FormatError):
            from_ref(json.dumps(row | change))
    configure(unsealed_reads="allow")
    assert from_ref('{"a": 1}') == {"a": 1}
    with pytest.raises(FormatError) as refused:
        from_ref(CANARY)
    chain = [refused.value, refused.value.__cause__, refused.value.__context__]
    assert all(CANARY not in repr(link) for link in chain)


def test_a_missing_object_raises_and_is_not_none(side, configure, deployment):
    configure(threshold_bytes=0)
    scope, to_ref, from_ref = side
    stored = to_ref(value=1, key="k", scope=scope)
    for path in deployment.objects():
        path.unlink()
    with pytest.raises(ObjectNotFound):
        from_ref(stored)


@pytest.mark.parametrize("policy", ["deny", "warn", "allow"])
@pytest.mark.parametrize("more", ['"placement":"inline"', '"n":NaN', '"store":1,"store":2'])
def test_what_carries_our_tag_is_strict_json_or_refused(side, configure, policy, more, lines):
    scope, to_ref, from_ref = side
    for threshold_bytes in (0, -1):
        configure(threshold_bytes=threshold_bytes, unsealed_reads=policy)
        row = to_ref(value=CANARY, key="k", scope=scope)
        for broken in (f"{row[:-1]},{more},{more}}}", "{" + more + "," + more + "," + row[1:]):
            lines.clear()
            with pytest.raises(FormatError):
                from_ref(broken)
            (line,) = lines
            assert '"operation": "refuse"' in line
        assert from_ref(row) == CANARY


@pytest.fixture
def lines():
    """The lines of the audit log."""
    written = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    audit.logger.addHandler(handler)
    yield written
    audit.logger.removeHandler(handler)


def test_what_json_does_not_hold_is_refused_with_its_line(side, lines):
    scope, to_ref, _ = side
    circle = [CANARY]
    circle.append(circle)
    deep = CANARY
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), {CANARY: {1, 2}}, {(1, 2): CANARY}, circle, deep):
        with pytest.raises(CodecError) as refused:
            to_ref(value=value, key="k", scope=scope)
        assert CANARY not in "".join(traceback.format_exception(refused.value))
    assert len(lines) == 5
    assert all('"outcome": "failed"' in line and CANARY not in line for line in lines)


def test_a_deep_state_is_read_from_a_deeper_stack(side):
    scope, to_ref, from_ref = side
    value = CANARY
    for _ in range(400):
        value = [value]
    row = to_ref(value=value, key="k", scope=scope)

    def below(frames):
        return from_ref(row) if frames == 0 else below(frames - 1)

    found = below(600)
    while isinstance(found, list):
        (found,) = found
    assert found == CANARY
