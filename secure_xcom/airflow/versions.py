"""Which Airflow this is, and every private name of Airflow's that is used.

Support for a new version begins here. `tests/airflow/inside/test_versions.py` asks each version for
all of these, and `tests/unit/test_project.py` holds that they stand nowhere else.
"""
# ruff: noqa: ANN401, SLF001, PLC0415 - Airflow's own objects, of whatever version, at first use

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from secure_xcom.lifecycle.tables import Layout

#: What of Airflow 3 says that Variables are looked up in the database, as its own daemons do.
_PROCESS_CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"
_TASK_RUNNER = "airflow.sdk.execution_time.task_runner"


@cache
def is_installed() -> bool:
    """Whether there is an Airflow in this environment."""
    return find_spec("airflow") is not None


@cache
def is_airflow_3() -> bool:
    """Whether tasks run on Airflow's Task SDK.

    Airflow itself is not imported for it, as `find_spec("airflow.sdk")` would: it would read its
    configuration, and keep the standard output of that moment for its log.
    """
    airflow = find_spec("airflow")
    if airflow is None or airflow.submodule_search_locations is None:
        return False
    # As Airflow itself does: its parts may lie in several folders.
    places = extend_path(list(airflow.submodule_search_locations), "airflow")
    return PathFinder.find_spec("airflow.sdk", places) is not None


def config() -> Any:
    """Give the parser of airflow.cfg."""
    try:
        from airflow.sdk.configuration import conf
    except ImportError:
        from airflow.configuration import conf
    return conf


def variable(name: str) -> Any:
    """Look a Variable up; None if there is none.

    Raises:
        Exception: whatever Airflow raises if it cannot tell.
    """
    if is_airflow_3():
        from airflow.sdk import Variable

        return Variable.get(name, default=None)
    from airflow.models import Variable

    return Variable.get(name, default_var=None)  # type: ignore[call-arg] # noqa: AIR311


def secrets_backends() -> list[Any]:
    """Give what Variables are looked up in, in this order.

    Raises:
        Exception: whatever a backend's class raises.
    """
    if is_airflow_3():
        supervisor = import_module("airflow.sdk.execution_time.supervisor")
        return list(supervisor.ensure_secrets_backend_loaded())
    return list(import_module("airflow.configuration").ensure_secrets_loaded())


def google_hook() -> Any:
    """Give the class of the Google provider that takes credentials from connections.

    Raises:
        ImportError: the provider is not installed.
    """
    # Never at the top of a module: on 2.10 the provider imports XComs while this package is
    # imported.
    return import_module("airflow.providers.google.common.hooks.base_google").GoogleBaseHook


def object_storage_path(path: str) -> Any:
    """Give a path of Airflow's object storage."""
    module = "airflow.sdk" if is_airflow_3() else "airflow.io.path"
    return import_module(module).ObjectStoragePath(path)


def is_policy(module: Any) -> bool:
    """Whether Airflow has loaded a module as a cluster policy into this process."""
    settings: Any = import_module("airflow.settings")
    if hasattr(settings, "get_policy_plugin_manager"):  # from 3.2 on
        manager = settings.get_policy_plugin_manager()
    else:
        manager = settings.POLICY_PLUGIN_MANAGER
    return bool(manager and manager.is_registered(module))


def load_task_runner() -> None:
    """Import what runs a task on Airflow 3; a task's process has done so long before."""
    if is_airflow_3():
        import_module(_TASK_RUNNER)


def is_supervised() -> bool:
    """Whether this process is a task's on Airflow 3, which asks its supervisor."""
    return supervisor_comms() is not None


def supervisor_comms() -> Any:
    """Give what a task or a trigger of Airflow 3 asks its supervisor through; None elsewhere."""
    return getattr(sys.modules.get(_TASK_RUNNER), "SUPERVISOR_COMMS", None)


