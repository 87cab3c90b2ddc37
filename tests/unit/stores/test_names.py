from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secure_xcom.model import Coordinate, Expected
from secure_xcom.stores.names import (
    COMPONENT_BYTES_MAX,
    NAME_BYTES_MAX,
    PREFIX_BYTES_MAX,
    coordinate_prefix,
    is_name,
    new_token,
    object_name,
)

# Surrogates included: what is not text still must not collide.
IDS = st.one_of(
    st.text(max_size=40),
    st.text(st.characters(exclude_categories=()), max_size=12),
    st.text(alphabet="a./%~2E7 \\\x00", max_size=8),
    st.integers(0, 3).map(lambda n: "x" * (COMPONENT_BYTES_MAX - 2 + n)),
    st.integers(0, 9).map(lambda n: "é" * 300 + str(n)),
)
COORDINATES = st.builds(
    Coordinate,
    dag_id=IDS,
    run_id=IDS,
    task_id=IDS,
    map_index=st.integers(-1, 2**31 - 1),
    key=IDS,
)
TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - a token of names, not of access


def test_a_name_reads_like_the_coordinate():
    coordinate = Coordinate("my_dag", "manual__2026-11-22T00:00:00+00:00", "load", -1, "rows")
    assert object_name(coordinate, TOKEN) == (
        f"my_dag/manual__2026-11-22T00%3A00%3A00%2B00%3A00/load/-1/rows/{TOKEN}"
    )


@pytest.mark.parametrize(
    ("id_", "component"),
    [
        ("", "~"),
        ("~", "%7E"),
        (".", "%2E"),
        ("..", "%2E."),
        (".well-known", "%2Ewell-known"),
        ("a.b", "a.b"),
        ("a/b", "a%2Fb"),
        ("a\\b", "a%5Cb"),
        ("a%2Fb", "a%252Fb"),
        ("é", "%C3%A9"),
        ("\ud800", "%ED%A0%80"),
        ("a\nb", "a%0Ab"),
        ("*?#[]", "%2A%3F%23%5B%5D"),
        ("x" * 180, "x" * 180),
    ],
)
def test_a_component(id_: str, component: str):
    assert coordinate_prefix(Expected(dag_id=id_)) == component + "/"


def test_a_long_id_keeps_its_start_and_gets_the_digest_of_all_of_it():
    component = coordinate_prefix(Expected(dag_id="x" * 181)).removesuffix("/")
    # Of 181 letters x, by sha256sum.
    digest = "dc31ed5afb940294fdd687c69bbba2aecc51b6093425c0047f6fa6c687303924"
    assert component == "x" * 115 + "~" + digest


def test_an_escape_is_not_cut_in_two():
    component = coordinate_prefix(Expected(dag_id="é" * 200)).removesuffix("/")
    kept, _, digest = component.partition("~")
    assert unquote(kept, errors="strict") == "é" * 19
    assert len(digest) == 64


@given(COORDINATES, COORDINATES)
@example(Coordinate("a", "b", "c", -1, ""), Coordinate("a", "b", "c", -1, "~"))
@example(Coordinate("a/b", "c", "d", 0, "k"), Coordinate("a", "b/c", "d", 0, "k"))
@example(Coordinate("a%2Fb", "c", "d", 0, "k"), Coordinate("a/b", "c", "d", 0, "k"))
def test_two_coordinates_share_a_name_only_if_they_are_one(one: Coordinate, other: Coordinate):
    assert (object_name(one, TOKEN) == object_name(other, TOKEN)) == (one == other)


@given(COORDINATES)
def test_a_name_is_short_plain_and_leaves_nothing(coordinate: Coordinate):
    name = object_name(coordinate, TOKEN)
    components = name.split("/")
    assert len(components) == 6
    assert components[-1] == TOKEN
    assert len(name) <= NAME_BYTES_MAX
    assert NAME_BYTES_MAX + 1 + PREFIX_BYTES_MAX <= 1024
    for component in components:
        assert 0 < len(component) <= COMPONENT_BYTES_MAX <= 255
        assert not component.startswith(".")
        assert re.fullmatch("[A-Za-z0-9_.~%-]+", component)
    assert is_name(name)


@given(COORDINATES, st.integers(0, 5))
def test_the_prefix_covers_what_is_known_up_to_the_first_gap(coordinate: Coordinate, known: int):
    fields = ("dag_id", "run_id", "task_id", "map_index", "key")
    expected = Expected(**{field: getattr(coordinate, field) for field in fields[:known]})
    prefix = coordinate_prefix(expected)
    assert object_name(coordinate, TOKEN).startswith(prefix)
    assert prefix.count("/") == known
    assert prefix == "" or prefix.endswith("/")


def test_what_follows_a_gap_does_not_count():
    assert coordinate_prefix(Expected(dag_id="d", task_id="t", key="k")) == "d/"
    assert coordinate_prefix(Expected(run_id="r")) == ""


@given(COORDINATES, COORDINATES)
def test_a_prefix_covers_no_other_coordinate(one: Coordinate, other: Coordinate):
    prefix = coordinate_prefix(Expected.exactly(one))
    assert object_name(other, TOKEN).startswith(prefix) == (one == other)


def test_tokens_have_128_bits_and_differ():
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(re.fullmatch("[0-9a-f]{32}", token) for token in tokens)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "../a",
        ".hidden",
        "a/.hidden",
        "a\\..\\b",
        "a\x00b",
        "a\n",
        "a b",
        "é",
        "x" * 801,
    ],
)
def test_names_that_are_never_written_are_refused(name: str):
    assert not is_name(name)
