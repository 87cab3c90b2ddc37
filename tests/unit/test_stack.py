"""Reading many values: side by side, in order, each key once, and no further than the first fault.

Whoever gets past a `Meeting` was there together with others; if reads came one after another, the
first would wait in vain.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter, OrderedDict
from decimal import Decimal

import pytest
from support.memory import FixedKek, MemoryStore

from secure_xcom import codecs, stack, threads
from secure_xcom.errors import (
    CodecError,
    ConfigError,
    FormatError,
    KeyUnavailable,
    ObjectNotFound,
    SecureXComError,
)
from secure_xcom.format.envelope import parse_whole_preamble
from secure_xcom.format.reference import from_row
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.keys.local import create_key_file
from secure_xcom.layers.cached import Cached
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import Stack, Value

KEK_URI, STORE_URI = "local-kek:///kek", "file:///store"
COUNT = 100
WAIT_SECONDS = 20


class Meeting:
    """Holds threads until `size` of them are there; others then pass freely."""

    def __init__(self, size):
        self._missing = size
        self._changed = threading.Condition()

    def join(self):
        with self._changed:
            self._missing -= 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._missing <= 0, WAIT_SECONDS), "alone"


class Store(MemoryStore):
    """Calls `before` with an object's name before it gives the object out; knows what was asked."""

    def __init__(self):
        super().__init__(STORE_URI)
        self.before = lambda _: None
        self.asked = []

    def get(self, name, **pinned):
        self.asked.append(name)
        self.before(name)
        return super().get(name, **pinned)


class Kek(FixedKek):
    """Calls `before` before it unwraps; knows which keys it unwrapped."""

    def __init__(self, uri, key):
        super().__init__(uri, key)
        self.before = lambda: None
        self.unwrapped = Counter()

    def unwrap(self, wrapped, aad):
        self.unwrapped[wrapped.ciphertext] += 1
        self.before()
        return super().unwrap(wrapped, aad)


class Deployment:
    """`COUNT` offloaded values of a mapped task, whose instances have a key each."""

    def __init__(self):
        self.key = os.urandom(32)
        self.store = Store()
        self.kek, self.stack = self.process()

    def process(self):
        kek = Kek(KEK_URI, self.key)
        sealed = Sealed(
            Threshold({STORE_URI: self.store}, STORE_URI, 0),
            DataKeys({KEK_URI: kek}, KEK_URI, 300),
            instance="",
            trusted_instances=(),
            compression=Compression.NONE,
            max_value_bytes=1 << 20,
        )
        return kek, Stack(sealed, tells_type=False, is_exact=False)

    def put(self, number, instances=COUNT):
        where = Coordinate("d", "r", "t", number % instances, f"k{number}")
        return self.stack.put({"n": number}, where), Expected.exactly(where)

    def put_all(self, instances=COUNT):
        reads = {number: self.put(number, instances) for number in range(COUNT)}
        self.kek, self.stack = self.process()
        return reads


def expected(reads):
    """Each value, and whose it is."""
    return {
        number: Value({"n": number}, Coordinate("d", "r", "t", asked.map_index, asked.key))
        for number, (_, asked) in reads.items()
    }


@pytest.fixture
def deployed():
    return Deployment()


def number_of(reads, name):
    return next(number for number, (row, _) in reads.items() if row["object"] == name)


def test_values_come_in_order_whichever_comes_first(deployed):
    reads = deployed.put_all()
    late = Counter()

    def before(name):
        # The later in the batch of those that wait together, the sooner it comes.
        number = number_of(reads, name)
        late[number] += 1
        time.sleep(0.002 * (10 - number % 10))

    deployed.store.before = before
    values = deployed.stack.get_many(reads)
    assert list(values) == list(range(COUNT))
    assert values == expected(reads)
    assert late == dict.fromkeys(range(COUNT), 1)


def test_objects_are_fetched_and_keys_unwrapped_side_by_side(deployed):
    reads = deployed.put_all()
    fetches, unwraps = Meeting(16), Meeting(16)
    deployed.store.before = lambda _: fetches.join()
    deployed.kek.before = unwraps.join
    assert deployed.stack.get_many(reads) == expected(reads)


