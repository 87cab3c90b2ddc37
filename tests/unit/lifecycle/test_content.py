"""What a row's text is taken for, and what it names."""

from __future__ import annotations

import json

import pytest
from support.deployment import WHERE, Deployment, exactly

from secure_xcom.format.reference import from_row
from secure_xcom.lifecycle.content import STATE_REFERENCE, names, of_text
from secure_xcom.model import Inline, Offloaded, StateObject
from secure_xcom.settings import load
from secure_xcom.stack import build_states

NAME = "0123456789abcdef" * 4


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path / "d", {"threshold_bytes": "1000"})


@pytest.fixture
def inline(deployment):
    return deployment.stack().put("short", WHERE)


@pytest.fixture
def offloaded(deployment):
    return deployment.stack(compression="none").put("x" * 5000, WHERE)


def test_sealed_rows_are_told_with_their_key(inline, offloaded, deployment):
    for row, state, kind in ((inline, "inline", Inline), (offloaded, "offloaded", Offloaded)):
        content = of_text(json.dumps(row))
        assert content.state == state
        assert isinstance(content.reference, kind)
        assert content.preamble.unverified_wrapped.kek_uri == deployment.kek_uri
        assert content.preamble.unverified_header.coordinate == WHERE
        assert of_text(json.dumps(row).encode()).state == state


@pytest.mark.parametrize("value", [None, 1, "text", ["a"], {"a": "__secure_xcom__"}, "\\u0041"])
def test_what_does_not_claim_to_be_sealed_is_clear(value):
    text = json.dumps(value)
    assert of_text(text).state == "clear"
    assert of_text(text.encode()).state == "clear"


def test_nothing_a_pickle_and_no_json_are_clear():
    for text in (None, b"\x80\x04secure_xcom\xff", "{secure_xcom", "", b""):
        assert of_text(text).state == "clear"


@pytest.mark.parametrize("times", [1, 2])
def test_a_row_within_a_text_is_found_and_put_back_in_the_same_way(offloaded, times):
    text = json.dumps(offloaded)
    for _ in range(times):
        text = json.dumps(text)
    content = of_text(text)
    assert content.state == "offloaded"
    changed = content.rewritten({**offloaded, "about": "new"})
    for _ in range(times):
        changed = json.loads(changed)
    assert json.loads(changed) == {**offloaded, "about": "new"}


def test_the_row_of_a_state_is_found_in_what_airflow_puts_around_it(deployment):
    settings = {"kek_uri": deployment.kek_uri, "store_uri": deployment.store_uri}
    states = build_states(load(settings | {"threshold_bytes": "1000"}, None, None), "task")
    for value, state, kind in (("1", "inline", Inline), ("x" * 5000, "offloaded", StateObject)):
        reference = states.to_row(value if kind is Inline else _noise(value), WHERE)
        content = of_text(json.dumps({STATE_REFERENCE: reference}), state_of=True)
        assert content.state == state
        assert isinstance(content.reference, kind)
        again = content.rewritten(json.loads(reference))
        assert list(json.loads(again)) == [STATE_REFERENCE]
        assert json.loads(json.loads(again)[STATE_REFERENCE]) == json.loads(reference)


def _noise(text):
    return "".join(chr(0x4E00 + (index * 7919) % 20000) for index in range(len(text)))


@pytest.mark.parametrize(
    "change",
    [
        {"placement": "elsewhere"},
        {"envelope": "AAAA"},
        {"more": 1},
        {"about": 1},
        {"__secure_xcom__": 1.0},
    ],
)
def test_what_no_reader_takes_is_broken(inline, change):
    content = of_text(json.dumps({**inline, **change}))
    assert (content.state, content.other_version) == ("broken", False)


def test_a_member_twice_is_broken(inline):
    text = json.dumps(inline)
    assert of_text(text[:-1] + ', "about": "twice"}').state == "broken"
    assert of_text(text.replace("__secure", "\\u005f_secure")).state == "inline"


def test_a_later_version_is_broken_here_and_said(offloaded):
    content = of_text(json.dumps({**offloaded, "__secure_xcom__": 2}))
    assert (content.state, content.other_version) == ("broken", True)


def test_an_xcoms_row_is_none_of_a_state(offloaded):
    assert of_text(json.dumps(offloaded), state_of=True).state == "broken"


def test_paths_of_former_backends_are_legacy():
    prefixes = ("gcs://", "gs://bucket/xcom/")
    for path in ("gcs://run/task/x.json", "gs://bucket/xcom/d/r/t/x"):
        for text in (json.dumps(path), json.dumps(json.dumps(path)), json.dumps(path).encode()):
            assert of_text(text, legacy_prefixes=prefixes).state == "legacy"
    for text in ('"gs://other/x"', '["gcs://a"]', "gcs://a", '"x gcs://a"'):
        assert of_text(text, legacy_prefixes=prefixes).state == "clear"


def test_every_64_digits_in_succession_are_a_name(offloaded):
    assert list(names(json.dumps(offloaded))) == [bytes.fromhex(offloaded["object"][17:])]
    assert list(names(f'"{NAME}"')) == [bytes.fromhex(NAME)]
    assert list(names(f"/{NAME}/{NAME}x".encode())) == [bytes.fromhex(NAME)] * 2
    assert list(names("a" + NAME)) == [bytes.fromhex("a" + NAME[:-1]), bytes.fromhex(NAME)]
    assert list(names(NAME[:-1])) == []
    assert list(names(NAME.upper())) == []
    assert list(names(None)) == []


def test_rows_written_anew_open(deployment, offloaded):
    content = of_text(json.dumps(json.dumps(offloaded)))
    row = json.loads(json.loads(content.rewritten(offloaded)))
    assert from_row(row) == content.reference
    assert deployment.stack().get(row, exactly()).value == "x" * 5000
