"""Tables, DataFrames and Series as Arrow IPC streams (`docs/codecs.md`, section 3).

arrow = u64 meta_bytes | meta (a document) | zeros to a multiple of 8 | streams
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping

from secure_xcom.codecs import document, frames, messages
from secure_xcom.codecs.libraries import Untyped, library_of, made_by, need
from secure_xcom.codecs.objects import cell, read_cell
from secure_xcom.codecs.primitives import custom_extension
from secure_xcom.codecs.refusal import Refused, at_path, member
from secure_xcom.codecs.source import Source, as_bytes_view
from secure_xcom.errors import CodecError, FormatError
from secure_xcom.model import Buffer
from secure_xcom.text import type_name

_LENGTH_BYTES = 8
_ALIGNMENT_BYTES = 8
#: Buffers shorter than this are joined with their neighbours, as there are several for each column.
_JOINED_BYTES_MAX = 65_536


def encode(value: object) -> list[Buffer] | None:
    """A table's description and its memory, not copied; None if the value is no table.

    Raises:
        Refused: a column holds what does not travel; names the column. Or pyarrow is not installed.
    """
    library = library_of(type(value))
    module = made_by(value, library)
    if library not in _WRITERS or module is None:
        return None
    try:
        written = _WRITERS[library](module, value)
    except Refused:
        raise
    except CodecError as error:
        reason = f". {error}".rstrip(".")
    except BaseException as error:
        # What the libraries say quotes contents. A panic of polars is no `Exception`.
        fault = type(error).__name__
        if not isinstance(error, Exception) and fault != "PanicException":
            raise
        reason = f" that Arrow does not take ({fault})"
    else:
        return None if written is None else _joined(*written)
    raise Refused(f"a value of type {type_name(value)}{reason}")


def _joined(meta: Mapping[str, object], streams: list[Buffer]) -> list[Buffer]:
    _check_readable(streams)
    length = sum(memoryview(buffer).nbytes for buffer in streams)
    head = document.pack({**meta, "stream_bytes": length}, cell)
    if head is None:
        raise Refused("a table whose description is not plain data")
    return [_framed(head), *streams]


def _framed(head: list[Buffer]) -> bytes:
    meta = b"".join(head)
    length = len(meta).to_bytes(_LENGTH_BYTES, "big")
    return b"".join((length, meta, bytes(-len(meta) % _ALIGNMENT_BYTES)))


def _check_readable(streams: list[Buffer]) -> None:
    """Refuse what a reader would refuse: columns that claim rows without bytes."""
    try:
        messages.check(Source(streams))
    except FormatError:
        pass
    else:
        return
    raise Refused(
        f"a table of more than {messages.ROWS_WITHOUT_BYTES:,} rows, or elements of a column, that "
        "take no bytes, such as nulls or runs of one value; cast such columns to another type"
    )


class _Sink:
    """A file that keeps the buffers that Arrow writes: for columns, their own memory."""

    closed = False

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self._short: list[Buffer] = []

    def write(self, data: Untyped) -> int:
        """Take a buffer."""
        view = as_bytes_view(data)
        if len(view) < _JOINED_BYTES_MAX:
            self._short.append(view)
        else:
            self.flush()
            self.buffers.append(view)
        return len(view)

    def flush(self) -> None:
        """Join the short buffers that came since the last long one."""
        if self._short:
            self.buffers.append(b"".join(self._short))
            self._short.clear()

    def close(self) -> None:
        """Nothing to close."""


def _streams(tables: Iterable[Untyped]) -> list[Buffer]:
    """Arrow IPC streams, one after the other, each of its own schema."""
    pa = need("pyarrow")
    ipc = need("pyarrow.ipc")
    sink = _Sink()
    for table in tables:
        with ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
            writer.write(table)
    sink.flush()
    return sink.buffers


def _pandas(pandas: Untyped, value: object) -> tuple[Mapping[str, object], list[Buffer]] | None:
    written = frames.write(pandas, value)
    if written is None:
        return None
    meta, tables = written
    return meta, _streams(tables)


def _pyarrow(pyarrow: Untyped, value: object) -> tuple[Mapping[str, object], list[Buffer]] | None:
    kinds = {pyarrow.Table: "pyarrow.Table", pyarrow.RecordBatch: "pyarrow.RecordBatch"}
    if type(value) not in kinds:
        return None
    table: Untyped = value
    for position, field in enumerate(table.schema):
        if extension := custom_extension(field.type):
            raise Refused(
                f"a column of Arrow extension type {extension!r}, which a reader would have to "
                "look up by name; send its storage instead",
                (member(field.name, position),),
            )
    return {"type": kinds[type(value)]}, _streams([table])


def _polars(polars: Untyped, value: object) -> tuple[Mapping[str, object], list[Buffer]] | None:
    kinds = {polars.DataFrame: "polars.DataFrame", polars.Series: "polars.Series"}
    if type(value) not in kinds:
        if type(value) is polars.LazyFrame:
            raise Refused("a polars.LazyFrame is a query, not its result; return `.collect()`")
        return None
    meta: dict[str, object] = {"type": kinds[type(value)]}
    frame: Untyped = value if type(value) is polars.DataFrame else value.to_frame()  # type: ignore[attr-defined]
    for position, (name, dtype) in enumerate(frame.schema.items()):
        with at_path(member(name, position)):
            if _holds_objects(polars, dtype):
                raise Refused("a polars column of Python objects")
            _check_type(_polars_stream(polars, frame.select(name).clear()))
    return meta, [_polars_stream(polars, frame)]


def _polars_stream(polars: Untyped, frame: Untyped) -> memoryview:
    file = io.BytesIO()
    frame.write_ipc_stream(file, compat_level=polars.CompatLevel.oldest())
    return file.getbuffer()


def _check_type(stream: memoryview) -> None:
    """Refuse what pyarrow cannot read, since a reader could not check it."""
    try:
        need("pyarrow.ipc").open_stream(stream)
    except (ValueError, NotImplementedError) as error:
        raise Refused(
            "a polars column of a type that pyarrow does not read; cast it, for example a 128-bit "
            "integer to Decimal or String"
        ) from error


_WRITERS = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow}


def _holds_objects(polars: Untyped, dtype: Untyped) -> bool:
    """Whether polars would write addresses instead of values."""
    inner = getattr(dtype, "inner", None)
    fields = getattr(dtype, "fields", ())
    return (
        dtype == polars.Object
        or (inner is not None and _holds_objects(polars, inner))
        or any(_holds_objects(polars, field.dtype) for field in fields)
    )


def decode(source: Source) -> object:
    """The table, DataFrame or Series.

    Raises:
        FormatError: it is not what `encode` writes.
        CodecError: a library is missing, or too old for what was written.
    """
    meta_bytes = source.number(_LENGTH_BYTES)
    head = Source(source.pieces(meta_bytes))
    meta = document.unpack(head, read_cell)
    head.check_end()
    if any(source.take(-meta_bytes % _ALIGNMENT_BYTES)):
        raise FormatError("The encoded table's description is not followed by zeros.")
    match meta:
        case {"type": str(kind), "stream_bytes": int(length), **rest} if type(length) is int:
            pass
        case _:
            raise FormatError("The encoded table has no description.")
    streams = source.take(length)
    messages.check(Source([streams]))
    tables = _tables(streams)
    if kind in frames.KINDS:
        return frames.read(kind, rest, tables)
    if len(tables) != 1 or rest:
        raise FormatError("The encoded value is not exactly one table.")
    return _single(kind, tables[0], streams)


def _tables(streams: memoryview) -> list[Untyped]:
    """Read the streams, in place, and check every offset, index and text in them."""
    pa = need("pyarrow")
    ipc = need("pyarrow.ipc")
    tables = []
    fault = None
    try:
        reader = pa.BufferReader(pa.py_buffer(streams))
        while reader.tell() < len(streams):
            table = ipc.open_stream(reader).read_all()
            table.validate(full=True)
            tables.append(table)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - junk gives Arrow errors, and Python's own
        fault = type(error).__name__
    if fault:
        raise FormatError(f"The encoded table is not a sequence of Arrow IPC streams ({fault}).")
    return tables


def _single(kind: str, table: Untyped, streams: memoryview) -> object:
    if kind == "pyarrow.Table":
        return table
    if kind == "pyarrow.RecordBatch":
        batches = table.to_batches() or [need("pyarrow").RecordBatch.from_pylist([], table.schema)]
        if len(batches) == 1:
            return batches[0]
    if kind in ("polars.DataFrame", "polars.Series"):
        frame = _read_polars(streams)
        if kind == "polars.DataFrame":
            return frame
        if frame.width == 1:
            return frame.to_series()
    raise FormatError("The encoded table is of no kind that this version knows.")


def _read_polars(streams: memoryview) -> Untyped:
    polars = need("polars")
    fault = None
    try:
        return polars.read_ipc_stream(io.BytesIO(streams))
    except (Exception, polars.exceptions.PanicException) as error:  # noqa: BLE001 - as above
        fault = type(error).__name__
    raise FormatError(f"The encoded table is not one that polars reads here ({fault}).")
