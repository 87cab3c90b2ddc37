"""The audit log of a command, which a person at a terminal sees as well."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import AbstractContextManager

from secure_xcom import audit
from secure_xcom.audit.sinks import STANDARD_ERROR, TASK_LOG


def audited(
    command: str, audit_log: tuple[str, ...] = (), reason: str = ""
) -> AbstractContextManager[None]:
    """Have the audit log on standard error, and in files, with the name of who asks.

    The name is what the operating system says, and no evidence of who it was. All of these places
    have to take each line.

    Args:
        command: what the lines name besides.
        audit_log: the setting, of which a command's lines go to the files: it has no task's log.
        reason: why it is done, as whoever asks has said it.
    """
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    files = [place for place in audit_log if place not in (TASK_LOG, STANDARD_ERROR)]
    return audit.acting(
        f"{command}:{user}", (STANDARD_ERROR, *files), host=socket.gethostname(), reason=reason
    )
