"""What a database remembers of its marks."""

from __future__ import annotations

import pytest

from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle.mark import Held, Memory


def memory(text):
    held = [text]
    return Memory(lambda: held[0], lambda new: held.__setitem__(0, new)), held


def test_each_place_is_remembered_by_itself():
    kept, _ = memory(None)
    assert kept.of("a") is None
    kept.keep("a", Held("2", "1"))
    kept.keep("b", Held("7", ""))
    kept.keep("a", Held("3", "2"))
    assert (kept.of("a"), kept.of("b"), kept.of("c")) == (Held("3", "2"), Held("7", ""), None)


@pytest.mark.parametrize(
    "text", ["{", "[]", '"x"', '{"a": 1}', '{"a": {"token": "x"}}', "[" * 9999]
)
def test_a_variable_that_somebody_edited_is_refused(text):
    kept, held = memory(text)
    with pytest.raises(ConfigError, match="secure_xcom_gc"):
        kept.of("a")
    assert held == [text]
