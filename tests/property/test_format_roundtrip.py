"""What is marshalled parses back, for any header, key block, reference, payload and cut."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st
from vectors import construct
from vectors import reader as independent

from secure_xcom.format import body, envelope, names, reference
from secure_xcom.format.payload import longest, marshal_payload, parse_payload
from secure_xcom.model import (
    CodecId,
    Compression,
    Coordinate,
    Inline,
    Offloaded,
    Payload,
    StateObject,
    WrappedKey,
)

IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=250)
COORDINATES = st.builds(
    Coordinate,
    IDS,
    IDS,
    IDS,
    st.integers(-1, 2**31 - 1),
    IDS,
    st.none() | st.uuids(),
)
HEADERS = st.builds(
    envelope.Header,
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=32, max_size=32),
    st.text(st.characters(codec="utf-8"), max_size=60),
    COORDINATES,
)
WRAPPED = st.builds(
    WrappedKey,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=250),
    st.binary(min_size=1, max_size=2048),
    st.text(st.characters(codec="utf-8"), max_size=120),
)
NAMES = st.from_regex(r"\A[0-9a-f]{16}/[0-9a-f]{64}\Z")
TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)
OFFLOADED = st.builds(
    Offloaded,
    TEXTS,
    NAMES,
    st.integers(1, 10**20 - 1).map(str),
    st.integers(256, 2**40).map(body.body_length),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=500),
)
STATES = st.builds(
    StateObject, TEXTS, st.from_regex(r"\A[0-9a-f]{16}/[0-9a-f]{64}/[0-9a-f]{64}/[0-9a-f]{64}\Z")
)


@given(WRAPPED, HEADERS, st.binary(min_size=32, max_size=32), st.binary(max_size=50))
def test_a_preamble_parses_back(wrapped, header, commitment, body_bytes):
    marshalled = envelope.marshal_preamble(
        envelope.marshal_key_block(wrapped), envelope.marshal_header(header), commitment
    )
    preamble = envelope.parse_preamble(marshalled + body_bytes)
    assert preamble.unverified_wrapped == wrapped
    assert preamble.unverified_header == header
    assert preamble.commitment == commitment
    assert preamble.length_bytes == len(marshalled) <= envelope.PREAMBLE_BYTES_MAX


@given(HEADERS, HEADERS)
def test_headers_of_different_contents_have_different_bytes(one, other):
    same = envelope.marshal_header(one) == envelope.marshal_header(other)
    assert same == (one == other)


@given(st.builds(Inline, st.binary(max_size=500)) | OFFLOADED, TEXTS)
def test_a_reference_reads_back_by_both_readers(made, about):
    text = reference.dumps(reference.to_row(made, about))
    assert reference.from_row(reference.loads(text)) == made
    row = independent.parsed(text.decode())
    independent.check_reference(row)
    if isinstance(made, Inline):
        assert independent.base64_bytes(row["envelope"]) == made.envelope
    else:
        assert independent.base64_bytes(row["crc32c"]) == made.crc32c.to_bytes(4, "big")
        assert independent.base64_bytes(row["preamble"]) == made.preamble
        assert row["object"] == made.name


@given(STATES, TEXTS)
def test_the_row_of_a_state_reads_back(made, about):
    text = reference.dumps(reference.state_to_row(made, about))
    assert reference.state_from_row(reference.loads(text)) == made


@given(HEADERS, st.sampled_from(["", "#task-state", "#asset-state"]))
def test_names_are_those_of_an_independent_writer(header, mark):
    header = replace(header, instance=header.instance + mark)
    where = header.coordinate
    made = construct.envelope(
        "any",
        b"",
        instance=header.instance,
        dag=where.dag_id,
        run=where.run_id,
        task=where.task_id,
        map_index=where.map_index,
        key=where.key,
    )
    assert names.object_name(header.instance, made.header) == made.object_name
    assert names.state_name_of(header) == made.state_name


@given(
    st.lists(st.binary(max_size=3000) | st.binary(max_size=20).map(lambda x: x * 500), max_size=4),
    st.sampled_from(Compression),
    st.sampled_from(CodecId),
    st.integers(1, 9000),
)
def test_a_payload_parses_back(buffers, compression, codec, chunk_bytes):
    made = Payload(codec, buffers)
    data = b"".join(marshal_payload(made, compression))
    assert len(data) <= longest(made.raw_bytes)
    chunks = (data[at : at + chunk_bytes] for at in range(0, len(data), chunk_bytes))
    found = parse_payload(chunks, len(data), made.raw_bytes)
    assert found.codec is codec
    assert b"".join(found.buffers) == b"".join(buffers)


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=5), st.integers(1, 700))
def test_a_body_opens_by_ours_and_by_the_independent_reader(chunks, chunk_bytes):
    payload = b"".join(chunks) or b"x"
    sealed = b"".join(body.seal(bytes(32), b"hh", chunks + [b"x"] * (not any(chunks)), bytes(39)))
    cut = (sealed[at : at + chunk_bytes] for at in range(0, len(sealed), chunk_bytes))
    assert b"".join(body.open_(bytes(32), b"hh", cut, len(sealed))) == payload
    assert independent.open_body(bytes(32), b"hh", sealed) == payload


@given(HEADERS)
def test_an_independent_writer_makes_the_same_header(header):
    where = header.coordinate
    made = construct.envelope(
        "any",
        b"",
        instance=header.instance,
        dag=where.dag_id,
        run=where.run_id,
        task=where.task_id,
        map_index=where.map_index,
        key=where.key,
        ti_id=where.ti_id.bytes if where.ti_id else None,
    )
    parsed = envelope.parse_preamble(made.data)
    assert parsed.unverified_header.coordinate == where
    assert parsed.unverified_header.instance == header.instance
    scope = envelope.scope_bytes(header.instance, where)
    aad = envelope.key_aad(scope, parsed.unverified_header.key_id)
    wrapped = parsed.unverified_wrapped.ciphertext
    kek = AESGCM(construct.kek(construct.KEK_URI))
    assert kek.decrypt(wrapped[:12], wrapped[12:], aad) == made.dek
