"""Data keys: how long they seal, who may use them, and how often a KEK is asked."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from secure_xcom import threads
from secure_xcom.errors import AuthenticationError, ConfigError, KeyUnavailable
from secure_xcom.format.envelope import key_aad
from secure_xcom.keys import data_keys
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.keys.local import LocalKek, create_key_file
from secure_xcom.model import WrappedKey

TTL_SECONDS = 300
SCOPE = b"\x01scope"


class Clock:
    """Seconds, as a test wants them."""

    now = 1_000.0

    def __call__(self):
        return self.now


class WatchedKek:
    """A real KEK, with a hook before each call and a count of them."""

    def __init__(self, kek):
        self.kek = kek
        self.uri = kek.uri
        self.calls = Counter()
        self.before = lambda: None

    def wrap(self, data_key, aad):
        self.calls["wrap"] += 1
        self.before()
        return self.kek.wrap(data_key, aad)

    def unwrap(self, wrapped, aad):
        self.calls["unwrap"] += 1
        self.before()
        return self.kek.unwrap(wrapped, aad)


@pytest.fixture
def kek(tmp_path):
    create_key_file(tmp_path / "kek")
    return WatchedKek(LocalKek(f"local-kek://{tmp_path}/kek"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(kek, clock):
    return DataKeys({kek.uri: kek}, kek.uri, TTL_SECONDS, clock=clock)


def wrapped_elsewhere(kek, aad=b"aad"):
    """A data key that another process made."""
    data_key = os.urandom(32)
    return data_key, kek.kek.wrap(data_key, aad)


def at_once(count, act):
    """What `act` gave, or raised, in each of several threads that start together."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait(10)
        try:
            return act(number)
        except Exception as error:  # noqa: BLE001 - handed to the test
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_sealing_key_is_wrapped_for_its_scope_and_id(keys, kek):
    key = keys.for_sealing(SCOPE)
    assert (len(key.key_id), len(key.data_key)) == (16, 32)
    assert kek.kek.unwrap(key.wrapped(), key_aad(SCOPE, key.key_id)) == key.data_key
    with pytest.raises(AuthenticationError):
        kek.kek.unwrap(key.wrapped(), key_aad(SCOPE + b"x", key.key_id))


def test_a_scope_keeps_its_key_until_its_time_is_up(keys, clock):
    key = keys.for_sealing(SCOPE)
    clock.now += TTL_SECONDS - 0.001
    assert keys.for_sealing(SCOPE) is key
    clock.now += 0.001
    later = keys.for_sealing(SCOPE)
    assert later.data_key != key.data_key
    assert later.key_id != key.key_id


def test_use_does_not_prolong_a_key(keys, clock):
    key = keys.for_sealing(SCOPE)
    for _ in range(3):
        clock.now += TTL_SECONDS / 3
        last = keys.for_sealing(SCOPE)
    assert last.data_key != key.data_key


def test_each_scope_has_a_key_of_its_own(keys):
    one, other = keys.for_sealing(b"one"), keys.for_sealing(b"other")
    assert one.data_key != other.data_key
    assert one.key_id != other.key_id


def test_without_time_each_message_has_a_key_of_its_own(kek):
    keys = DataKeys({kek.uri: kek}, kek.uri, 0)
    assert keys.for_sealing(SCOPE).data_key != keys.for_sealing(SCOPE).data_key


def test_a_key_seals_a_bounded_number_of_messages(keys, monkeypatch):
    assert data_keys.MESSAGES_MAX == 2**20
    monkeypatch.setattr(data_keys, "MESSAGES_MAX", 3)
    used = Counter(keys.for_sealing(SCOPE).data_key for _ in range(8))
    assert list(used.values()) == [3, 3, 2]


def test_threads_together_keep_to_the_bound(keys, kek, monkeypatch):
    monkeypatch.setattr(data_keys, "MESSAGES_MAX", 10)
    taken = [*itertools.chain(*at_once(8, lambda _: [keys.for_sealing(SCOPE) for _ in range(50)]))]
    assert all(key.wrapped() for key in taken)
    counts = Counter(key.data_key for key in taken)
    assert sum(counts.values()) == 400
    assert max(counts.values()) == 10
    assert kek.calls["wrap"] == len(counts) == 40


