"""Whatever a value or a library raises, a push or a pull fails with one of our errors, or works."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from support.deployment import CANARY, WHERE, Deployment, refused

from secure_xcom import audit
from secure_xcom.codecs import arrow, decode, encode, ndarray
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import CodecId, Expected, Payload
from secure_xcom.text import type_name

ASKED = Expected.exactly(WHERE)
#: `Exception` itself, those that Python's own machinery handles, and those that mean something.
RAISED = (
    *(Exception, AttributeError, ValueError, TypeError, KeyError, IndexError, StopIteration),
    *(RuntimeError, RecursionError, MemoryError, OverflowError, UnicodeError, OSError),
    *(ImportError, NotImplementedError, AssertionError),
)


def raising(error):
    def method(*_, **__):
        raise error(CANARY)

    return method


def evil(base, method, error):
    """An object of a class derived from `base`, one of whose methods raises."""
    body = {method: property(raising(error)) if method == "__class__" else raising(error)}
    kind = type("Evil", (base,), body)
    if base is dict:
        return kind({"a": CANARY})
    if base in (list, tuple, set, frozenset, str):
        return kind((CANARY,)) if base is not str else kind(CANARY)
    return kind()


class Abstract(Mapping):
    """A mapping that is no dict."""

    def __getitem__(self, key):
        return CANARY

    def __iter__(self):
        return iter(("a",))

    def __len__(self):
        return 1


METHODS = (
    *("items", "keys", "values", "__iter__", "__len__", "__eq__", "__hash__", "__repr__"),
    *("__str__", "__reduce__", "__reduce_ex__", "__class__", "__getattribute__", "__getitem__"),
    *("__contains__", "__bool__", "serialize", "__dir__", "__copy__", "__getstate__"),
)


@pytest.fixture
def layers(tmp_path):
    deployment = Deployment(tmp_path / "deployment")
    return deployment.stack()  # noqa: PD013 - it is no DataFrame


@pytest.fixture
def lines():
    """Take the audit lines since the last time; Airflow, once imported, has handlers of its own."""
    written = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())
    level = audit.logger.level
    audit.logger.addHandler(handler)
    audit.logger.setLevel("INFO")

    def take():
        taken = [json.loads(line) for line in written if CANARY not in line]
        assert len(taken) == len(written)
        written.clear()
        return taken

    yield take
    audit.logger.removeHandler(handler)
    audit.logger.setLevel(level)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("base", [dict, list, tuple, set, frozenset, str, object, Abstract])
def test_methods_of_a_value_that_raise(base, method, layers, lines):
    for error in RAISED:
        for wrap in (lambda one: one, lambda one: [one], lambda one: {"a": (b"x", one)}):
            value = wrap(evil(base, method, error))
            try:
                with refused(CodecError):
                    layers.put(value, WHERE)
            except pytest.fail.Exception:
                # Nothing asked the method: then the value went in.
                (line,) = lines()
                assert (line["operation"], line["outcome"]) == ("seal", "ok")
            else:
                (line,) = lines()
                assert (line["operation"], line["outcome"]) == ("seal", "failed")
                assert line["error"] == "CodecError"


def test_the_error_names_path_type_and_what_was_raised():
    for method in ("items", "values"):
        with pytest.raises(CodecError, match=r"\$\.rows\[1\]: .*Evil.*LookupError"):
            encode({"rows": [1, evil(dict, method, LookupError)]})


def test_a_class_may_lie_about_its_name():
    class Liar(type):
        __module__ = property(raising(ValueError))
        __name__ = property(raising(ValueError))

    class Named(metaclass=Liar):
        pass

    assert type_name(Named()).endswith("Named")
    with refused(CodecError):
        encode(Named())
    with refused(CodecError):
        encode([Named()])
    numbered = type("Numbered", (), {"__module__": 5})
    with refused(CodecError):
        encode([numbered()])


class Timeout(BaseException):
    """As Airflow's own time-out of a task is, no `Exception`."""


