"""What objects are called (`docs/format.md`, sections 7.1 and 7.2)."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from uuid import UUID

import pytest
from vectors import construct

from secure_xcom.errors import FormatError
from secure_xcom.format import envelope, names
from secure_xcom.model import Coordinate

WHERE = Coordinate("payments", "manual__1", "load", 2, "return_value", UUID(int=9))
INSTANCE = "prod#task-state"


def test_an_object_is_called_by_the_hash_of_its_header():
    made = construct.envelope("seed", b"raw", instance="prod")
    assert names.object_name("prod", made.header) == made.object_name
    deployment, header = made.object_name.split("/")
    said = hashlib.sha256(b"secure-xcom/v1/deployment\0prod").hexdigest()[:16]
    assert (deployment, len(header)) == (said, 64)
    assert names.is_object_name(made.object_name)
    assert not names.is_state_name(made.object_name)


def where(*texts):
    return b"".join(struct.pack(">H", len(text)) + text for text in texts)


def test_a_state_is_called_by_its_whole_coordinate_part_by_part():
    task = where(b"prod#task-state", b"payments", b"manual__1", b"load")
    index = task + struct.pack(">i", 2)
    key = index + where(b"return_value")
    parts = [
        hashlib.sha256(b"secure-xcom/v1/" + label + b"\0" + data).hexdigest()
        for label, data in ((b"state-task", task), (b"state-index", index), (b"state-key", key))
    ]
    name = names.state_name(INSTANCE, WHERE)
    assert name == "/".join((names.deployment(INSTANCE), *parts))
    assert names.is_state_name(name)
    assert not names.is_object_name(name)
    header = envelope.Header(bytes(16), bytes(32), INSTANCE, WHERE)
    assert names.state_name_of(header) == name
    assert names.state_folder(INSTANCE, WHERE, every_index=True) == "/".join(name.split("/")[:2])
    assert names.state_folder(INSTANCE, WHERE, every_index=False) == "/".join(name.split("/")[:3])


@pytest.mark.parametrize(
    ("change", "first_to_differ"),
    [
        ({"dag_id": "x"}, 1),
        ({"run_id": "x"}, 1),
        ({"task_id": "x"}, 1),
        ({"dag_id": "paymentsm", "run_id": "anual__1"}, 1),
        ({"map_index": -1}, 2),
        ({"key": "x"}, 3),
    ],
)
def test_parts_are_those_of_the_path_so_far(change, first_to_differ):
    one = names.state_name(INSTANCE, WHERE).split("/")
    other = names.state_name(INSTANCE, dataclasses.replace(WHERE, **change)).split("/")
    alike = [left == right for left, right in zip(one, other, strict=True)]
    assert alike == [at < first_to_differ for at in range(4)]


def test_a_state_keeps_its_name_from_try_to_try():
    again = dataclasses.replace(WHERE, ti_id=None)
    assert names.state_name(INSTANCE, again) == names.state_name(INSTANCE, WHERE)


def test_kinds_and_deployments_never_share_a_name():
    instances = ("prod#task-state", "prod#asset-state", "test#task-state", "#task-state")
    found = {part for one in instances for part in names.state_name(one, WHERE).split("/")}
    assert len(found) == 4 * 4


@pytest.mark.parametrize("change", [{"key": ""}, {"key": "k" * 65_536}, {"dag_id": ""}])
def test_what_no_header_holds_has_no_name(change):
    with pytest.raises(FormatError):
        names.state_name(INSTANCE, dataclasses.replace(WHERE, **change))
