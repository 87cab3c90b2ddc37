"""`secure-xcom census`: a DAG under Airflow's own daemons, and then a search of all they left."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from secure_xcom.errors import ConfigError
from secure_xcom.trial import rig, surfaces, values, xcoms
from secure_xcom.trial.daemons import Daemons, daemons
from secure_xcom.trial.home import Home, last_line
from secure_xcom.trial.planted import missed, planted
from secure_xcom.trial.report import Listener, Outcome
from secure_xcom.uris import directory

DAG_ID = "secure_xcom_census"

#: The state in which each task instance ends, by task and map index.
_SUCCEED = (
    *("record", "string", "number", "binary", "lines", "outputs", "pieces", "frame", "columns"),
    *("argument", "again", "shell", "template", "deferring", "triggered", "sensor", "tells"),
    "control",
)
_STATES: Mapping[tuple[str, int], str] = {
    **{(task, -1): "success" for task in _SUCCEED},
    **{("mapped", index): "success" for index in range(2)},
    ("fails", -1): "failed",
    ("holds", -1): "failed",
    ("killed", -1): "failed",
}
_RUNS = 2
_TIMEOUT_SECONDS = 600.0
_CALLBACKS_SECONDS = 90.0
_POLL_SECONDS = 0.5
_LONG_AGO = "2026-01-01 00:00:00.000000"
_LAST_SIGNS_OF_LIFE = (
    """
    UPDATE task_instance SET last_heartbeat_at = ?
    WHERE dag_id = ? AND task_id = ? AND state = 'running'
    """,
    """
    UPDATE job SET latest_heartbeat = ? WHERE id IN (
        SELECT job_id FROM task_instance WHERE dag_id = ? AND task_id = ? AND state = 'running'
    )
    """,
)


def run(
    keep: Path | None,
    backend: str,
    listener: Listener,
    overrides: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the census.

    Args:
        keep: a directory for the home; None for a temporary one, which goes away.
        backend: `secure`, `common-io` or `airflow` (Airflow's own).
        listener: told what is being done.
        overrides: further environment variables of Airflow in this home.

    Raises:
        ConfigError: `keep` cannot be used, or Airflow or the backend is not there.
    """
    outcome = Outcome(rig.airflow_version(), backend, values.make_up())
    rig.run(
        outcome,
        (_run_dag, _search),
        listener,
        keep,
        lambda home: {**_switched(backend, home), **(overrides or {})},
    )
    return outcome


def _switched(backend: str, home: Home) -> dict[str, str | None]:
    """Give what differs from the quickstart's deployment, which is that of a `Home`."""
    if backend == "secure":
        return {}
    without: dict[str, str | None] = {
        "AIRFLOW__CORE__XCOM_BACKEND": None,
        "AIRFLOW__WORKERS__STATE_STORE_BACKEND": None,
        "AIRFLOW__SECURE_XCOM__KEK_URI": None,
        "AIRFLOW__SECURE_XCOM__STORE_URI": None,
    }
    if backend == "airflow":
        return without
    try:
        version("apache-airflow-providers-common-io")
    except PackageNotFoundError:
        raise ConfigError(
            "The object-storage backend is not in this environment: "
            "pip install apache-airflow-providers-common-io."
        ) from None
    return without | {
        "AIRFLOW__CORE__XCOM_BACKEND": (
            "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"
        ),
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": directory(home.store),
        # As ours has it: short values stay in the database, long ones go to the store.
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "49152",
    }


def _expected() -> dict[tuple[str, int], str]:
    return {
        (task, index): state
        for (task, index), state in _STATES.items()
        if task != "frame" or values.has_frames()
    }


def _run_dag(home: Home, outcome: Outcome, listener: Listener) -> None:
    home.add_dag("census")
    home.add_plugin("listener")
    airflow = (sys.executable, "-m", "airflow")
    expected = _expected()
    # To ask whether `airflow.sdk` is there would import Airflow, on the user's own settings.
    has_api_server = int(outcome.airflow_version.partition(".")[0]) >= 3  # noqa: PLR2004
    with (
        listener.step(f"{len(expected)} tasks under Airflow's own daemons"),
        daemons(
            airflow,
            home.path,
            home.environment(),
            has_api_server=has_api_server,
            printed=home.printed,
        ) as running,
    ):
        outcome.problems += _wait(home, running, listener)
    if not outcome.problems:
        _check_states(home, outcome, expected)