def test_threads_are_bounded(deployed):
    reads = deployed.put_all()
    inside, most, lock = 0, 0, threading.Lock()

    def before(_):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.01)
        with lock:
            inside -= 1

    deployed.store.before = before
    deployed.stack.get_many(reads)
    assert most <= 32


class AheadKek(Kek):
    """Unwraps ahead as well, in threads; knows of which keys, and calls `fails` for each."""

    def __init__(self, uri, key):
        super().__init__(uri, key)
        self.ahead = []
        self.fails = lambda _wrapped: False

    def unwrap_ahead(self, wrapped, aad, data_key):
        self.ahead.append(wrapped.ciphertext)

        def arrive():
            if self.fails(wrapped.ciphertext):
                data_key.cancel()
            else:
                data_key.set_result(FixedKek.unwrap(self, wrapped, aad))

        threading.Timer(0.01, arrive).start()
        return True


@pytest.fixture
def ahead(monkeypatch):
    monkeypatch.setitem(globals(), "Kek", AheadKek)
    return Deployment()


def test_keys_are_unwrapped_ahead_each_once(ahead):
    reads = ahead.put_all()
    assert ahead.stack.get_many(reads) == expected(reads)
    asked = ahead.kek.ahead + list(ahead.kek.unwrapped.elements())
    assert len(asked) == len(set(asked)) == COUNT
    # An element whose turn comes when as many as may be are asked for asks for its own.
    assert len(ahead.kek.ahead) > COUNT // 2
    assert ahead.stack.get_many(reads) == expected(reads)
    assert ahead.kek.ahead + list(ahead.kek.unwrapped.elements()) == asked


def test_how_far_ahead_is_bounded(ahead, monkeypatch):
    monkeypatch.setattr(stack, "_UNWRAPS", 40)
    reads = ahead.put_all()
    all_ask = Meeting(32)

    def before(_name):
        all_ask.join()
        time.sleep(0.1)
        asked.append(len(ahead.kek.ahead))

    asked = []
    ahead.store.before = before
    assert ahead.stack.get_many(reads) == expected(reads)
    # The last of the first 32 readers stands at the element with the number 31.
    assert 32 <= asked[0] <= 31 + 40


def test_what_fails_ahead_is_asked_again_by_its_reader(ahead):
    reads = ahead.put_all()
    ahead.kek.fails = lambda ciphertext: ciphertext[0] % 2
    assert ahead.stack.get_many(reads) == expected(reads)
    failed = {ciphertext for ciphertext in ahead.kek.ahead if ciphertext[0] % 2}
    assert failed
    assert set(ahead.kek.unwrapped.values()) == {1}
    # After one has failed, none are asked for ahead for a while.
    opened = set(ahead.kek.ahead) - failed
    assert failed <= set(ahead.kek.unwrapped)
    assert opened.isdisjoint(ahead.kek.unwrapped)
    assert len(opened) + len(ahead.kek.unwrapped) == COUNT


def test_an_error_of_a_key_that_was_asked_for_ahead_names_its_element(ahead):
    reads = {number: ahead.put(number) for number in range(3)}
    ahead.kek, ahead.stack = ahead.process()
    ahead.kek.fails = lambda _: True

    def unavailable():
        raise KeyUnavailable("down")

    ahead.kek.before = unavailable
    with pytest.raises(KeyUnavailable, match="down") as caught:
        ahead.stack.get_many({number + 40: read for number, read in reads.items()})
    assert caught.value.__notes__[0] in [f"This was element {number}." for number in (40, 41, 42)]


def test_for_what_is_refused_no_key_is_unwrapped_ahead(ahead, caplog):
    reads = ahead.put_all()
    reads[3] = ({"__secure_xcom__": 9}, reads[3][1])
    reads[5] = (reads[5][0], Expected(key="another"))
    with caplog.at_level("INFO", "secure_xcom.audit"):
        caplog.clear()
        with pytest.raises(SecureXComError) as caught:
            ahead.stack.get_many(reads)
    assert caught.value.__notes__[0] in ("This was element 3.", "This was element 5.")
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert "refuse" in [line["operation"] for line in lines]
    wrapped = parse_whole_preamble(from_row(reads[5][0]).preamble).unverified_wrapped
    assert wrapped.ciphertext not in ahead.kek.ahead


