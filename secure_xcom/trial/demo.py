"""`secure-xcom demo`: a real DAG on a throw-away Airflow, and then what truly lies where."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from secure_xcom.errors import ConfigError
from secure_xcom.trial import values, xcoms
from secure_xcom.trial.home import Home, ProgramFailed, throw_away_home
from secure_xcom.trial.report import Listener
from secure_xcom.trial.search import found_in

DAG_ID = "secure_xcom_demo"

#: Where each task's value belongs at the default threshold.
_PLACEMENTS = {
    "customer": "inline",
    "records": "offloaded",
    "frame": "offloaded",
    "charge": "inline",
    "settle": "inline",
}
_TASK_BEGINS = re.compile(r"\[DAG TEST\] starting task_id=(\S+) map_index=(-?\d+)")
_TASK_ENDS = re.compile(r"\[DAG TEST\] end task task_id=(\S+) map_index=(-?\d+)")
_TAIL_LINES = 30
_TAIL_LINE_CHARACTERS = 300


@dataclass(slots=True)
class XCom:
    """One XCom: as it lies there, and as it was returned."""

    seen: xcoms.Seen
    returned: str = ""
    plain_bytes: int = 0
    faults: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """The member of `xcoms` that `--json` prints."""
        coordinate = self.seen.coordinate
        return {
            "task_id": coordinate.task_id,
            "key": coordinate.key,
            "map_index": coordinate.map_index,
            "placement": self.seen.placement,
            "plain_bytes": self.plain_bytes,
            "stored_bytes": self.seen.stored_bytes,
        }


@dataclass(slots=True)
class Outcome:
    """What a run of the demo showed."""

    airflow_version: str
    card: str
    xcoms: list[XCom] = field(default_factory=list)
    rows: int = 0
    objects: int = 0
    #: All that is off; empty means that all is well.
    problems: list[str] = field(default_factory=list)
    #: The end of what a program printed that failed.
    tail: str = ""
    notes: list[str] = field(default_factory=list)
    #: The directory that was kept, if one was.
    kept: Path | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the demo showed what it is meant to show."""
        return bool(self.xcoms) and not self.problems

    def as_json(self) -> dict[str, object]:
        """What `--json` prints."""
        return {
            "ok": self.ok,
            "airflow_version": self.airflow_version,
            "xcoms": [xcom.as_json() for xcom in self.xcoms],
            "problems": self.problems,
            "notes": self.notes,
        }


def run(
    keep: Path | None, progress: Listener, overrides: Mapping[str, str] | None = None
) -> Outcome:
    """Run the demo.

    Args:
        keep: a directory for the home; None for a temporary one, which goes away.
        progress: told what is being done.
        overrides: further environment variables of Airflow in this home.

    Raises:
        ConfigError: `keep` cannot be used, or there is no Airflow here.
    """
    began = time.monotonic()
    outcome = Outcome(airflow_version(), values.made_up_card(random.SystemRandom()))
    if not values.has_frames():
        outcome.notes.append(
            "No DataFrame in this run: it needs pandas and pyarrow, "
            "pip install 'secure-xcom[arrow]' pandas"
        )
    environment = {"SECURE_XCOM_DEMO_CARD": outcome.card, **(overrides or {})}
    with throw_away_home(keep, environment) as home:
        # For whoever wants to search a kept home with tools of their own.
        (home.path / "card").write_text(outcome.card)
        if keep:
            outcome.kept = home.path
        # What the other tasks left behind is looked at also when one of them failed.
        for step in (_migrate, _run_dag, _look, _read_back):
            try:
                step(home, outcome, progress)
            except ProgramFailed as error:
                outcome.problems.append(str(error))
                outcome.tail = outcome.tail or _tail(home, error, outcome.card)
                if step is _migrate:
                    break
    for xcom in outcome.xcoms:
        outcome.problems += [f"{xcom.seen.name}: {fault}" for fault in xcom.faults]
    outcome.seconds = time.monotonic() - began
    return outcome


