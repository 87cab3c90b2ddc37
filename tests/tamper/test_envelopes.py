"""Whatever is done to an envelope, it is refused; in which class, an independent reader says."""

from __future__ import annotations

import base64
import itertools
import json
import os

import google_crc32c
import pytest
from support.deployment import CANARY, WHERE, exactly, refused
from vectors import reader
from vectors.case import Vector

from secure_xcom import errors
from secure_xcom.format import names
from secure_xcom.format.envelope import parse_preamble, parse_whole_preamble
from secure_xcom.format.reference import dumps, loads
from secure_xcom.model import Expected

VALUE = {"card": CANARY, "amount": 100}


def inline_row(data):
    encoded = base64.b64encode(data).decode()
    return {"about": "", "__secure_xcom__": 1, "placement": "inline", "envelope": encoded}


def oracle(deployment, row, stored=None):
    """The class that `docs/format.md` asks for, or None where it opens."""
    key = base64.b64decode(deployment.key_file.read_bytes().split()[1])
    vector = Vector("", "", "", json.dumps(row))
    vector.keks = {deployment.kek_uri: key.hex()}
    vector.stores = [deployment.store_uri]
    vector.instances = ["prod"]
    vector.asked = {
        "dag": WHERE.dag_id,
        "run": WHERE.run_id,
        "task": WHERE.task_id,
        "map_index": WHERE.map_index,
        "key": WHERE.key,
    }
    if stored is not None:
        vector.object = (row["object"], row["generation"], stored)
    try:
        reader.read(vector, stored)
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
    assert stack.get(row, exactly()).value == VALUE
    return base64.b64decode(row["envelope"])