def test_without_a_time_for_keys_none_is_unwrapped_ahead():
    """It would be gone again before its reader comes."""
    kek = AheadKek(KEK_URI, os.urandom(32))
    keys = DataKeys({KEK_URI: kek}, KEK_URI, 0)
    wrapped = kek.wrap(bytes(32), b"aad")
    assert not keys.unwrap_ahead(wrapped, b"aad")
    assert kek.ahead == []


def test_each_key_is_unwrapped_once(deployed):
    reads = deployed.put_all(instances=5)
    together = Meeting(5)
    deployed.kek.before = together.join
    assert deployed.stack.get_many(reads) == expected(reads)
    assert sorted(deployed.kek.unwrapped.values()) == [1] * 5
    deployed.stack.get_many(reads)
    assert sum(deployed.kek.unwrapped.values()) == 5


def test_the_first_error_names_its_element_and_ends_the_rest(deployed):
    reads = deployed.put_all()
    del deployed.store.held[reads[7][0]["object"]]
    failing = threading.Event()

    def before(name):
        # All that begin wait until the seventh is about to fail.
        if number_of(reads, name) == 7:
            failing.set()
        else:
            assert failing.wait(WAIT_SECONDS)
            time.sleep(0.2)

    deployed.store.before = before
    with pytest.raises(ObjectNotFound) as caught:
        deployed.stack.get_many(reads)
    assert caught.value.__notes__ == ["This was element 7."]
    assert len(deployed.store.asked) <= 32, "what had not begun was begun"


def test_an_error_of_an_earlier_element_that_comes_later_does_not_hide_the_first(deployed):
    reads = deployed.put_all()
    for number in (0, 9):
        del deployed.store.held[reads[number][0]["object"]]
    deployed.store.before = lambda name: time.sleep(0.5 * (number_of(reads, name) == 0))
    with pytest.raises(ObjectNotFound) as caught:
        deployed.stack.get_many(reads)
    assert caught.value.__notes__ == ["This was element 9."]


def test_an_error_of_a_key_names_its_element(deployed):
    reads = {number: deployed.put(number) for number in range(3)}

    def unavailable():
        raise KeyUnavailable("down")

    deployed.kek, deployed.stack = deployed.process()
    deployed.kek.before = unavailable
    with pytest.raises(KeyUnavailable, match="down") as caught:
        deployed.stack.get_many({40: reads[0], 50: reads[1]})
    assert caught.value.__notes__[0] in ("This was element 40.", "This was element 50.")


def test_a_row_that_is_malformed_is_named(deployed):
    reads = deployed.put_all()
    reads[3] = ({"__secure_xcom__": 9}, reads[3][1])
    with pytest.raises(FormatError) as caught:
        deployed.stack.get_many(reads)
    assert caught.value.__notes__ == ["This was element 3."]


def test_a_value_that_cannot_be_decoded_is_named(deployed, monkeypatch):
    reads = deployed.put_all()
    decode = codecs.decode

    def refuse(payload):
        value = decode(payload)
        if value == {"n": 2}:
            raise CodecError("not this one")
        return value

    monkeypatch.setattr(codecs, "decode", refuse)
    with pytest.raises(CodecError, match="not this one") as caught:
        deployed.stack.get_many(reads)
    assert caught.value.__notes__ == ["This was element 2."]


def test_what_is_no_error_of_ours_ends_the_rest_too(deployed):
    reads = deployed.put_all()

    def before(name):
        if number_of(reads, name) == 4:
            raise RuntimeError("a defect")
        time.sleep(0.2)

    deployed.store.before = before
    with pytest.raises(RuntimeError, match="a defect") as caught:
        deployed.stack.get_many(reads)
    assert caught.value.__notes__ == ["This was element 4."]
    assert len(deployed.store.asked) <= 32


class _TimedOut(BaseException):
    """What Airflow's timeouts raise, from the handler of a signal."""


@pytest.mark.parametrize("kind", [_TimedOut, TimeoutError])
def test_a_timeout_waits_for_nothing_and_tells_what_has_begun_to_stop(deployed, kind):
    reads = deployed.put_all()
    told, all_told = [], threading.Event()

    def stalled(_):
        try:
            threads.pause(WAIT_SECONDS)
        except threads.CalledOff:
            told.append(1)
            if len(told) == len(deployed.store.asked):
                all_told.set()
            raise

    deployed.store.before = stalled

    def timed_out(*_):
        raise kind

    before = signal.signal(signal.SIGALRM, timed_out)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    started = time.monotonic()
    try:
        with pytest.raises(kind):
            deployed.stack.get_many(reads)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 3
    assert all_told.wait(3)
    assert 0 < len(deployed.store.asked) <= 32


