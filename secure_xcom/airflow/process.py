"""The settings and the stack of this process, looked up and built at first use.

A forked child has to do so afresh.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from secure_xcom import forks

if TYPE_CHECKING:
    from secure_xcom.settings import Settings
    from secure_xcom.stack import Stack


class _Current(NamedTuple):
    settings: Settings
    stack: Stack
    until: float


class Process:
    """The settings of this process, and the stack that they make."""

    def __init__(self) -> None:
        self._current: _Current | None = None
        self._building = threading.Lock()

    def forget(self) -> None:
        """Start afresh: channels, sessions, keys and locks of a parent are not its child's."""
        self._current = None
        self._building = threading.Lock()

    def current(self) -> tuple[Settings, Stack]:
        """Give both, with settings that are looked up again after their time."""
        known = self._current
        if known is None or time.monotonic() >= known.until:
            known = self._refresh(known)
        return known.settings, known.stack

    def _refresh(self, known: _Current | None) -> _Current:
        from secure_xcom.airflow import configuration, observing  # noqa: PLC0415 - not at import
        from secure_xcom.stack import build  # noqa: PLC0415 - it imports the cryptography

        # First, so that settings which are refused are counted, too.
        observing.start()
        # Airflow answers these; a lock held meanwhile could wait for its event loop for ever.
        settings = configuration.read()
        if known is not None and known.settings == settings:
            stack = known.stack
        else:
            credentials = configuration.credentials(settings)
            with self._building:
                there = self._current
                if there is not None and there.settings == settings:
                    stack = there.stack
                else:
                    stack = build(settings, credentials)
                    self._current = _Current(settings, stack, 0.0)
        self._current = _Current(settings, stack, time.monotonic() + settings.settings_ttl_seconds)
        return self._current


process = Process()
forks.run_in_children(process.forget)
