"""DAGs that note what they saw, for the test that runs them to read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.environments import Home


def run(home: Home, dag: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Run a DAG by `airflow dags test`; what it noted in the file `PROBES`, by name."""
    (home.dags / dag.name).write_bytes(dag.read_bytes())
    probes = home.path / "probes"
    home.run(
        *("airflow", "dags", "test", dag.stem),
        env={**env, "PROBES": str(probes), "DATABASE": str(home.database)},
    )
    notes = [json.loads(line) for line in probes.read_text().splitlines()]
    return {note["name"]: note["value"] for note in notes}
