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

_, _, KEY, RUN, LOOK, STOCK = re.findall(r"^```sh\n(.*?)^```$", LAPTOP, re.DOTALL | re.MULTILINE)
[DAG] = re.findall(r"^```python\n(.*?)^```$", LAPTOP, re.DOTALL | re.MULTILINE)
DIGITS = b"90000000000"
NOWHERE = "No card number in clear"


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_the_quickstart_works_as_it_is_written(home):
    dag = DAG
    if home.environment.major == 2:
        assert "on Airflow 2, import from `airflow.decorators`" in LAPTOP
        dag = dag.replace("airflow.sdk", "airflow.decorators")
    (home.dags / "first.py").write_text(dag)

    done = home.run("bash", "-ec", f"{KEY}\n{RUN}\necho LOOK\n{LOOK}")
    # What it prints to be exported is what the page exports.
    exported = re.findall(r"^export .+$", KEY, re.MULTILINE)
    assert len(exported) == 4
    for line in exported:
        assert line.replace("$AIRFLOW_HOME", str(home.path)) in done.stdout.splitlines()
    # Nothing was found, and the long value alone lies in the store.
    nowhere, stored = done.stdout.partition("\nLOOK\n")[2].splitlines()
    assert nowhere == NOWHERE
    rows = {task_id: row for (task_id, _, _), row in xcoms(home).items()}
    assert stored == f"{home.path}/xcom/{rows['records']['object']}"
    assert rows["customer"]["placement"] == "inline"
    assert rows["records"]["placement"] == "offloaded"
    for where in (raw_xcoms(home), Path(stored).read_bytes()):
        assert DIGITS not in where
        assert b"Ada" not in where
    assert (home.path / "kek").stat().st_mode & 0o777 == 0o600

    settings = "\n".join(exported)
    done = home.run("bash", "-ec", f"{settings}\n{STOCK}")
    assert str(home.database) in done.stdout.splitlines()
    assert DIGITS in raw_xcoms(home)


@pytest.mark.parametrize("where", ["airflow.db", "xcom/first/records"])
def test_the_look_finds_a_card_number_in_a_database_and_in_an_object(tmp_path, where):
    for file in ("airflow.db", "xcom/first/records"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"\0sealed\xff")

    def look():
        environment = {"AIRFLOW_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        command = ["bash", "-ec", LOOK]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert look()[0] == NOWHERE
    (tmp_path / where).write_bytes(b'\0\xff{"card": "%s00001"}\0' % DIGITS)
    assert look()[0] == str(tmp_path / where)
    assert NOWHERE not in look()
