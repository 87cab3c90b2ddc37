"""Length-prefixed fields (`docs/format.md`, section 1)."""

from __future__ import annotations

from secure_xcom.errors import FormatError
from secure_xcom.model import Buffer


def lp(data: bytes) -> bytes:
    """Prefix `data` with its length as u16."""
    return len(data).to_bytes(2, "big") + data


#: What a field can hold whose bound is that of the structure it stands in.
FIELD_BYTES_MAX = 65_535


def text(value: str, name: str, *, min_bytes: int, max_bytes: int = FIELD_BYTES_MAX) -> bytes:
    """Encode text as UTF-8 within its bounds, in bytes.

    Raises:
        FormatError: the text is too short or too long, or is not valid Unicode.
    """
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise FormatError(f"{name} is not valid Unicode text and cannot be sealed.") from None
    if not min_bytes <= len(data) <= max_bytes:
        raise FormatError(f"{name} has {len(data)} bytes; {min_bytes} to {max_bytes} are allowed.")
    return data


class Fields:
    """A cursor over one structure; every read checks its bound first."""

    def __init__(self, data: Buffer, structure: str) -> None:
        self._data = bytes(data)
        self._at = 0
        self._structure = structure

    def take(self, length: int) -> bytes:
        """The next `length` bytes.

        Raises:
            FormatError: fewer are left.
        """
        end = self._at + length
        piece = self._data[self._at : end]
        if len(piece) != length:
            raise self._short()
        self._at = end
        return piece

    def unsigned(self, width: int) -> int:
        """The next `width` bytes as an unsigned integer."""
        return int.from_bytes(self.take(width), "big")

    def only(self, allowed: int, name: str) -> int:
        """One byte that has a single allowed value.

        Raises:
            FormatError: it has another one.
        """
        value = self.unsigned(1)
        if value != allowed:
            raise FormatError(f"The {self._structure} has {name} {value}; only {allowed} is known.")
        return value

    def blob(self, name: str, *, min_bytes: int, max_bytes: int) -> bytes:
        """A length-prefixed field within its bounds, in bytes.

        Raises:
            FormatError: the length is out of bounds, or fewer bytes are left.
        """
        start = self._at + 2
        length = int.from_bytes(self._data[self._at : start], "big")
        end = start + length
        if start <= len(self._data) and not min_bytes <= length <= max_bytes:
            raise FormatError(
                f"The {self._structure}'s {name} claims {length} bytes; "
                f"{min_bytes} to {max_bytes} are allowed."
            )
        if end > len(self._data):
            raise self._short()
        self._at = end
        return self._data[start:end]

    def text(self, name: str, *, min_bytes: int, max_bytes: int) -> str:
        """A length-prefixed text.

        Raises:
            FormatError: as for `blob`, or it is not UTF-8.
        """
        try:
            return self.blob(name, min_bytes=min_bytes, max_bytes=max_bytes).decode()
        except UnicodeDecodeError:
            raise FormatError(f"The {self._structure}'s {name} is not UTF-8.") from None

    def _short(self) -> FormatError:
        return FormatError(f"The {self._structure} ends in the middle of a field.")

    @property
    def position(self) -> int:
        """How many bytes have been read."""
        return self._at

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            FormatError: something is.
        """
        left = len(self._data) - self._at
        if left:
            raise FormatError(f"The {self._structure} has {left} bytes after its last field.")
