"""`docs/format.md`, section 7: what the vectors, one for each fault of a row, cannot say."""

from __future__ import annotations

import json
import signal
import traceback
from collections import UserDict

import pytest

from secure_xcom.errors import FormatError
from secure_xcom.format.body import PAYLOAD_BYTES_MAX, body_length
from secure_xcom.format.reference import (
    STATE_TAG,
    TAG,
    claimed,
    dumps,
    from_row,
    is_tagged,
    loads,
    state_from_row,
    state_to_row,
    to_row,
)
from secure_xcom.model import Inline, Offloaded, StateObject

ABOUT = "Sealed by secure_xcom."
INLINE = Inline(b"envelope\xff")
NAME = f"{'0' * 16}/{'a1' * 32}"
OFFLOADED = Offloaded("gs://b/p", NAME, "1700", 123_456, 0xE3069283, b"preamble")
STATE = StateObject("gs://b/p/~state/task", "/".join(("0" * 16, "a" * 64, "b" * 64, "c" * 64)))


def test_an_inline_row_is_that_of_the_document():
    assert to_row(INLINE, ABOUT) == {
        "about": ABOUT,
        "__secure_xcom__": 1,
        "placement": "inline",
        "envelope": "ZW52ZWxvcGX/",
    }


def test_an_offloaded_row_is_that_of_the_document():
    assert to_row(OFFLOADED, ABOUT) == {
        "about": ABOUT,
        "__secure_xcom__": 1,
        "placement": "offloaded",
        "preamble": "cHJlYW1ibGU=",
        "store": "gs://b/p",
        "object": NAME,
        "generation": "1700",
        "length_bytes": 123_456,
        "crc32c": "4waSgw==",
    }


def test_the_row_of_a_state_is_that_of_the_document():
    assert state_to_row(STATE, ABOUT) == {
        "about": ABOUT,
        "__secure_xcom_state__": 1,
        "store": "gs://b/p/~state/task",
        "object": STATE.name,
    }


@pytest.mark.parametrize("row", [to_row(INLINE, ABOUT), to_row(OFFLOADED, ABOUT)])
def test_what_a_row_says_stands_first_however_members_are_sorted(row):
    """JSONB sorts members by the length of their names, and then by their bytes."""
    assert next(iter(row)) == min(row, key=lambda name: (len(name), name)) == "about"


@pytest.mark.parametrize("reference", [INLINE, OFFLOADED])
def test_a_row_is_read_back(reference):
    row = to_row(reference, ABOUT)
    assert from_row(row) == reference
    assert from_row(loads(dumps(row))) == reference
    assert from_row(loads(dumps(row).decode())) == reference
    assert json.loads(dumps(row)) == row


def test_the_row_of_a_state_is_read_back():
    assert state_from_row(state_to_row(STATE, ABOUT)) == STATE
    assert state_from_row(to_row(INLINE, ABOUT)) == INLINE
    with pytest.raises(FormatError, match="offloaded"):
        state_from_row(to_row(OFFLOADED, ABOUT))
    with pytest.raises(FormatError):
        from_row(state_to_row(STATE, ABOUT))


@pytest.mark.parametrize(
    "about", ["", "x" * 100_000, "Gesperrt \u00fc \U0001f512", "__secure_xcom__"]
)
def test_what_a_row_says_of_itself_is_any_text_and_never_read(about):
    assert from_row(to_row(INLINE, about)) == INLINE
    assert state_from_row(state_to_row(STATE, about)) == STATE


def test_the_longest_body_is_that_of_the_document():
    longest = body_length(PAYLOAD_BYTES_MAX)
    assert longest == 1_099_528_405_304
    row = to_row(OFFLOADED, ABOUT) | {"length_bytes": longest}
    assert from_row(row).length_bytes == longest
    for length_bytes in (longest + 1, 10**5000, 311, 0, -1):
        with pytest.raises(FormatError):
            from_row(row | {"length_bytes": length_bytes})


@pytest.mark.parametrize("tag", [TAG, STATE_TAG])
@pytest.mark.parametrize("value", [1, 2, True, "1", None, [], {}])
def test_a_row_with_a_tag_is_tagged_whatever_it_holds(tag, value):
    assert is_tagged({tag: value})
    assert is_tagged({tag: value, "other": 1})


@pytest.mark.parametrize("row", [None, 1, TAG, [TAG], {"placement": "inline"}, "gs://b/o", b"{}"])
def test_other_rows_are_not_tagged(row):
    assert not is_tagged(row)
    with pytest.raises(FormatError):
        from_row(row)
    with pytest.raises(FormatError):
        state_from_row(row)


