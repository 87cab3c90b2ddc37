"""`secure-xcom demo`: a DAG on a throw-away Airflow, and then what is stored where.

The quick one of the two: `airflow dags test` runs the DAG in one process, and the search is for
one card number, in the XComs alone.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

from secure_xcom.trial import rig, surfaces, values, xcoms
from secure_xcom.trial.home import Home, ProgramFailed
from secure_xcom.trial.report import Listener, Outcome, XCom

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


def run(
    keep: Path | None, listener: Listener, overrides: Mapping[str, str] | None = None
) -> Outcome:
    """Run the demo.

    Args:
        keep: a directory for the home; None for a temporary one, which goes away.
        listener: told what is being done.
        overrides: further environment variables of Airflow in this home.

    Raises:
        ConfigError: `keep` cannot be used, or there is no Airflow here.
    """
    card = values.made_up_card(random.SystemRandom())
    outcome = Outcome(rig.airflow_version(), texts={values.CARD: card})
    # What the other tasks left behind is checked also when one of them failed.
    steps = (_run_dag, _check_xcoms, _search, _read_back)
    rig.run(outcome, steps, listener, keep, lambda _: overrides or {})
    for xcom in outcome.xcoms:
        outcome.problems += [f"{xcom.stored.name}: {fault}" for fault in xcom.faults]
    return outcome


def _expected() -> list[tuple[str, int]]:
    """List the task instances of the demo's DAG: task and map index."""
    return [
        (task_id, map_index)
        for task_id in _PLACEMENTS
        if task_id != "frame" or values.has_frames()
        for map_index in (range(len(values.CHARGES_CENTS)) if task_id == "charge" else (-1,))
    ]


def _run_dag(home: Home, outcome: Outcome, listener: Listener) -> None:
    home.add_dag("demo")
    title = f"airflow dags test {DAG_ID}"
    total = len(_expected())
    done = 0

    def on_line(line: str) -> None:
        nonlocal done
        if match := _TASK_ENDS.search(line):
            done += 1
            index = "" if match[2] == "-1" else f"[{match[2]}]"
            listener.detail(f"{done} of {total} task runs: {match[1]}{index}")

    try:
        with listener.step(title):
            home.run(title, "-m", "airflow", "dags", "test", DAG_ID, on_line=on_line)
    except ProgramFailed as error:
        outcome.tail = rig.tail(outcome.texts, _of_failed_task(home, error.printed))
        raise


def _of_failed_task(home: Home, printed: Path) -> list[str]:
    """Pick what was printed from the beginning of the failed task to that of the next."""
    states = xcoms.states(home.database, DAG_ID)
    failed = next((instance for instance, state in states.items() if state == "failed"), None)
    picked: list[str] = []
    inside = False
    for line in printed.read_text(errors="replace").splitlines():
        if match := _TASK_BEGINS.search(line):
            inside = (match[1], int(match[2])) == failed
        if inside:
            picked.append(line)
    return picked


def _check_xcoms(home: Home, outcome: Outcome, listener: Listener) -> None:
    """Check that each value is stored as it should be, and nothing else is."""
    with listener.step("look into the database and the store, around the backend"):
        states = xcoms.states(home.database, DAG_ID)
        for (task_id, map_index), state in states.items():
            if state != "success":
                outcome.problems.append(f"Task {task_id} (map index {map_index}) is {state}.")
        unexpected = {
            (stored.coordinate.task_id, stored.coordinate.map_index, stored.coordinate.key): stored
            for stored in xcoms.read(home.database, home.store, DAG_ID)
        }
        for task_id, map_index in _expected():
            stored = unexpected.pop((task_id, map_index, "return_value"), None)
            if stored is None:
                if states.get((task_id, map_index), "success") == "success":
                    outcome.problems.append(
                        f"Task {task_id} (map index {map_index}) left no return value."
                    )
                continue
            xcom = XCom(stored, faults=list(stored.faults))
            if not xcom.faults and stored.placement != _PLACEMENTS[task_id]:
                xcom.faults.append(f"it is {stored.placement}, not {_PLACEMENTS[task_id]}")
            outcome.xcoms.append(xcom)
        outcome.problems += [
            f"An XCom that no task returned: {stored.name}" for stored in unexpected.values()
        ]
        outcome.problems += [
            f"An object that no row refers to: {name}"
            for name in xcoms.stray_objects(home.store, [xcom.stored for xcom in outcome.xcoms])
        ]


def _search(home: Home, outcome: Outcome, listener: Listener) -> None:
    with listener.step("search both for the card number"):
        outcome.found = surfaces.search(home, outcome.texts, only=surfaces.XCOMS)
    outcome.problems += [
        f"The card number stands in {_where(place)}, {place.how}" for place in outcome.found.places
    ]


def _where(place: surfaces.Hit) -> str:
    if place.surface == surfaces.STORE:
        return f"the object {place.place}"
    if place.surface == surfaces.NAMES:
        return f"the name of the object {place.place}"
    row, _, _ = place.place.partition(",")
    return f"{row} of the {place.surface}"


def _read_back(home: Home, outcome: Outcome, listener: Listener) -> None:
    """Read every value back through the backend, in a process of its own."""
    rows, results = home.printed / "rows.json", home.printed / "results.json"
    rows.write_text(
        json.dumps(
            [
                {
                    "task_id": xcom.stored.coordinate.task_id,
                    "map_index": xcom.stored.coordinate.map_index,
                    "key": xcom.stored.coordinate.key,
                    "row": xcom.stored.row.decode(errors="replace"),
                }
                for xcom in outcome.xcoms
            ]
        )
    )
    title = "read every value back through the backend"
    with listener.step(title):
        home.run(title, "-m", "secure_xcom.trial.reread", str(rows), str(results))
        for xcom, result in zip(outcome.xcoms, json.loads(results.read_text()), strict=True):
            xcom.returned, xcom.plain_bytes = result["returned"], result["plain_bytes"]
            if result["fault"] and xcom.stored.placement != "clear":
                xcom.faults.append(result["fault"])
