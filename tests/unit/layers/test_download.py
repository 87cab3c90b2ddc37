"""A body that is fetched beside its key: bounds, context, and what becomes of its threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, wait
from contextvars import ContextVar

import pytest

from secure_xcom import threads
from secure_xcom.errors import KeyUnavailable, ObjectNotFound
from secure_xcom.layers import download
from secure_xcom.layers.download import Download, beside

KEY = bytes(32)
WAIT_SECONDS = 20


class Gate:
    """What a test holds back, and learns of."""

    def __init__(self):
        self.reached, self.may_pass = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.may_pass.wait(WAIT_SECONDS)
        return KEY


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.may_pass.set()


def gone(name="secure-xcom-download"):
    """Whether no thread of that name is there any longer."""
    until = time.monotonic() + 3
    while any(thread.name == name for thread in threading.enumerate()):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def test_chunks_come_in_order_though_each_is_gone_with_the_next(gate):
    def reused():
        buffer = bytearray(1)
        for number in range(50):
            buffer[0] = number
            yield memoryview(buffer)
        gate.may_pass.set()

    with beside(gate, reused()) as (key, body):
        assert key == KEY
        assert b"".join(body) == bytes(range(50))
    assert gone()


def test_no_more_is_fetched_than_may_be_held(gate):
    fetched = []

    def chunks():
        for _ in range(40):
            fetched.append(1)
            yield bytes(2**20)

    def key_once_it_stands_still():
        gate()
        count = -1
        while count != len(fetched):
            count = len(fetched)
            time.sleep(0.2)
        return bytes((count,))

    gate.may_pass.set()
    with beside(key_once_it_stands_still, chunks()) as (key, body):
        assert key[0] * 2**20 == download.HELD_BYTES_MAX
        assert sum(map(len, body)) == 40 * 2**20
    assert gone()


def test_both_see_the_context_of_who_asked():
    variable, seen = ContextVar("variable"), []
    variable.set("the caller's")
    asked = threading.Event()

    def chunks():
        seen.append(variable.get(None))
        asked.set()
        yield b""

    def make_key():
        assert asked.wait(WAIT_SECONDS)
        seen.append(variable.get(None))
        return KEY

    with beside(make_key, chunks()):
        pass
    assert seen == ["the caller's"] * 2


@pytest.mark.parametrize("key_failed", [True, False])
def test_where_both_have_failed_the_key_s_error_is_told(key_failed):
    def chunks():
        raise ObjectNotFound("gone")
        yield b""

    crew = threads.Crew(1, "test")
    fetching = Download(chunks(), crew)
    wait((fetching._ended,), WAIT_SECONDS)
    key = Future()
    if key_failed:
        key.set_exception(KeyUnavailable("away"))
    with pytest.raises(KeyUnavailable if key_failed else ObjectNotFound):
        fetching.wait_for_key(key)
    crew.leave()


def _fail_at(_):
    raise ZeroDivisionError


@pytest.mark.parametrize("make_key", [lambda: KEY, lambda: time.sleep(0.1) or KEY])
def test_a_transfer_ends_when_its_reader_leaves(make_key):
    """It was in the middle, with as much held as may be."""
    closed = threading.Event()

    def chunks():
        try:
            while True:
                yield bytes(2**20)
        finally:
            closed.set()

    transfer = chunks()
    with pytest.raises(ZeroDivisionError), beside(make_key, transfer) as (_, body):
        _fail_at(next(iter(body)))
    assert closed.wait(3)
    assert gone()


def test_a_reader_that_is_told_to_stop_stops_and_its_threads_with_it(gate):
    closed = threading.Event()

    def chunks():
        try:
            while True:
                yield bytes(2**20)
        finally:
            closed.set()

    def read():
        with beside(gate, chunks()):
            pass

    crew = threads.Crew(1, "test-reader")
    reading = crew.submit(read)
    assert gate.reached.wait(WAIT_SECONDS)
    crew.leave()
    assert isinstance(reading.exception(3), threads.CalledOff)
    assert closed.wait(3)
    gate.may_pass.set()
    assert gone()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_an_exception_out_of_a_signal_s_handler_comes_through_at_once(gate, kind):
    let_go = threading.Event()

    def chunks():
        assert let_go.wait(WAIT_SECONDS)
        yield b""

    def handler(*_):
        raise kind("the caller's")

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    started = time.monotonic()
    try:
        with pytest.raises(kind, match="the caller's"), beside(gate, chunks()):
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        let_go.set()
    assert time.monotonic() - started < 2
    gate.may_pass.set()
    assert gone()


def test_where_no_thread_can_be_had_one_thing_comes_after_the_other(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with beside(lambda: KEY, iter([bytes(2**20)] * 20)) as (key, body):
        assert key == KEY
        assert sum(map(len, body)) == 20 * 2**20


def test_a_forked_child_reads_though_its_parent_is_in_the_middle(gate):
    def read():
        crew = threads.Crew(1, "test-reader")
        with beside(gate, iter([b"x"])):
            pass
        crew.leave()

    reader = threads.start(read, "test-reader")
    assert gate.reached.wait(WAIT_SECONDS)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            with beside(lambda: time.sleep(0.05) or KEY, iter([b"a", b"b"])) as (key, body):
                os.write(writing, key + b"".join(body))
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 100)
    os.close(reading)
    os.waitpid(child, 0)
    assert said == KEY + b"ab"
    gate.may_pass.set()
    assert reader.exception(WAIT_SECONDS) is None


READS_AT_EXIT = """
import time
from secure_xcom import threads
from secure_xcom.layers.download import beside

def chunks():
    while True:
        yield bytes(2**20)

def read():
    with beside(lambda: time.sleep(60), chunks()):
        pass

threads.start(read, "reader")
time.sleep(0.3)
"""


def test_a_read_does_not_hold_the_process_at_its_end():
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", READS_AT_EXIT],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    assert time.monotonic() - started < 30
    assert done.stderr == ""
