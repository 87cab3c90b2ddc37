"""What a row holds, told from its text alone: no key, no store, nothing authenticated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from secure_xcom.errors import FormatError
from secure_xcom.format.envelope import Preamble, parse_whole_preamble, split_envelope
from secure_xcom.format.reference import (
    STATE_TAG,
    TAG,
    VERSION,
    claimed,
    from_row,
    is_tagged,
    state_from_row,
)
from secure_xcom.lifecycle.tables import Text
from secure_xcom.model import Inline, Offloaded, Reference, StateObject

if TYPE_CHECKING:
    from secure_xcom.lifecycle.rows import StoredRow

#: `clear`: a value that anybody can read. `legacy`: a path that a former backend wrote.
#: `inline`, `offloaded`: sealed. `broken`: it claims to be sealed, and no reader of this release
#: takes it; a newer release may have written it.
State: TypeAlias = Literal["clear", "legacy", "inline", "offloaded", "broken"]
STATES: tuple[State, ...] = ("clear", "legacy", "inline", "offloaded", "broken")

#: What Airflow puts around a reference of a state store's backend, in the database.
STATE_REFERENCE = "__airflow_state_ref__"
#: How often a row may stand as text in JSON, as Airflow 3's server keeps some.
_WRAPPED_MAX = 2
_DIGITS = 64
_NAMES = re.compile(f"[0-9a-f]{{{_DIGITS},}}")
_NAMES_OF_BYTES = re.compile(_NAMES.pattern.encode())


@dataclass(frozen=True, slots=True)
class Content:
    """What a row holds."""

    state: State
    #: What it refers to, where it is inline or offloaded.
    reference: Reference | StateObject | None = field(default=None, repr=False)
    #: Of an envelope, or of an offloaded XCom; the object of a state has its own.
    preamble: Preamble | None = field(default=None, repr=False)
    #: The row itself, out of what stood around it, where it is inline or offloaded.
    row: Mapping[str, object] | None = field(default=None, repr=False)
    #: Whether the version that a broken row claims is another one than this release's.
    other_version: bool = False
    #: How to put another row into the same wrapping, from the outside to the inside.
    _wrapping: tuple[str, ...] = ()
    _is_bytes: bool = False

    def rewritten(self, row: Mapping[str, object]) -> str | bytes:
        """The text that has another row where this one's stood, wrapped as it was.

        Args:
            row: as `format/reference.py` makes it.
        """
        text = json.dumps(row, separators=(",", ":"))
        for wrapping in reversed(self._wrapping):
            text = json.dumps({STATE_REFERENCE: text} if wrapping == STATE_REFERENCE else text)
        return text.encode() if self._is_bytes else text


def read(row: StoredRow, legacy_prefixes: tuple[str, ...] = ()) -> Content:
    """Tell what a row holds.

    Args:
        row: as the database had it.
        legacy_prefixes: what the paths begin with that former backends wrote.
    """
    return of_text(row.text, state_of=row.kind != "xcom", legacy_prefixes=legacy_prefixes)


def of_text(
    text: Text, *, state_of: bool = False, legacy_prefixes: tuple[str, ...] = ()
) -> Content:
    """Tell what a text holds that stood in a value's column.

    Args:
        text: it.
        state_of: whether it is the row of a state.
        legacy_prefixes: what the paths begin with that former backends wrote.
    """
    is_bytes = isinstance(text, bytes)
    if text is None or not _may_claim(text):
        return Content("legacy" if _is_legacy(text, legacy_prefixes) else "clear")
    wrapping: list[str] = []
    try:
        value = _unwrapped(text, wrapping)
    except FormatError:
        return Content("broken")
    if not isinstance(value, dict) or not is_tagged(value):
        return Content("clear")
    try:
        reference = state_from_row(value) if state_of else from_row(value)
        preamble = _preamble(reference)
    except FormatError:
        return Content("broken", other_version=_has_other_version(value))
    state: State = "inline" if isinstance(reference, Inline) else "offloaded"
    return Content(state, reference, preamble, value, _wrapping=tuple(wrapping), _is_bytes=is_bytes)


def names(text: Text) -> Iterator[bytes]:
    """Yield what may be the name of an object in a text: each 64 digits in succession, as 32 bytes.

    Every version of the format names objects in this way (`docs/format.md`, section 7.1), so that
    nothing else of the row has to be understood. The same name may come more than once.
    """
    if text is None:
        return
    pattern: re.Pattern[bytes] | re.Pattern[str]
    pattern = _NAMES_OF_BYTES if isinstance(text, bytes) else _NAMES
    for run in pattern.finditer(text):  # type: ignore[arg-type]
        digits = run[0].decode() if isinstance(run[0], bytes) else run[0]
        for first in range(len(digits) - _DIGITS + 1):
            yield bytes.fromhex(digits[first : first + _DIGITS])


def _may_claim(text: str | bytes) -> bool:
    """Whether a text can have the tag in it, escaped or not, without a closer look."""
    if isinstance(text, bytes):
        return b"secure_xcom" in text or b"\\u00" in text
    return "secure_xcom" in text or "\\u00" in text


def _is_legacy(text: Text, prefixes: tuple[str, ...]) -> bool:
    if text is None or not prefixes:
        return False
    # A path is short; and a value that is none of that need not be parsed.
    start = text[:4].decode(errors="replace") if isinstance(text, bytes) else text[:4]
    if not start.lstrip().startswith(('"', "\\")):
        return False
    value: object = None
    try:
        value = json.loads(text)
        if isinstance(value, str) and value.startswith('"'):
            value = json.loads(value)
    except (ValueError, RecursionError):
        pass
    return isinstance(value, str) and value.startswith(prefixes)


def _unwrapped(text: str | bytes, wrapping: list[str]) -> object:
    """The row within a text; takes down what stood around it.

    Raises:
        FormatError: it is one of ours, and not strictly JSON.
    """
    value = claimed(text)
    for _ in range(_WRAPPED_MAX):
        if isinstance(value, dict) and list(value) == [STATE_REFERENCE]:
            wrapping.append(STATE_REFERENCE)
            value = claimed(str(value[STATE_REFERENCE]))
        elif isinstance(value, str):
            wrapping.append("text")
            value = claimed(value)
        else:
            break
    return value


def _preamble(reference: Reference | StateObject) -> Preamble | None:
    if isinstance(reference, Inline):
        return split_envelope(reference.envelope)[0]
    return parse_whole_preamble(reference.preamble) if isinstance(reference, Offloaded) else None


def _has_other_version(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return any(
        type(value[tag]) is int and value[tag] != VERSION
        for tag in (TAG, STATE_TAG)
        if tag in value
    )
