"""Where settings and credentials come from: airflow.cfg, two Variables, a connection.

Nothing is read at import. Airflow 2 keeps one database session for each thread, and a Variable
or a connection that is read inside a backend call would commit and close the session of the
caller; so there they are read in a thread of their own. On Airflow 3 they are requests to the
supervisor, and belong to the thread that the call came from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from configparser import ConfigParser
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from secure_xcom import signals, threads
from secure_xcom.airflow import versions
from secure_xcom.errors import ConfigError
from secure_xcom.settings import (
    BUCKET_VARIABLE,
    CLEAR_KEYS,
    SECTION,
    TABLE,
    VARIABLE,
    load,
    origin_by_kind,
    without_suffix,
)
from secure_xcom.uris import is_bucket

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.settings import Settings

T = TypeVar("T")

_ENV_PREFIX = f"AIRFLOW__{SECTION.upper()}__"


class SettingsTexts(NamedTuple):
    """The settings as text, before any check; None for a Variable that is not set."""

    section: Mapping[str, str]
    variable: str | None
    bucket: str | None
    #: Says where an option of the section or one of the Variables comes from.
    origin: Callable[[str], str] = origin_by_kind


def read() -> Settings:
    """Read and check the settings. Without a cache: `process` keeps them.

    Raises:
        ConfigError: a setting is missing or wrong, or a Variable could not be read.
    """
    return load(*texts())


def texts() -> SettingsTexts:
    """Give what Airflow holds, as it is.

    Raises:
        ConfigError: a Variable could not be read.
    """
    section = _section()
    variable, bucket = _apart(lambda: _variables(section))
    return SettingsTexts(section, variable, bucket, origin)


def origin(name: str) -> str:
    """Say where Airflow has an option of the section from, or one of the two Variables.

    It looks where Airflow looks, in this order: of options, the environment, the file, and for
    what Airflow knows to be sensitive a command or a secret besides; of Variables, its secrets
    backends, the environment and its database.
    """
    if name in (VARIABLE, BUCKET_VARIABLE):
        return _origin_of_variable(name)
    for key, how in (
        (name, "{}"),
        (f"{name}_cmd", "the command in {}"),
        (f"{name}_secret", "the secret that {} names"),
    ):
        if (key == name or _is_sensitive(name)) and _in_environment(key) in os.environ:
            return how.format(_in_environment(key))
    conf = versions.config()
    for key, how in (
        (name, "{}"),
        (f"{name}_cmd", "the command {1} in {0}"),
        (f"{name}_secret", "the secret that {1} names in {0}"),
    ):
        # Airflow's own method looks into the environment as well.
        if ConfigParser.has_option(conf, SECTION, key):
            return how.format(origin_by_kind(name), key)
    return origin_by_kind(name)


def clear_keys() -> tuple[str, ...]:
    """Read the patterns of clear keys that hold before anything else was read.

    Those of airflow.cfg, or the built-in ones where it has none or a wrong one: a scheduler that
    asks for a clear key must get it even while the other settings are broken.
    """
    text = versions.config().get(SECTION, "clear_keys", fallback=None)
    kind = next(row.kind for row in TABLE if row.name == "clear_keys")
    patterns = None if text is None else kind.from_text(text.strip())
    if isinstance(patterns, list) and kind.accepts(patterns):
        return tuple(patterns)
    return CLEAR_KEYS


def backend() -> object:
    """Give the class that `[core] xcom_backend` names; None where it names none."""
    return versions.config().getimport("core", "xcom_backend", fallback=None)


def option(section: str, name: str) -> str:
    """Give an option of airflow.cfg as it is; empty where it is not set."""
    return str(versions.config().get(section, name, fallback="") or "")


def set_here(section: str, name: str, text: str) -> None:
    """Set an option of airflow.cfg for this process."""
    os.environ[f"AIRFLOW__{section.upper()}__{name.upper()}"] = text


def state_store_backend() -> object:
    """Give the class that `[workers] state_store_backend` names; None where it names none."""
    return versions.config().getimport("workers", "state_store_backend", fallback=None)


def log_return_values() -> bool:
    """Whether tasks may log what they return; what is not a switch does not switch it on."""
    text: str = versions.config().get(SECTION, "log_return_values", fallback="")
    return text.strip().lower() == "true"


def credentials(settings: Settings) -> Credentials | None:
    """Give the credentials of `gcp_conn_id`; None stands for application default credentials.

    Raises:
        ConfigError: the Google provider is missing, or the connection gives no credentials.
    """
    if not settings.gcp_conn_id:
        return None

    def fetch() -> Credentials:
        hook = versions.google_hook()(gcp_conn_id=settings.gcp_conn_id)
        found: Credentials = hook.get_credentials()
        return found

    try:
        return _apart(fetch)
    except ImportError as error:
        raise ConfigError(
            f"gcp_conn_id is {settings.gcp_conn_id!r}, but the Google provider cannot be "
            "imported: install apache-airflow-providers-google, or unset gcp_conn_id to use "
            "application default credentials."
        ) from error
    except Exception as error:
        if signals.is_callers(error):
            raise
        raise ConfigError(
            f"gcp_conn_id is {settings.gcp_conn_id!r}, and this connection gives no credentials "
            f"({type(error).__name__}): check that it exists and what it holds, or unset "
            "gcp_conn_id to use application default credentials."
        ) from error


def load_connections() -> None:
    """Import what `credentials` takes, if it is there."""
    with suppress(ImportError):
        versions.google_hook()


def legacy_bucket() -> str:
    """Give the bucket that the hand-written backends wrote to.

    Raises:
        ConfigError: the Variable that names it is not set, or is not the bare name of a bucket.
    """
    bucket = _apart(lambda: _variable(BUCKET_VARIABLE))
    if bucket is None or not is_bucket(bucket):
        raise ConfigError(
            f"legacy_reads has gcs, but the Variable {BUCKET_VARIABLE} does not hold the bare name "
            "of a bucket: set it to the bucket that the former backend wrote to."
        )
    return bucket


def common_io_path() -> str:
    """Give the path below which the object-storage backend keeps its objects.

    Raises:
        ConfigError: it is not set.
    """
    path = versions.config().get("common.io", "xcom_objectstorage_path", fallback=None)
    if not path:
        raise ConfigError(
            "legacy_reads has common-io, but [common.io] xcom_objectstorage_path is not set: set "
            "it to the path that the former backend wrote to."
        )
    return str(path)


def _section() -> dict[str, str]:
    """Read the options that are set, by name; wrong names too, so that `load` can complain."""
    conf = versions.config()
    names = {row.name for row in TABLE}
    if conf.has_section(SECTION):
        names.update(conf.options(SECTION))
    names.update(
        variable.removeprefix(_ENV_PREFIX).lower()
        for variable in os.environ
        if variable.startswith(_ENV_PREFIX)
    )
    # The command or the secret of an option that Airflow takes them for is not another option.
    names = {name for name in names if not _is_sensitive(without_suffix(name))}
    held = {name: conf.get(SECTION, name, fallback=None) for name in sorted(names)}
    return {name: text for name, text in held.items() if text is not None}


def _in_environment(name: str) -> str:
    return f"{_ENV_PREFIX}{name.upper()}"


def _is_sensitive(name: str) -> bool:
    """Whether Airflow also takes a command's output or a secret for an option."""
    return (SECTION, name) in getattr(versions.config(), "sensitive_config_values", ())


