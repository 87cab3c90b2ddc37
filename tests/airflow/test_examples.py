"""The example DAGs that Airflow ships, with the stock backend and with this one: no difference."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.deployed import switch_on
from support.environments import DEFAULT, VERSIONS, new_home, provide

PROGRAM = Path(__file__).parent / "examples.py"
#: What differs between two runs of the same DAG: their time, in each notation that occurs.
TIMES = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?[+-]\d\d:?\d\d|Z)?"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?: [AP]M)? \w+ \d{4}"
)
#: One of each Airflow runs with the whole suite.
OFTEN = ("2.11.2", DEFAULT)


def run(home, env):
    """What became of each DAG."""
    lines = home.path / "examples"
    # Where a DAG iterates over a set, both runs shall do so in the same order.
    env = {**env, "PYTHONHASHSEED": "0"}
    home.run("python", PROGRAM, lines, env=env, timeout_seconds=900)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    for dag in found:
        dag["xcoms"] = {
            where: TIMES.sub("TIME", value.replace(str(home.path), "HOME"))
            for where, value in dag["xcoms"].items()
        }
        del dag["seconds"]
    return {dag.pop("dag"): dag for dag in found}


@pytest.mark.parametrize(
    "version",
    [pytest.param(v, marks=() if v in OFTEN else pytest.mark.long) for v in VERSIONS],
)
def test_examples_end_the_same(version, tmp_path):
    environment = provide(version)
    plain, home = (new_home(environment, tmp_path / name) for name in ("stock", "ours"))
    # Side by side, since many of them wait. Some of their values are offloaded at this threshold,
    # and some are not.
    with ThreadPoolExecutor() as pool:
        stock, ours = pool.map(run, (plain, home), ({}, switch_on(home, threshold_bytes=1000)))

    assert len(ours) >= 25
    assert sum(dag["sealed"] for dag in ours.values()) >= 25
    assert sum(dag["states"] == ["success"] for dag in ours.values()) >= 25
    assert not any(dag.pop("sealed") for dag in stock.values())
    for dag in ours.values():
        del dag["sealed"]
    assert ours == stock
