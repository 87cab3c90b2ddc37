"""The tests in `inside/`, run by each environment's own Python, inside its Airflow."""

from __future__ import annotations

from pathlib import Path

from support.deployed import BACKEND
from support.environments import ROOT, measured

INSIDE = Path(__file__).parent / "inside"
FIDELITY = INSIDE / "test_fidelity.py"


def run(home, *which):
    done = home.run(
        *("python", "-m", "pytest", "-c", INSIDE / "pytest.ini", "--rootdir", INSIDE, *which),
        env=measured()
        | {
            "AIRFLOW__CORE__XCOM_BACKEND": BACKEND,
            # So that Airflow 3 looks Variables up in the database, as its own daemons do.
            "_AIRFLOW_PROCESS_CONTEXT": "server",
            "PYTHONPATH": str(ROOT / "tests"),
        },
    )
    assert " passed" in done.stdout.splitlines()[-1]


def test_the_backend(home):
    run(home, INSIDE, f"--ignore={FIDELITY}")


def test_fidelity(home):
    run(home, FIDELITY)