def test_every_byte_is_protected(deployment, stack, sealed):
    """Each bit of the preamble, and one of each byte of the body."""
    classes = set()
    body_at = parse_preamble(sealed).length_bytes
    bits = [*range(8 * body_at), *range(8 * body_at, 8 * len(sealed), 7)]
    for index in bits:
        altered = bytearray(sealed)
        altered[index // 8] ^= 1 << index % 8
        expected = oracle(deployment, inline_row(altered))
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
        with refused(oracle(deployment, inline_row(sealed[:length]))):
            stack.get(inline_row(sealed[:length]), exactly())


@pytest.mark.parametrize("more", [b"\0", b"\0" * 16, b"\0" * 17, b"\0" * 256, b"\0" * 2_000_000])
def test_it_cannot_be_extended(deployment, stack, sealed, more):
    assert oracle(deployment, inline_row(sealed + more)) is errors.AuthenticationError
    with refused(errors.AuthenticationError):
        stack.get(inline_row(sealed + more), exactly())
    for twice in (sealed + sealed, more + sealed):
        with refused(oracle(deployment, inline_row(twice))):
            stack.get(inline_row(twice), exactly())


def test_no_byte_can_be_left_out(deployment, stack, sealed):
    for at in range(len(sealed)):
        altered = sealed[:at] + sealed[at + 1 :]
        expected = oracle(deployment, inline_row(altered))
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
        expected = oracle(deployment, inline_row(mixed))
        if expected:
            with refused(expected):
                stack.get(inline_row(mixed), exactly())
            # Another deployment's header is refused by its name, whatever it is mixed with.
            theirs_is_named = other == "other-instance" and chosen[1] == theirs[1]
            kind = errors.ConfigError if theirs_is_named else errors.AuthenticationError
            assert expected is kind
        else:
            opened += 1
            assert stack.get(inline_row(mixed), exactly()).value in (VALUE, CANARY)
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
    assert stack.get(inline_row(preamble + b"".join(segments)), exactly()).value == value


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
    assert oracle(deployment, inline_row(data)) is expected
    with refused(expected):
        stack.get(inline_row(data), exactly())


@pytest.mark.parametrize("length", [1_048_576, 2 * 1_048_576, 3 * 1_048_576, 4 * 1_048_576 - 1])
def test_it_cannot_be_cut_at_a_segment(segmented, length):
    _, stack, _, preamble, segments = segmented
    with refused(errors.AuthenticationError):
        stack.get(inline_row(preamble + b"".join(segments)[:length]), exactly())


# The same, where the body lies in a store, and the preamble in the row.


@pytest.fixture
def offloaded(deployment):
    row = deployment.stack(threshold_bytes="0").put(VALUE, WHERE)
    (path,) = deployment.objects().values()
    return row, path.read_bytes()


def checksum(data):
    return base64.b64encode(google_crc32c.value(bytes(data)).to_bytes(4, "big")).decode()


@pytest.mark.parametrize("cache_max_bytes", ["0", "1000000"])
def test_an_object_that_was_changed_is_refused(deployment, offloaded, cache_max_bytes):
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes=cache_max_bytes)
    for at in range(0, len(sealed), 3):
        altered = bytearray(sealed)
        altered[at] ^= 1
        deployment.overwrite(row, bytes(altered))
        assert oracle(deployment, row, bytes(altered)) is errors.AuthenticationError
        with refused(errors.AuthenticationError):
            stack.get(row, exactly())
    for other in (sealed[:-1], sealed + b"\0", b"", sealed[: len(sealed) // 2]):
        deployment.overwrite(row, other)
        with refused(errors.AuthenticationError):
            stack.get(row, exactly())
    deployment.overwrite(row, sealed)
    assert stack.get(row, exactly()).value == VALUE


def test_an_object_and_its_row_that_were_changed_together_are_refused(deployment, offloaded):
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes="0")
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 0x10
        deployment.overwrite(row, bytes(altered))
        changed = row | {"crc32c": checksum(altered)}
        assert oracle(deployment, changed, bytes(altered)) is errors.AuthenticationError
        with refused(errors.AuthenticationError):
            stack.get(changed, exactly())
    for other in (sealed[:-1], sealed + b"\0", sealed + bytes(256), sealed + sealed):
        deployment.overwrite(row, other)
        changed = row | {"crc32c": checksum(other), "length_bytes": len(other)}
        with refused(oracle(deployment, changed, other)):
            stack.get(changed, exactly())


def test_every_bit_of_a_row_s_preamble_is_protected(deployment, offloaded):
    """With the object under the name that the altered header gives, too, and as it was."""
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes="0")
    preamble = base64.b64decode(row["preamble"])
    (path,) = deployment.objects().values()
    classes = set()
    for bit in range(8 * len(preamble)):
        altered = bytearray(preamble)
        altered[bit // 8] ^= 1 << bit % 8
        changed = row | {"preamble": base64.b64encode(altered).decode()}
        expected = oracle(deployment, changed, sealed)
        with refused(expected):
            stack.get(changed, exactly())
        try:
            made = parse_whole_preamble(bytes(altered))
        except errors.FormatError:
            continue
        name = names.object_name(made.unverified_header.instance, made.header_bytes)
        renamed = changed | {"object": name}
        target = deployment.store_folder / name
        target.parent.mkdir(exist_ok=True)
        path = path.rename(target)
        expected = oracle(deployment, renamed, sealed)
        classes.add(expected)
        with refused(expected):
            stack.get(renamed, exactly())
    assert classes == {errors.ConfigError, errors.AuthenticationError}


def test_no_byte_of_a_row_s_preamble_can_be_left_out_or_added(deployment, offloaded):
    row, sealed = offloaded
    stack = deployment.stack(cache_max_bytes="0")
    preamble = base64.b64decode(row["preamble"])
    for at in range(len(preamble) + 1):
        for altered in (preamble[:at] + preamble[at + 1 :], preamble[:at] + b"\0" + preamble[at:]):
            if altered == preamble:
                continue
            changed = row | {"preamble": base64.b64encode(altered).decode()}
            expected = oracle(deployment, changed, sealed)
            assert expected
            with refused(expected):
                stack.get(changed, exactly())


def test_a_row_s_text_is_protected_too(stack, deployment, sealed):
    """Airflow 2 keeps the row as bytes: each one replaced, and what is still a row is refused."""
    stack.get(inline_row(sealed), exactly())
    about = "Sealed by secure_xcom."
    offloaded_row = deployment.stack(threshold_bytes="0").put(VALUE, WHERE)
    for row in (inline_row(sealed) | {"about": about}, offloaded_row | {"about": about}):
        text = dumps(row)
        opened = set()
        for at in range(len(text)):
            altered = bytearray(text)
            altered[at] ^= 1
            try:
                value = stack.get(loads(bytes(altered)), exactly()).value
            except (errors.FormatError, errors.ConfigError, errors.AuthenticationError):
                continue
            assert value == VALUE
            opened.add(at)
        # What `about` says, and the generation, which a restored object has another one of.
        said = range(text.index(about.encode()), text.index(about.encode()) + len(about))
        free = {*said}
        if "generation" in row:
            start = text.index(row["generation"].encode())
            free |= {*range(start, start + len(row["generation"]))}
        assert opened <= free
        assert opened & {*said}
