"""`docs/format.md`, sections 2 and 3."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from uuid import UUID

import pytest
from vectors import construct

from secure_xcom.errors import AuthenticationError, FormatError
from secure_xcom.format import envelope
from secure_xcom.model import Coordinate, WrappedKey

COORDINATE = Coordinate("dag", "run", "task", 3, "return_value", UUID(int=5))
HEADER = envelope.Header(bytes(16), bytes(32), "prod", COORDINATE)
WRAPPED = WrappedKey("local-kek:///k", b"CIPHERTEXT", "7")


def with_coordinate(**changes):
    fields = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "key": "k"} | changes
    return Coordinate(**fields)


def test_a_preamble_is_that_of_an_independent_writer():
    made = construct.envelope("a seed", b"raw", instance="prod", ti_id=bytes(16), version_hint="7")
    preamble = envelope.parse_preamble(made.data)
    assert preamble.length_bytes == made.at["body"]
    assert preamble.unverified_wrapped.kek_uri == construct.KEK_URI
    assert preamble.unverified_wrapped.unverified_version == "7"
    header = preamble.unverified_header
    assert header.instance == "prod"
    assert header.coordinate == Coordinate(
        "payments",
        "manual__2026-11-22T00:00:00+00:00",
        "load",
        -1,
        "return_value",
        UUID(bytes=bytes(16)),
    )
    keys = envelope.derive(made.dek, preamble.header_bytes, header.salt)
    envelope.check_commitment(keys, preamble.commitment)
    marshalled = envelope.marshal_preamble(
        envelope.marshal_key_block(preamble.unverified_wrapped),
        envelope.marshal_header(header),
        keys.commitment,
    )
    assert marshalled == made.data[: made.at["body"]]


def test_the_additional_data_of_a_key_has_67_bytes():
    scope = envelope.scope_bytes("prod", COORDINATE)
    assert scope == b"\x01\x00\x04prod\x00\x03dag\x00\x03run\x00\x04task\x00\x00\x00\x03"
    aad = envelope.key_aad(scope, b"i" * 16)
    assert aad == b"secure-xcom/v1/dek\x00" + hashlib.sha256(scope).digest() + b"i" * 16
    assert len(aad) == 67


def test_scopes_of_different_ids_differ():
    scopes = {
        envelope.scope_bytes(instance, with_coordinate(**ids))
        for instance, ids in (
            ("", {}),
            ("d", {}),
            ("", {"dag_id": "dr", "run_id": "t", "task_id": "x"}),
            ("", {"dag_id": "d", "run_id": "rt", "task_id": "x"}),
            ("", {"map_index": 0}),
        )
    }
    assert len(scopes) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"dag_id": ""},
        {"run_id": ""},
        {"task_id": ""},
        {"key": ""},
        {"map_index": -2},
        {"map_index": 2**31},
        {"dag_id": "\ud800"},
        {"key": "k" * 8193},
        {"dag_id": "d" * 4090, "run_id": "r" * 4090},
    ],
)
def test_a_coordinate_that_does_not_fit_is_refused(changes):
    with pytest.raises(FormatError):
        envelope.marshal_header(
            envelope.Header(bytes(16), bytes(32), "", with_coordinate(**changes))
        )


def test_the_longest_header_fits_and_one_byte_more_does_not():
    ids = {"dag_id": "d" * 4000, "run_id": "r" * 4000, "task_id": "t" * 98, "key": "k" * 29}
    data = envelope.marshal_header(
        envelope.Header(bytes(16), bytes(32), "", with_coordinate(**ids))
    )
    assert len(data) == envelope.HEADER_BYTES_MAX == 8192
    assert envelope.parse_header(data).coordinate == with_coordinate(**ids)
    ids["key"] += "k"
    with pytest.raises(FormatError, match="8193"):
        envelope.marshal_header(envelope.Header(bytes(16), bytes(32), "", with_coordinate(**ids)))


@pytest.mark.parametrize("instance", ["i" * 256, "é" * 128, "\udfff"])
def test_an_instance_that_does_not_fit_is_refused(instance):
    with pytest.raises(FormatError):
        envelope.scope_bytes(instance, COORDINATE)


@pytest.mark.parametrize(
    "wrapped",
    [
        WrappedKey("", b"w"),
        WrappedKey("k" * 1025, b"w"),
        WrappedKey("k", b""),
        WrappedKey("k", bytes(2049)),
        WrappedKey("k", b"w", "v" * 513),
        WrappedKey("\ud800", b"w"),
    ],
)
def test_a_wrapped_key_that_does_not_fit_is_refused(wrapped):
    with pytest.raises(FormatError):
        envelope.marshal_key_block(wrapped)


@pytest.mark.parametrize(
    "changes",
    [
        {"map_index": -2},
        {"map_index": -(2**31)},
        {"instance": "i" * 256},
        {"dag": ""},
        {"run": ""},
        {"task": ""},
        {"key": ""},
    ],
)
def test_a_header_that_is_never_written_is_never_read(changes):
    made = construct.envelope("a seed", b"raw", **changes)
    with pytest.raises(FormatError):
        envelope.parse_header(made.data[made.at["header"] : made.at["commitment"]])


def test_an_envelope_is_taken_apart():
    header = envelope.marshal_header(HEADER)
    start = envelope.marshal_preamble(envelope.marshal_key_block(WRAPPED), header, bytes(32))
    data = start + os.urandom(20_000)
    preamble, body = envelope.split_envelope(data)
    assert preamble == envelope.parse_preamble(data)
    assert preamble.unverified_header == HEADER
    assert body == data[len(start) :]
    assert preamble == envelope.parse_whole_preamble(start)


@pytest.mark.parametrize("body_bytes", [0, 1, 311, 1_048_577, 1_048_592])
def test_a_body_of_a_length_that_no_payload_makes_is_refused(body_bytes):
    header = envelope.marshal_header(HEADER)
    start = envelope.marshal_preamble(envelope.marshal_key_block(WRAPPED), header, bytes(32))
    with pytest.raises(FormatError):
        envelope.split_envelope(start + bytes(body_bytes))


@pytest.mark.parametrize("more", [b"\0", b"x" * 312])
def test_a_preamble_with_something_behind_it_is_no_whole_one(more):
    header = envelope.marshal_header(HEADER)
    start = envelope.marshal_preamble(envelope.marshal_key_block(WRAPPED), header, bytes(32))
    with pytest.raises(FormatError):
        envelope.parse_whole_preamble(start + more)


@pytest.mark.parametrize("claim", [b"\xff\xff", b"\x10\x01", b"\x00\x00"])
def test_a_false_length_costs_nothing(claim):
    data = envelope.MAGIC + b"\x01" + claim + b"\x01"
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            envelope.parse_preamble(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8192


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_data_key_of_another_length_is_refused(length):
    with pytest.raises(AuthenticationError):
        envelope.derive(bytes(length), envelope.marshal_header(HEADER), bytes(32))


@pytest.mark.parametrize("at", [0, 15, 31])
def test_a_commitment_that_differs_in_one_bit_is_refused(at):
    keys = envelope.derive(bytes(32), envelope.marshal_header(HEADER), HEADER.salt)
    commitment = bytearray(keys.commitment)
    commitment[at] ^= 0x80
    with pytest.raises(AuthenticationError):
        envelope.check_commitment(keys, bytes(commitment))


def test_a_commitment_that_is_cut_is_refused():
    keys = envelope.derive(bytes(32), envelope.marshal_header(HEADER), HEADER.salt)
    with pytest.raises(AuthenticationError):
        envelope.check_commitment(keys, keys.commitment[:31])


def test_keys_differ_with_salt_header_and_data_key():
    header = envelope.marshal_header(HEADER)
    made = [
        envelope.derive(bytes(32), header, bytes(32)),
        envelope.derive(b"\x01" * 32, header, bytes(32)),
        envelope.derive(bytes(32), header + b"x", bytes(32)),
        envelope.derive(bytes(32), header, b"\x01" * 32),
    ]
    derived = [keys.content_key for keys in made] + [keys.commitment for keys in made]
    assert len(set(derived)) == 8


def test_nothing_secret_is_printed():
    keys = envelope.derive(b"D" * 32, b"header", b"S" * 32)
    assert repr(keys.content_key)[2:-1] not in repr(keys)
    header = envelope.marshal_header(HEADER)
    data = envelope.marshal_preamble(envelope.marshal_key_block(WRAPPED), header, b"C" * 32)
    assert "CIPHERTEXT" not in repr(envelope.parse_preamble(data))
    assert "CCCC" not in repr(envelope.parse_preamble(data))