def test_a_row_with_both_tags_is_neither():
    for row in (to_row(INLINE, ABOUT), to_row(OFFLOADED, ABOUT), state_to_row(STATE, ABOUT)):
        both = row | {TAG: 1, STATE_TAG: 1}
        assert is_tagged(both)
        for parse in (from_row, state_from_row):
            with pytest.raises(FormatError):
                parse(both)


@pytest.mark.parametrize("half", ["\ud800", "gs://b/\udc80"])
def test_half_of_a_surrogate_pair_is_no_text(half):
    """JSON can escape it, and it has no UTF-8."""
    rows = [
        (from_row, to_row(INLINE, ABOUT)),
        (from_row, to_row(OFFLOADED, ABOUT)),
        (state_from_row, state_to_row(STATE, ABOUT)),
    ]
    for parse, row in rows:
        for member in [name for name, value in row.items() if type(value) is str]:
            text = json.dumps(row | {member: half})
            with pytest.raises(FormatError):
                parse(loads(text))


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe{\x00}\x00",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b"[" * 100_000,
        b"9" * 5000,
        b'{"a": 1, "a": 1}',
        b'{"a": [{"b": 1, "b": 2}]}',
        b"{'a': 1}",
        b"4111-1111",
        b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x084111-1111\x94.",
    ],
)
def test_what_is_not_json_or_names_a_member_twice_is_refused_and_not_shown(text):
    with pytest.raises(FormatError) as caught:
        loads(text)
    assert "4111" not in "".join(traceback.format_exception(caught.value))
    assert "4111" not in repr(caught.value.__context__)


def test_other_json_is_read_as_it_is():
    assert loads(b'{"a": [1, 2.5, null, "\\u00e9"]}') == {"a": [1, 2.5, None, "é"]}
    assert loads('"text"') == "text"


def test_an_inline_reference_does_not_print_its_envelope():
    assert repr(Inline(b"envelope")) == "Inline()"
    assert "preamble" not in repr(OFFLOADED)


ODD = (10**5000, -(10**5000), [], {}, object(), float("nan"), b"inline", ("inline",))


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_whatever_stands_in_a_row_is_refused():
    goods = [
        (from_row, to_row(INLINE, ABOUT)),
        (from_row, to_row(OFFLOADED, ABOUT)),
        (state_from_row, state_to_row(STATE, ABOUT)),
    ]
    odds = (*ODD, deep(1500), deep(100_000))
    for parse, good in goods:
        assert parse(good)
        for member in good:
            for odd in odds:
                with pytest.raises(FormatError):
                    parse(good | {member: odd})


@pytest.mark.parametrize("method", ["__iter__", "__getitem__", "__len__", "__contains__", "get"])
@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, RecursionError])
def test_a_mapping_that_raises_is_refused(method, error):
    def fail(*_):
        raise error("4111 1111 1111 1111")

    row = type("Row", (UserDict,), {method: fail})()
    row.data = to_row(Inline(b"envelope"), ABOUT)
    said = None
    try:
        assert from_row(row) == Inline(b"envelope")  # it did not ask the method
    except FormatError as refused:
        said = f"{refused} {refused.__context__!r} {refused.__cause__!r}"
    assert said is None or "4111" not in said


def test_an_exception_of_the_caller_s_own_comes_through():
    """A signal's handler may raise anything, in the middle of a mapping's own method."""

    def handler(*_):
        raise TimeoutError("the caller's")

    class Row(UserDict):
        def __contains__(self, name):
            signal.raise_signal(signal.SIGUSR1)
            return super().__contains__(name)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError, match="the caller's"):
            from_row(Row(to_row(INLINE, ABOUT)))
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_is_refused(number):
    with pytest.raises(FormatError, match="not JSON"):
        loads(f'{{"own":[{number}]}}')
    with pytest.raises(FormatError, match="not JSON"):
        loads(number)


def test_what_claims_to_be_ours_is_read_strictly_or_refused():
    ours = [to_row(INLINE, ABOUT), to_row(OFFLOADED, ABOUT), state_to_row(STATE, ABOUT)]
    for row in map(dumps, ours):
        text = row.decode()
        assert claimed(row) == claimed(text) == loads(row)
        for broken in (
            text[:-1] + ',"store":"file:///x","store":"file:///x"}',
            text[:-1] + ',"n":NaN}',
        ):
            with pytest.raises(FormatError):
                claimed(broken)
    for plain in ('{"a":NaN}', '{"a":1,"a":2}', "[NaN]", "no JSON", "", "\udc80"):
        assert claimed(plain) is None
    assert claimed('{"a":1}') == {"a": 1}
