"""What goes wrong in metrics and traces fails no task; a task's own time-out goes through."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from secure_xcom import telemetry
from secure_xcom.airflow import observing, versions


@pytest.fixture(autouse=True)
def _unobserved():
    yield
    telemetry.observe(None)


def start(monkeypatch, *, metrics=True, tracer=None, call=lambda: None):
    """Observe, with metrics and a tracer that call something."""
    stats = SimpleNamespace(incr=lambda *_, **__: call(), timing=lambda *_, **__: call())
    monkeypatch.setattr(versions, "has_metrics", lambda: metrics)
    monkeypatch.setattr(versions, "tracer", lambda: tracer)
    monkeypatch.setattr(versions, "context_of_spans", call)
    monkeypatch.setattr(versions, "stats", lambda: stats)
    observing.start()


def fail():
    raise RuntimeError


class TimedOut(Exception):  # noqa: N818 - as Airflow's is called
    pass


def time_out():
    signal.raise_signal(signal.SIGUSR1)


@pytest.fixture
def timing_out():
    """Have a signal's handler raise, as Airflow's time-outs do."""

    def handle(*_):
        raise TimedOut

    before = signal.signal(signal.SIGUSR1, handle)
    yield
    signal.signal(signal.SIGUSR1, before)


TRACER = SimpleNamespace(start_as_current_span=lambda *_, **__: nullcontext())


def test_nobody_observes_where_neither_is_on(monkeypatch):
    start(monkeypatch, metrics=False)
    assert not telemetry.is_observed()
    start(monkeypatch)
    assert telemetry.is_observed()
    start(monkeypatch, metrics=False)
    assert not telemetry.is_observed()


def test_a_configuration_that_cannot_be_read_fails_nothing(monkeypatch):
    monkeypatch.setattr(versions, "has_metrics", fail)
    observing.start()
    assert not telemetry.is_observed()


@pytest.mark.parametrize("tracer", [None, TRACER])
def test_what_fails_there_is_not_raised(monkeypatch, tracer):
    start(monkeypatch, tracer=tracer, call=fail)
    telemetry.count("name")
    with telemetry.step("step"):
        pass
    # And what fails in the step itself is.
    with pytest.raises(ZeroDivisionError), telemetry.step("step"):
        1 / 0  # noqa: B018


@pytest.mark.usefixtures("timing_out")
def test_the_task_s_own_time_out_goes_through(monkeypatch):
    start(monkeypatch, call=time_out)
    with pytest.raises(TimedOut):
        telemetry.count("name")
    with pytest.raises(TimedOut), telemetry.step("step"):
        pass
    start(monkeypatch, metrics=False, tracer=TRACER, call=time_out)
    with pytest.raises(TimedOut), telemetry.step("step"):
        pass
