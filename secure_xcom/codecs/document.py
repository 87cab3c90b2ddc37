"""A tree of plain data as MessagePack, with a closed set of extensions (`docs/codecs.md`).

document = u64 tree_bytes | tree | parts
"""

from __future__ import annotations

import datetime as dt
import gc
import re
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NamedTuple, TypeAlias

import ormsgpack

from secure_xcom.codecs import holders, small
from secure_xcom.codecs.libraries import Untyped, made_by, need
from secure_xcom.codecs.refusal import Refused
from secure_xcom.codecs.source import Source
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import Buffer, CodecId

#: A codec and the buffers that it made of a value.
Encoded: TypeAlias = tuple[CodecId, list[Buffer]]

PART = 1
_BYTEARRAY = 2
_INTEGER = 3
_PATH = 4
_SCALAR = 5
_TIME = 6
_SMALL = 8
_HOLDER = 9

_TREE_LENGTH_BYTES = 8
_PART_LENGTH_BYTES = 8

#: Only exact built-in types are encoded; everything else comes to `default`.
_EXACT = (
    ormsgpack.OPT_PASSTHROUGH_BIG_INT
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_UUID
)
_MUTABLE_BYTES = frozenset((bytearray, memoryview))
_CONTAINERS = frozenset((dict, list))
#: What the cyclic collector never tracks.
_UNTRACKED = frozenset((str, int, float, bool, type(None), bytes))
#: The first bytes of `bin 8`, `bin 16` and `bin 32`.
_BIN = (b"\xc4", b"\xc5", b"\xc6")

_INT64_MIN = -(2**63)
_UINT64_MAX = 2**64 - 1

PATHS: dict[type, int] = {PosixPath: 1, WindowsPath: 1, PurePosixPath: 2, PureWindowsPath: 3}
_PATH_MAKERS: dict[int, Callable[[str], object]] = {
    1: Path,
    2: PurePosixPath,
    3: PureWindowsPath,
}
_SCALAR_DTYPE = re.compile(r"[<>|][biufcmM][0-9]{1,2}(\[[0-9]*[a-zA-Z]{1,2}\])?", re.ASCII)


def in_64_bits(value: int) -> bool:
    """Whether MessagePack has an integer for it."""
    return _INT64_MIN <= value <= _UINT64_MAX


def as_extension(value: object, *, is_exact: bool = False) -> ormsgpack.Ext | None:
    """The extension for a small value that MessagePack has no type for; None for other values.

    Args:
        value: any value.
        is_exact: whether those have one, too, that the stock backend takes and may change.
    """
    kind = type(value)
    if kind is bytearray:
        return ormsgpack.Ext(_BYTEARRAY, bytes(value))  # type: ignore[call-overload]
    if kind is int:
        return ormsgpack.Ext(_INTEGER, _integer_bytes(value))  # type: ignore[arg-type]
    if kind in PATHS:
        text = str(value).encode("utf-8", "surrogateescape")
        return ormsgpack.Ext(_PATH, bytes((PATHS[kind],)) + text)
    if kind is dt.datetime and is_at_fixed_offset(value):  # type: ignore[arg-type]
        return ormsgpack.Ext(_TIME, value.isoformat().encode("ascii"))  # type: ignore[attr-defined]
    numpy = made_by(value, "numpy")
    # Two of numpy's scalars are Python's float and str as well, and go the way of those.
    others = str if is_exact else (float, str)
    if numpy and isinstance(value, numpy.generic) and not isinstance(value, others):
        dtype = value.dtype.str
        if _SCALAR_DTYPE.fullmatch(dtype):
            return ormsgpack.Ext(
                _SCALAR, bytes((len(dtype),)) + dtype.encode("ascii") + value.tobytes()
            )
    data = small.write(value)
    if data is None and is_exact:
        data = small.write_exact(value)
    return None if data is None else ormsgpack.Ext(_SMALL, data)


def is_at_fixed_offset(value: dt.datetime) -> bool:
    """Whether it is a time as databases give it, at some hours from UTC.

    Airflow writes such a time without its offset, and cannot read that.
    """
    return type(value.tzinfo) is dt.timezone and bool(value.utcoffset())


def _integer_bytes(value: int) -> bytes:
    """Two's complement, big-endian, as short as it can be."""
    length = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return value.to_bytes(length, "big", signed=True)


