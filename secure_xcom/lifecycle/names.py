"""Many names of objects, in little memory: 32 bytes each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

NAME_BYTES = 32
#: Names are hashes, so the first bits of each are as good as another hash.
_MAP_BITS = 27
_PARTS = 256


class Sketch:
    """Says of a name that it was certainly not added, or that it may have been; 16 MiB.

    Rows are full of digits that name nothing: a value in clear may be megabytes of them, and all 64
    in succession count. What no object is called need not be remembered.
    """

    def __init__(self) -> None:
        self._map = bytearray(1 << (_MAP_BITS - 3))

    def add(self, name: bytes) -> None:
        """Add a name of 32 bytes."""
        place, bit = _place(name)
        self._map[place] |= bit

    def may_have(self, name: bytes) -> bool:
        """Whether a name may have been added."""
        place, bit = _place(name)
        return bool(self._map[place] & bit)


def _place(name: bytes) -> tuple[int, int]:
    number = int.from_bytes(name[:4], "big") >> (32 - _MAP_BITS)
    return number >> 3, 1 << (number & 7)


class Names:
    """A set of names: a sorted array, made anew in parts where something was added."""

    def __init__(self) -> None:
        self._sorted = [b""] * _PARTS
        self._added = [bytearray() for _ in range(_PARTS)]

    def add(self, name: bytes) -> None:
        """Add a name of 32 bytes."""
        self._added[name[0]] += name

    def __contains__(self, name: bytes) -> bool:
        number = name[0]
        if self._added[number]:
            both = bytes(self._added[number]) + self._sorted[number]
            self._sorted[number] = b"".join(sorted(set(_each(both))))
            self._added[number] = bytearray()
        part = self._sorted[number]
        places = range(len(part) // NAME_BYTES)

        def at(place: int) -> bytes:
            return part[place * NAME_BYTES : (place + 1) * NAME_BYTES]

        place = bisect_left(places, name, key=at)
        return place < len(places) and at(place) == name


def _each(names: bytes) -> Iterator[bytes]:
    return (names[at : at + NAME_BYTES] for at in range(0, len(names), NAME_BYTES))
