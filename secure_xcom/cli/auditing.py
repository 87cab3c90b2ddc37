"""The audit log of a command, which a person at a terminal sees as well."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from secure_xcom import audit


@contextmanager
def audited(command: str) -> Iterator[None]:
    """Have the audit log on standard error, with the name of who asks.

    The name is what the operating system says, and no evidence of who it was.

    Args:
        command: what the lines name besides.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    handler = logging.StreamHandler(sys.stderr)
    before = audit.logger.level, audit.logger.propagate, audit.logger.disabled
    audit.logger.addHandler(handler)
    # Airflow's own handler would write it to standard output as well.
    audit.logger.setLevel(logging.INFO)
    audit.logger.propagate = False
    audit.logger.disabled = False
    try:
        with audit.acting(f"{command}:{user}"):
            yield
    finally:
        audit.logger.removeHandler(handler)
        audit.logger.setLevel(before[0])
        audit.logger.propagate, audit.logger.disabled = before[1:]
