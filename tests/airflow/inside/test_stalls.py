"""How long the event loop stands still at most while 20 MB are pushed and pulled.

From Airflow 3.3 on by the asynchronous methods; before, through a thread, as triggers have to.
"""
# ruff: noqa: ARG001, T201 - fixtures are asked for by name; the figures are to be seen

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest
from conftest import VERSION, pull, push

from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.stores.file import Directory

BYTES = 20_000_000
#: How long the store takes: the loop would stand still for longer if it waited for it.
STORE_SECONDS = 1.0
#: Of records, MessagePack is written and read by one call, which holds the interpreter as long as
#: it takes: 0.15 to 0.4 s for so many. All else gives way.
STALL_SECONDS_MAX = {"bytes": 0.25, "records": 0.8}
#: A machine that is busy with other things makes stalls longer, never shorter.
ATTEMPTS = 3


def _hex(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


VALUES = {
    "bytes": lambda: b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(BYTES // 32)),
    "records": lambda: [
        {"id": n, "name": f"customer {n}", "digest": _hex(n), "amount": n / 7, "open": n % 2 == 0}
        for n in range(BYTES // 120)
    ],
}


class Loop:
    """Watches the running event loop: the longest time in which it did not come round."""

    async def __aenter__(self):
        self.longest_seconds = 0.0
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0.01)
        return self

    async def _watch(self):
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.longest_seconds = max(self.longest_seconds, now - last)
            last = now

    async def __aexit__(self, *_):
        await asyncio.sleep(0.01)  # so that it sees a stall that has only just ended
        self._task.cancel()


if VERSION >= (3, 3):
    from airflow.sdk.execution_time import task_runner
    from test_async import Supervisor, asked, where

    @pytest.fixture
    def both(monkeypatch, deployment):
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)

        async def push_(value):
            await SecureXComBackend.aset("k", value, **where())

        async def pull_():
            return await SecureXComBackend.aget_one(**asked())

        return push_, pull_

else:

    @pytest.fixture
    def both(deployment):
        rows = {}

        async def push_(value):
            rows["k"] = await asyncio.to_thread(push, value)

        async def pull_():
            return await asyncio.to_thread(pull, rows["k"])

        return push_, pull_


@pytest.fixture
def _slow(monkeypatch):
    for method in ("create", "get"):
        stock = getattr(Directory, method)

        def slowly(*args, stock=stock, **kwargs):
            time.sleep(STORE_SECONDS)
            return stock(*args, **kwargs)

        monkeypatch.setattr(Directory, method, slowly)


async def stall(coroutine):
    async with Loop() as loop:
        started = time.monotonic()
        result = await coroutine
        assert time.monotonic() - started > STORE_SECONDS
    return loop.longest_seconds, result


@pytest.mark.usefixtures("_slow")
@pytest.mark.parametrize("kind", VALUES)
async def test_the_event_loop_goes_on_while_20_mb_travel(both, configure, kind):
    configure(cache_max_bytes=0)
    push_, pull_ = both
    value = VALUES[kind]()
    pushes, pulls = [], []
    while not pulls or (
        max(min(pushes), min(pulls)) >= STALL_SECONDS_MAX[kind] and len(pulls) < ATTEMPTS
    ):
        seconds, _ = await stall(push_(value))
        pushes.append(seconds)
        seconds, pulled = await stall(pull_())
        pulls.append(seconds)
        assert pulled == value
    print(f"{kind}: longest stalls {min(pushes):.3f} s (push), {min(pulls):.3f} s (pull)")
    assert min(pushes) < STALL_SECONDS_MAX[kind]
    assert min(pulls) < STALL_SECONDS_MAX[kind]
