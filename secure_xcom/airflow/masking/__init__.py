"""Opened values in logs: *** stands in their place, whatever their number.

What a task pulls is kept as it was encoded, and made into an index of texts at the first line that
is logged after; so a task that logs nothing pays next to nothing, and one that changes a value, or
drops it, is masked all the same. What this does not reach is said in `docs/threat-model.md`;
decision 0091 has the measurements.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from secure_xcom import audit, forks, signals
from secure_xcom.airflow.masking import maskers
from secure_xcom.airflow.masking.descriptors import Diverted
from secure_xcom.airflow.masking.index import MOST_CHARACTERS, MOST_TEXTS, Index, replaced
from secure_xcom.airflow.masking.leaves import leaves
from secure_xcom.airflow.masking.running import (
    Owner,
    Whole,
    is_over,
    is_same,
    owner,
)
from secure_xcom.errors import ConfigError
from secure_xcom.model import Coordinate, Expected, Payload

if TYPE_CHECKING:
    from secure_xcom.settings import Settings

#: Whose value it is, as far as that is known.
Where: TypeAlias = Coordinate | Expected

log = logging.getLogger("secure_xcom")

#: Encoded values that wait for a line to be logged hold no more memory than this.
_MOST_WAITING_BYTES = 64 << 20
#: A line is withheld if it has to wait longer than this for the index.
_WAIT_SECONDS = 60


class _Pulled:
    """What one owner has pulled, as far as it is within the budget."""

    def __init__(self, owner: Owner, settings: Settings) -> None:
        self.owner = owner
        self.is_strict = settings.strict
        self.is_complete = True
        self._index = Index(settings.unmasked_texts)
        self._waiting: list[tuple[Payload, Where]] = []
        self._waiting_bytes = 0
        self._is_building = False
        self._unsaid: tuple[Where, str, str] | None = None
        self.lock = threading.RLock()
        self._attached = maskers.Attached(self)
        #: One for each process that a fork has gone through and that pulled.
        self._diverted: list[Diverted] = []
        self._is_diverted = True

    def keep(self, payload: Payload, where: Where) -> None:
        """Keep an encoded value for the first line that is logged."""
        with self.lock:
            self._divert(where)
            self._waiting.append((payload, where))
            self._waiting_bytes += payload.raw_bytes
            # Where reads may have to be refused, what there is has to be known at once.
            if self._waiting_bytes > _MOST_WAITING_BYTES or (
                self.is_strict and self.owner is Whole.DAEMON
            ):
                self._build()
        self._say()

    def add(self, values: Iterable[object], where: Where) -> None:
        """Take the texts of values that are not encoded."""
        with self.lock:
            self._divert(where)
            self._add(values, where)
        self._say()

    def spans(self, line: str) -> list[tuple[int, int]]:
        """Give the places of pulled texts in a line."""
        if is_over(self.owner):
            _forget(self)
            return []
        return self._spans(line)

    def _spans(self, line: str) -> list[tuple[int, int]]:
        if self._waiting:
            # Whoever builds may wait for a handler that this thread holds.
            if not self.lock.acquire(timeout=_WAIT_SECONDS):
                return [(0, len(line))]
            try:
                if self._is_building:  # a library that a value is decoded with logs
                    return [(0, len(line))]
                self._build()
            finally:
                self.lock.release()
            self._say()
        return self._index.spans(line)

    def withholds(self) -> bool:
        """Whether lines are withheld: under `strict`, once more was pulled than can be masked."""
        return self._withholds() and not is_over(self.owner)

    def _withholds(self) -> bool:
        if not self.is_strict:
            return False
        if self._waiting:
            self._spans("")
        return not self.is_complete

    def detach(self) -> None:
        """Put back what was changed for this owner; what it wrote last is masked still."""
        while self._diverted:
            self._diverted.pop().restore()
        self._attached.detach()

    def _divert(self, where: Where) -> None:
        """Have what is written past Python's streams masked, too."""
        if not self._is_diverted or (self._diverted and self._diverted[-1].is_ours):
            return
        try:
            diverted = Diverted(self._masked_output)
        except OSError as error:
            if self.is_strict:
                raise ConfigError(
                    "strict is on, and what programs and C code write to a task's output cannot be "
                    f"masked on this system ({type(error).__name__}). Nothing is read. Run tasks "
                    "on Linux, where memfd_create is allowed."
                ) from error
            self._is_diverted = False
            self._unsaid = (
                where,
                f"what programs and C code write themselves cannot be ({type(error).__name__})",
                "It stands in clear there. With strict = true nothing is read on such a system.",
            )
        else:
            self._diverted.append(diverted)
            self._attached.written = diverted.deliver

    def _masked_output(self, text: str) -> str:
        if self._withholds():
            return maskers.withheld(text)
        return replaced(text, self._spans(text), maskers.HIDDEN)

    def start_child(self) -> None:
        """After a fork, in the child: a thread that held the lock, or built, is not there."""
        self.lock = threading.RLock()
        self._is_building = False

    def _build(self) -> None:
        self._is_building = True
        try:
            # What a time-out interrupts waits for the next line.
            while self._waiting:
                payload, where = self._waiting[0]
                self._add_payload(payload, where)
                del self._waiting[0]
                self._waiting_bytes -= payload.raw_bytes
        finally:
            self._is_building = False

    def _add_payload(self, payload: Payload, where: Where) -> None:
        try:
            value = _contents(payload)
        except Exception as error:  # nothing that goes wrong here fails the task
            if signals.is_callers(error):
                raise
            self._exceeded(where, f"a value could not be read ({type(error).__name__})")
        else:
            self._add([value], where)

    def _add(self, values: Iterable[object], where: Where) -> None:
        if not self.is_complete:
            return
        try:
            fits = self._index.add(leaves(values))
        except Exception as error:  # as above
            if signals.is_callers(error):
                raise
            self._exceeded(where, f"a value could not be read ({type(error).__name__})")
            return
        if not fits:
            self._exceeded(
                where,
                f"more was pulled than can be masked, which is {MOST_TEXTS:,} texts and "
                f"{MOST_CHARACTERS:,} characters of them",
            )

    def _exceeded(self, where: Where, why: str) -> None:
        if self.is_complete:
            self.is_complete = False
            self._unsaid = (
                where,
                why,
                "strict is on, so from here on the lines of this task's log and output are "
                "withheld, and *** stands for each."
                if self.is_strict
                else "What is logged of them from here on may stand in clear. Pull less in one "
                "task, or log nothing of it; with strict = true such lines are withheld.",
            )

    def _say(self) -> None:
        """Say once that not all is masked; not under the lock, for a handler has one, too."""
        said, self._unsaid = self._unsaid, None
        if said is None:
            return
        where, why, comes_of_it = said
        with maskers.speaking():
            log.warning("Pulled values are masked in part only: %s. %s", why, comes_of_it)
            audit.exceeded(where)


