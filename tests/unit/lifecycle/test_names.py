"""Sets of names, in little memory."""

from __future__ import annotations

import hashlib
import random

from secure_xcom.lifecycle.names import Names, Sketch


def hashed(number):
    return hashlib.sha256(str(number).encode()).digest()


def test_what_was_added_is_found_and_nothing_else():
    names, sketch = Names(), Sketch()
    order = [*range(3000), *range(0, 3000, 7)]
    random.Random(1).shuffle(order)  # noqa: S311 - an order, and nothing secret
    for number in order:
        names.add(hashed(number))
        sketch.add(hashed(number))
    assert all(hashed(number) in names for number in range(3000))
    assert not any(hashed(number) in names for number in range(3000, 9000))
    assert all(sketch.may_have(hashed(number)) for number in range(3000))
    passed = sum(sketch.may_have(hashed(number)) for number in range(3000, 9000))
    assert passed < 30


def test_names_may_be_added_after_some_were_asked_for():
    names = Names()
    assert hashed(1) not in names
    names.add(hashed(1))
    assert hashed(1) in names
    names.add(hashed(1)[:1] + bytes(31))
    assert hashed(1)[:1] + bytes(31) in names
    assert hashed(1) in names
    assert hashed(1)[:1] + b"\xff" * 31 not in names


def test_a_name_takes_its_own_bytes():
    names = Names()
    for number in range(2000):
        names.add(hashed(number))
        names.add(hashed(number))
    assert hashed(5) in names
    assert all(hashed(number) in names for number in range(2000))
    assert sum(map(len, names._sorted)) == 2000 * 32
    assert sum(map(len, names._added)) == 0
