"""The values that layers exchange. All of them are frozen; none of them prints contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias
from uuid import UUID

#: Bytes in any object that exports a flat buffer.
Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Coordinate:
    """Where Airflow keeps one XCom. An unmapped task has `map_index` -1."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    key: str
    #: The task instance's own id: changes with every try; known from Airflow 3 on.
    ti_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a reader knows of the coordinate it asks for. None: Airflow leaves that field open."""

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    key: str | None = None

    @classmethod
    def exactly(cls, coordinate: Coordinate) -> Expected:
        """Expect this very coordinate."""
        return cls(
            coordinate.dag_id,
            coordinate.run_id,
            coordinate.task_id,
            coordinate.map_index,
            coordinate.key,
        )

    def matches(self, coordinate: Coordinate) -> bool:
        """Whether every field that is known here equals the coordinate's."""
        return (
            self.dag_id in (None, coordinate.dag_id)
            and self.run_id in (None, coordinate.run_id)
            and self.task_id in (None, coordinate.task_id)
            and self.map_index in (None, coordinate.map_index)
            and self.key in (None, coordinate.key)
        )


class CodecId(IntEnum):
    """How a value became bytes: the `codec` field of a payload (`docs/format.md`, section 6)."""

    PLAIN = 1
    SERDE = 2
    ARROW = 3
    NUMPY = 4
    BYTES = 5


class Compression(IntEnum):
    """The `compression` field of a payload (`docs/format.md`, section 6)."""

    NONE = 0
    ZSTD = 1


@dataclass(frozen=True, slots=True)
class Payload:
    """An encoded value, not yet compressed: the codec and its bytes in one or more buffers."""

    codec: CodecId
    buffers: Sequence[Buffer] = field(repr=False)
    #: The value's type, such as `builtins.dict`; shown in a row under `describe = full` only.
    type_name: str = ""

    @property
    def raw_bytes(self) -> int:
        """How many bytes the buffers hold together."""
        return sum(memoryview(buffer).nbytes for buffer in self.buffers)


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as the KEK wrapped it. `unverified_version` is only ever shown."""

    kek_uri: str
    ciphertext: bytes = field(repr=False)
    unverified_version: str = ""


@dataclass(frozen=True, slots=True)
class Inline:
    """A reference that carries its whole envelope."""

    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Offloaded:
    """A reference that carries its preamble, and names the object that is its body.

    `length_bytes` and `crc32c`, an integer, are the body's; `generation` is the one that was
    written.
    """

    store_uri: str
    name: str
    generation: str
    length_bytes: int
    crc32c: int
    preamble: bytes = field(repr=False)


#: What the row of an XCom holds.
Reference: TypeAlias = Inline | Offloaded


@dataclass(frozen=True, slots=True)
class StateObject:
    """What the row of a large state holds: the name of the object that is its envelope."""

    store_uri: str
    name: str
