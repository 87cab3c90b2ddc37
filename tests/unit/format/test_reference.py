"""`docs/format.md`, section 7: what the vectors, one for each fault of a row, cannot say."""

from __future__ import annotations

import json
import traceback
from collections import UserDict

import pytest

from secure_xcom.errors import FormatError
from secure_xcom.format.reference import (
    ENVELOPE_BYTES_MAX,
    TAG,
    claimed,
    dumps,
    dumps_folder,
    from_row,
    is_tagged,
    loads,
    to_row,
)
from secure_xcom.model import Description, Inline, Remote

INLINE = Inline(b"envelope\xff")
REMOTE = Remote("gs://b/p", "d/r/t/-1/k/0af", "1700", 123_456, 0xE3069283)


def test_an_inline_row_is_that_of_the_document():
    assert to_row(INLINE) == {
        "__secure_xcom__": 1,
        "placement": "inline",
        "envelope": "ZW52ZWxvcGX/",
        "about": {"sealed_bytes": 9},
    }


def test_an_offloaded_row_is_that_of_the_document():
    described = Remote(
        "gs://b/p", "d/r/t/-1/k/0af", "1700", 123_456, 0xE3069283, Description("k", "dict", 10)
    )
    assert to_row(described) == {
        "__secure_xcom__": 1,
        "placement": "offloaded",
        "store": "gs://b/p",
        "object": "d/r/t/-1/k/0af",
        "generation": "1700",
        "length_bytes": 123_456,
        "crc32c": "4waSgw==",
        "about": {"kek": "k", "sealed_bytes": 123_456, "type": "dict", "raw_bytes": 10},
    }


@pytest.mark.parametrize("reference", [INLINE, REMOTE])
def test_a_row_is_read_back(reference):
    assert from_row(to_row(reference)) == reference
    assert from_row(loads(dumps(reference))) == reference
    assert from_row(loads(dumps(reference).decode())) == reference
    assert json.loads(dumps(reference)) == to_row(reference)


@pytest.mark.parametrize(
    "description",
    [Description("kek"), Description("kek", "builtins.dict"), Description("kek", "t", 0)],
)
def test_the_description_is_written_and_never_read(description):
    row = to_row(Inline(b"envelope", description))
    assert row["about"]["kek"] == "kek"
    assert ("type" in row["about"]) == bool(description.type_name)
    assert ("raw_bytes" in row["about"]) == (description.raw_bytes is not None)
    assert from_row(row) == Inline(b"envelope")


def test_the_longest_envelope_is_that_of_the_document():
    assert ENVELOPE_BYTES_MAX == 1_099_528_417_633
    row = to_row(REMOTE) | {"length_bytes": ENVELOPE_BYTES_MAX}
    assert from_row(row).length_bytes == ENVELOPE_BYTES_MAX
    for length_bytes in (ENVELOPE_BYTES_MAX + 1, 10**5000):
        with pytest.raises(FormatError):
            from_row(row | {"length_bytes": length_bytes})


@pytest.mark.parametrize("value", [1, 2, True, "1", None, [], {}])
def test_a_row_with_the_tag_is_tagged_whatever_it_holds(value):
    assert is_tagged({TAG: value})
    assert is_tagged({TAG: value, "other": 1})


@pytest.mark.parametrize("row", [None, 1, TAG, [TAG], {"placement": "inline"}, "gs://b/o", b"{}"])
def test_other_rows_are_not_tagged(row):
    assert not is_tagged(row)
    with pytest.raises(FormatError):
        from_row(row)


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
    assert repr(Inline(b"envelope")) == "Inline(description=None)"


ODD = (10**5000, -(10**5000), [], {}, object(), float("nan"), b"inline", ("inline",))


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


def test_whatever_stands_in_a_row_is_refused():
    inline = to_row(Inline(b"envelope"))
    remote = to_row(Remote("file:///store", "a/b", "1", 500, 7))
    for good in (inline, remote):
        assert from_row(good)
        for member in good:
            for odd in (*ODD, deep(1500), deep(100_000)):
                if member == "about" and odd == {}:
                    continue
                with pytest.raises(FormatError):
                    from_row(good | {member: odd})
        assert from_row(good | {"about": {"own": deep(100_000), "number": 10**5000}})


@pytest.mark.parametrize("method", ["__iter__", "__getitem__", "__len__", "__contains__", "get"])
@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, RecursionError])
def test_a_mapping_that_raises_is_refused(method, error):
    def fail(*_):
        raise error("4111 1111 1111 1111")

    row = type("Row", (UserDict,), {method: fail})()
    row.data = to_row(Inline(b"envelope"))
    said = None
    try:
        assert from_row(row) == Inline(b"envelope")  # it did not ask the method
    except FormatError as refused:
        said = f"{refused} {refused.__context__!r} {refused.__cause__!r}"
    assert said is None or "4111" not in said


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_json_is_refused(number):
    row = dumps(Inline(b"envelope")).decode()
    with pytest.raises(FormatError, match="not JSON"):
        loads(row.replace('"about":{', f'"about":{{"own":{number},'))
    with pytest.raises(FormatError, match="not JSON"):
        loads(number)


def test_what_claims_to_be_ours_is_read_strictly_or_refused():
    ours = (dumps(Inline(b"envelope")).decode(), dumps_folder("file:///store", "a/b/"))
    for row in ours:
        assert claimed(row) == claimed(row.encode()) == loads(row)
        for broken in (
            row[:-1] + ',"store":"file:///x","store":"file:///x"}',
            row[:-1] + ',"n":NaN}',
        ):
            with pytest.raises(FormatError):
                claimed(broken)
    for plain in ('{"a":NaN}', '{"a":1,"a":2}', "[NaN]", "no JSON", "", "\udc80"):
        assert claimed(plain) is None
    assert claimed('{"a":1}') == {"a": 1}
