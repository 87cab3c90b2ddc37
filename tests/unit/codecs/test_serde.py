"""What goes through Airflow's serialisation: what is taken out, and how refusals read."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import importlib
import json
import re
import traceback

import attr
import numpy as np
import pandas as pd
import pydantic
import pytest
from support.sameness import assert_same

from secure_xcom.codecs import contents, decode, document, encode, plain
from secure_xcom.codecs import serde as codec
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Payload

try:
    SERDE = importlib.import_module("airflow.sdk.serde")
except ImportError:  # before Airflow 3.2
    SERDE = importlib.import_module("airflow.serialization.serde")
CARD = "4111111111111111"


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: object
    y: object = 0

    def __post_init__(self):
        assert not isinstance(self.x, str), "a placeholder must not reach a constructor"


@attr.frozen
class Attrs:
    x: object = attr.field(validator=lambda _, __, value: Attrs.check(value))

    @staticmethod
    def check(value):
        assert not isinstance(value, str), "a placeholder must not reach a validator"


class Model(pydantic.BaseModel):
    size: int


class Own:
    """Serialises itself, from what it holds."""

    def __init__(self, blob):
        self.blob = blob

    def serialize(self):
        return {"hex": self.blob.hex()}

    @staticmethod
    def deserialize(data, version):  # noqa: ARG004
        return Own(bytes.fromhex(data["hex"]))


class Nowhere(dt.tzinfo):
    """A zone without a name, which Airflow would write as nothing."""

    def utcoffset(self, _):
        return dt.timedelta(hours=1)


class Loud:
    def serialize(self):
        raise RuntimeError(CARD)


@pytest.fixture(autouse=True)
def allow(monkeypatch):
    """Let Airflow restore classes by these patterns, and no others."""

    def allow(*patterns):
        monkeypatch.setenv(
            "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES", " ".join(("airflow.*", *patterns))
        )
        _forget()

    allow(f"{__name__}.*")
    yield allow
    monkeypatch.undo()
    _forget()


def _forget():
    for name in ("_get_patterns", "_get_regexp_patterns", "_match_glob", "_match_regexp"):
        getattr(SERDE, name).cache_clear()


def parts(value):
    """The JSON text, the placeholders' prefix and the values taken out of a payload."""
    payload = encode(value)
    assert payload.codec is CodecId.SERDE
    return plain.decode(plain.Source(payload.buffers))


def serde(*tree):
    return Payload(CodecId.SERDE, document.pack([*tree], lambda _: None))


def test_the_json_is_what_airflow_makes_of_the_value():
    value = ({"rows": [(1, decimal.Decimal("1.5"))], 7: {"a"}},)
    made = json.dumps(SERDE.serialize(value), separators=(",", ":"))
    assert parts(value) == [made.encode(), "", []]


def test_a_placeholder_stands_where_a_value_was_taken_out():
    text, prefix, taken = parts((b"x", 2**70))
    assert taken == [b"x", 2**70]
    assert re.fullmatch("[0-9a-f]{32}", prefix)
    assert json.loads(text)["__data__"] == [f"{prefix}0", f"{prefix}1"]


def test_marks_are_never_the_same_twice():
    assert parts((b"",))[1] != parts((b"",))[1]


@pytest.mark.parametrize(
    "value",
    [
        *(Point(b"x", bytearray(b"y")), Attrs(np.arange(3)), [Point([{"a": b""}])]),
        *(Own(b"\0\xff"), {"a": {b"x", (b"y", 1)}}, (Model(size=3), b"")),
        (pd.DataFrame({"a": [1], "b": ["x"]}), {"when": dt.date(2020, 1, 1), "nan": b""}),
    ],
    ids=["dataclass", "attrs", "in a list", "its own", "set", "pydantic", "frame"],
)
def test_what_is_taken_out_is_back_before_a_class_is_made(value):
    before = repr(value)
    restored = decode(encode(value))
    assert repr(value) == before
    if isinstance(value, Own):
        assert restored.blob == value.blob
    else:
        assert_same(restored, value)


