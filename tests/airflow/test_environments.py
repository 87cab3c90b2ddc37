"""Each environment holds the Airflow it is named after, this package, and its entry points."""

from __future__ import annotations

import json

from support.environments import ROOT

LOOK = """
import json, importlib.metadata, secure_xcom, airflow
print(json.dumps({
    "airflow": airflow.__version__,
    "file": secure_xcom.__file__,
    "points": [
        e.value for e in importlib.metadata.entry_points(group="apache_airflow_provider")
        if e.dist.name == "secure-xcom"
    ],
}))
"""

DAG = """
import datetime
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1))
def small():
    @task
    def give():
        return {"rows": [1, 2, 3]}

    @task
    def take(value):
        assert value == {"rows": [1, 2, 3]}

    take(give())

small()
"""


def test_the_package_and_its_entry_points_are_there(home):
    seen = json.loads(home.run("python", "-c", LOOK).stdout.splitlines()[-1])
    assert seen == {
        "airflow": home.environment.airflow,
        "file": str(ROOT / "secure_xcom" / "__init__.py"),
        "points": ["secure_xcom.airflow.provider:get_provider_info"],
    }


def test_a_dag_runs_in_a_fresh_home(home):
    (home.dags / "small.py").write_text(DAG)
    home.run("airflow", "dags", "test", "small")
    with home.connect() as database:
        states = database.execute("SELECT task_id, state FROM task_instance").fetchall()
    assert sorted(states) == [("give", "success"), ("take", "success")]
