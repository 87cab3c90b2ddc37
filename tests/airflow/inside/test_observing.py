"""What Airflow's metrics are sent of pushes and pulls, as a StatsD server receives it."""

from __future__ import annotations

import json
import os
import socket
import time
from types import SimpleNamespace

import pytest
from conftest import VERSION, WHERE, pull, push
from support.statsd import statsd

from secure_xcom import telemetry
from secure_xcom.airflow import versions
from secure_xcom.errors import CodecError, SecureXComError

INFLUX = {"AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True"}


@pytest.fixture(autouse=True)
def _unobserved():
    yield
    telemetry.observe(None)


@pytest.fixture
def metrics(monkeypatch):
    """Have Airflow send its metrics to a server, once they are switched on."""
    with statsd() as server:

        def switch_on(**options):
            for name, value in {**server.env, **options}.items():
                monkeypatch.setenv(name, value)
            _initialize(monkeypatch)

        def received():
            """Wait for what was sent last: the socket gives one line after the other."""
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end:1|g", ("127.0.0.1", server.port))
            while server.lines[-1:] != ["end:1|g"]:
                time.sleep(0.01)
            server.lines.pop()
            return server

        yield SimpleNamespace(switch_on=switch_on, received=received)


def _initialize(monkeypatch):
    """Do what a task's process does at its beginning."""
    stats = versions.stats()
    if VERSION >= (3, 2):
        from airflow.sdk.observability.metrics.stats_utils import (  # noqa: PLC0415
            get_stats_factory,
        )

        if VERSION == (3, 2):
            stats.initialize(factory=get_stats_factory(stats))
        else:
            stats.initialize(factory=get_stats_factory(), export_legacy_names=True)
        return
    from airflow.metrics import statsd_logger  # noqa: PLC0415

    monkeypatch.setattr(type(stats), "factory", statsd_logger.get_statsd_logger)
    monkeypatch.setattr(stats, "instance", None)


def test_a_push_and_a_pull_are_counted_and_timed(deployment, metrics):
    metrics.switch_on()
    row = push("a small value")
    assert pull(row) == "a small value"
    value = os.urandom(256_000)
    large = push(value, key="other")
    assert pull(large, key="other") == value
    assert pull(large, key="other") == value
    assert len(deployment.objects()) == 1

    received = metrics.received()
    assert all(line.startswith("airflow.secure_xcom.") for line in received.lines)
    counters = received.counters()
    raw_bytes = counters.pop("seal.bytes")
    assert 256_000 + len("a small value") <= raw_bytes < 256_100
    assert counters.pop("open.bytes") == raw_bytes + 256_000
    assert counters == {
        "seal.ok": 2,
        "seal.inline": 1,
        "seal.offloaded": 1,
        "open.ok": 3,
        "key_cache.hits": 2,
        "read_cache.misses": 1,
        "read_cache.hits": 1,
    }
    steps = {"seal", "encode", "wrap", "upload", "open", "unwrap", "download", "decode"}
    assert received.timers() == {f"{step}.duration" for step in steps}
    # No id stands in a plain name.
    for line in received.lines:
        assert not {*line.partition(":")[0].split(".")} & {*map(str, WHERE.values()), "other"}


@pytest.mark.usefixtures("deployment")
def test_refusals_and_failures_are_counted_by_class(metrics, configure):
    metrics.switch_on()
    row = push("value")
    with pytest.raises(SecureXComError):
        pull({**row, "envelope": row["envelope"][:-8] + "AAAAAAAA"})
    with pytest.raises(CodecError):
        push(object())
    configure(kek_uri="nonsense")
    with pytest.raises(SecureXComError):
        push("value")
    counters = metrics.received().counters()
    assert counters["open.refused.AuthenticationError"] == 1
    assert counters["seal.failed.CodecError"] == 1
    assert counters["seal.refused.ConfigError"] == 1


@pytest.mark.usefixtures("deployment")
def test_tags_go_where_the_backend_takes_them(metrics):
    metrics.switch_on(**INFLUX)
    push("value")
    names = {line.partition(":")[0] for line in metrics.received().lines}
    assert "airflow.secure_xcom.seal.ok,dag_id=d,task_id=t" in names
    assert not any("run_id" in name or "key=" in name for name in names)


@pytest.mark.usefixtures("deployment")
@pytest.mark.parametrize("value", ["False", "perhaps"])
def test_nothing_is_sent_and_nothing_fails_where_metrics_are_off(metrics, monkeypatch, value):
    metrics.switch_on()
    # Airflow's own instance still sends; what its configuration says now is what counts.
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", value)
    row = push("value")
    assert pull(row) == "value"
    assert not telemetry.is_observed()
    assert metrics.received().lines == []


@pytest.mark.usefixtures("deployment")
def test_nothing_fails_where_metrics_do(metrics, monkeypatch):
    metrics.switch_on()

    def fail(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(versions.stats(), "incr", fail, raising=False)
    monkeypatch.setattr(versions.stats(), "timing", fail, raising=False)
    assert pull(push({"a": 1})) == {"a": 1}


@pytest.mark.usefixtures("deployment")
def test_no_contents_are_sent(metrics):
    metrics.switch_on(**INFLUX)
    row = push({"name": "a canary"})
    pull(row)
    sent = "\n".join(metrics.received().lines)
    assert sent
    assert "canary" not in sent
    assert json.dumps(row)[20:60] not in sent
