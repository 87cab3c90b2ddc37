"""Whatever is done to an envelope, it is refused; in which class, an independent reader says."""

from __future__ import annotations

import base64
import itertools
import os

import google_crc32c
import pytest
from support.deployment import CANARY, WHERE, exactly, refused
from vectors import reader
from vectors.case import Vector

from secure_xcom import errors
from secure_xcom.format.envelope import parse_preamble
from secure_xcom.format.reference import loads
from secure_xcom.model import Expected

VALUE = {"card": CANARY, "amount": 100}


def inline_row(data):
    encoded = base64.b64encode(data).decode()
    return {"__secure_xcom__": 1, "placement": "inline", "envelope": encoded, "about": {}}


def oracle(deployment, data):
    """The class that `docs/format.md` asks for, or success."""
    key = base64.b64decode(deployment.key_file.read_bytes().split()[1])
    vector = Vector("", "", "", "")
    vector.keks = {deployment.kek_uri: key.hex()}
    vector.instances = ["prod"]
    vector.asked = {
        "dag": WHERE.dag_id,
        "run": WHERE.run_id,
        "task": WHERE.task_id,
        "map_index": WHERE.map_index,
        "key": WHERE.key,
    }
    try:
        reader.open_envelope(vector, data)
    except reader.Refused as refusal:
        return getattr(errors, refusal.args[0])
    return None


@pytest.fixture
def stack(deployment):
    return deployment.stack(threshold_bytes="-1")


@pytest.fixture
def sealed(stack):
    """A small envelope."""
    row = stack.put(VALUE, WHERE)
    assert stack.get(row, exactly()) == VALUE
    return base64.b64decode(row["envelope"])


def test_every_byte_is_protected(deployment, stack, sealed):
    """Each bit of the preamble, and one of each byte of the body."""
    classes = set()
    body_at = parse_preamble(sealed).length_bytes
    bits = [*range(8 * body_at), *range(8 * body_at, 8 * len(sealed), 7)]
    for index in bits:
        altered = bytearray(sealed)
        altered[index // 8] ^= 1 << index % 8
        expected = oracle(deployment, bytes(altered))
        classes.add(expected)
        with refused(expected):
            stack.get(inline_row(altered), exactly())
    assert classes == {errors.FormatError, errors.ConfigError, errors.AuthenticationError}


def test_it_is_protected_where_the_context_is_not_known(stack, sealed):
    refusals = (errors.FormatError, errors.ConfigError, errors.AuthenticationError)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] = (altered[at] + 1) % 256
        with pytest.raises(refusals):
            stack.get(inline_row(altered), Expected())


def test_it_cannot_be_cut_anywhere(deployment, stack, sealed):
    for length in range(len(sealed)):
        with refused(oracle(deployment, sealed[:length])):
            stack.get(inline_row(sealed[:length]), exactly())


@pytest.mark.parametrize("more", [b"\0", b"\0" * 16, b"\0" * 17, b"\0" * 256, b"\0" * 2_000_000])
def test_it_cannot_be_extended(deployment, stack, sealed, more):
    assert oracle(deployment, sealed + more) is errors.AuthenticationError
    with refused(errors.AuthenticationError):
        stack.get(inline_row(sealed + more), exactly())
    for twice in (sealed + sealed, more + sealed):
        with refused(oracle(deployment, twice)):
            stack.get(inline_row(twice), exactly())


def test_no_byte_can_be_left_out(deployment, stack, sealed):
    for at in range(len(sealed)):
        altered = sealed[:at] + sealed[at + 1 :]
        expected = oracle(deployment, altered)
        assert expected
        with refused(expected):
            stack.get(inline_row(altered), exactly())


def parts(sealed):
    """Key block, header, commitment and body, with what makes an envelope of them."""
    preamble = parse_preamble(sealed)
    header_at = 7 + int.from_bytes(sealed[5:7], "big")
    body_at = preamble.length_bytes
    return (
        sealed[:header_at],
        sealed[header_at : body_at - 32],
        sealed[body_at - 32 : body_at],
        (sealed[body_at:]),
    )


@pytest.mark.parametrize("other", ["same-key", "same-scope", "other-task", "other-instance"])
def test_no_part_can_come_from_another_envelope(deployment, stack, sealed, other):
    if other == "same-key":
        row = stack.put(CANARY, WHERE)
    elif other == "same-scope":
        row = deployment.stack(threshold_bytes="-1").put(CANARY, WHERE)
    elif other == "other-task":
        where = type(WHERE)("payments", "manual__2026-11-22", "store", -1, "return_value")
        row = stack.put(CANARY, where)
    else:
        row = deployment.stack(threshold_bytes="-1", instance="test").put(CANARY, WHERE)
    ours, theirs = parts(sealed), parts(base64.b64decode(row["envelope"]))
    opened = 0
    for chosen in itertools.product(*zip(ours, theirs, strict=True)):
        mixed = b"".join(chosen)
        expected = oracle(deployment, mixed)
        if expected:
            with refused(errors.AuthenticationError):
                stack.get(inline_row(mixed), exactly())
            assert expected is errors.AuthenticationError
        else:
            opened += 1
            assert stack.get(inline_row(mixed), exactly()) in (VALUE, CANARY)
    # Under one key, the key blocks are the same bytes. The two whole ones open, and of another
    # task or instance only ours.
    assert opened == {"same-key": 4, "same-scope": 2, "other-task": 1, "other-instance": 1}[other]