def _contents(payload: Payload) -> object:
    from secure_xcom import codecs  # noqa: PLC0415 - every daemon of Airflow imports this module

    return codecs.contents(payload)


class _Process:
    """What this process masks now."""

    pulled: _Pulled | None = None


def keep(payload: Payload, where: Where, settings: Settings) -> None:
    """Mask the texts of an encoded value from here on, if this process runs code of users.

    Raises:
        ConfigError: under `strict`, a daemon has opened more than can be masked.
    """
    if (pulled := _pulled(settings)) is not None:
        pulled.keep(payload, where)
        _check(pulled)


def mask(values: Iterable[object], where: Where, settings: Settings) -> None:
    """Do the same for values that did not come encoded.

    Raises:
        ConfigError: under `strict`, a daemon has opened more than can be masked.
    """
    if (pulled := _pulled(settings)) is not None:
        pulled.add(values, where)
        _check(pulled)


def _pulled(settings: Settings) -> _Pulled | None:
    """Give what the owner of this moment has pulled, with the maskers attached to it."""
    now = owner()
    if now is None:
        return None
    known = _Process.pulled
    if known is not None and not is_same(known.owner, now):
        _forget(known)
        known = None
    return known or _attached(now, settings)


def _attached(now: Owner, settings: Settings) -> _Pulled | None:
    try:
        _Process.pulled = _Pulled(now, settings)
    except Exception as error:
        if signals.is_callers(error):
            raise
        if settings.strict:
            raise ConfigError(
                "strict is on, and pulled values cannot be masked in logs: this version of Airflow "
                f"has no masker that secure_xcom knows ({type(error).__name__}). Nothing is read. "
                "Use a version of Airflow that this version of secure_xcom supports."
            ) from error
        log.warning(
            "Pulled values are not masked in this task's log (%s). Set mask_pulled_values = false "
            "to do without, or look for a version of secure_xcom that knows this Airflow.",
            type(error).__name__,
        )
        return None
    return _Process.pulled


def _check(pulled: _Pulled) -> None:
    if pulled.is_strict and not pulled.is_complete and pulled.owner is Whole.DAEMON:
        raise ConfigError(
            "strict is on, and more was opened in this process than its log can be masked for. It "
            "is no task's process, so its log is not withheld; the value is refused instead. Read "
            "values in tasks, or restart the process."
        )


def _forget(pulled: _Pulled) -> None:
    """Let go of what an owner pulled, and put back what was changed for it."""
    if _Process.pulled is pulled:
        _Process.pulled = None
    pulled.detach()


def forget() -> None:
    """Let go of all that was pulled in this process."""
    if _Process.pulled is not None:
        _forget(_Process.pulled)


def hides(text: str) -> bool:
    """Whether the masker of this process hides a text that is given to it as pulled values are."""
    index = Index()
    index.add([text])
    attached = maskers.Attached(index)
    try:
        return text not in maskers.redact(f"a line with {text}")
    finally:
        attached.detach()


@forks.run_in_children
def _go_on() -> None:
    """Go on masking in a task's child."""
    if _Process.pulled is not None:
        _Process.pulled.start_child()
