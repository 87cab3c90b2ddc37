"""`secure-xcom census`: a real deployment, and then every place where a value stands readable."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from secure_xcom.errors import ConfigError
from secure_xcom.trial import canaries as census_values
from secure_xcom.trial import planted as census_control
from secure_xcom.trial import xcoms
from secure_xcom.trial.daemons import Daemons, daemons
from secure_xcom.trial.demo import airflow_version
from secure_xcom.trial.home import Home, ProgramFailed, throw_away_home
from secure_xcom.trial.report import Listener
from secure_xcom.trial.surfaces import NAMES, STORE, Found, look
from secure_xcom.trial.values import has_frames

DAG_ID = "secure_xcom_census"

#: The state in which each task instance ends, by task and map index.
_SUCCEED = (
    *("record", "string", "number", "octets", "lines", "outputs", "pieces", "frame"),
    *("argument", "again", "shell", "template", "deferring", "control"),
)
_STATES: Mapping[tuple[str, int], str] = {
    **{(task, -1): "success" for task in _SUCCEED},
    **{("mapped", index): "success" for index in range(2)},
    ("fails", -1): "failed",
    ("holds", -1): "failed",
}
_TIMEOUT_SECONDS = 600.0
_POLL_SECONDS = 0.5


@dataclass(slots=True)
class Outcome:
    """What a census found."""

    airflow_version: str
    backend: str
    found: Found = field(default_factory=Found)
    #: What keeps the census from being relied upon; empty where nothing does.
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: How many values were looked for.
    values: int = 0
    #: The directory that was kept, if one was.
    kept: Path | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was found, by a look that can be relied upon."""
        return bool(self.found.looked) and not self.found.places and not self.problems

    def as_json(self) -> dict[str, object]:
        """What `--json` prints."""
        return {
            "ok": self.ok,
            "airflow_version": self.airflow_version,
            "backend": self.backend,
            "places": [place._asdict() for place in self.found.places],
            "looked": dict(self.found.looked),
            "problems": self.problems,
            "notes": self.notes,
        }


def run(
    keep: Path | None,
    backend: str,
    progress: Listener,
    overrides: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the census.

    Args:
        keep: a directory for the home; None for a temporary one, which goes away.
        backend: one of `BACKENDS`.
        progress: told what is being done.
        overrides: further environment variables of Airflow in this home.

    Raises:
        ConfigError: `keep` cannot be used, or Airflow or the backend is not there.
    """
    began = time.monotonic()
    outcome = Outcome(airflow_version(), backend)
    texts = census_values.make()
    outcome.values = len(texts) - 1
    if not has_frames():
        outcome.notes.append(
            "No DataFrame in this census: it needs pandas and pyarrow, "
            "pip install 'secure-xcom[arrow]' pandas"
        )
    with throw_away_home(keep, {}) as plain:
        canaries = plain.path / "canaries"
        canaries.write_text(json.dumps(texts, indent=2))
        home = Home(
            plain.path,
            {**_switched(backend, plain), census_values.FILE: str(canaries), **(overrides or {})},
        )
        if keep:
            outcome.kept = home.path
        try:
            with progress.step("airflow db migrate"):
                home.run("airflow db migrate", "-m", "airflow", "db", "migrate")
            _run_dag(home, outcome, progress)
            with progress.step("look at every table, object, log and file"):
                _look(home, outcome, texts, canaries)
        except ProgramFailed as error:
            outcome.problems.append(f"{error} {_last_line(error.printed)}")
    outcome.seconds = time.monotonic() - began
    return outcome


def _switched(backend: str, home: Home) -> dict[str, str | None]:
    """Give what differs from the quickstart's deployment, which is that of a `Home`."""
    if backend == "secure":
        return {}
    without: dict[str, str | None] = {
        "AIRFLOW__CORE__XCOM_BACKEND": None,
        "AIRFLOW__SECURE_XCOM__KEK_URI": None,
        "AIRFLOW__SECURE_XCOM__STORE_URI": None,
    }
    if backend == "stock":
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
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{home.store}",
        # As ours has it: short values stay in the database, long ones go to the store.
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "49152",
    }


def _expected() -> dict[tuple[str, int], str]:
    return {one: state for one, state in _STATES.items() if one[0] != "frame" or has_frames()}


def _run_dag(home: Home, outcome: Outcome, progress: Listener) -> None:
    shutil.copyfile(Path(__file__).with_name("dags") / "census.py", home.dags / "census_dag.py")
    airflow = (sys.executable, "-m", "airflow")
    expected = _expected()
    # Not by a look for modules: that would import Airflow here, on the user's own settings.
    has_api_server = int(outcome.airflow_version.partition(".")[0]) >= 3  # noqa: PLR2004
    with (
        progress.step(f"{len(expected)} tasks under Airflow's own daemons"),
        daemons(
            airflow,
            home.path,
            home.environment(),
            has_api_server=has_api_server,
            printed=home.printed,
        ) as running,
    ):
        outcome.problems += _wait(home, running, progress)
    if not outcome.problems:
        _check_states(home, outcome, expected)


def _wait(home: Home, running: Daemons, progress: Listener) -> list[str]:
    """Wait until the DAG has run; what kept it from that."""
    until = time.monotonic() + _TIMEOUT_SECONDS
    told = 0
    while True:
        is_over = _any(home, "SELECT 1 FROM dag_run WHERE state IN ('success', 'failed')")
        if ended := running.ended():
            return [
                f"airflow {name} ended while the DAG ran (exit {code}). "
                f"{_last_line(home.printed / name)}"
                for name, code in ended.items()
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
            progress.detail(f"{told} have ended")
        time.sleep(_POLL_SECONDS)


def _last_line(printed: Path) -> str:
    lines = printed.with_suffix(".log").read_text(errors="replace").strip().splitlines()
    return f"What it printed ends with: {lines[-1]}" if lines else "It printed nothing."


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


def _look(home: Home, outcome: Outcome, texts: Mapping[str, str], canaries: Path) -> None:
    control = texts[census_values.CONTROL]
    with census_control.planted(home, control, canaries) as planted:
        found = look(home, texts, left_out=[canaries])
    for surface in (STORE, NAMES):
        found.looked[surface] -= len(planted)
    # Where the DAG did not run to its end, that is the problem, and not all that follows from it.
    if not outcome.problems:
        outcome.problems += [
            f"The look cannot be relied upon: it misses what was planted: {place}."
            for place in census_control.missed(found, control)
        ]
    if not outcome.problems and outcome.backend == "secure":
        logs = b"".join(file.read_bytes() for file in (home.path / "logs").rglob("*.log"))
        outcome.problems += [
            f"A task log breaks off where values were in use: {name}."
            for name in census_values.MARKS
            if census_values.mark(name).encode() not in logs
        ]
    found.places = [place for place in found.places if place.value != census_values.CONTROL]
    outcome.found = found
