"""Whatever Airflow's own serialisation takes, by that serialisation (`docs/codecs.md`, section 2).

serde = document of [JSON text, placeholder prefix, [values that were taken out]]
"""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import operator
import re
import secrets
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import NamedTuple

from secure_xcom.codecs import document, exact, holders, plain, small
from secure_xcom.codecs.deep import with_stack, with_whole_stack
from secure_xcom.codecs.document import Encoded
from secure_xcom.codecs.libraries import Untyped, library_of
from secure_xcom.codecs.proof import ZONE_NAMES, Proof, Unreadable
from secure_xcom.codecs.refusal import Refused, fields_of, find_refused, is_record
from secure_xcom.codecs.source import Source
from secure_xcom.codecs.ways_out import way_out, why_unreadable
from secure_xcom.errors import CodecError, FormatError, SecureXComError
from secure_xcom.model import Buffer
from secure_xcom.text import type_name

_PREFIX_BYTES = 16
_NOT_ALLOWED = re.compile(r"([\w.]+) was not found in allow list")
_CONTAINERS = frozenset((list, tuple, set, frozenset))
_NEVER_CHANGED = frozenset((str, float, bool, type(None), list))


def encode(
    value: object, leaf: Callable[[object], Encoded | None], *, is_exact: bool = False
) -> list[Buffer]:
    """A document of Airflow's JSON, and of what Airflow would refuse or change.

    Args:
        value: any value.
        leaf: encodes arrays and tables, and gives None for anything else.
        is_exact: whether it is refused if it would come back as anything else than it is.

    Raises:
        Refused: neither Airflow's serialisation nor a codec takes a value in it, or it would come
            back changed and `is_exact`; says which.
        CodecError: a library is missing.
    """
    fault: Exception | None = None
    try:
        written = _encode(value, leaf, is_exact=is_exact)
    except CodecError:
        raise
    except Exception as error:  # noqa: BLE001 - a value's own methods run here
        fault = error
    if fault is not None:
        raise _refusal(value, leaf, fault, is_exact=is_exact)
    if is_exact:
        exact.check(value, written.back, written.taken)
    return written.packed


class _Written(NamedTuple):
    packed: list[Buffer]
    #: The arrays and tables that were taken out of the value before Airflow saw it, by their ids.
    taken: Mapping[int, object]
    #: What is read of it; None if that was not tried.
    back: object


def _encode(value: object, leaf: Callable[[object], Encoded | None], *, is_exact: bool) -> _Written:
    extractor = _Extractor(leaf, is_exact=is_exact)
    left = extractor.extract_from(value)
    is_deep = False
    try:
        text = _json(left)
    except RecursionError:
        is_deep = True
    if is_deep:
        text = with_whole_stack(_json, left)
    prefix = extractor.prefix if extractor.values else ""
    tree = [text.encode("utf-8"), prefix, extractor.values]
    packed = document.pack(tree, leaf, is_exact=is_exact)
    if packed is None:
        raise TypeError
    back = None
    if is_exact or is_deep or extractor.proof.is_needed(text):
        back = _read_back(packed)
    return _Written(packed, extractor.taken, back)


def _read_back(packed: list[Buffer]) -> object:
    """Read what was written, since Airflow writes more than it reads.

    Raises:
        Unreadable: it cannot be read.
    """
    try:
        return decode(Source(list(packed)))
    except SecureXComError as error:
        reason = str(error)
    raise Unreadable(reason)


def _json(value: object) -> str:
    """What the stock backend makes of a value."""
    if (xcom := _sdk_xcom()) is not None:
        return json.dumps(xcom.serialize_value(value), separators=(",", ":"))
    from airflow.utils.json import XComEncoder  # noqa: PLC0415 - Airflow 2, and only when needed

    return json.dumps(value, cls=XComEncoder, separators=(",", ":"))


@functools.cache
def _sdk_xcom() -> Untyped:
    """Airflow 3's own XCom backend; None on Airflow 2."""
    try:
        from airflow.sdk.bases.xcom import BaseXCom  # noqa: PLC0415 - only when needed
    except ImportError:
        return None
    return BaseXCom


class _Open:
    """A container or record whose parts are being looked at."""

    def __init__(self, value: object, parts: list[object], make: Callable[..., object]) -> None:
        self.value = value
        self._parts = parts
        self._make = make
        self.left = iter(parts)
        #: What is to be in the places of the parts so far.
        self.items: list[object] = []

    def closed(self) -> object:
        """The value itself, or one like it with other parts."""
        is_same = all(map(operator.is_, self.items, self._parts))
        return self.value if is_same else self._make(self.items)