def log_level_min() -> int:
    """Give the least level that reaches the log of a task that is supervised.

    On Airflow 3 the supervisor writes the log, and up to 3.1 by the configured level.
    """
    return logging.getLogger().level if is_supervised() else logging.NOTSET


def log_as_supervised_task(pipe: int) -> None:
    """Have this process of Airflow 3 log as one of a task does, to what its supervisor reads."""
    load_task_runner()
    sys.modules[_TASK_RUNNER].SUPERVISOR_COMMS = object()  # type: ignore[attr-defined]
    log = import_module("airflow.sdk.log")
    log.reset_logging()
    log.configure_logging(
        json_output=True, output=os.fdopen(pipe, "wb", buffering=0), sending_to_supervisor=True
    )


def supervise_log(sent: bytes, path: Path) -> None:
    """Write what a task of Airflow 3 sent its supervisor into its log, as a supervisor does."""
    structlog = import_module("structlog")
    supervisor = import_module("airflow.sdk.execution_time.supervisor")
    processors = import_module("airflow.sdk.log").logging_processors(json_output=True)
    with path.open("wb") as file:
        logger = structlog.wrap_logger(
            structlog.BytesLogger(file), processors=processors, logger_name="task"
        ).bind()
        reader = supervisor.process_log_messages_from_subprocess((logger,))
        next(reader)
        for line in sent.splitlines():
            reader.send(line)


def _task_handlers() -> list[Any]:
    """Airflow 2's own handlers of tasks' logs: each holds one that writes, once it has a task."""
    import_module("airflow.settings")  # it configures logging
    return [
        handler
        for handler in logging.getLogger("airflow.task").handlers
        if hasattr(handler, "set_context") and hasattr(handler, "handler")
    ]


def has_task_log() -> bool:
    """Whether tasks of Airflow 2 log by a handler of Airflow's own."""
    return bool(_task_handlers())


def log_as_task(path: Path) -> None:
    """Have this process of Airflow 2 log as one of a task does, into this file."""
    for handler in _task_handlers():
        handler.handler = logging.FileHandler(path)
        handler.handler.setFormatter(handler.formatter)


def task_context() -> Any:
    """Give the context of the task whose code runs in this process of Airflow 2; None elsewhere."""
    contexts = getattr(sys.modules.get("airflow.models.taskinstance"), "_CURRENT_CONTEXT", None)
    return contexts[-1] if contexts else None


def has_run_task() -> bool:
    """Whether the code of a task has begun in this process of Airflow 2."""
    return "AIRFLOW_CTX_TASK_ID" in os.environ


def use_database() -> None:
    """Have a process of Airflow 3 that is no task look up Variables in the metadata database."""
    if is_airflow_3():
        os.environ.setdefault(_PROCESS_CONTEXT, "server")


def xcom_operations(models: Any) -> Any:
    """Give the class that has the methods of Airflow 3's model of XComs."""
    # From 3.4 on the model itself is only made once it is asked for.
    return getattr(models, "_XComOperations", None) or models.XComModel


def xcom_table() -> Any:
    """Give the table of XComs."""
    models = import_module("airflow.models.xcom")
    return (models.XComModel if is_airflow_3() else models.BaseXCom).__table__


class LinkMaker(NamedTuple):
    """A method of Airflow's that makes the address of an operator link."""

    module: str
    owner: str
    name: str
    #: What it gives where there is no link.
    none: str | None


def makers_of_links() -> list[LinkMaker]:
    """Give what makes operator links; on Airflow 3 it has moved, in 3.2."""
    if not is_airflow_3():
        module = "airflow.models.abstractoperator"
        return [LinkMaker(module, "AbstractOperator", "get_extra_links", None)]
    modules = ("serialized_objects", "definitions.operatorlink")
    return [
        LinkMaker(f"airflow.serialization.{module}", "XComOperatorLink", "get_link", "")
        for module in modules
    ]