def pack(
    value: object, leaf: Callable[[object], Encoded | None], *, is_exact: bool = False
) -> list[Buffer] | None:
    """Encode a tree; None if anything in it is not plain data, an extension or a `leaf`.

    Args:
        value: the tree.
        leaf: encodes arrays and tables, and gives None for anything else.
        is_exact: whether what the stock backend may change is taken, too.

    Raises:
        Refused: `leaf` knows the type of a value in the tree, and refuses the value.
        CodecError: a library is missing.
    """
    if type(value) is bytearray:  # a tree of one; within a tree the encoder does not hand it over
        value = as_extension(value)
    writer = _Writer(leaf, is_exact=is_exact)
    try:
        tree = writer.packed(value)
    except (TypeError, RecursionError):
        if writer.refused:
            raise writer.refused[0] from None
        return None
    return [len(tree).to_bytes(_TREE_LENGTH_BYTES, "big"), tree, *writer.parts]


class _Writer:
    """What one tree's encoding has come to: its parts, and why it failed."""

    def __init__(self, leaf: Callable[[object], Encoded | None], *, is_exact: bool) -> None:
        self._leaf = leaf
        self._is_exact = is_exact
        self._holders = 0
        self.parts: list[Buffer] = []
        self.refused: list[BaseException] = []

    def packed(self, value: object) -> bytes:
        """One MessagePack value.

        Raises:
            TypeError: it holds what has no place in a document.
        """
        if self._is_exact:
            value = _with_keys_set_apart(value)
        packed = ormsgpack.packb(value, default=self._default, option=_EXACT)
        if any(first in packed for first in _BIN) and _holds_mutable_bytes(value):
            raise TypeError
        return packed

    def _default(self, item: object) -> ormsgpack.Ext:
        try:
            if type(item) is _SetApart:
                item = item.value
            ext = (
                as_extension(item, is_exact=self._is_exact)
                or self._holder(item)
                or self._part(item)
            )
        except BaseException as error:  # noqa: BLE001 - see below
            # The encoder swallows all of them. Our own errors have to get through, and what is no
            # `Exception`, such as a task's timeout; after others, Airflow's serialisation is tried.
            if isinstance(error, (Refused, CodecError)) or not isinstance(error, Exception):
                self.refused.append(error)
            raise TypeError from None
        if ext is None:
            raise TypeError
        return ext

    def _holder(self, item: object) -> ormsgpack.Ext | None:
        if (opened := holders.opened(item, is_exact=self._is_exact)) is None:
            return None
        kind, held = opened
        self._holders += 1
        if self._holders > holders.DEPTH_MAX:
            raise TypeError
        packed = self.packed(held)
        self._holders -= 1
        return ormsgpack.Ext(_HOLDER, bytes((kind,)) + packed)

    def _part(self, item: object) -> ormsgpack.Ext | None:
        if (encoded := self._leaf(item)) is None:
            return None
        codec, buffers = encoded
        self.parts.extend(buffers)
        length = sum(memoryview(buffer).nbytes for buffer in buffers)
        return ormsgpack.Ext(PART, bytes((codec,)) + length.to_bytes(_PART_LENGTH_BYTES, "big"))


class _SetApart(NamedTuple):
    """A dict that the encoder would not hand over."""

    value: dict[object, object]


def _with_keys_set_apart(value: Untyped) -> object:
    """Lists and dicts with what the encoder refuses or changes, unasked, made ready for it.

    Raises:
        RecursionError: it is too deep for MessagePack as well.
    """
    if type(value) is list:
        return [_with_keys_set_apart(item) for item in value]
    if type(value) is dict:
        if not holders.has_texts_for_keys(value):
            return _SetApart(value)
        return {key: _with_keys_set_apart(item) for key, item in value.items()}
    return as_extension(value) if type(value) is bytearray else value


def _holds_mutable_bytes(value: object) -> bool:
    """Whether a `bytearray` or a `memoryview` is in the tree.

    The encoder writes both as `bytes`, without asking. This looks at the types, a level at a time;
    the encoder has been through the tree before, so it has no cycle.
    """
    if type(value) in _MUTABLE_BYTES:
        return True
    kinds = {type(value)} & _CONTAINERS
    level: list[Any] = [value]
    while kinds:
        items = _contents(level, kinds)
        found = set(map(type, chain.from_iterable(items())))
        if found & _MUTABLE_BYTES:
            return True
        kinds = found & _CONTAINERS
        if kinds:
            level = list(_containers(chain.from_iterable(items()), found, kinds))
    return False


def _containers(items: Iterable[object], found: set[type], kinds: set[type]) -> Iterable[object]:
    """Those of the items that are of these kinds; the common cases run in C.

    Args:
        items: what is looked through.
        found: the types that they have.
        kinds: those of the types that are containers.
    """
    if found == kinds:
        return items
    # A list is always tracked by the collector, and these never are. A dict is, or is not.
    if kinds == {list} and found - kinds <= _UNTRACKED:
        return filter(gc.is_tracked, items)
    return (item for item in items if type(item) in kinds)


