"""The hand-written backend in its other common form: the hook is imported with the module."""

from __future__ import annotations

import airflow.providers.google.cloud.hooks.gcs  # noqa: F401 - what it is about
from hand_written import Lazy


class Early(Lazy):
    """The same, with the hook loaded before the fork wherever the backend is."""