def secrets_masker() -> Any:
    """Give the module whose masker the log of a task goes through."""
    name = "airflow.sdk._shared" if is_airflow_3() else "airflow.utils.log"
    return import_module(f"{name}.secrets_masker")


class Maskers(NamedTuple):
    """Airflow's maskers: those that it takes for its own, and their classes."""

    own: list[Any]
    kinds: tuple[type, ...]


def maskers() -> Maskers:
    """Give the maskers of this process; Airflow 3 has one for its server as well."""
    modules = [secrets_masker()]
    if "airflow._shared.secrets_masker" in sys.modules:
        modules.append(sys.modules["airflow._shared.secrets_masker"])
    return Maskers(
        [module._secrets_masker() for module in modules],
        tuple(module.SecretsMasker for module in modules),
    )


def has_metrics() -> bool:
    """Whether the configuration sends Airflow's metrics anywhere."""
    switches = ("statsd_on", "statsd_datadog_enabled", "otel_on")
    return any(config().getboolean("metrics", name, fallback=False) for name in switches)


@cache
def stats() -> Any:
    """Give what Airflow counts its metrics with."""
    is_in_sdk = is_airflow_3() and find_spec("airflow.sdk.observability")  # from 3.2 on
    name = "airflow.sdk.observability.stats" if is_in_sdk else "airflow.stats"
    return import_module(name).Stats


def tracer() -> Any:
    """Give what spans are begun with, by the interface of OpenTelemetry; None where none is active.

    From 3.2 on Airflow sets OpenTelemetry's provider, as programs that trace by themselves do on
    any version; Airflow 2 has a provider of its own, and tasks of 3.1 have none.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        provider = trace.get_tracer_provider()
        if not isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
            return provider.get_tracer("secure_xcom")
    if is_airflow_3() or not config().getboolean("traces", "otel_on", fallback=False):
        return None
    return import_module("airflow.traces.tracer").Trace.get_tracer(component="secure_xcom")


def context_of_spans() -> Any:
    """Give the context that the next span belongs in; None for the present one.

    On Airflow 2 the scheduler sends the span of a task, once the task is over, and none is current
    while it runs; the ids of that span are computed.
    """
    trace = import_module("opentelemetry.trace")
    task = task_context()
    if task is None or trace.get_current_span().get_span_context().is_valid:
        return None
    ids = import_module("airflow.traces.utils")
    parent = import_module("airflow.traces.otel_tracer").gen_context(
        ids.gen_trace_id(task["dag_run"], as_int=True),
        ids.gen_span_id_from_ti_key(task["ti"].key, as_int=True),
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))


def set_failed(span: Any) -> None:
    """Have a span of OpenTelemetry say that what it spans has failed."""
    span.set_status(import_module("opentelemetry.trace").StatusCode.ERROR)


class AirflowFunction(NamedTuple):
    """A function of Airflow's, by what holds it and what it is called there."""

    owner: Any
    name: str


def rendering_of_fields() -> list[AirflowFunction]:
    """Give what renders the template fields of a task; an owner is None where it is not there."""
    names = (
        ("airflow.sdk.definitions._internal.templater", "Templater"),
        ("airflow.sdk.definitions._internal.abstractoperator", "AbstractOperator"),
    )
    if not is_airflow_3():
        names = (
            ("airflow.template.templater", "Templater"),
            ("airflow.models.abstractoperator", "AbstractOperator"),
        )
    return [
        AirflowFunction(getattr(import_module(module), owner, None), "_do_render_template_fields")
        for module, owner in names
    ]


def rendering_of_mapped_tasks() -> AirflowFunction:
    """Give what expands a mapped task, and renders it."""
    name = "sdk.definitions" if is_airflow_3() else "models"
    module = import_module(f"airflow.{name}.mappedoperator")
    return AirflowFunction(getattr(module, "MappedOperator", None), "render_template_fields")


