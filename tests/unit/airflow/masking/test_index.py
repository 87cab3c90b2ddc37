"""The index of texts: what it finds in a line, at what cost, and what its budget is."""

from __future__ import annotations

import time
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_xcom.airflow.masking import index
from secure_xcom.airflow.masking.index import Index, joined, replaced
from secure_xcom.airflow.masking.leaves import leaves


def hidden(line, *texts):
    made = Index()
    assert made.add(texts)
    return replaced(line, made.spans(line), "*")


TEXTS = st.lists(st.text("abc", min_size=5, max_size=9), max_size=8)


@given(texts=TEXTS, line=st.text("abc", max_size=60))
def test_nothing_is_left_that_a_search_finds(texts, line):
    covered = [False] * len(line)
    for text in texts:
        at = line.find(text)
        while at >= 0:
            covered[at : at + len(text)] = [True] * len(text)
            at = line.find(text, at + 1)
    made = Index()
    made.add(texts)
    spans = made.spans(line)
    assert [any(a <= at < b for a, b in spans) for at in range(len(line))] == covered
    assert spans == joined(spans)


def test_texts_are_hidden_whole():
    assert hidden("a customer-17 b", "customer-1", "customer-17") == "a * b"
    assert hidden("customer-1customer-2", "customer-1", "customer-2") == "**"
    assert hidden("custom", "customer") == "custom"
    assert hidden("", "customer") == ""


def test_a_line_costs_the_same_whatever_the_number_of_texts():
    def cost(count):
        made = Index()
        made.add(f"customer {n:07}" for n in range(count))
        line = "customer 0000001 and customer x and more words, " * 4
        times = []
        for _ in range(50):
            start = time.perf_counter()
            made.spans(line)
            times.append(time.perf_counter() - start)
        return min(times)

    # An expression, or a walk through all that begin alike, takes hundreds of times as long.
    assert cost(200_000) < 10 * cost(100)


def test_a_line_that_would_take_minutes_is_hidden_whole():
    made = Index()
    made.add("a" * length for length in range(5, 8000, 2))
    line = "a" * 100_000 + "b"
    start = time.perf_counter()
    assert made.spans(line) == [(0, len(line))]
    assert time.perf_counter() - start < 20


def test_the_budget_holds_texts(monkeypatch):
    monkeypatch.setattr(index, "MOST_TEXTS", 2)
    made = Index()
    assert made.add(["a text", "another text", "a text"])
    assert not made.add(["one more"])
    assert len(made) == 2


def test_the_budget_holds_characters(monkeypatch):
    monkeypatch.setattr(index, "MOST_CHARACTERS", 10)
    made = Index()
    assert made.add(["x" * 5, "y" * 5])
    assert not made.add(["z" * 5])


def test_what_is_in_a_value():
    value = {
        "a name": [
            "a text",
            {b"bytes"},
            (UUID(int=1),),
            PurePosixPath("/a/path"),
            {"__classname__": "a.class", "__data__": "data"},
        ]
    }
    assert list(leaves([value])) == [
        "a text",
        b"bytes",
        "00000000-0000-0000-0000-000000000001",
        "/a/path",
        "data",
    ]


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ("four", []),
        ("     ", []),
        (" five5 ", [" five5 ", "five5"]),
        ("ab\ncdefg", ["ab\ncdefg", "cdefg", "ab\\ncdefg"]),
        (99_999_999, []),
        (-100_000_000, ["100000000"]),
        (100_000_000.0, ["100000000"]),
        (100_000_000.5, []),
        (float("nan"), []),
        (float("inf"), []),
        (1e300, []),
        (True, []),
        (10**400, []),
        (b"\xff\xfe", ["\\xff\\xfe"]),
        (None, []),
    ],
)
def test_how_a_leaf_is_written(leaf, expected):
    assert index.spellings(leaf) == expected
