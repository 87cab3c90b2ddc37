"""Whatever is parsed, parsers answer with a value or with `FormatError`, and with nothing else."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vectors import construct, frames

from secure_xcom.errors import FormatError
from secure_xcom.format import envelope, reference
from secure_xcom.format.payload import parse_payload
from secure_xcom.model import StateObject

MADE = construct.envelope("junk", b"value", instance="prod", ti_id=bytes(16), version_hint="3")
PREAMBLE = MADE.data[: MADE.at["body"]]
KEY_BLOCK = MADE.data[MADE.at["key_block"] : MADE.at["header"] - 2]
HEADER = MADE.data[MADE.at["header"] : MADE.at["commitment"]]


@st.composite
def mutated(draw, original):
    """Some bytes replaced, removed or inserted."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(("replace", "remove", "insert", "cut")))
        if how == "replace" and data:
            data[at] = draw(st.integers(0, 255))
        elif how == "remove":
            del data[at : at + draw(st.integers(1, 8))]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=8))
        else:
            del data[at:]
    return bytes(data)


def or_format_error(work):
    """What the work gives, or None where it gives `FormatError`."""
    try:
        return work()
    except FormatError:
        return None


@given(st.binary(max_size=300) | mutated(PREAMBLE))
def test_a_preamble_parses_to_the_same_bytes_or_not_at_all(data):
    parsed = or_format_error(lambda: envelope.parse_preamble(data))
    if parsed:
        again = envelope.marshal_preamble(
            envelope.marshal_key_block(parsed.unverified_wrapped),
            envelope.marshal_header(parsed.unverified_header),
            parsed.commitment,
        )
        assert again == data[: parsed.length_bytes]


@given(st.binary(max_size=100) | mutated(KEY_BLOCK))
def test_a_key_block_parses_to_the_same_bytes_or_not_at_all(data):
    parsed = or_format_error(lambda: envelope.parse_key_block(data))
    if parsed:
        assert envelope.marshal_key_block(parsed) == data


@given(st.binary(max_size=200) | mutated(HEADER))
def test_a_header_parses_to_the_same_bytes_or_not_at_all(data):
    parsed = or_format_error(lambda: envelope.parse_header(data))
    if parsed:
        assert envelope.marshal_header(parsed) == data


PAYLOADS = [
    struct.pack(">HBBQ", 5, 0, 0, 3) + b"abc" + bytes(239) + struct.pack(">H", 239),
    struct.pack(">HBBQ", 5, 1, 0, 300_000)
    + (frame := frames.frame(frames.run(b"x", 300_000)))
    + bytes(242 - len(frame))
    + struct.pack(">H", 242 - len(frame)),
    struct.pack(">HBBQ", 5, 0, 0, 5000) + bytes(5000) + bytes(2),
]


@given(
    st.binary(max_size=600) | st.sampled_from(PAYLOADS).flatmap(mutated),
    st.integers(1, 600),
)
def test_a_payload_parses_or_not_at_all(data, chunk_bytes):
    chunks = (data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes))
    parsed = or_format_error(lambda: parse_payload(chunks, len(data), 1_000_000))
    if parsed:
        assert parsed.raw_bytes <= 1_000_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
ROWS = [construct.inline(MADE), construct.offloaded(MADE)]
STATE_ROWS = [construct.inline(MADE), construct.state(MADE, "task")]


@st.composite
def changed_rows(draw, rows):
    row = dict(draw(st.sampled_from(rows)))
    members = [*row, "other"]
    for _ in range(draw(st.integers(1, 3))):
        member = draw(st.sampled_from(members))
        if draw(st.booleans()):
            row.pop(member, None)
        else:
            row[member] = draw(JSON)
    return row


@given(JSON | changed_rows(ROWS))
def test_a_row_parses_to_the_same_row_or_not_at_all(row):
    parsed = or_format_error(lambda: reference.from_row(row))
    if parsed:
        assert reference.to_row(parsed, row["about"]) == row


@given(JSON | changed_rows([*STATE_ROWS, ROWS[1]]))
def test_the_row_of_a_state_parses_to_the_same_row_or_not_at_all(row):
    parsed = or_format_error(lambda: reference.state_from_row(row))
    if isinstance(parsed, StateObject):
        assert reference.state_to_row(parsed, row["about"]) == row
    elif parsed:
        assert reference.to_row(parsed, row["about"]) == row


@given(st.binary(max_size=100) | mutated(json.dumps(ROWS[1]).encode()))
def test_a_row_s_text_parses_or_not_at_all(data):
    row = or_format_error(lambda: reference.loads(data))
    or_format_error(lambda: reference.from_row(row))


@given(st.text(alphabet="ABCabc019+/=-_ \n\xe9", max_size=12))
def test_base64_has_one_form(text):
    row = construct.inline(MADE) | {"envelope": text}
    parsed = or_format_error(lambda: reference.from_row(row))
    if parsed:
        assert base64.b64encode(parsed.envelope).decode() == text


@pytest.mark.parametrize(
    "original", [PREAMBLE, KEY_BLOCK, HEADER], ids=["preamble", "key", "header"]
)
def test_no_beginning_of_a_structure_is_one(original):
    parse = {
        PREAMBLE: envelope.parse_preamble,
        KEY_BLOCK: envelope.parse_key_block,
        HEADER: envelope.parse_header,
    }[original]
    parse(original)
    for length in range(len(original)):
        with pytest.raises(FormatError):
            parse(original[:length])
