"""What runs inside an Airflow of each version is not collected out here."""

from __future__ import annotations

import os
import subprocess

import pytest

collect_ignore = ["dags", "inside"]


@pytest.fixture
def as_user(tmp_path):
    """Run a program of an environment as a user whose own Airflow must not be touched."""
    home = tmp_path / "user"
    (home / "airflow").mkdir(parents=True)
    (home / "airflow" / "airflow.cfg").write_text("[core]\nxcom_backend = theirs.Backend\n")
    (tmp_path / "temporary").mkdir()
    foreign = ("AIRFLOW", "COVERAGE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "HOME": str(home),
        "TMPDIR": str(tmp_path / "temporary"),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__CORE__XCOM_BACKEND": "theirs.Backend",
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__SECURE_XCOM__KEK_URI": "local-kek:///nowhere",
        "AIRFLOW_VAR_SECURE_XCOM": '{"threshold_bytes": -1}',
    }

    def run(environment, program, *arguments):
        done = subprocess.run(
            [environment.folder / "bin" / program, *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
        )
        left = sorted(path.name for path in home.rglob("*"))
        assert left == ["airflow", "airflow.cfg"]
        assert list((tmp_path / "temporary").iterdir()) == []
        return done

    return run
