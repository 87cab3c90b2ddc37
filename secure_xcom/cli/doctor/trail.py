"""Checks that lines of the audit log arrive where they are to go."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom import audit
from secure_xcom.airflow import task_log
from secure_xcom.audit.sinks import STANDARD_ERROR, TASK_LOG
from secure_xcom.cli.doctor.check import Check, failed, passed, warned

if TYPE_CHECKING:
    from secure_xcom.settings import Settings

_NAME = "audit_log"
_STANDARD_ERROR_FD = 2
#: How much of the end of a file is looked through.
_TAIL_BYTES = 1 << 16


def checks(settings: Settings) -> Iterator[Check]:
    """Write a line to each place, and look whether it is there."""
    if not settings.audit_log:
        yield warned(
            _NAME,
            "audit_log is empty: nobody can tell afterwards who opened what.",
            "Take audit_log out of the settings, or name a place.",
        )
    arrived = {place: _arrives(place) for place in settings.audit_log}
    for place, is_there in arrived.items():
        if is_there:
            yield passed(_NAME, f"a line that was written to {place} is there")
        elif is_there is None:
            yield warned(
                _NAME,
                f"Whether lines arrive in {place} cannot be seen from here.",
                "Look for the line of a task that pushes or pulls, where its log is kept.",
            )
        else:
            tell = warned if any(found is not False for found in arrived.values()) else failed
            yield tell(
                _NAME,
                f"A line that was written to {place} is not there.",
                "Name stderr in audit_log, or a file that the tasks' user may append to.",
            )


def _arrives(place: str) -> bool | None:
    """Whether a line is there that was written; None where that cannot be seen."""
    if place == TASK_LOG:
        nonce = audit.nonce()
        return task_log.holds(nonce, lambda: audit.probe(place, nonce))
    if place == STANDARD_ERROR:
        return _arrives_on_standard_error()
    nonce = audit.nonce()
    if not audit.probe(place, nonce):
        return False
    try:
        with Path(place).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            return nonce.encode() in file.read()
    except OSError:
        return None


def _arrives_on_standard_error() -> bool:
    """Write a line while standard error is a pipe, and look for it at the other end."""
    nonce = audit.nonce()
    reading, writing = os.pipe()
    kept = os.dup(_STANDARD_ERROR_FD)
    try:
        os.dup2(writing, _STANDARD_ERROR_FD)
        try:
            taken = audit.probe(STANDARD_ERROR, nonce)
        finally:
            os.dup2(kept, _STANDARD_ERROR_FD)
        os.close(writing)
        with os.fdopen(reading, "rb") as sent:
            return taken and nonce.encode() in sent.read()
    finally:
        os.close(kept)
