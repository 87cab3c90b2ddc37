"""Keys and the rest of a coordinate, of types that Airflow takes or does not."""

from __future__ import annotations

import enum
import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import VERSION, WHERE, pull, push

from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.errors import FormatError

CARD = "4111111111111111"


class Key(str, enum.Enum):  # noqa: UP042 - another kind than a StrEnum
    A = "a"


class Of:
    """A type like no other."""

    def __str__(self):
        return CARD

    __hash__ = None


@pytest.fixture
def lines(caplog, monkeypatch):
    logger = logging.getLogger("secure_xcom.audit")
    monkeypatch.setattr(logger, "disabled", False)
    caplog.set_level(logging.INFO, logger.name)
    return lambda: [
        json.loads(record.message) for record in caplog.records if record.name == logger.name
    ]


@pytest.mark.parametrize("field", ["dag_id", "run_id", "task_id", "key"])
@pytest.mark.parametrize("value", [b"a", 1.5, ["a"], {}, Of()], ids=lambda value: str(type(value)))
def test_a_coordinate_is_text(deployment, lines, field, value):
    with pytest.raises(FormatError, match=f"The {field} of an XCom is text") as caught:
        push("value", **{field: value})
    assert type(value).__name__ in str(caught.value)
    assert CARD not in str(caught.value)
    assert not deployment.objects()
    (line,) = lines()
    assert (line["operation"], line["error"], line[field]) == ("seal", "FormatError", None)


@pytest.mark.parametrize("value", ["x", 1.5, [1], Of(), float("nan"), {}])
@pytest.mark.usefixtures("deployment")
def test_a_map_index_is_an_integer(value):
    with pytest.raises(FormatError, match="The map_index of an XCom is an integer"):
        push("value", map_index=value)


@pytest.mark.parametrize("value", [3, "3", 3.0, np.int64(3)])
@pytest.mark.usefixtures("deployment")
def test_what_airflow_takes_for_an_integer_is_one(lines, value):
    assert pull(push("value", map_index=value), map_index=3) == "value"
    assert lines()[0]["map_index"] == 3


@pytest.mark.usefixtures("deployment")
def test_an_enumeration_of_text_is_its_text(lines):
    assert pull(push("value", key=Key.A), key="a") == "value"
    assert lines()[0]["key"] == "a"


@pytest.mark.usefixtures("deployment")
def test_a_number_is_a_key_on_airflow_2_alone():
    if VERSION < (3, 0):
        assert pull(push("value", key=5), key="5") == "value"
    else:
        with pytest.raises(FormatError, match=r"key of an XCom is text.*builtins\.int"):
            push("value", key=5)


@pytest.mark.parametrize("field", ["dag_id", "run_id", "task_id", "key"])
@pytest.mark.usefixtures("deployment")
def test_what_is_empty_is_not_taken_for_missing(field):
    with pytest.raises(FormatError, match=f"The {field} of this XCom is empty"):
        push("value", **{field: ""})
    with pytest.raises(FormatError, match=f"was not told its {field}"):
        push("value", **{field: None})


@pytest.mark.skipif(VERSION < (3, 0), reason="see test_two.py")
@pytest.mark.usefixtures("deployment")
def test_a_pull_says_which_argument_it_cannot_use(monkeypatch):
    found = SimpleNamespace(value=push("value"), key="k")
    monkeypatch.setattr(
        SecureXComBackend.__mro__[1],
        "get_one",
        classmethod(lambda cls, **_: cls.deserialize_value(found)),
    )
    assert SecureXComBackend.get_one(**WHERE) == "value"
    assert SecureXComBackend.get_one(**{**WHERE, "map_index": "-1"}) == "value"
    with pytest.raises(FormatError, match="key of an XCom is text"):
        SecureXComBackend.get_one(**{**WHERE, "key": b"k"})