@pytest.mark.parametrize("kind", [Timeout, KeyboardInterrupt, SystemExit])
def test_what_is_no_error_passes_as_it_is(kind, monkeypatch):
    for value in (evil(dict, "items", kind), [evil(list, "__iter__", kind)]):
        with pytest.raises(kind, match=CANARY):
            encode(value)
    encoded = encode([np.arange(3)])
    data = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in encoded.buffers)
    # Within the encoder's and the decoder's own call-backs, which swallow what comes out of them.
    monkeypatch.setattr(ndarray, "encode", raising(kind))
    with pytest.raises(kind, match=CANARY):
        encode([np.arange(3)])
    monkeypatch.setattr(ndarray, "decode", raising(kind))
    with pytest.raises(kind, match=CANARY):
        decode(Payload(CodecId.PLAIN, (data,)))


@pytest.mark.parametrize(
    ("raised", "expected"),
    [(MemoryError, CodecError), (RecursionError, CodecError), (ValueError, FormatError)],
)
def test_a_library_that_raises_on_a_pull(raised, expected, layers, lines, monkeypatch):
    values = (np.arange(3), [np.arange(3)], [b"x", {1, 2}, np.arange(3)])
    rows = [layers.put(value, WHERE) for value in values]
    lines()
    monkeypatch.setattr(ndarray, "decode", raising(raised))
    for row in rows:
        for read in (
            lambda row: layers.get(row, ASKED).value,
            lambda row: layers.get_many({0: (row, ASKED)}),
        ):
            with refused(expected):
                read(row)
            opened, failed = lines()
            assert (opened["operation"], opened["outcome"]) == ("open", "ok")
            outcome = "refused" if expected is FormatError else "failed"
            assert (failed["outcome"], failed["error"]) == (outcome, expected.__name__)
            assert failed["key"] == WHERE.key


@pytest.mark.parametrize("raised", [MemoryError, RecursionError])
def test_too_little_memory_for_a_table_is_no_fault_of_the_table(raised, monkeypatch):
    for value, module, name in (
        (pa.table({"a": [1]}), pa, "BufferReader"),
        (pd.DataFrame({"a": [1]}), pd, "DataFrame"),
    ):
        data = b"".join(bytes(memoryview(buffer).cast("B")) for buffer in encode(value).buffers)
        with monkeypatch.context() as patched:
            patched.setattr(module, name, raising(raised))
            with refused(CodecError):
                decode(Payload(CodecId.ARROW, (data,)))


def test_a_panic_of_polars_is_an_error_of_ours(monkeypatch):
    panic = pl.exceptions.PanicException
    assert not issubclass(panic, Exception)
    monkeypatch.setattr(arrow, "_polars_stream", raising(panic))
    with refused(CodecError):
        encode(pl.DataFrame({"a": [1]}))


def nested(make, levels, inside):
    for _ in range(levels):
        inside = make(inside)
    return inside


def deeper(frames, function, *args):
    """Call a function with this many more frames on the stack."""
    return function(*args) if frames == 0 else deeper(frames - 1, function, *args)


@pytest.mark.parametrize(
    ("make", "levels"),
    [
        (lambda item: [item], 400),
        (lambda item: {"a": item}, 400),
        (lambda item: (item,), 250),
        (lambda item: {"a": (item,)}, 150),
    ],
    ids=["lists", "dicts", "tuples", "tuples in dicts"],
)
@pytest.mark.parametrize("inside", [b"x", 2**70, 1], ids=["bytes", "large int", "int"])
def test_what_was_pushed_is_pulled_from_a_deeper_stack(make, levels, inside, layers):
    value = nested(make, levels, (inside,))
    row = layers.put(value, WHERE)
    straight = layers.get(row, ASKED).value
    room = sys.getrecursionlimit() - len(list(iter_frames())) - 120
    threads = threading.active_count()
    for frames in (room // 2, room):
        again = deeper(frames, layers.get, row, ASKED).value
        # Compared level by level: `==` would need the stack, too.
        left, right = straight, again
        depth = 0
        while type(left) in (list, dict, tuple):
            assert type(left) is type(right)
            assert len(left) == len(right) == 1
            left, right = (next(iter(x.values() if type(x) is dict else x)) for x in (left, right))
            depth += 1
        assert left == right == inside
        assert depth > levels
    assert threading.active_count() <= threads


def iter_frames():
    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def test_what_refers_to_itself_or_is_too_deep_is_refused_when_it_is_pushed():
    circle = [b"x"]
    circle.append(circle)
    for value in (circle, nested(lambda one: [one], 100_000, b"x"), {"a": {1: circle}}):
        with pytest.raises(CodecError, match="nested too deeply"):
            encode(value)
