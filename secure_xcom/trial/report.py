"""What a run of the rig tells: what it is doing, and in the end what it found."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Listener(Protocol):
    """Is told what is being done."""

    def step(self, title: str, /) -> AbstractContextManager[None]:
        """Enclose a step."""

    def detail(self, text: str, /) -> None:
        """Say how far the step is."""
