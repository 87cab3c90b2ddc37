"""Pushes a short and a long value, and pulls both."""

from __future__ import annotations

import datetime as dt
import os

try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

CANARY = os.environ.get("CANARY", "")


@dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc))  # noqa: UP017
def inspected():
    @task
    def short():
        return {"card": CANARY}

    @task
    def long():
        return os.urandom(60_000) + CANARY.encode()

    @task
    def pull(one, other):
        assert one["card"] == CANARY
        assert other.endswith(CANARY.encode())
        return "pulled"

    pull(short(), long())


inspected()
