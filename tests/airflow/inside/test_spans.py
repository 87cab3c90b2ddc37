"""Spans of pushes and pulls, as an exporter of OpenTelemetry's gets them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from conftest import VERSION, pull, push

from secure_xcom import telemetry
from secure_xcom.airflow import versions
from secure_xcom.errors import CodecError, SecureXComError

pytestmark = pytest.mark.skipif(VERSION == (3, 1), reason="tasks of 3.1 have no span")

STEPS = {"seal", "encode", "wrap", "upload", "open", "unwrap", "download", "decode"}


@pytest.fixture(autouse=True)
def _unobserved():
    yield
    telemetry.observe(None)


@pytest.fixture
def traces(monkeypatch):
    """Have this version's tracer export to memory; what tells the spans that have ended."""
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    exporter = InMemorySpanExporter()
    flush = (_trace_3 if VERSION >= (3, 0) else _trace_2)(monkeypatch, exporter)

    def ended():
        flush()
        return exporter.get_finished_spans()

    return ended


def _trace_3(monkeypatch, exporter):
    from opentelemetry import trace  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return provider.force_flush


def _trace_2(monkeypatch, exporter):
    from airflow.traces.otel_tracer import OtelTrace  # noqa: PLC0415
    from airflow.traces.tracer import Trace  # noqa: PLC0415

    monkeypatch.setenv("AIRFLOW__TRACES__OTEL_ON", "True")
    tracing = OtelTrace(span_exporter=exporter)
    monkeypatch.setattr(Trace, "instance", tracing)
    return tracing.span_processor.force_flush


@contextmanager
def running_task():
    """Give the ids of the span of the task that runs: of the trace, and of the span."""
    if VERSION >= (3, 0):
        from airflow.sdk.execution_time.task_runner import tracer  # noqa: PLC0415

        with tracer.start_as_current_span("worker.t") as span:
            yield span.get_span_context()
        return
    from airflow.models import taskinstance  # noqa: PLC0415
    from airflow.models.taskinstancekey import TaskInstanceKey  # noqa: PLC0415
    from airflow.traces.utils import gen_span_id, gen_trace_id  # noqa: PLC0415
    from airflow.utils import timezone  # noqa: PLC0415

    dag_run = SimpleNamespace(dag_id="d", run_id="r", start_date=timezone.utcnow())
    key = TaskInstanceKey("d", "t", "r", 2, -1)
    ti = SimpleNamespace(dag_run=dag_run, task_id="t", try_number=2, key=key)
    with taskinstance.set_current_context({"ti": ti, "dag_run": dag_run}):
        # As the scheduler makes them of the row, once the task is over.
        yield SimpleNamespace(
            trace_id=gen_trace_id(dag_run, as_int=True), span_id=gen_span_id(ti, as_int=True)
        )


def named(spans):
    return {
        span.name.removeprefix("secure_xcom."): span
        for span in spans
        if span.name.startswith("secure_xcom.")
    }


@pytest.mark.usefixtures("deployment")
def test_the_steps_nest_under_the_task_s_span(traces):
    with running_task() as task:
        value = {"name": "a canary", "data": os.urandom(256_000)}
        assert pull(push(value)) == value
    spans = named(traces())
    assert set(spans) == STEPS
    parents = {
        **dict.fromkeys(("seal", "open", "decode"), task.span_id),
        **dict.fromkeys(("encode", "wrap", "upload"), spans["seal"].context.span_id),
        "download": spans["open"].context.span_id,
        "unwrap": spans["download"].context.span_id,
    }
    assert {name: span.parent.span_id for name, span in spans.items()} == parents
    assert {span.context.trace_id for span in spans.values()} == {task.trace_id}
    assert "canary" not in "".join(span.to_json() for span in spans.values())


@pytest.mark.usefixtures("deployment")
def test_a_failure_says_its_class_and_nothing_else(traces):
    row = push("value")
    with pytest.raises(SecureXComError):
        pull({**row, "envelope": row["envelope"][:-8] + "AAAAAAAA"})

    class Canary:
        def __getstate__(self):
            raise ValueError("a canary")

    with pytest.raises(CodecError):
        push(Canary())
    failed = [span for span in traces() if not span.status.is_ok and span.attributes]
    assert {(span.name, span.attributes["error.type"]) for span in failed} == {
        ("secure_xcom.open", "AuthenticationError"),
        ("secure_xcom.encode", "CodecError"),
        ("secure_xcom.seal", "CodecError"),
    }
    for span in failed:
        assert span.events == ()
        assert span.status.description is None
        assert set(span.attributes) == {"error.type"}


@pytest.mark.usefixtures("deployment")
def test_nothing_fails_where_a_tracer_does(traces, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(versions, "context_of_spans", fail)
    assert pull(push("value")) == "value"
    assert named(traces()) == {}


@pytest.mark.usefixtures("deployment")
def test_nobody_observes_where_nothing_is_on():
    assert versions.tracer() is None
    assert pull(push("value")) == "value"
    assert not telemetry.is_observed()
