"""Threads that are left at once, and what tells a caller's own exceptions from others."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from secure_xcom import signals, threads
from secure_xcom.airflow import asynchronous
from secure_xcom.errors import KeyUnavailable
from secure_xcom.keys.local import LocalKek, create_key_file
from secure_xcom.single_flight import SingleFlight

#: Long against what is asserted, short for whoever waits for a test that fails.
LONG_SECONDS = 20


class Handler:
    """What user code may set as a handler: an object, a method, a part of a function."""

    def __call__(self, *_):
        raise TimeoutError("mine")

    def method(self, *_):
        raise TimeoutError("mine")


def handler(_kind, *_):
    raise TimeoutError("mine")


HANDLERS = [Handler(), Handler().method, functools.partial(handler, "kind"), lambda *_: handler(0)]


@contextmanager
def alarm(seconds, handle=HANDLERS[3]):
    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("handle", HANDLERS, ids=["object", "method", "partial", "function"])
def test_what_a_handler_raised_is_known_also_when_it_was_wrapped(handle):
    with alarm(0.01, handle):
        with pytest.raises(TimeoutError) as caught:
            time.sleep(LONG_SECONDS)
        assert signals.is_callers(caught.value)
        wrapped = RuntimeError("a library's")
        wrapped.__cause__ = caught.value
        assert signals.is_callers(wrapped)
        assert not signals.is_callers(TimeoutError("the network's"))


def test_a_timeout_in_a_file_is_the_caller_s(tmp_path, monkeypatch):
    """`TimeoutError` is an `OSError`, which files raise for reasons of their own."""
    create_key_file(tmp_path / "kek")
    kek = LocalKek(f"local-kek://{tmp_path}/kek")
    stock = os.fstat

    def slowly(descriptor):
        time.sleep(LONG_SECONDS)
        return stock(descriptor)

    # Put back at once: pytest looks at files of its own.
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", slowly)
        with alarm(0.05), pytest.raises(TimeoutError, match="mine"):
            kek.wrap(bytes(32), b"")


def test_a_crew_that_is_left_is_not_waited_for_and_begins_nothing_more():
    begun, ended = [], threading.Event()

    def call():
        begun.append(1)
        try:
            threads.pause(LONG_SECONDS)
        except threads.CalledOff:
            ended.set()
            raise

    started = time.monotonic()
    futures = []

    def use():
        with threads.Crew(2, "test") as crew:
            futures.extend(crew.submit(call) for _ in range(5))
            futures[0].result()

    with alarm(0.2), pytest.raises(TimeoutError, match="mine"):
        use()
    assert time.monotonic() - started < 2
    assert ended.wait(2), "those under way were not told to stop"
    time.sleep(0.1)
    assert len(begun) == 2
    assert [future.cancelled() for future in futures[2:]] == [True] * 3


def test_a_crew_of_which_all_goes_well_leaves_no_thread_behind():
    before = threading.active_count()
    with threads.Crew(4, "test") as crew:
        futures = [crew.submit(lambda: time.sleep(0.01) or 7) for _ in range(9)]
    assert [future.result(0) for future in futures] == [7] * 9
    assert threading.active_count() == before


@pytest.mark.parametrize("there_are", [0, 2])
def test_where_no_thread_can_be_had_the_work_is_done_by_those_there_are(monkeypatch, there_are):
    stock, begun = threading.Thread.start, []

    def start(thread):
        if len(begun) == there_are:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        stock(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with threads.Crew(4, "test") as crew:
        futures = [crew.submit(lambda number=number: number) for number in range(9)]
    assert [future.result(0) for future in futures] == [*range(9)]


def test_work_inside_of_work_is_told_as_well():
    heard = threading.Event()

    def inner():
        while True:
            time.sleep(0.01)
            try:
                threads.check()
            except threads.CalledOff:
                heard.set()
                raise

    outer = threads.Crew(1, "outer")
    outer.submit(lambda: threads.outcome(inner, "inner", LONG_SECONDS))
    time.sleep(0.1)
    outer.leave()
    assert heard.wait(2)


def test_context_variables_are_the_caller_s():
    variable = ContextVar("variable", default="none")
    variable.set("mine")
    assert threads.outcome(variable.get, "test").result(0) == "mine"


def test_a_call_that_does_not_end_is_given_up():
    started = time.monotonic()
    assert not threads.outcome(lambda: time.sleep(3), "test", 0.1).done()
    assert time.monotonic() - started < 2


EXIT = """
import time
from secure_xcom import threads
threads.Crew(1, "test").submit(lambda: time.sleep(60))
time.sleep(0.1)
"""


def test_the_end_of_the_process_waits_for_none_of_them():
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", EXIT], check=True, timeout=30)
    assert time.monotonic() - started < 10


def test_an_event_loop_that_is_cancelled_leaves_at_once_and_its_loop_ends():
    stopped = threading.Event()

    def call():
        try:
            threads.pause(LONG_SECONDS)
        except threads.CalledOff:
            stopped.set()
            raise

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(asynchronous.in_thread(call), 0.1))
    assert time.monotonic() - started < 2
    assert stopped.wait(2)


def test_a_leader_that_is_interrupted_takes_nobody_with_it():
    single = SingleFlight({})
    leading, go_on = threading.Event(), threading.Event()

    def interrupted():
        leading.set()
        assert go_on.wait(10)
        raise TimeoutError("the leader's own")

    with threads.Crew(2, "test") as crew:
        first = crew.submit(lambda: single.get("key", interrupted))
        assert leading.wait(10)
        second = crew.submit(lambda: single.get("key", lambda: "made by the second"))
        time.sleep(0.05)
        go_on.set()
        assert second.result(10) == "made by the second"
        with pytest.raises(TimeoutError, match="the leader's own"):
            first.result(10)


def test_an_error_of_ours_goes_to_all_who_wait():
    single, asked = SingleFlight({}), []

    def refused():
        asked.append(1)
        time.sleep(0.2)
        raise KeyUnavailable("down")

    with threads.Crew(3, "test") as crew:
        futures = [crew.submit(lambda: single.get("key", refused)) for _ in range(3)]
        assert [type(future.exception(10)) for future in futures] == [KeyUnavailable] * 3
    assert asked == [1]
