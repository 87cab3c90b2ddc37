"""The cache under data keys and the read cache, where neither of them reaches."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from secure_xcom.single_flight import SingleFlight


def test_what_was_dropped_while_it_was_made_is_not_kept():
    cache = {}
    single = SingleFlight(cache)
    under_way, let_go = threading.Event(), threading.Event()

    def make_old():
        under_way.set()
        assert let_go.wait(10)
        return "old"

    with ThreadPoolExecutor(1) as pool:
        old = pool.submit(single.get, "key", make_old)
        assert under_way.wait(10)
        single.drop("key".__eq__)
        assert single.get("key", lambda: "new") == "new"
        let_go.set()
        assert old.result(10) == "old"
    assert cache == {"key": "new"}


def test_a_value_is_discarded_only_while_it_is_the_one():
    cache = {"key": "new"}
    single = SingleFlight(cache)
    single.discard("key", "old")
    assert cache == {"key": "new"}
    single.discard("key", "new")
    assert cache == {}


def test_a_maker_that_is_cancelled_is_not_asked_again():
    asked = []

    def make():
        asked.append("once")
        raise CancelledError

    with pytest.raises(CancelledError):
        SingleFlight({}).get("key", make)
    assert asked == ["once"]


def test_what_landed_after_the_first_look_is_not_made_again():
    class LateCache(dict):
        """Its first look finds nothing, as if another thread put the value there just after."""

        looked = False

        def get(self, key):
            looked, self.looked = self.looked, True
            return super().get(key) if looked else None

    single = SingleFlight(LateCache(key="landed"))
    assert single.get("key", lambda: "made again") == "landed"


def test_what_comes_by_itself_is_waited_for_and_kept():
    cache = {}
    single = SingleFlight(cache)
    begun = []
    assert single.expect("key", lambda future: begun.append(future) or True)
    assert single.expect("key", lambda _: pytest.fail("it is on its way"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(single.get, "key", lambda: pytest.fail("it is on its way"))
        assert cache == {}
        begun[0].set_result("value")
        assert waiting.result(10) == "value"
    assert cache == {"key": "value"}
    assert single.expect("key", lambda _: pytest.fail("it is there"))


def test_what_does_not_come_is_made_by_those_who_wait():
    cache = {}
    single = SingleFlight(cache)
    begun = []
    assert single.expect("key", lambda future: begun.append(future) or True)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(single.get, "key", lambda: "made")
        assert not waiting.done()
        begun[0].cancel()
        assert waiting.result(10) == "made"
    assert cache == {"key": "made"}


def test_what_cannot_be_begun_leaves_nobody_waiting():
    def fail(_):
        raise OSError

    single = SingleFlight({})
    assert not single.expect("key", lambda _: False)
    with pytest.raises(OSError):  # noqa: PT011 - it is ours
        single.expect("key", fail)
    assert single.get("key", lambda: "made") == "made"


def test_what_was_dropped_before_it_came_is_not_kept():
    cache = {}
    single = SingleFlight(cache)
    begun = []
    single.expect("key", lambda future: begun.append(future) or True)
    single.drop("key".__eq__)
    begun[0].set_result("old")
    assert cache == {}