def serialization_of_fields() -> AirflowFunction | None:
    """Give what makes rendered fields what is stored of them; None where no task runs.

    On Airflow 3 a function of a task, on Airflow 2 a method of the row.
    """
    if not is_airflow_3():
        module = import_module("airflow.models.renderedtifields")
        return AirflowFunction(module.RenderedTaskInstanceFields, "_redact")
    runner = sys.modules.get(_TASK_RUNNER)
    return None if runner is None else AirflowFunction(runner, "_serialize_rendered_fields")


class SequenceSource(NamedTuple):
    """What a lazy sequence reads."""

    dag_id: str
    run_id: str
    task_id: str
    key: str


def source_of(sequence: Any) -> SequenceSource:
    """Give what a lazy sequence of Airflow 3 reads."""
    argument = sequence._xcom_arg
    return SequenceSource(
        argument.operator.dag_id, sequence._ti.run_id, argument.operator.task_id, argument.key
    )


def select_rows_by(select: Any) -> None:
    """Have lazy sequences of Airflow 2 that were pickled select their rows anew by this."""
    sequence: Any = import_module("airflow.models.xcom").LazyXComSelectSequence
    sequence._rebuild_select = staticmethod(select)


@cache
def has_state_store() -> bool:
    """Whether this Airflow has state stores of tasks and assets (from 3.3 on)."""
    return is_airflow_3() and find_spec("airflow.sdk.state") is not None


def scope_of(accessor: Any) -> Any:
    """Give the scope of a task's accessor to its states (from 3.3 on)."""
    return accessor._scope


def asset_of(accessor: Any) -> tuple[str | None, str | None]:
    """Give name and URI of the asset of an accessor to its states (from 3.3 on)."""
    return accessor._name, accessor._uri


def worker_state_store() -> Any:
    """Give the instance of the configured backend of state stores (from 3.3 on)."""
    return import_module("airflow.sdk.execution_time.context")._get_worker_state_store_backend()


def engine() -> Any:
    """Give what connects to the metadata database, in a process that may use it."""
    return import_module("airflow.settings").engine


def stored_variable(name: str) -> str | None:
    """Give what the metadata database has for a Variable, whatever other backends say."""
    with _session() as session:
        found = session.query(_variables()).filter_by(key=name).one_or_none()
        return None if found is None else str(found.val)


def store_variable(name: str, text: str, description: str) -> None:
    """Write a Variable to the metadata database."""
    with _session() as session:
        found = session.query(_variables()).filter_by(key=name).one_or_none()
        if found is None:
            session.add(_variables()(key=name, val=text, description=description))
        else:
            found.set_val(text)
        session.commit()


def _variables() -> Any:
    return import_module("airflow.models.variable").Variable


def _session() -> Any:
    """A session of its own: that of the thread may be a task's."""
    return import_module("sqlalchemy.orm").Session(engine())


def layout() -> Layout:
    """Give the tables of the metadata database that hold rows, on all versions."""
    from secure_xcom.lifecycle.tables import Layout, Owner, RowTable

    by_run = ("dag_run_id", "task_id", "map_index", "key")
    schema = config().get("database", "sql_alchemy_schema", fallback=None)
    return Layout(
        tables=(
            RowTable("xcom", "xcom", by_run, "timestamp"),
            # 3.4 has left the rows of former versions in one table, and writes to another.
            RowTable("xcom_v1", "xcom", by_run, "timestamp"),
            RowTable(
                "xcom_v2",
                "xcom",
                ("id",),
                "timestamp",
                Owner("task_instance", "id", "task_instance_id"),
            ),
            RowTable("task_state_store", "task", ("id",), "updated_at"),
            RowTable("asset_state_store", "asset", ("asset_id", "key"), "updated_at"),
        ),
        archive_prefix="_airflow_deleted__",
        # The migration to 3.0 has left pickled rows there.
        archives={"_xcom_archive": "xcom"},
        suspects=("xcom", "_xcom", "task_state", "asset_state"),
        whole_run="0" * 32,
        schema=(schema or "").strip() or None,
    )
