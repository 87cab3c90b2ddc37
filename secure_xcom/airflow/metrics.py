"""Counts, by Airflow's own metrics."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def count(name: str) -> None:
    """Count one of `secure_xcom.<name>`. Nothing that goes wrong with metrics is told."""
    with suppress(Exception):
        there = find_spec("airflow.sdk") and find_spec("airflow.sdk.observability")  # from 3.2 on
        stats: Any = import_module("airflow.sdk.observability.stats" if there else "airflow.stats")
        stats.Stats.incr(f"secure_xcom.{name}")
