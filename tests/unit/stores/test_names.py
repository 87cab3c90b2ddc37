from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_xcom.format import names
from secure_xcom.format.reference import STATE_MARKS, STATE_STORES
from secure_xcom.model import Coordinate
from secure_xcom.stores.names import NAME_CHARACTERS_MAX, is_name
from secure_xcom.uris import PREFIX_CHARACTERS_MAX

WHERE = Coordinate("dag", "run", "task", -1, "key")


@pytest.mark.parametrize("kind", STATE_MARKS)
def test_what_the_format_calls_objects_is_a_name(kind: str):
    instance = "prod" + STATE_MARKS[kind]
    assert is_name(names.object_name("prod", b"header"))
    assert is_name(names.state_name(instance, WHERE))
    for every_index in (True, False):
        assert is_name(names.state_folder(instance, WHERE, every_index=every_index))


def test_the_longest_name_has_room_in_cloud_storage():
    folders = max(map(len, STATE_STORES.values()))
    assert PREFIX_CHARACTERS_MAX + folders + len("/") + NAME_CHARACTERS_MAX <= 1024


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "a/", "/a", "a//b", ".", "..", "a/..", "a/../b", ".hidden", "a/.hidden"),
        *("a b", "a\n", "a\x00", "é", "a\\b", "a?b", "a#b", "x" * 256, "a/" * 400 + "a"),
    ],
)
def test_what_is_no_name(name: str):
    assert not is_name(name)


@given(st.text(st.sampled_from("ab./~%-_"), max_size=20))
def test_a_name_stays_below_its_store(name: str):
    if is_name(name):
        assert not name.startswith("/")
        assert all(part and not part.startswith(".") for part in name.split("/"))