def _wait(home: Home, running: Daemons, listener: Listener) -> list[str]:
    """Wait until the DAG has run; what kept it from that."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    told = 0
    over_since = None
    while True:
        if not _unmarked(home, ["killed"]):
            (home.temporary / values.SEEN).touch()
            _let_be_missed(home, "killed")
        ended = "SELECT count(*) FROM dag_run WHERE state IN ('success', 'failed')"
        if over_since is None and _any(home, ended) == _RUNS:
            over_since = time.monotonic()
        # Callbacks of the run are called after it.
        is_over = over_since is not None and (
            not _unmarked(home, values.MARKS_OF_DAEMONS)
            or time.monotonic() > over_since + _CALLBACKS_SECONDS
        )
        if gone := running.ended():
            return [
                f"airflow {name} ended while the DAG ran (exit {code}). "
                f"{last_line(home.printed / f'{name}.log')}"
                for name, code in gone.items()
            ]
        if is_over:
            return []
        if trace := _any(home, "SELECT stacktrace FROM import_error"):
            return [f"The DAG cannot be imported: {str(trace).strip().splitlines()[-1]}"]
        if time.monotonic() > until:
            return [f"The DAG did not end within {_TIMEOUT_SECONDS:.0f} s."]
        states = xcoms.states(home.database, DAG_ID).values()
        now = sum(state in {"success", "failed", "upstream_failed"} for state in states)
        if now > told:
            told = now
            listener.detail(f"{told} have ended")
        time.sleep(_POLL_SECONDS)


def _let_be_missed(home: Home, task: str) -> None:
    """Make the last sign of life of a task old, so that the scheduler soon finds it gone."""
    for statement in _LAST_SIGNS_OF_LIFE:
        # Each version has one of the columns, and a busy database is asked again.
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(home.database)) as connection,
            connection,
        ):
            connection.execute(statement, (_LONG_AGO, DAG_ID, task))


def _unmarked(home: Home, names: Sequence[str]) -> list[str]:
    """Name the marks that stand in no log, and were printed by no process."""
    files = [*(home.path / "logs").rglob("*.log"), *home.printed.glob("*.log")]
    written = b"".join(file.read_bytes() for file in files)
    return [name for name in names if values.mark(name).encode() not in written]


def _check_states(home: Home, outcome: Outcome, expected: Mapping[tuple[str, int], str]) -> None:
    """Check that each task got as far as it has to, for its copies to be there."""
    seen = xcoms.states(home.database, DAG_ID)
    for (task, index), state in expected.items():
        if (now := seen.get((task, index), "not there")) != state:
            name = task if index == -1 else f"{task}[{index}]"
            fault = f"Task {name} is {now}, not {state}"
            if outcome.backend == "secure":
                outcome.problems.append(f"{fault}.")
            else:
                outcome.notes.append(f"{fault}; this backend may not take its value.")


def _any(home: Home, query: str) -> object:
    with closing(sqlite3.connect(home.database)) as connection:
        row = connection.execute(query).fetchone()
    return row[0] if row else None


def _search(home: Home, outcome: Outcome, listener: Listener) -> None:
    with listener.step("search every table, object, log and file"):
        control = outcome.texts[values.CONTROL]
        with planted(home, control) as files:
            found = surfaces.search(home, outcome.texts, left_out=[home.texts])
    for surface in (surfaces.STORE, surfaces.NAMES):
        found.looked[surface] -= len(files)
    # Where the DAG did not run to its end, that is the problem, and not all that follows from it.
    if not outcome.problems:
        outcome.problems += [
            f"The search cannot be relied upon: it misses what was planted: {place}."
            for place in missed(found, control)
        ]
    if not outcome.problems and outcome.backend == "secure":
        outcome.problems += [
            f"A log breaks off where values were in use: {name}."
            for name in _unmarked(home, values.MARKS)
        ]
    found.places = [place for place in found.places if place.value != values.CONTROL]
    outcome.found = found
