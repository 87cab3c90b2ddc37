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
        single.drop("key")
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