class _Extractor:
    """Takes parts out of a value before Airflow sees it, and leaves placeholders in their places.

    A placeholder is a text with a random prefix, so that no value holds it by chance or on purpose;
    Airflow hands texts on as they are. What is left of the value is copied only where it changed.
    """

    def __init__(self, leaf: Callable[[object], Encoded | None], *, is_exact: bool) -> None:
        self._leaf = leaf
        self._is_exact = is_exact
        self.prefix = secrets.token_hex(_PREFIX_BYTES)
        self.values: list[object] = []
        self.taken: dict[int, object] = {}
        self.proof = Proof(_check_alone)

    def extract_from(self, value: object) -> object:
        """Take out of a value what Airflow would refuse or change; gives what is left of it.

        Raises:
            RecursionError: it refers to itself, or is deeper than Python's recursion limit.
            TypeError: a time in it is one that Airflow cannot read.
        """
        # Not by recursion: Airflow 2 writes JSON in C, and deeper than Python could follow.
        whole = _Open(None, [value], list)
        path = [whole]
        on_path: set[int] = set()
        while True:
            top = path[-1]
            for part in top.left:
                opened = self._open(part)
                if not isinstance(opened, _Open):
                    top.items.append(opened)
                    continue
                if id(part) in on_path or len(path) > sys.getrecursionlimit():
                    raise RecursionError
                on_path.add(id(part))
                path.append(opened)
                break
            else:
                if top is whole:
                    return whole.items[0]
                path.pop()
                on_path.remove(id(top.value))
                path[-1].items.append(top.closed())

    def _open(self, value: Untyped) -> Untyped:  # noqa: PLR0911 - one for each kind of value
        """What to put in a value's place; or, where that depends on its parts, the open value."""
        kind: type = type(value)
        if kind is int:
            if document.in_64_bits(value):
                return value
            return self._take(value, document.as_extension(value))
        if self._is_exact and (part := self._to_take_exactly(value)) is not None:
            return self._take(value, part)
        if _is_airflows(kind):
            return value
        if isinstance(value, dict):
            return _Open(value, list(value.values()), functools.partial(_dict_of, value))
        if isinstance(value, (list, tuple, set, frozenset)):
            return _Open(value, list(value), getattr(kind, "_make", kind))
        if (part := self._to_take(value)) is not None:
            return self._take(value, part)
        if isinstance(value, dt.datetime):
            self.proof.note_time(value)
            return _with_zone_that_airflow_reads(value)
        if kind is dt.timedelta:
            self.proof.note_span(value)
            return value
        self.proof.note_record(value)
        names = [name for name in fields_of(value) if hasattr(value, name)]
        parts = [getattr(value, name) for name in names]
        return _Open(value, parts, functools.partial(_record_of, value, names))

    def _take(self, value: object, part: object) -> str:
        if library_of(type(value)) in plain.LIBRARIES:
            self.taken[id(value)] = value
        self.values.append(part)
        return f"{self.prefix}{len(self.values) - 1}"

    def _to_take_exactly(self, value: object) -> object | None:
        """What goes into the document because Airflow might change it; None if it has no place."""
        if type(value) in _NEVER_CHANGED:
            return None
        if holders.is_exact_holder(value):
            is_plain = document.pack(value, self._leaf, is_exact=True) is not None
            return value if is_plain else None
        return document.as_extension(value, is_exact=True)

    def _to_take(self, value: object) -> object | None:
        """What goes into the document instead of a value; None if the value is left to Airflow."""
        if type(value) is bytes or holders.is_holder(value):
            return value
        if (ext := document.as_extension(value)) is not None:
            return ext
        try:
            return None if self._leaf(value) is None else value
        except Refused:
            if self._is_exact:
                raise
            return None  # Airflow's serialisation may take it


def _check_alone(value: object) -> None:
    """Write a value that holds nothing that is taken out, and read it.

    Raises:
        Exception: either fails.
    """
    packed = document.pack([_json(value).encode("utf-8"), "", []], lambda _: None)
    _read_back(packed or [])


def _with_zone_that_airflow_reads(value: dt.datetime) -> dt.datetime:
    """The time itself, if its zone has a name; Airflow cannot read what it writes otherwise.

    Raises:
        TypeError: its zone has no name, and is not UTC.
    """
    zone = value.tzinfo
    if zone is None or any(getattr(zone, name, None) for name in ZONE_NAMES):
        return value
    if zone.utcoffset(None) != dt.timedelta(0):
        raise TypeError
    return value