@pytest.mark.parametrize(
    ("value", "path", "kind"),
    [
        (object(), "$", "builtins.object"),
        (memoryview(b"\xc4"), "$", "builtins.memoryview"),
        ({"rows": [1, 2, 3, {"when": object()}]}, "$.rows[3].when", "builtins.object"),
        ([(1, {"a": range(1)})], "$[0][1].a", "builtins.range"),
        ({"a": Point(1, range(1))}, "$.a.y", "builtins.range"),
        ([Attrs([range(3)])], "$[0].x[0]", "builtins.range"),
        ({"a": {"b": memoryview(b"")}}, "$.a.b", "builtins.memoryview"),
        (({"__classname__": "x"},), "$[0]", "builtins.dict"),
        ({CARD: range(1), "x": 1}, "${0}", "builtins.range"),
        ({"ok": 1, "not a name": {"n": range(1)}}, "${1}.n", "builtins.range"),
        ({"a": Loud()}, "$.a", f"{__name__}.Loud"),
        ({"s": pd.Series([object()])}, "$.s[0]", "builtins.object"),
        ({"f": (1, pd.DataFrame({"col": [range(1), "x"]}))}, "$.f[1].col[0]", "builtins.range"),
        ([np.array([object()])], "$[0]", "numpy array"),
        ([[1] * 50, [type]], "$[1][0]", "builtins.type"),
        ({"t": [dt.datetime(2020, 1, 1, tzinfo=Nowhere())]}, "$.t[0]", "datetime.datetime"),
    ],
)
def test_a_refusal_names_path_and_type_and_no_contents(value, path, kind):
    with pytest.raises(CodecError) as caught:
        encode(value)
    message = str(caught.value)
    assert message.startswith(f"The value cannot be encoded: {path}: ")
    assert kind in message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert CARD not in "".join(traceback.format_exception(caught.value))


def test_a_value_within_itself_is_refused():
    value = {"a": []}
    value["a"].append(value)
    with pytest.raises(CodecError, match=r"encoded: \$\.a\[0\]: .*refers to itself"):
        encode(value)


def test_depth_without_end_is_refused():
    value = ()
    for _ in range(5000):
        value = (value,)
    with pytest.raises(CodecError, match="nested too deeply") as caught:
        encode(value)
    assert len(str(caught.value)) < 500


def test_a_class_that_is_not_allowed_is_not_even_imported(allow, tmp_path, monkeypatch):
    (tmp_path / "canary_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = json.dumps({"__classname__": "canary_module.Boom", "__version__": 1, "__data__": {}})
    with pytest.raises(CodecError, match=r"canary_module\.Boom.*allowed_deserialization_classes"):
        decode(serde(text.encode(), "", []))
    allow("canary_module.*")
    with pytest.raises(SystemExit, match="imported"):
        decode(serde(text.encode(), "", []))


def test_what_airflow_no_longer_allows_is_refused_on_read(allow):
    payload = encode(Point(1, 2))
    assert decode(payload) == Point(1, 2)
    allow()
    with pytest.raises(CodecError, match=r"Point.*allowed_deserialization_classes"):
        decode(payload)


def test_a_class_that_cannot_be_restored_is_an_error_without_contents():
    payload = encode(Model(size=3))
    text, prefix, taken = plain.decode(plain.Source(payload.buffers))
    with pytest.raises(CodecError) as caught:
        decode(serde(text.replace(b":3", f':"{CARD}x"'.encode()), prefix, taken))
    assert "ValidationError" in str(caught.value)
    assert CARD not in "".join(traceback.format_exception(caught.value))


def test_a_class_of_a_module_that_is_gone_is_an_error_that_says_so():
    text = json.dumps({"__classname__": f"{__name__}x.Y", "__version__": 1, "__data__": {}})
    with pytest.raises(CodecError, match=re.escape(f"{__name__}x")):
        decode(serde(text.encode(), "", []))


@pytest.mark.parametrize(
    "tree",
    [
        [b"[1,"],
        ["[]", "", []],
        [b"[]", "", [1]],
        [b"[]", "m", []],
        [b'["m0"]', "m", [b"a", b"b"]],
        [b'["m0","m0"]', "m", [b"a"]],
        [b'["m1"]', "m", [b"a"]],
        [b'["mx"]', "m", [b"a"]],
        [b'["m"]', "m", [b"a"]],
        [b"\xff", "", []],
        [b"[1,]", "", []],
        [b"[" * 100_000, "", []],
        [b"{}", "", [], 1],
    ],
)
def test_a_document_that_is_no_serialisation_is_refused(tree):
    with pytest.raises(FormatError):
        decode(serde(*tree))


def test_contents_are_the_leaves_and_no_class_is_made(monkeypatch):
    payload = encode([Point([CARD], np.arange(2)), Own(b"beef")])
    assert payload.codec is CodecId.SERDE
    monkeypatch.setattr(codec, "_restored", lambda _: pytest.fail("it was restored"))
    tree, array = contents(payload)
    assert CARD in json.dumps(tree)
    assert b"beef".hex() in json.dumps(tree)
    assert_same(array, np.arange(2))


@pytest.mark.parametrize("text", [b"{", b"\xff", b"[" * 1_000_000])
def test_contents_that_are_no_json_are_refused(text):
    with pytest.raises(FormatError):
        contents(serde(text, "", []))