def test_an_unwrapped_key_is_kept_for_a_while(keys, kek, clock):
    data_key, wrapped = wrapped_elsewhere(kek)
    assert keys.for_opening(wrapped, b"aad") == data_key
    clock.now += TTL_SECONDS - 0.001
    assert keys.for_opening(wrapped, b"aad") == data_key
    assert kek.calls["unwrap"] == 1
    clock.now += 0.001
    assert keys.for_opening(wrapped, b"aad") == data_key
    assert kek.calls["unwrap"] == 2


def test_what_is_kept_answers_only_what_the_kek_would(keys, kek):
    _, wrapped = wrapped_elsewhere(kek, b"aad")
    keys.for_opening(wrapped, b"aad")
    for ciphertext, aad in (
        (wrapped.ciphertext, b"aae"),
        (wrapped.ciphertext, b""),
        # The same bytes in all, divided at another place.
        (wrapped.ciphertext + b"a", b"ad"),
        (wrapped.ciphertext[:-1], wrapped.ciphertext[-1:] + b"aad"),
    ):
        with pytest.raises(AuthenticationError):
            keys.for_opening(WrappedKey(kek.uri, ciphertext), aad)


def test_two_keks_are_two_answers(tmp_path, kek, clock):
    create_key_file(tmp_path / "other")
    other = WatchedKek(LocalKek(f"local-kek://{tmp_path}/other"))
    keys = DataKeys({kek.uri: kek, other.uri: other}, kek.uri, TTL_SECONDS, clock=clock)
    data_key, wrapped = wrapped_elsewhere(other)
    assert keys.for_opening(wrapped, b"aad") == data_key
    with pytest.raises(AuthenticationError):
        keys.for_opening(WrappedKey(kek.uri, wrapped.ciphertext), b"aad")


def test_new_keys_are_wrapped_by_the_kek_that_is_set(tmp_path, kek):
    create_key_file(tmp_path / "other")
    other = LocalKek(f"local-kek://{tmp_path}/other")
    key = DataKeys({kek.uri: kek, other.uri: other}, other.uri, 60).for_sealing(SCOPE)
    assert key.wrapped().kek_uri == other.uri
    assert other.unwrap(key.wrapped(), key_aad(SCOPE, key.key_id)) == key.data_key


def test_opened_keys_never_seal_and_sealing_keys_are_not_taken_for_opened_ones(keys, kek):
    key_id = bytes(16)
    data_key, wrapped = wrapped_elsewhere(kek, key_aad(SCOPE, key_id))
    keys.for_opening(wrapped, key_aad(SCOPE, key_id))
    sealing = keys.for_sealing(SCOPE)
    assert sealing.data_key != data_key
    assert keys.for_opening(sealing.wrapped(), key_aad(SCOPE, sealing.key_id)) == sealing.data_key
    assert kek.calls["unwrap"] == 2


@pytest.mark.parametrize("uri", ["", "local-kek:///etc/kek", "x{}", "{}/", "{}x", " {}"])
def test_a_kek_that_is_not_trusted_is_never_used(keys, kek, uri):
    _, wrapped = wrapped_elsewhere(kek)
    stranger = WrappedKey(uri.format(kek.uri), wrapped.ciphertext)
    with pytest.raises(ConfigError, match="trusted_keks"):
        keys.for_opening(stranger, b"aad")
    with pytest.raises(ConfigError, match="trusted_keks"):
        keys.check_trusted(stranger)
    assert not kek.calls


def test_one_call_makes_the_key_for_all_who_ask_at_once(keys, kek):
    kek.before = lambda: threading.Event().wait(0.1)
    sealing = at_once(16, lambda _: keys.for_sealing(SCOPE))
    assert len({key.data_key for key in sealing if key.wrapped()}) == 1
    assert kek.calls == {"wrap": 1}
    data_key, wrapped = wrapped_elsewhere(kek)
    assert at_once(16, lambda _: keys.for_opening(wrapped, b"aad")) == [data_key] * 16
    assert kek.calls == {"wrap": 1, "unwrap": 1}


