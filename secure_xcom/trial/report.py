"""What a run of the rig tells: what it is doing, and in the end what it found."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secure_xcom.trial.surfaces import Found
from secure_xcom.trial.values import CONTROL
from secure_xcom.trial.xcoms import StoredXCom


class Listener(Protocol):
    """Is told what is being done."""

    def step(self, title: str, /) -> AbstractContextManager[None]:
        """Enclose a step."""

    def detail(self, text: str, /) -> None:
        """Say how far the step is."""


@dataclass(slots=True)
class XCom:
    """One XCom: as it is stored, and as it was returned."""

    stored: StoredXCom
    returned: str = ""
    plain_bytes: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome:
    """What a run found."""

    airflow_version: str
    backend: str = "secure"
    #: What was searched for, by a name for each.
    texts: Mapping[str, str] = field(default_factory=dict)
    #: Where it stands.
    found: Found = field(default_factory=Found)
    #: The XComs that were compared with what tasks returned (the demo's).
    xcoms: list[XCom] = field(default_factory=list)
    #: All that is off, and all that keeps the search from being relied upon.
    problems: list[str] = field(default_factory=list)
    #: The end of what a program printed that failed.
    tail: str = ""
    notes: list[str] = field(default_factory=list)
    #: The directory that was kept, if one was.
    kept: Path | None = None
    seconds: float = 0.0

    @property
    def values(self) -> int:
        """How many texts were searched for that nobody left readable on purpose."""
        return len(self.texts.keys() - {CONTROL})

    @property
    def ok(self) -> bool:
        """Whether nothing was found, by a search that took place, and nothing is off."""
        return bool(self.found.looked) and not self.found.places and not self.problems
