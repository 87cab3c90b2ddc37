"""What masking costs: a task pulls 100,000 records and logs ten lines, or nothing.

    python tests/benchmarks/masking.py [--quick]

Each figure is processor time of a process of its own, in which the code of a task is played; the
median of several. `tests/airflow/inside/` and the census show that the masking itself works.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WHERE = {"dag_id": "d", "run_id": "r", "task_id": "t", "map_index": -1, "key": "k"}
LINES = 10


def records(count: int) -> list[dict[str, object]]:
    """Make records with three texts or long numbers each, all of them different."""
    return [
        {"id": f"customer {n:09}", "card": f"9{n * 7919:015}", "iban": 10**15 + n, "cents": n % 999}
        for n in range(count)
    ]


def measure(rounds: int, count: int) -> list[dict[str, object]]:
    """Measure with and without masking, with and without lines."""
    found: dict[tuple[bool, int], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for masked in (False, True):
                for lines in (0, LINES):
                    arguments = [str(count), json.dumps(masked), str(lines), folder]
                    done = subprocess.run(
                        [sys.executable, __file__, "--inside", *arguments],
                        env={**os.environ, "AIRFLOW_HOME": folder, "PYTHONWARNINGS": "ignore"},
                        capture_output=True,
                        text=True,
                        check=False,
                    )
                    if done.returncode:
                        raise SystemExit(done.stderr)
                    took = json.loads(done.stdout.splitlines()[-1])
                    found.setdefault((masked, lines), []).append(took)
    return [
        {"masked": masked, "lines": lines}
        | {name: round(statistics.median(one[name] for one in took), 2) for name in took[0]}
        for (masked, lines), took in found.items()
    ]


def inside(count: int, lines: int, folder: Path, *, masked: bool) -> dict[str, float]:
    """Play a task; give what it took."""
    from secure_xcom.airflow import masking, reading, versions, writing  # noqa: PLC0415
    from secure_xcom.airflow.masking.running import Whole  # noqa: PLC0415
    from secure_xcom.keys.local import create_key_file  # noqa: PLC0415
    from secure_xcom.model import Expected  # noqa: PLC0415

    kek, store = folder / "kek", folder / "store"
    if not kek.exists():
        create_key_file(kek)
        store.mkdir()
    os.environ |= {
        "_AIRFLOW_PROCESS_CONTEXT": "server",
        "AIRFLOW_VAR_SECURE_XCOM": "{}",
        "AIRFLOW__SECURE_XCOM__KEK_URI": f"local-kek://{kek}",
        "AIRFLOW__SECURE_XCOM__STORE_URI": f"file://{store}",
        "AIRFLOW__SECURE_XCOM__MASK_PULLED_VALUES": json.dumps(masked),
    }
    masking.owner = lambda: Whole.TASK
    where = Expected(**WHERE)
    row = writing.write(records(count), where, lambda value: value)
    reading.read(writing.write("warm", where, lambda value: value), where, lambda value: value)
    masking.forget()

    log = logging.getLogger("a.task")
    log.propagate = False
    log.setLevel(logging.INFO)
    with (folder / "log").open("w") as written:
        handler = logging.StreamHandler(written)
        masker = versions.maskers().own[0]
        if versions.is_airflow_3():
            masker.enable_log_masking()
        handler.addFilter(masker)
        log.addHandler(handler)
        times = [time.process_time()]
        value = reading.read(row, where, lambda row: row).value
        times.append(time.process_time())
        for n in range(lines):
            log.info("record %d is %s", n, value[n])
            times.append(time.process_time())
    shown = (folder / "log").read_text()
    if lines and ("customer" in shown) == masked:
        raise SystemExit("What was logged is not as it should be.")
    taken = [1000 * (end - start) for start, end in itertools.pairwise(times)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "pull_ms": taken[0],
        "first_line_ms": taken[1] if lines else 0.0,
        "further_line_ms": statistics.median(taken[2:]) if lines else 0.0,
        "peak_mib": peak / 1024,
    }


def main(arguments: list[str]) -> None:
    """Run it, or be run."""
    if arguments[:1] == ["--inside"]:
        count, masked, lines, folder = arguments[1:]
        took = inside(int(count), int(lines), Path(folder), masked=json.loads(masked))
        sys.stdout.write(f"{json.dumps(took)}\n")
        return
    quick = "--quick" in arguments
    for row in measure(rounds=1 if quick else 3, count=1_000 if quick else 100_000):
        sys.stdout.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