def test_different_keys_are_unwrapped_side_by_side(keys, kek):
    made = [wrapped_elsewhere(kek) for _ in range(6)]
    # Each call waits for all the others to be under way.
    kek.before = threading.Barrier(6, timeout=10).wait
    opened = at_once(6, lambda number: keys.for_opening(made[number][1], b"aad"))
    assert opened == [data_key for data_key, _ in made]


def test_a_failure_reaches_all_who_wait_and_is_not_kept(keys, kek):
    data_key, wrapped = wrapped_elsewhere(kek)

    def fail():
        threading.Event().wait(0.1)
        raise KeyUnavailable("away")

    kek.before = fail
    errors = at_once(8, lambda _: keys.for_opening(wrapped, b"aad"))
    assert {(type(error), str(error)) for error in errors} == {(KeyUnavailable, "away")}
    assert kek.calls["unwrap"] == 1
    kek.before = lambda: None
    assert keys.for_opening(wrapped, b"aad") == data_key
    assert keys.for_sealing(SCOPE)


def test_who_waits_for_an_interrupted_thread_asks_again(keys, kek):
    data_key, wrapped = wrapped_elsewhere(kek)
    asked, wait_over = threading.Event(), threading.Event()

    def interrupt_the_first():
        if not asked.is_set():
            asked.set()
            wait_over.wait(10)
            raise KeyboardInterrupt

    kek.before = interrupt_the_first
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(keys.for_opening, wrapped, b"aad")
        assert asked.wait(10)
        second = pool.submit(keys.for_opening, wrapped, b"aad")
        threading.Event().wait(0.05)
        wait_over.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(10)
        assert second.result(10) == data_key
    assert keys.for_opening(wrapped, b"aad") == data_key
    assert kek.calls["unwrap"] == 2


