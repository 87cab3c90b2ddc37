"""What is seen of an XCom outside of a task: the table of docs/threat-model.md, way by way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.deployed import make_canary, switch_on
from support.environments import DEFAULT

HERE = Path(__file__).parent
TAG = "__secure_xcom__"


@pytest.fixture
def look(home):
    """Run the DAG, and give what is then seen of it, and the canary."""
    plugins = home.path / "plugins"
    plugins.mkdir()
    for folder, name in ((home.dags, "reads.py"), (plugins, "linking.py")):
        (folder / name).write_bytes((HERE / "dags" / name).read_bytes())
    canary = make_canary()
    env = switch_on(home) | {
        "CANARY": canary,
        "AIRFLOW_MAJOR": str(home.environment.major),
        "AIRFLOW__API__AUTH_BACKENDS": "airflow.api.auth.backend.default",
        "AIRFLOW__API__ENABLE_XCOM_DESERIALIZE_SUPPORT": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    }
    done = home.run("python", HERE / "outside.py", env=env, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(lines[0].removeprefix("TOLD ")), canary


@pytest.mark.parametrize("environment", ["2.11.2", "3.1.8", DEFAULT, "3.4.0b2"], indirect=True)
def test_what_is_seen_outside_of_a_task(home, look):
    found, canary = look
    is_2 = home.environment.major == 2
    opened, closed = found["with the key"], found["without"]
    if home.environment.airflow.startswith("3.1."):
        # Airflow's own fault: it calls a method there that its statements do not have.
        for way in (opened, closed):
            for name in ("mapped", "last of mapped", "several"):
                assert "with_entities" in way["pulled"].pop(name)
    _a_pull_gives_the_value_or_says_why_not(opened["pulled"], closed["pulled"], canary)
    for way in (opened, closed):
        status, text = way["asked"]["row"]
        assert (status, canary in text, "Sealed by secure_xcom" in text) == (200, False, True)
    _deserialize(opened["asked"]["deserialize"], closed["asked"]["deserialize"], canary, is_2=is_2)
    for way in (opened, closed):
        status, text = way["asked"]["links"]
        assert status == 200
        assert (canary in text) is (way is opened)
        assert TAG not in text
        if way is closed:
            links = json.loads(text)
            assert not (links if is_2 else links["extra_links"])["console"]
    if is_2:
        _instances(opened["instances"], closed["instances"], canary)
        _rendered(opened["rendered"], closed["rendered"], canary)
    else:
        status, text = opened["asked"]["wait"]
        assert (status, canary in text) == (200, False)
        results = json.loads(text.splitlines()[-1])["results"]
        assert all(row["about"].startswith("Sealed by secure_xcom") for row in results.values())


def _a_pull_gives_the_value_or_says_why_not(opened, closed, canary):
    assert opened["short"] == {"card": canary}
    assert opened["long"].startswith(f"{canary} ")
    both = [f"{canary} 1", f"{canary} 2"]
    assert opened.get("mapped", both) == both
    assert {opened.get("last of mapped", both[1]), opened["one of mapped"]} == {both[1]}
    assert [canary in text for text in opened.get("several", [canary] * 2)] == [True, True]
    assert opened["moved"].startswith("AuthenticationError: ")
    assert closed.pop("moved").startswith("AuthenticationError: ")
    assert {text.partition(": ")[0] for text in closed.values()} == {"ConfigError"}
    assert all("There is no key file" in text for text in closed.values())


def _deserialize(opened, closed, canary, *, is_2):
    if is_2:
        assert (opened[0], canary in opened[1]) == (200, True)
        assert (closed[0], canary in closed[1], TAG in closed[1]) == (500, False, False)
    else:
        for status, text in (opened, closed):
            assert (status, canary in text, "Sealed by secure_xcom" in text) == (200, False, True)


def _instances(opened, closed, canary):
    assert opened["SecureXComBackend opened"] == opened["BaseXCom opened"] == {"card": canary}
    for way in (opened, closed):
        assert way["SecureXComBackend value"].startswith("Sealed by secure_xcom")
        assert way["BaseXCom value"][TAG] == 1
    assert {closed[f"{kind} opened"][:12] for kind in ("SecureXComBackend", "BaseXCom")} == {
        "ConfigError:"
    }


def _rendered(opened, closed, canary):
    assert [canary in text for text in (opened["page"][1], opened["render"])] == [True, True]
    assert "Marking task as SUCCESS" in opened["test"]
    status, text = closed["page"]
    assert (status, canary in text, TAG in text) == (200, False, False)
    assert "Error rendering template: There is no key file" in text
    for command in ("render", "test"):
        assert closed[command].startswith("ConfigError: There is no key file")