@pytest.fixture(scope="module")
def segmented(tmp_path_factory):
    """A deployment, and a value whose envelope has four full segments."""
    from support.deployment import Deployment  # noqa: PLC0415

    deployment = Deployment(tmp_path_factory.mktemp("segments"))
    stack = deployment.stack(threshold_bytes="-1")
    value = os.urandom(1_048_520 + 3 * 1_048_560 - 14)
    sealed = base64.b64decode(stack.put(value, WHERE)["envelope"])
    at = parse_preamble(sealed).length_bytes
    assert len(sealed) - at == 4 * 1_048_576
    segments = [sealed[at + index * 1_048_576 :][:1_048_576] for index in range(4)]
    return deployment, stack, value, sealed[:at], segments


def test_segments_in_their_order_open(segmented):
    _, stack, value, preamble, segments = segmented
    assert stack.get(inline_row(preamble + b"".join(segments)), exactly()) == value


@pytest.mark.parametrize(
    "order",
    [
        (0, 2, 1, 3),
        (0, 1, 3, 2),
        (1, 0, 2, 3),
        (0, 1, 2),
        (0, 1, 3),
        (0, 3),
        (0,),
        (3,),
        (0, 1, 1, 2, 3),
        (0, 1, 2, 3, 3),
        (0, 1, 2, 3, 0),
        (0, 0, 1, 2, 3),
    ],
)
def test_segments_in_another_order_do_not(segmented, order):
    _, stack, _, preamble, segments = segmented
    body = b"".join(segments[index] for index in order)
    with refused(errors.AuthenticationError):
        stack.get(inline_row(preamble + body), exactly())


@pytest.mark.parametrize("more", [1, 16, 17, 1000, 1_048_576])
def test_nothing_can_follow_a_full_last_segment(segmented, more):
    deployment, stack, _, preamble, segments = segmented
    data = preamble + b"".join(segments) + bytes(more)
    expected = errors.FormatError if more <= 16 else errors.AuthenticationError
    assert oracle(deployment, data) is expected
    with refused(expected):
        stack.get(inline_row(data), exactly())


@pytest.mark.parametrize("length", [1_048_576, 2 * 1_048_576, 3 * 1_048_576, 4 * 1_048_576 - 1])
def test_it_cannot_be_cut_at_a_segment(segmented, length):
    _, stack, _, preamble, segments = segmented
    with refused(errors.AuthenticationError):
        stack.get(inline_row(preamble + b"".join(segments)[:length]), exactly())


# The same, where the envelope lies in a store.


@pytest.fixture
def offloaded(deployment):
    row = deployment.stack(threshold_bytes="0").put(VALUE, WHERE)
    (path,) = deployment.objects().values()
    return row, path.read_bytes()


@pytest.mark.parametrize("cache_max_bytes", ["0", "1000000"])
def test_an_object_that_was_changed_is_refused(deployment, offloaded, cache_max_bytes):
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes=cache_max_bytes)
    for at in range(0, len(sealed), 7):
        altered = bytearray(sealed)
        altered[at] ^= 1
        deployment.overwrite(row, bytes(altered))
        expected = oracle(deployment, bytes(altered))
        # The checksum is known wrong at the end only, so a fault of shape may come first.
        with pytest.raises((errors.AuthenticationError, expected)):
            stack.get(row, exactly())
    for other in (sealed[:-1], sealed + b"\0", b"", sealed[: len(sealed) // 2]):
        deployment.overwrite(row, other)
        with refused(errors.AuthenticationError):
            stack.get(row, exactly())
    deployment.overwrite(row, sealed)
    assert stack.get(row, exactly()) == VALUE


def test_an_object_and_its_row_that_were_changed_together_are_refused(deployment, offloaded):
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes="0")
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x10
        deployment.overwrite(row, bytes(altered))
        checksum = google_crc32c.value(bytes(altered)).to_bytes(4, "big")
        changed = row | {"crc32c": base64.b64encode(checksum).decode()}
        with refused(oracle(deployment, bytes(altered))):
            stack.get(changed, exactly())


def test_a_row_s_text_is_protected_too(stack, sealed):
    """Airflow 2 keeps the row as bytes: each one replaced, and what is still a row is refused."""
    from secure_xcom.format.reference import dumps  # noqa: PLC0415
    from secure_xcom.model import Inline  # noqa: PLC0415

    text = dumps(Inline(sealed))
    about_at = text.index(b'"about"')
    opened = 0
    for at in range(len(text)):
        altered = bytearray(text)
        altered[at] ^= 1
        try:
            value = stack.get(loads(bytes(altered)), exactly())
        except (errors.FormatError, errors.ConfigError, errors.AuthenticationError):
            continue
        assert value == VALUE
        assert at > about_at
        opened += 1
    assert opened
