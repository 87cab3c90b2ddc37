"""What the first push and the first pull of a task need, loaded before the task is forked.

A task is a forked process, and what its parent has imported it need not import: the modules of
Google's clients are most of what a first push costs. So they are loaded by the first process that
forks, just before it does. That is the scheduler of a LocalExecutor, the main process of a Celery
worker, or, where tasks have a machine of their own, the process that watches over the task. A call
of the command line does not fork, and loads nothing.

Modules only: no setting beyond airflow.cfg is read, no credentials are looked for, and nothing
connects; those are not a child's to inherit.
"""

from __future__ import annotations

import logging
import os
import threading

# These three have hooks of their own around a fork. Loaded while a fork begins, they would get the
# second half of it alone.
from concurrent.futures import thread  # noqa: F401
from importlib import import_module

from secure_xcom import forks, uris  # noqa: F401
from secure_xcom.stores.gcs import client as gcs_client  # noqa: F401

_log = logging.getLogger(__name__)


class _Loading:
    """Loads once, and holds other forks back meanwhile: their children could not import."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._begun = False

    def before_fork(self) -> None:
        self._lock.acquire()
        if self._begun:
            return
        self._begun = True
        try:
            _load()
        except Exception as error:  # noqa: BLE001 - the first push says what is wrong
            _log.debug("Nothing more is loaded before the fork: %s", type(error).__name__)

    def after_fork(self) -> None:
        self._lock.release()


def _load() -> None:
    import_module("secure_xcom.stack")
    import_module("secure_xcom.airflow.observing")
    from secure_xcom import keys, stores  # noqa: PLC0415
    from secure_xcom.airflow import configuration  # noqa: PLC0415
    from secure_xcom.settings import SECTION  # noqa: PLC0415
    from secure_xcom.uris import CLOUD_KMS, GCS  # noqa: PLC0415

    kek_uri, store_uri, connection = (
        configuration.option(SECTION, name) for name in ("kek_uri", "store_uri", "gcp_conn_id")
    )
    # What airflow.cfg does not name stands in a Variable, most likely, and is Google's.
    keys.load(kek_uri or CLOUD_KMS)
    stores.load(store_uri or GCS)
    if connection:
        configuration.load_connections()


_loading = _Loading()


def install() -> None:
    """Have this process, or a child of it, load what is needed before its first fork."""
    os.register_at_fork(
        before=_loading.before_fork,
        after_in_parent=_loading.after_fork,
        after_in_child=_loading.after_fork,
    )
