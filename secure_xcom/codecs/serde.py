"""Whatever Airflow's own serialisation takes, by that serialisation (`docs/codecs.md`, section 2).

serde = document of [JSON text, mark, [values that were lifted out]]
"""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import operator
import re
import secrets
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from secure_xcom.codecs import document, plain
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.libraries import Foreign, library_of
from secure_xcom.codecs.refusal import Refused, fields_of, find, is_record, type_name
from secure_xcom.codecs.source import Source
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import Buffer

_MARK_BYTES = 16
_NOT_ALLOWED = re.compile(r"([\w.]+) was not found in allow list")
_CONTAINERS = frozenset((list, tuple, set, frozenset))
#: Where Airflow looks for the name of a time zone.
_ZONE_NAMES = ("key", "name", "zone")


def encode(value: object, leaf: Callable[[object], Encoded | None]) -> list[Buffer]:
    """A document of Airflow's JSON, and of what Airflow would refuse or change.

    Raises:
        Refused: neither Airflow's serialisation nor a codec takes a value in it; says which.
        CodecError: a library is missing.
    """
    try:
        text, lifted = _text(value, leaf)
    except CodecError:
        raise
    except Exception as error:  # noqa: BLE001 - a value's own methods run here
        fault = type(error)
    else:
        mark = lifted.mark if lifted.values else ""
        packed = document.pack([text.encode("utf-8"), mark, lifted.values], leaf)
        if packed is not None:
            return packed
        fault = TypeError
    raise _refusal(value, leaf, fault)


def _text(value: object, leaf: Callable[[object], Encoded | None]) -> tuple[str, _Lifted]:
    lifted = _Lifted(leaf)
    value = lifted.out_of(value)
    if (xcom := _sdk_xcom()) is not None:
        return json.dumps(xcom.serialize_value(value), separators=(",", ":")), lifted
    from airflow.utils.json import XComEncoder  # noqa: PLC0415 - Airflow 2, and only when needed

    return json.dumps(value, cls=XComEncoder, separators=(",", ":")), lifted


@functools.cache
def _sdk_xcom() -> Foreign:
    """The stock backend of Airflow 3; None on Airflow 2."""
    try:
        from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415 - only when needed
    except ImportError:
        return None
    return BaseXCom


class _Lifted:
    """What is taken out of a value before Airflow sees it, and the marks left in its place.

    A mark is a text that nobody could foresee, so that no value holds it by chance or on purpose;
    Airflow hands texts on as they are. What is left of the value is copied only where it changed.
    """

    def __init__(self, leaf: Callable[[object], Encoded | None]) -> None:
        self._leaf = leaf
        self.mark = secrets.token_hex(_MARK_BYTES)
        self.values: list[object] = []

    def out_of(self, value: Foreign) -> Foreign:
        """The value, with marks for what was taken out."""
        kind: type = type(value)
        if kind is int:
            return value if document.in_64_bits(value) else self._mark(document.extension(value))
        if _is_airflows(kind):
            return value
        if isinstance(value, dict):
            before: Iterable[object] = value.values()
            make: Callable[[list[object]], object] = functools.partial(_dict_of, value)
        elif isinstance(value, (list, tuple, set, frozenset)):
            before = value
            make = getattr(kind, "_make", kind)
        elif (apart := self._apart(value)) is not None:
            return self._mark(apart)
        elif isinstance(value, dt.datetime):
            return _with_zone_that_airflow_reads(value)
        else:
            names = [name for name in fields_of(value) if hasattr(value, name)]
            before = [getattr(value, name) for name in names]
            make = functools.partial(_record_of, value, names)
        items = [self.out_of(item) for item in before]
        return value if all(map(operator.is_, items, before)) else make(items)

    def _mark(self, apart: object) -> str:
        self.values.append(apart)
        return f"{self.mark}{len(self.values) - 1}"

    def _apart(self, value: object) -> object | None:
        """What goes into the document for a value; None if Airflow gets it."""
        if type(value) is bytes:
            return value
        if (small := document.extension(value)) is not None:
            return small
        try:
            return None if self._leaf(value) is None else value
        except Refused:  # Airflow's serialisation may take it
            return None


def _with_zone_that_airflow_reads(value: dt.datetime) -> dt.datetime:
    """The time itself. Airflow writes a zone without a name as nothing, and cannot read that."""
    zone = value.tzinfo
    if zone is None or any(getattr(zone, name, None) for name in _ZONE_NAMES):
        return value
    if zone.utcoffset(None) != dt.timedelta(0):
        raise TypeError
    return value


@functools.lru_cache(maxsize=1024)
def _is_airflows(kind: type) -> bool:
    """Whether everything of this type is left to Airflow as it is.

    That is a text and a number as much as a class with a `serialize` of its own. What is looked
    into is what Airflow takes apart: containers, and the fields of dataclasses and attrs.
    """
    if kind in _CONTAINERS or kind is bytes or issubclass(kind, dict):
        return False
    return (
        not (issubclass(kind, tuple) and hasattr(kind, "_make"))
        and kind is not bytearray
        and not issubclass(kind, dt.datetime)
        and kind not in document.PATHS
        and library_of(kind) not in plain.LIBRARIES
        and (hasattr(kind, "serialize") or not is_record(kind))
    )


