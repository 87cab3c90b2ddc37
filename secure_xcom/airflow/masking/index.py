"""An index of texts: finds in a line whichever of a million of them stand there.

A dict leads from the first five characters to the lengths of the texts that begin so, and a set
holds the texts. So a line costs a look-up for each of its characters, however many texts there are.
Nothing here knows of Airflow.
"""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Iterable
from typing import TypeGuard

#: Shorter texts stand in logs by chance; to mask them would tell where they do.
SHORTEST = 5
#: A number is as good as its digits; those of dates and of most counters are fewer.
SHORTEST_NUMBER = 9
#: What an index holds at most: texts, and characters of them.
MOST_TEXTS, MOST_CHARACTERS = 1_000_000, 64 << 20
#: The digits of an enormous number are refused by Python, and no card number.
_MOST_BITS = 1024
#: Beyond these, whole numbers in floats are no longer exact.
_MOST_EXACT = 2.0**53

#: How many characters of candidates a line may compare: as many, and for each of its own as many.
#: Lines of texts that begin alike in thousands of lengths would otherwise take minutes.
_COMPARED, _COMPARED_EACH = 1_000_000, 256


class Index:
    """The texts of opened values, as far as they are within the budget.

    Args:
        unmasked: texts that are never masked.
    """

    def __init__(self, unmasked: Iterable[str] = ()) -> None:
        self._unmasked = frozenset(unmasked)
        self._texts: set[str] = set()
        self._lengths: dict[str, int | list[int]] = {}
        self._characters = 0

    def __len__(self) -> int:
        return len(self._texts)

    def withholds(self) -> bool:
        """Whether whole lines are to be hidden: never, for it knows its texts."""
        return False

    def add(self, leaves: Iterable[object]) -> bool:
        """Add the texts by which leaves can stand in a log; whether all of them fit."""
        texts, unmasked = self._texts, self._unmasked
        for leaf in leaves:
            for text in (leaf,) if _is_plain(leaf) else spellings(leaf):
                if text in texts or text in unmasked:
                    continue
                characters = self._characters + len(text)
                if len(texts) >= MOST_TEXTS or characters > MOST_CHARACTERS:
                    return False
                self._characters = characters
                # First, for a time-out may come in between, and what was not added comes again.
                self._note_length(text[:SHORTEST], len(text))
                texts.add(text)
        return True

    def _note_length(self, head: str, length: int) -> None:
        known = self._lengths.setdefault(head, length)
        if isinstance(known, list):
            at = bisect_right(known, length)
            if not at or known[at - 1] != length:
                known.insert(at, length)
        elif known != length:
            both = [known]
            insort(both, length)
            self._lengths[head] = both

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Give the places of texts in a line, in order, those that overlap joined.

        A line that would take too long to look through counts as one text.
        """
        lengths, texts, end = self._lengths, self._texts, len(line)
        if not texts:
            return []
        starts = [at for at in range(end - SHORTEST + 1) if line[at : at + SHORTEST] in lengths]
        found: list[tuple[int, int]] = []
        left = _COMPARED + _COMPARED_EACH * end
        for start in starts:
            known = lengths[line[start : start + SHORTEST]]
            fitting = (known,) if isinstance(known, int) else known
            for length in reversed(fitting[: bisect_right(fitting, end - start)]):
                left -= length
                if left < 0:
                    return [(0, end)]
                if line[start : start + length] in texts:
                    found.append((start, start + length))
                    break
        return joined(found)


def joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join spans that overlap. They come in order of their starts."""
    apart: list[tuple[int, int]] = []
    for start, end in spans:
        if apart and start < apart[-1][1]:
            apart[-1] = (apart[-1][0], max(end, apart[-1][1]))
        else:
            apart.append((start, end))
    return apart


def replaced(line: str, spans: list[tuple[int, int]], replacement: str) -> str:
    """Put a replacement in the place of each span."""
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        pieces += (line[at:start], replacement)
        at = end
    return "".join((*pieces, line[at:]))


def _is_plain(leaf: object) -> TypeGuard[str]:
    """Whether a text is written everywhere as it is; most are, and soon seen to be."""
    return (
        type(leaf) is str
        and len(leaf) >= SHORTEST
        and leaf.isascii()
        and leaf.isprintable()
        and leaf[0] != " " != leaf[-1]
        and "\\" not in leaf
        and '"' not in leaf
        and "'" not in leaf
    )


def spellings(leaf: object) -> list[str]:
    """Give the texts by which a leaf can stand in a log, without those that are too short."""
    written: list[str] = []
    if isinstance(leaf, bytes | bytearray | memoryview):
        leaf = bytes(leaf)
        written.append(repr(leaf)[2:-1])
        try:
            leaf = leaf.decode()
        except UnicodeDecodeError:
            leaf = ""
    if isinstance(leaf, str):
        # As it is, line by line as it is printed, in the text of a dictionary, and in JSON.
        written += (leaf, leaf.strip(), *leaf.splitlines(), repr(leaf)[1:-1])
        written += (json.dumps(leaf)[1:-1], json.dumps(leaf, ensure_ascii=False)[1:-1])
        return [text for text in dict.fromkeys(written) if len(text.strip()) >= SHORTEST]
    digits = number(leaf)
    return [digits] if digits else []


def number(leaf: object) -> str:
    """Give the digits of a number, if it is a whole one and long enough; else nothing."""
    if isinstance(leaf, float) and leaf.is_integer() and abs(leaf) < _MOST_EXACT:
        leaf = int(leaf)  # a column of numbers in which one is missing
    if isinstance(leaf, bool) or not isinstance(leaf, int) or leaf.bit_length() > _MOST_BITS:
        return ""
    digits = str(abs(leaf))
    return digits if len(digits) >= SHORTEST_NUMBER else ""