@pytest.mark.parametrize("bound", ["SEALING_KEYS_MAX", "OPENING_KEYS_MAX"])
def test_the_number_of_kept_keys_is_bounded(kek, clock, monkeypatch, bound):
    monkeypatch.setattr(data_keys, bound, 2)
    keys = DataKeys({kek.uri: kek}, kek.uri, TTL_SECONDS, clock=clock)
    made = [wrapped_elsewhere(kek)[1] for _ in range(3)]

    def use(number):
        if bound == "SEALING_KEYS_MAX":
            keys.for_sealing(bytes((number,))).wrapped()
        else:
            keys.for_opening(made[number], b"aad")
        return kek.calls.total()

    # The third pushes out the second, which was used least recently.
    assert [use(number) for number in (0, 1, 0, 2, 0, 1)] == [1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize("seconds", [-1, 3_600.5, 86_400, float("nan"), float("inf")])
def test_a_time_out_of_bounds_is_refused(kek, seconds):
    with pytest.raises(ConfigError, match="data_key_ttl_seconds"):
        DataKeys({kek.uri: kek}, kek.uri, seconds)


def test_a_kek_that_was_not_opened_is_refused(kek):
    with pytest.raises(ConfigError, match="among the KEKs"):
        DataKeys({kek.uri: kek}, kek.uri + "x", 60)


# Wrapping goes on in the background.


def test_a_key_is_given_out_before_it_is_wrapped(keys, kek):
    may_end = threading.Event()
    kek.before = lambda: may_end.wait(10)
    key = keys.for_sealing(SCOPE)
    assert keys.for_sealing(SCOPE) is key
    assert not key.has_failed()
    may_end.set()
    assert kek.kek.unwrap(key.wrapped(), key_aad(SCOPE, key.key_id)) == key.data_key
    assert kek.calls == {"wrap": 1}


def test_a_key_that_was_not_wrapped_seals_no_more(keys, kek):
    def fail():
        raise KeyUnavailable("away")

    kek.before = fail
    key = keys.for_sealing(SCOPE)
    for _ in range(2):
        with pytest.raises(KeyUnavailable, match="away"):
            key.wrapped()
    assert key.has_failed()
    kek.before = lambda: None
    later = keys.for_sealing(SCOPE)
    assert later.data_key != key.data_key
    assert later.wrapped().kek_uri == kek.uri


def test_a_wrap_sees_the_context_of_who_asked_for_it(keys, kek):
    variable, seen = ContextVar("variable"), []
    kek.before = lambda: seen.append(variable.get(None))
    variable.set("the caller's")
    keys.for_sealing(SCOPE).wrapped()
    assert seen == ["the caller's"]


def test_a_wrap_goes_on_when_who_asked_for_it_first_is_told_to_stop(keys, kek):
    """Another thread may wait for the same key."""
    begun, let_go, gone_on = threading.Event(), threading.Event(), threading.Event()

    def before():
        begun.set()
        assert let_go.wait(10)
        threads.check()
        gone_on.set()

    kek.before = before
    crew = threads.Crew(1, "test")
    crew.submit(lambda: keys.for_sealing(SCOPE).wrapped())
    assert begun.wait(10)
    crew.leave()
    let_go.set()
    assert keys.for_sealing(SCOPE).wrapped()
    assert gone_on.is_set()
    assert kek.calls == {"wrap": 1}


def test_who_is_told_to_stop_does_not_wait_for_a_wrap(keys, kek):
    let_go = threading.Event()
    kek.before = lambda: let_go.wait(10)
    crew = threads.Crew(1, "test")
    waiting = crew.submit(lambda: keys.for_sealing(SCOPE).wrapped())
    crew.leave()
    assert isinstance(waiting.exception(3), threads.CalledOff)
    let_go.set()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_an_exception_out_of_a_signal_s_handler_ends_the_wait_at_once(keys, kek, kind):
    let_go = threading.Event()
    kek.before = lambda: let_go.wait(10)

    def handler(*_):
        raise kind("the caller's")

    key = keys.for_sealing(SCOPE)
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    started = time.monotonic()
    try:
        with pytest.raises(kind, match="the caller's"):
            key.wrapped()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        let_go.set()
    assert time.monotonic() - started < 2


def in_a_fork(act):
    """What `act` gives in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, act())
        finally:
            os._exit(0)
    os.close(writing)
    said = os.read(reading, 1_000)
    os.close(reading)
    os.waitpid(child, 0)
    return said


def test_a_forked_child_has_keys_of_its_own_though_its_parent_still_wraps(keys, kek):
    let_go = threading.Event()
    kek.before = lambda: let_go.wait(10)
    key = keys.for_sealing(SCOPE)

    def seal():
        kek.before = lambda: None
        own = keys.for_sealing(SCOPE)
        assert own.wrapped()
        return own.data_key

    theirs = in_a_fork(seal)
    let_go.set()
    assert key.wrapped()
    assert len(theirs) == 32
    assert theirs != key.data_key


WRAPS_AT_EXIT = """
import sys, threading, time
from secure_xcom import threads
from secure_xcom.keys.data_keys import DataKeys

class Stalled:
    uri = "kek"
    def wrap(self, data_key, aad):
        wait()

def wait():
    try:
        threads.pause(60) if sys.argv[1] == "hears" else time.sleep(60)
    except threads.CalledOff:
        print("called off", flush=True)
        raise

DataKeys({"kek": Stalled()}, "kek", 60).for_sealing(b"scope")
time.sleep(0.2)
"""


@pytest.mark.parametrize("how", ["hears", "sleeps"])
def test_a_wrap_does_not_hold_the_process_at_its_end(how):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", WRAPS_AT_EXIT, how],
        capture_output=True,
        text=True,
        timeout=40,
        check=True,
    )
    assert time.monotonic() - started < 30
    assert done.stdout == ("called off\n" if how == "hears" else "")
    assert done.stderr == ""


def test_nothing_that_prints_shows_a_key(keys):
    key = keys.for_sealing(SCOPE)
    for secret in (key.data_key, key.wrapped().ciphertext):
        assert repr(secret)[2:-1] not in repr(key)
        assert secret.hex() not in repr(key)
