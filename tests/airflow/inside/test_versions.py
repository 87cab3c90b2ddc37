"""Airflow has what `versions.py` takes from its insides; a version that renames it fails here."""

from __future__ import annotations

import sys
from importlib import import_module
from types import SimpleNamespace
from uuid import uuid4

import pytest
from conftest import VERSION

from secure_xcom.airflow import policy, versions

AIRFLOW_3 = VERSION >= (3, 0)


def test_which_airflow_this_is():
    assert versions.is_installed()
    assert versions.is_airflow_3() is AIRFLOW_3


def test_configuration_and_variables(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "a.backend")
    monkeypatch.setenv("AIRFLOW_VAR_SECURE_XCOM_TEST", "a value")
    assert versions.config().get("core", "xcom_backend") == "a.backend"
    assert versions.variable("SECURE_XCOM_TEST") == "a value"
    assert versions.variable("SECURE_XCOM_NONE") is None


def test_paths_of_object_storage(tmp_path):
    (tmp_path / "object").write_bytes(b"data")
    path = versions.object_storage_path(f"file://{tmp_path}/object")
    with path.open(mode="rb", compression="infer") as file:
        assert file.read() == b"data"


def test_the_hook_of_the_google_provider():
    assert callable(versions.google_hook().get_credentials)


def test_policies():
    # Only the entry point loads it, and not an import.
    assert versions.is_policy(policy)
    assert not versions.is_policy(sys)


def test_the_masker():
    assert callable(versions.secrets_masker().mask_secret)
    assert callable(versions.secrets_masker().redact)
    own, kinds = versions.maskers()
    assert own
    for masker in own:
        assert isinstance(masker, kinds)
        assert callable(masker.filter)
        assert hasattr(masker, "replacer")


def test_metrics():
    name = "airflow.stats" if VERSION < (3, 2) else "airflow.sdk.observability.stats"
    assert versions.stats() is import_module(name).Stats
    assert callable(versions.stats().incr)
    assert callable(versions.stats().timing)


def test_metrics_and_traces_are_off_unless_they_are_switched_on(monkeypatch):
    assert versions.has_metrics() is False
    assert versions.tracer() is None
    monkeypatch.setenv("AIRFLOW__METRICS__OTEL_ON", "True")
    assert versions.has_metrics() is True


@pytest.mark.skipif(AIRFLOW_3, reason="a task is told by its supervisor there")
def test_the_task_of_a_process(monkeypatch):
    from airflow.models import taskinstance  # noqa: PLC0415

    assert versions.task_context() is None
    context = {"ti": object()}
    with taskinstance.set_current_context(context):
        assert versions.task_context() is context
    assert not versions.has_run_task()
    monkeypatch.setenv("AIRFLOW_CTX_TASK_ID", "t")
    assert versions.has_run_task()


def test_what_renders_fields_and_stores_them():
    versions.load_task_runner()
    functions = [*versions.rendering_of_fields(), versions.rendering_of_mapped_tasks()]
    here = [function for function in functions if function.owner is not None]
    assert versions.rendering_of_mapped_tasks().owner is not None
    assert len(here) >= 2
    stored = versions.serialization_of_fields()
    assert stored is not None
    for function in (here[0], here[-1], stored):
        assert callable(getattr(function.owner, function.name))


@pytest.mark.skipif(not AIRFLOW_3, reason="a process of Airflow 2 has a database")
def test_supervised_processes(monkeypatch):
    versions.load_task_runner()
    runner = sys.modules["airflow.sdk.execution_time.task_runner"]
    monkeypatch.setattr(runner, "SUPERVISOR_COMMS", object(), raising=False)
    assert versions.is_supervised()
    assert versions.supervisor_comms() is runner.SUPERVISOR_COMMS
    monkeypatch.delattr(runner, "SUPERVISOR_COMMS")
    assert not versions.is_supervised()


@pytest.mark.skipif(not AIRFLOW_3, reason="sequences select the coordinate there")
def test_what_a_lazy_sequence_reads():
    from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence  # noqa: PLC0415

    operator = SimpleNamespace(dag_id="d", task_id="t")
    sequence = LazyXComSequence(
        xcom_arg=SimpleNamespace(operator=operator, key="k"), ti=SimpleNamespace(run_id="r")
    )
    assert versions.source_of(sequence) == ("d", "r", "t", "k")


@pytest.mark.skipif(VERSION < (3, 3), reason="Airflow has state stores from 3.3 on")
def test_state_stores():
    from airflow.sdk.execution_time import context  # noqa: PLC0415
    from airflow.sdk.state import TaskScope  # noqa: PLC0415

    scope = TaskScope("d", "r", "t")
    assert versions.scope_of(context.TaskStateStoreAccessor(uuid4(), scope)) is scope
    assert versions.asset_of(context.AssetStateStoreAccessor(name="orders")) == ("orders", None)
    assert versions.asset_of(context.AssetStateStoreAccessor(uri="s3://o")) == (None, "s3://o")
    assert versions.worker_state_store() is None