def airflow_version() -> str:
    """Give the version of this environment's Airflow.

    Raises:
        ConfigError: there is none.
    """
    for distribution in ("apache-airflow-core", "apache-airflow"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise ConfigError("There is no Airflow in this environment: pip install apache-airflow.")


def _expected() -> list[tuple[str, int]]:
    """List the task instances of the demo's DAG: task and map index."""
    return [
        (task_id, map_index)
        for task_id in _PLACEMENTS
        if task_id != "frame" or values.has_frames()
        for map_index in (range(len(values.CHARGES_CENTS)) if task_id == "charge" else (-1,))
    ]


def _migrate(home: Home, _: Outcome, progress: Listener) -> None:
    with progress.step("airflow db migrate"):
        home.run("airflow db migrate", "-m", "airflow", "db", "migrate")


def _run_dag(home: Home, _: Outcome, progress: Listener) -> None:
    shutil.copyfile(Path(__file__).with_name("dags") / "demo.py", home.dags / "demo_dag.py")
    title = f"airflow dags test {DAG_ID}"
    total = len(_expected())
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        if match := _TASK_ENDS.search(line):
            done += 1
            index = "" if match[2] == "-1" else f"[{match[2]}]"
            progress.detail(f"{done} of {total} task runs: {match[1]}{index}")

    with progress.step(title):
        home.run(title, "-m", "airflow", "dags", "test", DAG_ID, on_line=on_line)


def _look(home: Home, outcome: Outcome, progress: Listener) -> None:
    """Look at the database and the store around the backend."""
    expected = _expected()
    with progress.step("look into the database and the store, around the backend"):
        states = xcoms.states(home.database, DAG_ID)
        for (task_id, map_index), state in states.items():
            if state != "success":
                outcome.problems.append(f"Task {task_id} (map index {map_index}) is {state}.")
        found = {
            (seen.coordinate.task_id, seen.coordinate.map_index, seen.coordinate.key): seen
            for seen in xcoms.look(home.database, home.store, DAG_ID)
        }
        for task_id, map_index in expected:
            seen = found.pop((task_id, map_index, "return_value"), None)
            if seen is None:
                if states.get((task_id, map_index), "success") == "success":
                    outcome.problems.append(
                        f"Task {task_id} (map index {map_index}) left no return value."
                    )
                continue
            xcom = XCom(seen, faults=list(seen.faults))
            if not xcom.faults and seen.placement != _PLACEMENTS[task_id]:
                xcom.faults.append(f"it is {seen.placement}, not {_PLACEMENTS[task_id]}")
            outcome.xcoms.append(xcom)
        outcome.problems += [f"An XCom that no task returned: {one.name}" for one in found.values()]
        outcome.problems += [
            f"An object that no row refers to: {name}"
            for name in xcoms.stray_objects(home.store, [xcom.seen for xcom in outcome.xcoms])
        ]
        outcome.rows = len(outcome.xcoms) + len(found)
        outcome.objects = xcoms.count_objects(home.store)
    with progress.step("search both for the card number"):
        outcome.problems += [
            f"The card number stands in {place}, {how}"
            for place, data in xcoms.surfaces(home.database, home.store)
            if (how := found_in(data, outcome.card))
        ]


def _read_back(home: Home, outcome: Outcome, progress: Listener) -> None:
    """Read every value back through the backend, in a process of its own."""
    rows, results = home.printed / "rows.json", home.printed / "results.json"
    rows.write_text(
        json.dumps(
            [
                {
                    "task_id": xcom.seen.coordinate.task_id,
                    "map_index": xcom.seen.coordinate.map_index,
                    "key": xcom.seen.coordinate.key,
                    "row": xcom.seen.row.decode(errors="replace"),
                }
                for xcom in outcome.xcoms
            ]
        )
    )
    title = "read every value back through the backend"
    with progress.step(title):
        home.run(title, "-m", "secure_xcom.trial.reread", str(rows), str(results))
        for xcom, result in zip(outcome.xcoms, json.loads(results.read_text()), strict=True):
            xcom.returned, xcom.plain_bytes = result["returned"], result["plain_bytes"]
            if result["fault"] and xcom.seen.placement != "clear":
                xcom.faults.append(result["fault"])


def _tail(home: Home, error: ProgramFailed, card: str) -> str:
    """Give the end of what the failed program printed; of the task that failed, if one did."""
    lines = error.printed.read_text(errors="replace").splitlines()
    if DAG_ID in error.title:
        states = xcoms.states(home.database, DAG_ID)
        failed = [instance for instance, state in states.items() if state == "failed"]
        lines = (_of_task(lines, failed[0]) if failed else []) or lines
    tail = "\n".join(line[:_TAIL_LINE_CHARACTERS] for line in lines[-_TAIL_LINES:])
    return tail.replace(card, "(the card number)")


def _of_task(lines: list[str], instance: tuple[str, int]) -> list[str]:
    """Pick what was printed between the beginning of one task and that of the next."""
    picked: list[str] = []
    inside = False
    for line in lines:
        if match := _TASK_BEGINS.search(line):
            inside = (match[1], int(match[2])) == instance
        if inside:
            picked.append(line)
    return picked
