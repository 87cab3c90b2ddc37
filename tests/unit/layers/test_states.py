"""States: one name for each key, replaced in place, and opened only as what was asked for."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time

import pytest
from support.memory import FixedKek, MemoryStore
from vectors import construct

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    KeyUnavailable,
    ObjectNotFound,
    StoreUnavailable,
)
from secure_xcom.format import envelope, names
from secure_xcom.format.reference import STATE_MARKS, STATE_STORES
from secure_xcom.keys.data_keys import DataKeys
from secure_xcom.layers.sealed import Sealed
from secure_xcom.layers.states import States, text_of
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import Compression, Coordinate, Expected
from secure_xcom.stores.protocol import Damaged

KEK_URI = construct.KEK_URI
WHERE = Coordinate("payments", "manual__1", "load", 2, "cursor")
ASKED = Expected.exactly(WHERE)
SHORT = json.dumps("4111 1111 1111 1111")
LONG = json.dumps(os.urandom(20_000).hex())


class Deployment:
    """The states of one kind over a store and a KEK in memory."""

    def __init__(self, kind="task", threshold_bytes=4096, instance="prod", **settings):
        self.kek = FixedKek(KEK_URI, construct.kek(KEK_URI))
        self.store = MemoryStore(construct.STORE_URI + STATE_STORES[kind], chunk_bytes=7_000)
        self.place(self.store)
        self.threshold_bytes = threshold_bytes
        self.settings = {
            "instance": instance,
            "trusted_instances": (),
            "mark": STATE_MARKS[kind],
            "compression": Compression.ZSTD,
            "max_value_bytes": 2**30,
        } | settings

    def place(self, store, *others):
        self.below = Threshold({one.uri: one for one in (store, *others)}, store.uri, 0)

    @property
    def states(self):
        """As a new process has them."""
        keys = DataKeys({KEK_URI: self.kek}, KEK_URI, 300)
        return States(Sealed(self.below, keys, **self.settings), self.below, self.threshold_bytes)

    def read(self, row, asked=ASKED):
        opened = self.states.from_row(row, asked)
        return text_of(opened.payload)


@pytest.fixture
def deployment():
    return Deployment()


def test_a_short_state_is_its_row(deployment):
    row = deployment.states.to_row(SHORT, WHERE)
    assert deployment.store.held == {}
    assert deployment.read(row) == SHORT
    assert "4111" not in row


def test_a_long_state_is_an_envelope_under_the_name_of_its_key(deployment):
    row = deployment.states.to_row(LONG, WHERE)
    [(name, (_, data))] = deployment.store.held.items()
    assert name == names.state_name("prod#task-state", WHERE) == json.loads(row)["object"]
    preamble, _ = envelope.split_envelope(data)
    assert preamble.unverified_header.coordinate == WHERE
    assert preamble.unverified_header.instance == "prod#task-state"
    assert deployment.read(row) == LONG
    for told in ("payments", "manual__1", "load", "cursor", "prod"):
        assert told not in name
        assert told not in json.loads(row)["object"]


def test_the_row_is_the_same_for_every_write_and_the_object_is_the_newest(deployment):
    row = deployment.states.to_row(LONG, WHERE)
    newer = json.dumps(os.urandom(9_000).hex())
    assert deployment.states.to_row(newer, WHERE) == row
    assert deployment.read(row) == newer
    assert len(deployment.store.held) == 1


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_without_rows_the_name_is_enough(deployment, text):
    assert deployment.states.get(WHERE) is None
    deployment.states.set(text, WHERE)
    assert deployment.states.get(WHERE) == text
    deployment.states.delete(WHERE)
    assert deployment.states.get(WHERE) is None
    deployment.states.delete(WHERE)
    assert deployment.store.held == {}


@pytest.mark.parametrize("every_index", [False, True])
def test_clearing_takes_what_is_below_and_nothing_beside(deployment, every_index):
    beside = [dataclasses.replace(WHERE, task_id="other"), dataclasses.replace(WHERE, run_id="r")]
    others = [dataclasses.replace(WHERE, map_index=3), dataclasses.replace(WHERE, map_index=-1)]
    for where in (WHERE, dataclasses.replace(WHERE, key="k"), *others, *beside):
        deployment.states.set(SHORT, where)
    deployment.states.clear(WHERE, every_index=every_index)
    left = beside if every_index else beside + others
    assert set(deployment.store.held) == {names.state_name("prod#task-state", one) for one in left}


def test_the_wrap_is_done_before_the_upload_begins(deployment):
    """Its object holds the wrapped key, and replaces the former state."""
    deployment.states.set(LONG, WHERE)
    before = dict(deployment.store.held)

    def fail(*_):
        time.sleep(0.2)
        raise KeyUnavailable("away")

    deployment.kek.wrap = fail
    for write in (deployment.states.set, deployment.states.to_row):
        with pytest.raises(KeyUnavailable):
            write(SHORT if write == deployment.states.set else LONG, WHERE)
    assert deployment.store.held == before
    assert deployment.states.get(WHERE) == LONG


def test_a_write_that_fails_deletes_nothing(deployment):
    deployment.states.set(LONG, WHERE)

    def refuse(*_):
        raise StoreUnavailable("away")

    deployment.store.replace = refuse
    with pytest.raises(StoreUnavailable):
        deployment.states.set(SHORT, WHERE)
    assert deployment.states.get(WHERE) == LONG


# Reading: the order of section 8.2, where the preamble comes from the store.


def test_a_state_that_is_gone_is_an_error_for_a_row(deployment):
    row = deployment.states.to_row(LONG, WHERE)
    deployment.store.held.clear()
    with pytest.raises(ObjectNotFound):
        deployment.read(row)
    assert deployment.kek.calls == ["wrap"]


@pytest.mark.parametrize(
    "change",
    [{"dag_id": "x"}, {"run_id": "x"}, {"task_id": "x"}, {"map_index": 3}, {"key": "x"}],
)
def test_a_state_of_another_key_is_refused_under_this_one(deployment, change):
    other = dataclasses.replace(WHERE, **change)
    deployment.states.set(LONG, other)
    [theirs] = deployment.store.held.values()
    row = deployment.states.to_row(LONG, WHERE)
    deployment.store.held[names.state_name("prod#task-state", WHERE)] = theirs
    calls = list(deployment.kek.calls)
    with pytest.raises(AuthenticationError):
        deployment.read(row)
    with pytest.raises(AuthenticationError):
        deployment.states.get(WHERE)
    # Nor where nobody says what is asked for: the name is that of another key.
    with pytest.raises(AuthenticationError):
        deployment.read(row, Expected())
    with pytest.raises(AuthenticationError):
        deployment.read(deployment.states.to_row(LONG, other))
    assert deployment.kek.calls[: len(calls)] == calls
    assert "unwrap" not in deployment.kek.calls


def test_kinds_are_never_read_as_one_another():
    task, asset = Deployment("task"), Deployment("asset")
    row = task.states.to_row(LONG, WHERE)
    with pytest.raises(ConfigError):
        asset.read(row)
    task_name = next(iter(task.store.held))
    asset.store.held[task_name] = task.store.held[task_name]
    moved = json.dumps(json.loads(row) | {"store": asset.store.uri})
    with pytest.raises(AuthenticationError):
        asset.read(moved)
    with pytest.raises(AuthenticationError):
        asset.read(task.states.to_row(SHORT, WHERE))


def test_the_limit_is_held_against_the_envelope_before_it_is_fetched(deployment):
    row = deployment.states.to_row(LONG, WHERE)
    reader = Deployment(max_value_bytes=1_000)
    reader.place(deployment.store)
    fetched = []
    fetch = deployment.store.fetch

    def fetch_and_tell(name):
        stored, chunks = fetch(name)
        return stored, (fetched.append(chunk) or chunk for chunk in chunks)

    deployment.store.fetch = fetch_and_tell
    with pytest.raises(FormatError, match="max_value_bytes"):
        reader.read(row)
    assert fetched == []


def test_the_length_of_the_body_comes_before_the_name(deployment):
    """Both are of step 2, in this order."""
    row = deployment.states.to_row(LONG, WHERE)
    made = construct.envelope("state", b"raw", instance="prod#task-state", key="other")
    name = names.state_name("prod#task-state", WHERE)
    deployment.store.held[name] = ("1", made.data[: made.at["body"] + 311])
    with pytest.raises(FormatError):
        deployment.read(row)
    deployment.store.held[name] = ("1", made.data)
    with pytest.raises(AuthenticationError):
        deployment.read(row)


@pytest.mark.parametrize("position", [2, 400, -1])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_state_that_came_damaged_is_fetched_again_twice(deployment, times, position):
    """Wherever the damage is: what came damaged is not even parsed."""
    row = deployment.states.to_row(LONG, WHERE)
    fetch, fetches = deployment.store.fetch, []

    def fetch_damaged(name):
        stored, chunks = fetch(name)
        data = bytearray(b"".join(chunks))
        fetches.append(name)

        def damaged():
            if len(fetches) > times:
                yield bytes(data)
                return
            data[position] ^= 1
            yield bytes(data)
            raise Damaged

        return stored, damaged()

    deployment.store.fetch = fetch_damaged
    if times < 3:
        assert deployment.read(row) == LONG
    else:
        with pytest.raises(AuthenticationError) as caught:
            deployment.read(row)
        assert type(caught.value) is AuthenticationError
    assert len(fetches) == min(times + 1, 3)


def test_what_is_no_text_is_no_state(deployment):
    sealed = deployment.states._sealed
    made = construct.envelope(
        "state",
        b"raw",
        instance="prod#task-state",
        dag="payments",
        run="manual__1",
        task="load",
        map_index=2,
        key="cursor",
    )
    deployment.store.held[made.state_name] = ("1", made.data)
    assert sealed.instance == "prod#task-state"
    with pytest.raises(FormatError, match="not a state"):
        deployment.states.get(WHERE)


def test_a_reader_beside_a_writer_sees_the_former_or_the_new_state(deployment):
    texts = [json.dumps(str(number) * 9_000) for number in range(10)]
    deployment.states.set(texts[0], WHERE)
    ended = threading.Event()

    def write():
        for text in texts * 5:
            deployment.states.set(text, WHERE)
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        assert deployment.states.get(WHERE) in texts
    writer.join()