def _dict_of(value: dict[object, object], items: list[object]) -> object:
    """A dict of the same keys that holds something else."""
    return dict(zip(value, items, strict=True))


def _record_of(value: object, names: list[str], items: list[object]) -> object:
    """A copy of a dataclass or attrs instance that holds something else."""
    changed = copy.copy(value)
    for name, item in zip(names, items, strict=True):
        object.__setattr__(changed, name, item)  # it may be frozen, or check what it is given
    return changed


def _refusal(
    value: object, leaf: Callable[[object], Encoded | None], fault: type[Exception]
) -> Refused:
    """Where the value is refused, and why. The cause is not quoted: it may hold contents."""

    def accepts(part: object) -> bool:
        try:
            _text(part, leaf)
        except Exception:  # noqa: BLE001 - a value's own methods run here
            return False
        return True

    steps, culprit = find(value, accepts)
    try:
        leaf(culprit)
    except Refused as refused:
        return Refused(refused.reason, (*steps, *refused.steps))
    reason = f"a value of type {type_name(culprit)}, which Airflow's serialisation does not take"
    if fault is RecursionError:
        reason = "the value is nested too deeply, or refers to itself"
    elif isinstance(culprit, dict):
        reason = f"{reason}: it has keys that are reserved, or of a type that is not allowed"
    return Refused(f"{reason} ({fault.__name__})", steps)


def decode(source: Source) -> object:
    """The value, restored by Airflow within `[core] allowed_deserialization_classes`.

    Raises:
        FormatError: it is not what `encode` writes.
        CodecError: Airflow does not restore it, or a library is missing.
    """
    tree, mark, values = _parts(source)
    fault: Exception | None = None
    if values:
        left = dict(enumerate(values))
        tree = _put_back(tree, mark, left)
        if left:
            raise FormatError("The encoded value does not use everything that it carries.")
    try:
        return _restored(tree)
    except Exception as error:  # noqa: BLE001 - a class's own methods run here
        fault = _not_restored(error)
    raise fault


def contents(source: Source) -> object:
    """The JSON that Airflow made of the value, and what was lifted out of it; none of it restored.

    Raises:
        FormatError: it is not what `encode` writes.
        CodecError: a library is missing.
    """
    tree, _, values = _parts(source)
    return [tree, *values]


def _parts(source: Source) -> tuple[object, str, list[object]]:
    match plain.decode(source):
        case [bytes(text), str(mark), list(values)] if bool(mark) == bool(values):
            pass
        case _:
            raise FormatError("The encoded value is not one of Airflow's serialisation.")
    fault: Exception | None = None
    try:
        tree = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        tree, fault = None, FormatError("The encoded value is not JSON.")
    if fault:
        raise fault
    return tree, mark, values


def _put_back(tree: object, mark: str, left: dict[int, object]) -> object:
    """The tree with each mark replaced by what it stands for."""
    if isinstance(tree, str) and tree.startswith(mark):
        index = tree[len(mark) :]
        if not index.isdecimal() or int(index) not in left:
            raise FormatError("The encoded value refers to something that it does not carry.")
        return left.pop(int(index))
    if isinstance(tree, list):
        return [_put_back(item, mark, left) for item in tree]
    if isinstance(tree, dict):
        return {key: _put_back(item, mark, left) for key, item in tree.items()}
    return tree


def _restored(tree: object) -> object:
    """What Airflow makes of the tree."""
    if (xcom := _sdk_xcom()) is not None:
        return xcom.deserialize_value(SimpleNamespace(value=tree))
    from airflow.utils.json import XComDecoder  # noqa: PLC0415 - Airflow 2, and only when needed

    return _restored_inside_out(tree, XComDecoder().object_hook)


def _restored_inside_out(tree: object, hook: Callable[[dict[str, object]], object]) -> object:
    """What Airflow 2 does while it reads JSON, done after: innermost dicts first."""
    if isinstance(tree, list):
        return [_restored_inside_out(item, hook) for item in tree]
    if isinstance(tree, dict):
        return hook({key: _restored_inside_out(item, hook) for key, item in tree.items()})
    return tree


def _not_restored(error: Exception) -> CodecError:
    """What to say of Airflow's error. It is not quoted: it may hold contents."""
    if isinstance(error, ImportError):
        if match := _NOT_ALLOWED.match(str(error)):
            return CodecError(
                f"The value holds a {match[1]}, which Airflow may not deserialise here. Add the "
                "class to `[core] allowed_deserialization_classes` if you trust it."
            )
        return CodecError(
            f"The value holds a class of module {error.name}, which cannot be imported here."
        )
    return CodecError(
        f"Airflow's serialisation could not restore the value ({type(error).__name__}; what it "
        "says may quote the value and is left out). Its classes may have changed since it was "
        "written: clear the task that wrote it."
    )
