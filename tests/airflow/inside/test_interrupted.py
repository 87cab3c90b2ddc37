"""A time-out out of a signal handler comes through everything that otherwise speaks for itself."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest
from conftest import WHERE, push

from secure_xcom.airflow import configuration, deleting, masking, versions
from secure_xcom.airflow.masking import running
from secure_xcom.model import Expected
from secure_xcom.stores.file import Directory

LONG_SECONDS = 20


class _TimedOut(Exception):  # noqa: N818 - as Airflow's is called
    """Of no class that anybody could know."""


@pytest.fixture(params=[_TimedOut, TimeoutError])
def mine(request):
    """The exception that a handler raises."""
    error = request.param("mine")

    def handle(*_):
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    yield error
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def slowly(*_args, **_kwargs):
    time.sleep(LONG_SECONDS)


def expect(mine, act):
    started = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(type(mine)) as caught:
        act()
    assert caught.value is mine
    assert time.monotonic() - started < LONG_SECONDS / 2


def test_from_a_purge(deployment, configure, monkeypatch, mine):
    """It never raises of itself."""
    configure(threshold_bytes=0)
    row = push("value")
    monkeypatch.setattr(Directory, "delete", slowly)
    expect(mine, lambda: deleting.delete_object(row, Expected(**WHERE)))


def test_from_the_look_for_a_variable(monkeypatch, mine):
    monkeypatch.setattr(versions, "is_airflow_3", slowly)
    expect(mine, lambda: configuration._variable("SECURE_XCOM"))


def test_from_the_masker(monkeypatch, mine):
    monkeypatch.setattr(masking, "owner", lambda: running.Whole.TASK)
    monkeypatch.setattr(masking, "leaves", slowly)
    settings = SimpleNamespace(strict=False, unmasked_texts=())
    try:
        expect(mine, lambda: masking.mask(["text"], Expected(), settings))
    finally:
        masking.forget()


def test_from_the_thread_that_settings_are_looked_up_in(monkeypatch, mine):
    """On Airflow 2 it is one of its own."""
    monkeypatch.setattr(versions, "is_airflow_3", lambda: False)
    expect(mine, lambda: configuration._apart(slowly))
