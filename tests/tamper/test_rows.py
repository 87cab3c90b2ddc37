"""Whatever is done to rows and to what they point to is refused; nobody else's object is lost."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from support.deployment import CANARY, WHERE, Deployment, exactly, refused

from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    ObjectNotFound,
)
from secure_xcom.format import envelope
from secure_xcom.format.reference import dumps, is_tagged, loads
from secure_xcom.model import Expected

VALUE = {"card": CANARY}
OTHER = dataclasses.replace(WHERE, task_id="refund")
TAG = "__secure_xcom__"


@pytest.fixture
def stack(deployment):
    return deployment.stack(threshold_bytes="0", cache_max_bytes="0")


@pytest.fixture
def inline(deployment):
    return deployment.stack(threshold_bytes="-1").put(VALUE, WHERE)


@pytest.fixture
def row(stack):
    """An offloaded row."""
    return stack.put(VALUE, WHERE)


@pytest.fixture(params=["inline", "row"])
def either(request):
    return request.getfixturevalue(request.param)


def test_rows_open_and_hold_nothing_readable(stack, either, deployment):
    assert stack.get(either, exactly()).value == VALUE
    stored = b"".join(path.read_bytes() for path in deployment.objects().values())
    assert CANARY.encode() not in json.dumps(either).encode() + stored


# Where a row lies.


@pytest.mark.parametrize(
    "change",
    [
        {"dag_id": "payments2"},
        {"run_id": "manual__2026-11-23"},
        {"task_id": "refund"},
        {"map_index": 0},
        {"key": "other"},
    ],
)
def test_a_row_that_was_copied_to_another_place_is_refused(stack, either, change):
    with refused(AuthenticationError):
        stack.get(either, exactly(dataclasses.replace(WHERE, **change)))


def test_a_row_that_was_copied_is_refused_whatever_else_is_unknown(stack, either):
    with refused(AuthenticationError):
        stack.get(either, Expected(task_id="refund"))
    assert stack.get(either, Expected()).value == VALUE


def test_a_row_of_another_instance_is_refused(deployment, either):
    for instance in ("test", "", "PROD", "prod2"):
        with refused(ConfigError):
            deployment.stack(instance=instance).get(either, exactly())
    trusting = deployment.stack(instance="test", trusted_instances='["prod"]')
    assert trusting.get(either, exactly()).value == VALUE


def test_a_row_that_is_replaced_by_a_plain_value_is_refused(stack):
    for plain in (VALUE, CANARY, 1, None, [CANARY], {}, "gs://bucket/object"):
        assert not is_tagged(plain)
        with refused(FormatError):
            stack.get(plain, exactly())


# What a row points to.


POINTERS = ("object", "generation", "length_bytes", "crc32c")


def test_two_rows_that_swap_their_objects_are_refused(stack):
    ours, theirs = stack.put(VALUE, WHERE), stack.put(VALUE, OTHER)
    for members in (POINTERS, ("object",)):
        with refused(AuthenticationError):
            stack.get(ours | {member: theirs[member] for member in members}, exactly())
    for change in ({"crc32c": "AAAAAA=="}, {"length_bytes": ours["length_bytes"] + 1}):
        with refused(AuthenticationError):
            stack.get(ours | change, exactly())


def test_two_rows_that_swap_their_preambles_are_refused(stack):
    ours, theirs = stack.put(VALUE, WHERE), stack.put([CANARY, 2], WHERE)
    with refused(AuthenticationError):
        stack.get(ours | {"preamble": theirs["preamble"]}, exactly())
    with refused(AuthenticationError):
        stack.get(
            ours | {member: theirs[member] for member in ("preamble", "object")}, exactly(OTHER)
        )


def test_two_objects_that_are_swapped_are_refused(deployment, stack):
    ours, theirs = stack.put(VALUE, WHERE), stack.put([CANARY, 2], WHERE)
    objects = deployment.objects()
    contents = [objects[row["object"]].read_bytes() for row in (ours, theirs)]
    deployment.overwrite(ours, contents[1])
    deployment.overwrite(theirs, contents[0])
    for row in (ours, theirs):
        with refused(AuthenticationError):
            stack.get(row, exactly())


def restore(deployment, row, contents=None):
    """Write the object anew, under another generation; which one."""
    path = deployment.objects()[row["object"]]
    held = path.read_bytes()
    path.unlink()
    path.write_bytes(held if contents is None else contents)
    return str(path.stat().st_mtime_ns)


@pytest.mark.parametrize("cache_max_bytes", ["0", "1000000"])
def test_an_object_that_was_restored_is_read(deployment, row, cache_max_bytes):
    assert restore(deployment, row) != row["generation"]
    reader = deployment.stack(cache_max_bytes=cache_max_bytes)
    for _ in range(2):
        assert reader.get(row, exactly()).value == VALUE


def test_an_object_that_was_written_again_with_other_bytes_is_refused(deployment, stack, row):
    restore(deployment, row, bytes(row["length_bytes"]))
    with refused(AuthenticationError):
        stack.get(row, exactly())


def test_what_a_row_says_of_the_generation_decides_nothing(stack, row):
    assert stack.get(row | {"generation": "1"}, exactly()).value == VALUE


def test_a_missing_object_is_an_error_and_not_its_name(deployment, stack, row):
    deployment.objects()[row["object"]].unlink()
    with refused(ObjectNotFound):
        stack.get(row, exactly())


def test_placement_is_no_part_of_what_is_sealed_and_the_context_is(deployment, stack, row):
    """Preamble and body are an envelope, wherever they lie."""
    whole = base64.b64decode(row["preamble"]) + deployment.objects()[row["object"]].read_bytes()
    inline = {
        "about": "",
        TAG: 1,
        "placement": "inline",
        "envelope": base64.b64encode(whole).decode(),
    }
    assert stack.get(inline, exactly()).value == VALUE
    with refused(AuthenticationError):
        stack.get(inline, exactly(OTHER))


# KEKs and stores.


def test_a_foreign_kek_is_never_used(tmp_path, deployment, either):
    stranger = Deployment(tmp_path / "stranger")
    with refused(ConfigError):
        deployment.stack(kek_uri=stranger.kek_uri).get(either, exactly())
    trusting = deployment.stack(
        kek_uri=stranger.kek_uri, trusted_keks=json.dumps([deployment.kek_uri])
    )
    assert trusting.get(either, exactly()).value == VALUE


def test_another_key_under_the_same_name_opens_nothing(tmp_path, deployment, either):
    stranger = Deployment(tmp_path / "stranger")
    stranger.key_file.replace(deployment.key_file)
    with refused(AuthenticationError):
        deployment.stack().get(either, exactly())


def test_a_foreign_store_is_neither_read_nor_deleted_from(tmp_path, deployment, stack, row):
    stranger = Deployment(tmp_path / "stranger")
    theirs = stranger.stack(kek_uri=deployment.kek_uri, threshold_bytes="0").put(VALUE, WHERE)
    for changed in (theirs, row | {"store": row["store"] + "/"}, row | {"store": "gs://bucket"}):
        with refused(ConfigError):
            stack.get(changed, exactly())
        with refused(ConfigError):
            stack.delete(changed, exactly())
    assert len(stranger.objects()) == len(deployment.objects()) == 1


def test_a_trusted_store_is_read_and_not_deleted_from(tmp_path, deployment):
    stranger = Deployment(tmp_path / "stranger")
    theirs = stranger.stack(kek_uri=deployment.kek_uri, threshold_bytes="0").put(VALUE, WHERE)
    trusting = deployment.stack(trusted_stores=json.dumps([stranger.store_uri]))
    assert trusting.get(theirs, exactly()).value == VALUE
    with refused(ConfigError):
        trusting.delete(theirs, exactly())
    assert len(stranger.objects()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "../kek",
        "payments/../../kek",
        "/etc/passwd",
        "./kek",
        "payments/./x",
        "payments//x",
        "",
        "..",
        "payments\\..\\..\\kek",
        "payments/%2e%2e/\0",
        ".hidden",
        "a" * 801,
    ],
)
def test_a_name_outside_the_store_is_refused(deployment, stack, row, name):
    with refused(FormatError):
        stack.get(row | {"object": name}, exactly())
    with refused(FormatError):
        stack.delete(row | {"object": name}, exactly())
    assert deployment.key_file.exists()
    assert len(deployment.objects()) == 1


def test_a_row_cannot_have_another_task_s_object_deleted(deployment, stack, row):
    """Neither by naming it, nor with the preamble that belongs to it, nor by both."""
    theirs = stack.put(VALUE, OTHER)
    for members in (POINTERS, (*POINTERS, "preamble"), ("object",), ("preamble",)):
        doctored = row | {member: theirs[member] for member in members}
        with refused(AuthenticationError):
            stack.delete(doctored, exactly())
    assert set(deployment.objects()) == {row["object"], theirs["object"]}
    stack.delete(row, exactly())
    assert set(deployment.objects()) == {theirs["object"]}


def test_a_forged_header_does_not_delete_what_it_does_not_name(deployment, stack, row):
    """Whoever writes rows can write a header for their own coordinate; its hash is another."""
    theirs = stack.put(VALUE, OTHER)
    made = envelope.parse_whole_preamble(base64.b64decode(theirs["preamble"]))
    header = dataclasses.replace(made.unverified_header, coordinate=WHERE)
    forged = envelope.marshal_preamble(
        envelope.marshal_key_block(made.unverified_wrapped),
        envelope.marshal_header(header),
        made.commitment,
    )
    doctored = theirs | {"preamble": base64.b64encode(forged).decode()}
    with refused(AuthenticationError):
        stack.delete(doctored, exactly())
    assert set(deployment.objects()) == {row["object"], theirs["object"]}


@pytest.mark.parametrize("unknown", ["dag_id", "run_id", "task_id", "map_index", "key"])
def test_nothing_is_deleted_for_a_coordinate_that_is_not_whole(deployment, stack, row, unknown):
    with refused(AuthenticationError):
        stack.delete(row, dataclasses.replace(exactly(), **{unknown: None}))
    assert set(deployment.objects()) == {row["object"]}


def test_a_copied_environment_deletes_nothing_of_the_original(deployment, row):
    copy = deployment.stack(instance="copy", trusted_instances='["prod"]')
    assert copy.get(row, exactly()).value == VALUE
    with refused(ConfigError):
        copy.delete(row, exactly())
    assert set(deployment.objects()) == {row["object"]}


def test_a_restored_object_is_deleted_and_one_of_other_bytes_is_not(deployment, stack, row):
    other = stack.put(VALUE, WHERE)
    restore(deployment, row)
    restore(deployment, other, bytes(other["length_bytes"]))
    stack.delete(row, exactly())
    stack.delete(other, exactly())
    assert set(deployment.objects()) == {other["object"]}


# The row's own shape, inline and offloaded.


@pytest.mark.parametrize("tag", [True, 1.0, 2, 0, -1, "1", None, [1], {"v": 1}, False])
def test_another_tag_is_refused_and_never_taken_for_a_plain_value(stack, either, tag):
    assert is_tagged(either | {TAG: tag})
    with refused(FormatError):
        stack.get(either | {TAG: tag}, exactly())


def test_members_more_or_fewer_are_refused(stack, either):
    for member in either:
        fewer = {name: value for name, value in either.items() if name != member}
        with refused(FormatError):
            stack.get(fewer, exactly())
    for more in ({"x": 1}, {"": None}, {TAG.upper(): 1}, {"envelope ": ""}):
        with refused(FormatError):
            stack.get(either | more, exactly())


@pytest.mark.parametrize("value", [None, 0, 1.5, True, "", "x", [], {}, ["a"], {"a": 1}])
def test_members_of_another_kind_are_refused(stack, either, value):
    for member in either:
        if type(value) is not type(either[member]) or member == "placement":
            with refused(FormatError):
                stack.get(either | {member: value}, exactly())


def test_what_a_row_says_about_itself_is_ignored(stack, either):
    for about in ("", "Sealed by nobody: 1 byte in gs://x, under key y.", TAG, "\u2028\n" * 9_999):
        assert stack.get(either | {"about": about}, exactly()).value == VALUE


def test_a_member_twice_is_refused(stack, either):
    text = dumps(either).decode()
    assert stack.get(loads(text), exactly()).value == VALUE
    for member in either:
        twice = text[:-1] + f",{json.dumps(member)}:{json.dumps(either[member])}}}"
        assert json.loads(twice).keys() == either.keys()
        with refused(FormatError):
            loads(twice)


def test_only_canonical_base64_is_read(stack, deployment):
    writer = deployment.stack(threshold_bytes="-1")
    rows = (writer.put(VALUE, dataclasses.replace(WHERE, key="k" * size)) for size in (1, 2, 3))
    row = next(row for row in rows if row["envelope"].endswith("="))
    encoded = row["envelope"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stem = encoded.rstrip("=")
    spare = stem[:-1] + alphabet[alphabet.index(stem[-1]) + 1] + encoded[len(stem) :]
    assert base64.b64decode(spare) == base64.b64decode(encoded)
    for other in (spare, stem, encoded + "=", encoded + "\n", " " + encoded, encoded + "===="):
        with refused(FormatError):
            stack.get(row | {"envelope": other}, Expected())
    assert stack.get(row, Expected()).value == VALUE


# Values that look like rows.


def look_alikes(row):
    yield "gs://bucket/object"
    yield f"gs://{row['object']}"
    yield row["object"]
    yield f"{row['store']}/{row['object']}"
    yield json.dumps(row)
    yield TAG
    yield dict(row)
    yield [dict(row)]
    yield {"inner": dict(row)}
    yield {TAG: 1}
    yield {"about": "", TAG: 1, "placement": "inline", "envelope": ""}
    yield "SXCM\x01"
    yield b"SXCM\x01"


def test_a_value_that_looks_like_a_row_comes_back_as_it_is(deployment, stack, row):
    """The peer reads, and on deletion deletes, what such a value names."""
    for threshold_bytes in ("0", "-1"):
        own = deployment.stack(threshold_bytes=threshold_bytes)
        for value in look_alikes(row):
            written = own.put(value, OTHER)
            found = own.get(written, exactly(OTHER)).value
            assert found == value
            assert type(found) is type(value)
            own.delete(written, exactly(OTHER))
            assert set(deployment.objects()) == {row["object"]}
    assert stack.get(row, exactly()).value == VALUE
