"""What is counted and timed goes to Airflow's own metrics and traces, where they are on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from secure_xcom import signals, telemetry
from secure_xcom.airflow import versions

#: What each name begins with.
_PREFIX = "secure_xcom."


def start() -> None:
    """Have Airflow told from here on, if its configuration or a tracer of this process asks."""
    observer = None
    with _harmless():
        metrics, tracer = versions.has_metrics(), versions.tracer()
        if metrics or tracer is not None:
            observer = _Airflow(tracer, metrics=metrics)
    telemetry.observe(observer)


class _Airflow:
    """Airflow's counters and timers, whatever it sends them by, and spans of OpenTelemetry.

    Args:
        tracer: begins the spans; None for none.
        metrics: whether there are counters and timers.
    """

    def __init__(self, tracer: Any | None, *, metrics: bool) -> None:  # noqa: ANN401 - OpenTelemetry's
        self._tracer = tracer
        self._metrics = metrics

    def count(self, name: str, amount: int, tags: Mapping[str, str]) -> None:
        """Add to a counter."""
        if self._metrics:
            with _harmless():
                versions.stats().incr(_PREFIX + name, amount, tags=dict(tags))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step, however it ends, within a span of its own."""
        began = time.perf_counter()
        try:
            with self._span(name):
                yield
        finally:
            took = timedelta(seconds=time.perf_counter() - began)
            if self._metrics:
                with _harmless():
                    versions.stats().timing(f"{_PREFIX}{name}.duration", took)

    @contextmanager
    def _span(self, name: str) -> Iterator[None]:
        if self._tracer is None:
            yield
            return
        with ExitStack() as ending:
            span = None
            with _harmless():
                span = ending.enter_context(
                    self._tracer.start_as_current_span(
                        _PREFIX + name,
                        context=versions.context_of_spans(),
                        # A message, or a traceback, may quote what a value's own code raised.
                        record_exception=False,
                        set_status_on_exception=False,
                    )
                )
            try:
                yield
            except Exception as error:
                if span is not None:
                    with _harmless():
                        span.set_attribute("error.type", type(error).__name__)
                        versions.set_failed(span)
                raise


@contextmanager
def _harmless() -> Iterator[None]:
    """Go on whatever goes wrong in here, but for what a signal's handler raises."""
    try:
        yield
    except Exception as error:
        if signals.is_callers(error):
            raise