def test_an_error_does_not_wait_for_a_read_that_stalls(deployed):
    reads = deployed.put_all()
    del deployed.store.held[reads[7][0]["object"]]
    deployed.store.before = lambda name: (
        threads.pause(WAIT_SECONDS) if number_of(reads, name) == 0 else None
    )
    started = time.monotonic()
    with pytest.raises(ObjectNotFound):
        deployed.stack.get_many(reads)
    assert time.monotonic() - started < 3


def test_a_read_that_is_called_off_reads_no_further():
    """A long download has no wait in which it could hear of it; it looks at each block."""
    read = []

    class Endless:
        uri = STORE_URI

        def get(self, *_args, **_kwargs):
            while True:
                read.append(1)
                time.sleep(0.005)
                yield b"block"

    cached = Cached(Endless(), 0)
    crew = threads.Crew(1, "test")
    future = crew.submit(lambda: [*cached.get("n", generation="1", length_bytes=9, crc32c=0)])
    time.sleep(0.1)
    crew.leave()
    assert isinstance(future.exception(3), threads.CalledOff)
    count = len(read)
    time.sleep(0.1)
    assert len(read) == count


def test_nothing_to_read(deployed):
    assert deployed.stack.get_many({}) == {}


def test_what_is_opened_is_kept_as_it_was_encoded_with_whose_it_is(deployed):
    row, asked = deployed.put(7)
    kept = []

    def keep(payload, where):
        kept.append((codecs.decode(payload), where, threading.current_thread()))

    unsure = Expected(key=asked.key)
    assert deployed.stack.get(row, unsure, keep).value == {"n": 7}
    assert deployed.stack.get_many({0: (row, unsure)}, keep)[0].value == {"n": 7}
    whose = Coordinate("d", "r", "t", 7, "k7")
    assert kept == [({"n": 7}, whose, threading.current_thread())] * 2


def test_what_may_not_be_kept_is_not_decoded(deployed, monkeypatch, caplog):
    def keep(*_):
        raise ConfigError("no more")

    monkeypatch.setattr(codecs, "decode", lambda _: pytest.fail("it was decoded"))
    row, asked = deployed.put(7)
    with caplog.at_level("INFO", "secure_xcom.audit"):
        caplog.clear()
        with pytest.raises(ConfigError, match="no more"):
            deployed.stack.get(row, asked, keep)
        with pytest.raises(ConfigError, match="no more"):
            deployed.stack.get_many({0: (row, asked)}, keep)
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    assert [(line["operation"], line["outcome"]) for line in lines] == [
        ("open", "ok"),
        ("refuse", "refused"),
    ] * 2


def test_what_is_to_be_exact_is_or_is_refused_before_anything_is_stored(tmp_path):
    create_key_file(tmp_path / "kek")
    (tmp_path / "store").mkdir(mode=0o700)
    section = {
        "store_uri": f"file://{tmp_path}/store",
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "threshold_bytes": "0",
    }
    stock, exact = (
        stack.build(load(section | {"fidelity": fidelity}, None, None))
        for fidelity in ("stock", "exact")
    )
    where = Coordinate("d", "r", "t", -1, "k")

    def stored():
        return [path for path in (tmp_path / "store").rglob("*") if path.is_file()]

    with pytest.raises(CodecError, match=r"\$\.rows\[1\]: .*Counter.*fidelity is exact"):
        exact.put({"rows": [1, Counter("a")]}, where)
    assert not stored()
    value = OrderedDict({1: (Decimal("1.10"),)})
    row = exact.put(value, where)
    # Whoever reads needs no setting.
    read = stock.get(row, Expected.exactly(where)).value
    assert repr(read) == repr(value)
    assert len(stored()) == 1
    changed = stock.get(stock.put(value, where), Expected.exactly(where)).value
    assert type(changed) is dict
    assert [*changed] == ["1"]