def _origin_of_variable(name: str) -> str:
    said = origin_by_kind(name)
    try:
        found = _apart(lambda: _backend_with(name))
    except Exception as error:
        if signals.is_callers(error):
            raise
        return said
    if found == "EnvironmentVariablesBackend":
        return f"{said} (AIRFLOW_VAR_{name})"
    # The database, or Airflow's API before it.
    if found in ("", "MetastoreBackend", "ExecutionAPISecretsBackend"):
        return said
    return f"{said} (secrets backend {found})"


def _backend_with(name: str) -> str:
    """Give the class of the first secrets backend that has a Variable."""
    for backend in versions.secrets_backends():
        if backend.get_variable(key=name) is not None:
            return type(backend).__name__
    return ""


def _variables(section: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Read the Variable of settings, and that of the bucket where nothing else says the store."""
    variable = _variable(VARIABLE)
    if "store_uri" in section or _has_store(variable):
        return variable, None
    return variable, _variable(BUCKET_VARIABLE)


def _has_store(variable: str | None) -> bool:
    try:
        members = json.loads(variable or "{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and "store_uri" in members


def _variable(name: str) -> str | None:
    """Read one Variable as text; None where there is none, or where Airflow could not tell."""
    try:
        value = versions.variable(name)
    except Exception as error:
        if signals.is_callers(error):
            raise
        raise ConfigError(
            f"The Variable {name} could not be read ({type(error).__name__}), so the settings "
            f"are not known. Airflow's own log has the cause; to do without Variables, set all "
            f"settings in airflow.cfg [{SECTION}]."
        ) from error
    return value if value is None else str(value)


def _apart(look_up: Callable[[], T]) -> T:
    if versions.is_airflow_3():
        return look_up()
    return threads.outcome(look_up, "secure-xcom-settings").result()
