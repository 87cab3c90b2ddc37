"""Real daemons: each task in a process of its own, a real scheduler, a real triggerer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.daemons import daemons, wait_for
from support.deployed import make_canary, objects, raw_xcoms, switch_on, xcoms
from support.environments import DEFAULT
from support.statsd import statsd

DAGS = Path(__file__).parent / "dags"

#: What the button in the UI does.
CLEAR = """
import sys
from airflow.models.taskinstance import TaskInstance, clear_task_instances
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
with create_session() as session:
    tis = session.query(TaskInstance).filter(TaskInstance.task_id.in_(sys.argv[1:])).all()
    clear_task_instances(tis, session, dag_run_state=DagRunState.QUEUED)
print("cleared", len(tis))
"""


def check_what_a_trigger_ended_with(home, env, rows):
    """On Airflow 3 the server writes it past the backend; reads find that out."""
    row = rows["ended", -1, "return_value"]
    found = rows["read_what_the_trigger_wrote", -1, "return_value"]
    done = home.run("secure-xcom", "inspect", json.dumps(found), "--open", "--json", env=env)
    read = json.loads(done.stdout)["opened"]["value"]
    if home.environment.major < 3:
        assert row["placement"] == "inline"
        assert read == {
            **{policy: {"by": "trigger"} for policy in ("deny", "warn", "allow")},
            "clear key": "address",
        }
        return
    # The server encodes it as JSON once more, and the stock backend gives it as that text, too.
    assert row == '{"by": "trigger"}'
    assert read == {
        "deny": "UnsealedError",
        **dict.fromkeys(("warn", "allow"), '{"by": "trigger"}'),
        "clear key": '"address"',
    }
    logs = [path.read_text() for path in home.logs.rglob("*read_what_the_trigger_wrote*/*.log")]
    assert "was not sealed by this backend" in "".join(logs)


def check_metrics(metrics):
    """The processes of tasks sent them, each by itself."""
    counters = metrics.counters()
    assert counters["seal.ok"] == counters["seal.inline"] + counters["seal.offloaded"]
    assert counters["seal.offloaded"] >= 3  # the large value, and both once more
    assert counters["open.ok"] >= 2
    assert counters["delete.ok"] >= 1
    assert {f"{step}.duration" for step in ("seal", "wrap", "unwrap", "upload", "download")} <= (
        metrics.timers()
    )


@pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)
def test_a_deployment(home):
    canary = make_canary()
    (home.dags / "live.py").write_bytes((DAGS / "live.py").read_bytes())
    plugins = home.path / "plugins"
    plugins.mkdir()
    (plugins / "reading_trigger.py").write_bytes((DAGS / "reading_trigger.py").read_bytes())
    wanted = dict.fromkeys(
        (
            *("small", "large", "check", "choose", "taken", "deferred", "stop", "trigger"),
            *("ended", "read_what_the_trigger_wrote"),
        ),
        "success",
    ) | {"left_out": "skipped", "stopped": "skipped"}
    if home.environment.airflow >= "3.3":
        wanted["coroutines"] = "success"

    env = switch_on(home, describe="full") | {"CANARY": canary}
    with statsd() as metrics, daemons(home, env | metrics.env) as env:
        wait_for(home, "live", wanted)
        rows = xcoms(home)
        assert rows["small", -1, "return_value"]["placement"] == "inline"
        assert rows["large", -1, "return_value"]["placement"] == "offloaded"
        assert rows["deferred", -1, "return_value"]["placement"] == "inline"
        assert rows["deferred", -1, "pushed"]["placement"] == "inline"
        wait_for(home, "triggered", {"return_it": "success"})
        with home.connect() as database:
            [(run_id,)] = database.execute("SELECT run_id FROM dag_run WHERE dag_id = 'triggered'")
        assert rows["trigger", -1, "trigger_run_id"] == run_id
        check_what_a_trigger_ended_with(home, env, rows)
        [first] = objects(home)

        # A new threshold counts for the next task, with no daemon started again; branches that
        # were left out stay so, also where the short circuit runs again; and what `large` wrote
        # goes when it starts anew.
        with home.connect() as database:
            database.execute(
                "INSERT INTO variable (key, val, is_encrypted) "
                "VALUES ('SECURE_XCOM', '{\"threshold_bytes\": 0}', 0)"
            )
        again = ("small", "large", "left_out", "stop", "stopped")
        cleared = home.run("python", "-c", CLEAR, *again, env=env)
        assert cleared.stdout.splitlines()[-1] == "cleared 5"
        wait_for(home, "live", wanted)

    rows = xcoms(home)
    assert rows["small", -1, "return_value"]["placement"] == "offloaded"
    assert rows["check", -1, "return_value"]["placement"] == "inline"
    stored = objects(home)
    assert set(stored) == {
        row["object"]
        for where, row in rows.items()
        if where[2] == "return_value" and '"offloaded"' in json.dumps(row)
    }
    assert first not in stored
    for held in (*stored.values(), raw_xcoms(home), "\n".join(metrics.lines).encode()):
        assert canary.encode() not in held
    check_metrics(metrics)
