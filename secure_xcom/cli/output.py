"""What a person sees: progress on one stream, results on another, plain where it is no terminal."""

from __future__ import annotations

import os
import shutil
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_WIDTH_MIN, _WIDTH_MAX, _WIDTH_ELSEWHERE = 48, 110, 100
_STYLES = {"bold": "1", "dim": "2", "good": "32", "bad": "31"}
_ASCII = 128


class Output:
    """Writes to a stream; in colours only to a terminal that wants them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """How many characters a line may have."""
        if not self.is_terminal:
            return _WIDTH_ELSEWHERE
        columns = shutil.get_terminal_size((_WIDTH_ELSEWHERE, 24)).columns
        return max(_WIDTH_MIN, min(columns, _WIDTH_MAX))

    def styled(self, text: str, style: str) -> str:
        """Style a text: `bold`, `dim`, `good` or `bad`."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._coloured else text

    def line(self, text: str = "", style: str = "") -> None:
        """Write one line as it is."""
        print(self.styled(text, style) if style else text, file=self.stream, flush=True)

    def paragraph(self, text: str, style: str = "", indent: str = "") -> None:
        """Write prose, broken into lines of the width."""
        for line in textwrap.wrap(
            text, self.width, subsequent_indent=indent, break_on_hyphens=False
        ):
            self.line(line, style)

    def field(self, label: str, text: str, style: str = "") -> None:
        """Write a label and one line of text, cut to the width."""
        room = self.width - 13
        shown = text if len(text) <= room else f"{text[: room - 1]}…"
        self.line(f"  {label:<10} {self.styled(shown, style) if style else shown}")


class Progress:
    """Shows what is being done: one line for each step, rewritten in place on a terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._title = ""
        self._began = 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show a step from its beginning to its end, with the time that it took."""
        self._title, self._began = title, time.monotonic()
        self._show(f"  … {title}")
        try:
            yield
        except BaseException:
            self._end("✗", "bad")
            raise
        self._end("✓", "good")

    def detail(self, text: str) -> None:
        """Say how far the step is."""
        rewritten = f"  … {self._title} ({text})"
        self._show(rewritten if self._output.is_terminal else f"    {text}")

    def _show(self, text: str) -> None:
        if self._output.is_terminal:
            shown = text[: self._output.width - 1]
            print(f"\r\x1b[K{shown}", end="", file=self._output.stream, flush=True)
        else:
            self._output.line(text)

    def _end(self, mark: str, style: str) -> None:
        if self._output.is_terminal:
            print("\r\x1b[K", end="", file=self._output.stream)
        seconds = time.monotonic() - self._began
        self._output.line(f"  {self._output.styled(mark, style)} {self._title} ({seconds:.1f} s)")


def printable(data: bytes) -> str:
    """Show bytes as text, with dots for bytes that are not printable."""
    return "".join(chr(byte) if chr(byte).isprintable() and byte < _ASCII else "·" for byte in data)
