"""What docs/quickstart.md tells the reader to type is typed here."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.deployed import raw_xcoms, xcoms
from support.environments import DEFAULT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "quickstart.md"
LAPTOP = PAGE.read_text().partition("## Your own Airflow")[2].partition("\n## A deployment")[0]

KEY, RUN, LOOK = re.findall(r"^```sh\n(.*?)^```$", LAPTOP, re.DOTALL | re.MULTILINE)
[DAG] = re.findall(r"^```python\n(.*?)^```$", LAPTOP, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_the_quickstart_works_as_it_is_written(home):
    dag = DAG
    if home.environment.major == 2:
        assert "on Airflow 2, import from `airflow.decorators`" in LAPTOP
        dag = dag.replace("airflow.sdk", "airflow.decorators")
    (home.dags / "first.py").write_text(dag)

    done = home.run("bash", "-ec", f"{KEY}\n{RUN}\n{LOOK}")

    # The last command listed what lies in the store: the long value alone.
    [stored] = [line for line in done.stdout.splitlines() if line.startswith(f"{home.path}/xcom/")]
    rows = {task_id: row for (task_id, _, _), row in xcoms(home).items()}
    assert stored == f"{home.path}/xcom/{rows['records']['object']}"
    assert rows["customer"]["placement"] == "inline"
    assert rows["records"]["placement"] == "offloaded"
    for where in (raw_xcoms(home), Path(stored).read_bytes()):
        assert b"9000" not in where
        assert b"Ada" not in where


def test_the_look_into_the_store_fails_if_a_card_number_stands_there(tmp_path):
    (tmp_path / "xcom" / "first").mkdir(parents=True)
    (tmp_path / "xcom" / "first" / "records").write_text("card 9000 0000 0000 0001")
    done = subprocess.run(
        ["bash", "-ec", LOOK],
        env={"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert done.returncode == 1