@functools.lru_cache(maxsize=1024)
def _is_airflows(kind: type) -> bool:
    """Whether values of this type are left to Airflow as they are.

    Texts and numbers are, and classes with a `serialize` of their own. Looked into is what Airflow
    takes apart: containers, and the fields of dataclasses and attrs.
    """
    if kind in _CONTAINERS or kind is bytes or issubclass(kind, dict):
        return False
    return (
        not (issubclass(kind, tuple) and hasattr(kind, "_make"))
        and kind is not bytearray
        and not issubclass(kind, (dt.datetime, dt.timedelta))
        and kind not in document.PATHS
        and kind not in small.TYPES
        and kind is not deque
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
    value: object,
    leaf: Callable[[object], Encoded | None],
    fault: Exception,
    *,
    is_exact: bool,
) -> Refused:
    """Where the value is refused, and why. The cause is not quoted: it may hold contents."""

    def accepts(part: object) -> bool:
        nonlocal fault
        try:
            _encode(part, leaf, is_exact=is_exact)
        except Exception as error:  # noqa: BLE001 - a value's own methods run here
            fault = error
            return False
        return True

    steps, culprit = find_refused(value, accepts)
    try:
        leaf(culprit)
    except Refused as refused:
        return Refused(refused.reason, (*steps, *refused.steps))
    named = f"a value of type {type_name(culprit)}"
    if isinstance(fault, RecursionError):
        reason = "the value is nested too deeply, or refers to itself (RecursionError)"
    elif isinstance(fault, Unreadable):
        reason = f"{named}, which Airflow writes and cannot read: {why_unreadable(culprit, fault)}"
    else:
        reason = (
            f"{named}, which Airflow's serialisation does not take; {way_out(culprit)} "
            f"({type(fault).__name__})"
        )
    return Refused(reason, steps)


def decode(source: Source) -> object:
    """The value, restored by Airflow within `[core] allowed_deserialization_classes`.

    Raises:
        FormatError: it is not what `encode` writes.
        CodecError: Airflow does not restore it, or a library is missing.
    """
    return _read(source, _value)


def contents(source: Source) -> object:
    """The JSON that Airflow made of the value, and what was lifted out of it; none of it restored.

    Raises:
        FormatError: it is not what `encode` writes.
        CodecError: a library is missing.
    """
    return _read(source, lambda text, _, values: [_tree(text), *values])


def _read(source: Source, make: Callable[[bytes, str, list[object]], object]) -> object:
    match plain.decode(source):
        case [bytes(text), str(prefix), list(values)] if bool(prefix) == bool(values):
            pass
        case _:
            raise FormatError("The encoded value is not one of Airflow's serialisation.")
    try:
        return with_stack(make, text, prefix, values)
    except RecursionError:
        pass
    raise FormatError("The encoded value is nested deeper than a whole stack of Python's.")


def _tree(text: bytes) -> object:
    try:
        return json.loads(text.decode("utf-8"))
    except ValueError:
        pass
    raise FormatError("The encoded value is not JSON.")


def _value(text: bytes, prefix: str, values: list[object]) -> object:
    tree = _tree(text)
    if values:
        left = {f"{prefix}{index}": part for index, part in enumerate(values)}
        tree = _put_back(tree, prefix, left)
        if left:
            raise FormatError("The encoded value does not use everything that it carries.")
    fault: Exception
    try:
        return _restored(tree)
    except RecursionError:
        raise
    except Exception as error:  # noqa: BLE001 - a class's own methods run here
        fault = _not_restored(error)
    raise fault


def _containers(root: list[Untyped]) -> list[Untyped]:
    """The lists and dicts in a tree of JSON, outer ones first; no recursion, however deep."""
    found: list[Untyped] = [root]
    for container in found:  # it grows as it is read
        items = container.values() if isinstance(container, dict) else container
        found.extend(item for item in items if isinstance(item, (list, dict)))
    return found


def _places(container: Untyped) -> Iterable[tuple[Untyped, object]]:
    return container.items() if isinstance(container, dict) else enumerate(container)


def _put_back(tree: object, prefix: str, left: dict[str, object]) -> object:
    """The tree with each placeholder replaced, in place, by what it stands for."""
    root = [tree]
    for container in _containers(root):
        for place, item in _places(container):
            if isinstance(item, str) and item.startswith(prefix):
                if item not in left:
                    raise FormatError(
                        "The encoded value refers to something that it does not carry."
                    )
                container[place] = left.pop(item)
    return root[0]


def _restored(tree: object) -> object:
    """What Airflow makes of the tree."""
    if (xcom := _sdk_xcom()) is not None:
        return xcom.deserialize_value(SimpleNamespace(value=tree))
    from airflow.utils.json import XComDecoder  # noqa: PLC0415 - Airflow 2, and only when needed

    return _restored_inside_out(tree, XComDecoder().object_hook)


def _restored_inside_out(tree: object, hook: Callable[[dict[str, object]], object]) -> object:
    """What Airflow 2 does while it reads JSON, done after: innermost dicts first."""
    root = [tree]
    for container in reversed(_containers(root)):
        for place, item in _places(container):
            if isinstance(item, dict):
                container[place] = hook(item)
    return root[0]


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
