"""What other backends had trouble with, on each Airflow, with every value offloaded."""

from __future__ import annotations

import json
from pathlib import Path

from support.deployed import make_canary, objects, raw_xcoms, switch_on

PROGRAM = Path(__file__).parent / "dags" / "seeds.py"

NOTES = {
    "mapped over mapped values": [0, 2],
    "keywords": [[1, 1], [2, 0]],
    "several tasks and map indexes": ["0", "2", "{'n': 0, 'card': 'C'}", "{'n': 1, 'card': 'C'}"],
    "outputs": [True, None],
    "output that is a tuple": "(1, 2)",
    "bash": "1 a b 1",
    "a task that returns None": None,
    "a retry": [2, True],
    "of this day": None,
    "of a day before": True,
    "of several tasks and a day before": [1],
}
REST = {
    "created over REST": "UnsealedError False",
    "created over REST, warn": True,
    "created over REST, allow": True,
}


def test_seeds_of_trouble(home):
    program, probes, canary = home.dags / PROGRAM.name, home.path / "probes", make_canary()
    program.write_bytes(PROGRAM.read_bytes())
    env = switch_on(home, threshold_bytes=0) | {"CANARY": canary, "PROBES": str(probes)}
    home.run("python", program, env=env)
    notes = {one["name"]: one["value"] for one in map(json.loads, probes.read_text().splitlines())}

    assert notes == NOTES | (REST if home.environment.major >= 3 else {})
    stored = objects(home)
    assert len(stored) > 15
    assert not [name for name, held in stored.items() if canary.encode() in held]
    # What the server wrote over REST is in clear, and nothing else is.
    assert raw_xcoms(home).count(canary.encode()) == (home.environment.major >= 3)