def _contents(level: list[Any], kinds: set[type]) -> Callable[[], Iterable[Iterable[object]]]:
    """What the containers hold, as often as it is asked for; the common cases run in C."""
    if kinds == {dict}:
        return lambda: map(dict.values, level)
    if kinds == {list}:
        return lambda: level
    mixed = [item.values() if type(item) is dict else item for item in level]
    return lambda: mixed


def unpack(source: Source, leaf: Callable[[CodecId, Source], object]) -> object:
    """Decode a tree with its parts, and take no byte more.

    Raises:
        FormatError: it is not a document.
        CodecError: a value in it needs a library that is not installed here.
    """
    tree = source.pieces(source.number(_TREE_LENGTH_BYTES))
    faults: list[BaseException] = []
    depth = 0

    def held(data: bytes) -> object:
        nonlocal depth
        depth += 1
        if depth > holders.DEPTH_MAX or not data:
            raise FormatError("The encoded value holds containers in containers, too many of them.")
        inner = _exactly_one([data[1:]], ext_hook)
        depth -= 1
        return holders.closed(data[0], inner)

    def ext_hook(tag: int, data: bytes) -> object:
        try:
            return held(data) if tag == _HOLDER else _restore(tag, data, source, leaf)
        except BaseException as error:  # noqa: BLE001 - the decoder would swallow it
            faults.append(error)
            raise ValueError from None

    try:
        return _exactly_one(tree, ext_hook)
    except FormatError:
        if faults:
            raise faults[0] from None
        raise


def _exactly_one(pieces: list[Any], ext_hook: Callable[[int, bytes], object]) -> object:
    """The one MessagePack value that the pieces, which are let go, are together."""
    # The decoder says neither where it stopped nor that bytes are left. So it is given the first
    # element of a pair whose second one nobody can foresee: only an exact tree ends before it.
    sentinel = secrets.token_bytes(8)
    packed = b"".join((b"\x92", *pieces, ormsgpack.packb(sentinel)))
    pieces.clear()
    pair: object = None
    with suppress(ValueError):
        pair = ormsgpack.unpackb(packed, ext_hook=ext_hook)
    # What stands there in place of the sentinel may be an array, which compares as an array.
    if not isinstance(pair, list) or type(pair[1]) is not bytes or pair[1] != sentinel:
        raise FormatError("The encoded value is not exactly one MessagePack value.")
    return pair[0]


def _restore(  # noqa: PLR0911 - one for each extension
    tag: int, data: bytes, source: Source, leaf: Callable[[CodecId, Source], object]
) -> object:
    """The value that an extension stands for."""
    if tag == _SMALL:
        return small.read(data)
    if tag == PART and len(data) == 1 + _PART_LENGTH_BYTES and data[0] in set(CodecId):
        pieces = source.pieces(int.from_bytes(data[1:], "big"))
        return leaf(CodecId(data[0]), Source(pieces))
    if tag == _BYTEARRAY:
        return bytearray(data)
    if tag == _INTEGER:
        number = int.from_bytes(data, "big", signed=True)
        if not in_64_bits(number) and _integer_bytes(number) == data:
            return number
    if tag == _PATH and data[:1] and data[0] in _PATH_MAKERS:
        return _PATH_MAKERS[data[0]](data[1:].decode("utf-8", "surrogateescape"))
    if tag == _SCALAR and data[:1]:
        return _scalar(data[1 : 1 + data[0]], data[1 + data[0] :])
    if tag == _TIME and (time := _time(data)) is not None:
        return time
    raise FormatError("The encoded value holds an extension that this version does not know.")


def _time(data: bytes) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(data.decode("ascii"))
    except ValueError:
        return None
    exact = is_at_fixed_offset(time) and time.isoformat().encode("ascii") == data
    return time if exact else None


def _scalar(dtype: bytes, data: bytes) -> object:
    numpy = need("numpy")
    name = dtype.decode("ascii", "replace")
    if _SCALAR_DTYPE.fullmatch(name):
        try:
            kind = numpy.dtype(name)
        except TypeError:
            raise CodecError(f"numpy has no type {name} on this machine.") from None
        # Any other byte than these makes a boolean that is neither true nor false.
        if kind.itemsize == len(data) and (kind.kind != "b" or data in (b"\0", b"\1")):
            return numpy.frombuffer(data, kind)[0]
    raise FormatError("The encoded value holds a numpy scalar of a wrong type, length or value.")
