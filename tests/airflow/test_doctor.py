"""`secure-xcom doctor` in real Airflow homes: on a laptop's key and store, and in the cloud."""

from __future__ import annotations

import json
import re

import pytest
from servers.gcs import GcsServer
from servers.kms import URI, KmsServer
from support.deployed import BACKEND, switch_on
from support.doctoring import IN_AIRFLOW
from support.environments import DEFAULT, ROOT

STATE_STORE = "secure_xcom.airflow.state_store.SecureStateStoreBackend"
#: The command, in an Airflow whose measures were taken away first.
BROKEN = """
import contextlib, sys
with contextlib.redirect_stdout(sys.stderr):
    from airflow import settings
from secure_xcom.airflow import policy
from secure_xcom.cli import main

if hasattr(settings, "get_policy_plugin_manager"):
    manager = settings.get_policy_plugin_manager()
else:
    manager = settings.POLICY_PLUGIN_MANAGER
manager.unregister(policy)
try:
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk._shared import secrets_masker
    del task_runner._serialize_rendered_fields
except ImportError:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields
    from airflow.utils.log import secrets_masker
    del RenderedTaskInstanceFields._redact
secrets_masker.redact = lambda value, *_, **__: value
sys.exit(main(["doctor", "--json"]))
"""

#: The one of docs/composer.md.
(DAG,) = re.findall(
    r"^```python\n(.*?)^```$",
    (ROOT / "docs/composer.md").read_text(),
    re.DOTALL | re.MULTILINE,
)

EACH = pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)


def said(done):
    """What was found, by name; nothing else is on standard output."""
    report = json.loads(done.stdout)
    assert set(report) == {"ok", "checks"}
    assert report["ok"] is (done.returncode == 0)
    found = {}
    for check in report["checks"]:
        assert set(check) == {"name", "status", "detail", "fix"}
        found.setdefault(check["name"], []).append(check)
    return found


@EACH
def test_a_laptop(home):
    env = switch_on(home)
    with home.connect() as database:
        database.execute(
            "INSERT INTO variable (key, val, is_encrypted) VALUES ('SECURE_XCOM', ?, 0)",
            ('{"threshold_bytes": 77}',),
        )
    done = home.run("secure-xcom", "doctor", "--json", env=env, check=False)
    found = said(done)
    assert done.returncode == 0, done.stdout + done.stderr
    assert home.environment.airflow in found["airflow"][0]["detail"]
    for name in IN_AIRFLOW - {"strict", "state_store"}:
        assert [check["status"] for check in found[name]] == ["pass"], found[name]
    # States are in clear where there are any, and nobody has set their backend.
    (states,) = found["state_store"]
    has_states = home.environment.airflow == DEFAULT
    assert states["status"] == ("warn" if has_states else "pass")
    assert (STATE_STORE in states["fix"]) is has_states
    settings = [check["detail"] for check in found["settings"]]
    assert f"kek_uri = local-kek://{home.path}/kek (AIRFLOW__SECURE_XCOM__KEK_URI)" in settings
    assert "threshold_bytes = 77 (the Variable SECURE_XCOM)" in settings
    assert {name for name in found if found[name][0]["status"] == "warn"} == {
        *("instance", "strict", "key.kind", "store.kind"),
        *(["state_store"] if has_states else []),
    }
    # The command leaves the store as empty as it was.
    assert list((home.path / "store").iterdir()) == []


@EACH
def test_the_cloud(home, tmp_path):
    with KmsServer(tmp_path) as kms, GcsServer() as gcs:
        kms.create_key()
        gcs.create_bucket("the-bucket")
        (home.path / "airflow.cfg").write_text(
            f"[core]\nxcom_backend = {BACKEND}\n"
            f"[secure_xcom]\nkek_uri = {URI}\ninstance = prod\nstrict = true\n"
            f"[workers]\nstate_store_backend = {STATE_STORE}\n"
        )
        env = {
            **kms.environment,
            **gcs.environment,
            "AIRFLOW_VAR_XCOM_BACKEND_DATA_GCS_NAME": "the-bucket",
        }
        kms.deny("cloudkms.cryptoKeyVersions.useToDecrypt")
        done = home.run("secure-xcom", "doctor", "--json", env=env, check=False)
        found = said(done)
        kms.deny()
        (home.dags / "doctor.py").write_text(DAG)
        shown = home.run("airflow", "dags", "test", "secure_xcom_doctor", env=env)
        calls = kms.traffic.calls()
        assert gcs.names("the-bucket") == []
    assert done.returncode == 1
    failed = {name for name in found if found[name][0]["status"] == "fail"}
    assert failed == {"key.round_trip", "key.permissions"}
    assert found["strict"][0]["status"] == found["state_store"][0]["status"] == "pass"
    settings = [check["detail"] for check in found["settings"]]
    assert f"kek_uri = {URI} (airflow.cfg [secure_xcom])" in settings
    variable = "XCOM_BACKEND_DATA_GCS_NAME"
    source = f"the Variable {variable} (AIRFLOW_VAR_{variable})"
    assert f"store_uri = gs://the-bucket ({source})" in settings
    # Resource Manager is out of reach here.
    assert found["key.iam"][0]["status"] == found["key.audit_logs"][0]["status"] == "unseen"
    # As a person sees it, in the log of the task that docs/composer.md has.
    assert "\npass  key.round_trip: a data key was wrapped by its version 1 and" in shown.stdout
    assert (
        "\npass  store.round_trip: an object was written, read, replaced and deleted\n"
        in shown.stdout
    )
    assert "\nwarn  key.rotation: The key is not rotated by itself.\n      Fix: gcloud kms" in (
        shown.stdout
    )
    # Here nobody has sealed anything, and a task of Airflow 3 has no database to say so.
    (versions,) = found["key.versions"]
    assert versions["status"] == "pass"
    assert versions["detail"].startswith("version 1: ENABLED, 0 days old, 0 rows, the primary.")
    not_looked_at = 2 if home.environment.airflow.startswith("2.") else 3
    summary = rf"^OK: \d+ passed, \d+ to know of, {not_looked_at} not looked at, 0 failed$"
    assert re.search(summary, shown.stdout, re.MULTILINE)
    assert calls["Encrypt"] == 2
    assert "PRIVATE KEY" not in done.stdout + done.stderr + shown.stdout + shown.stderr


@EACH
def test_measures_that_are_off(home):
    env = switch_on(home, audit_log=f"{home.path}/gone/audit.jsonl") | {
        "AIRFLOW__CORE__XCOM_BACKEND": "airflow.models.xcom.BaseXCom",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home.path}/gone/airflow.db",
    }
    done = home.run("python", "-c", BROKEN, env=env, check=False)
    found = said(done)
    assert done.returncode == 1
    status = {name: found[name][0]["status"] for name in IN_AIRFLOW}
    warned = {"variables": "warn", "strict": "warn", "state_store": "warn"}
    if home.environment.airflow.startswith("2."):  # it has none
        warned["state_store"] = "pass"
    assert status == dict.fromkeys(IN_AIRFLOW, "fail") | warned
    assert "airflow.models.xcom.BaseXCom: XComs are not sealed" in found["backend"][0]["detail"]
    assert f"Set it to {BACKEND}" in found["backend"][0]["fix"]
    assert "OperationalError" in found["variables"][0]["detail"]
    assert "entry points" in found["policy"][0]["fix"]
    assert "has no place known" in found["rendered_fields"][0]["detail"]
    assert "it shows what it was given" in found["masking"][0]["detail"]
    assert "/gone/audit.jsonl is not there" in found["audit_log"][0]["detail"]


@EACH
def test_measures_that_settings_switch_off_and_a_backend_that_is_not_there(home):
    off = {"mask_pulled_values": "false", "log_return_values": "true"}
    env = switch_on(home, **off)
    found = said(home.run("secure-xcom", "doctor", "--json", env=env, check=False))
    assert found["policy"][0]["status"] == found["masking"][0]["status"] == "warn"
    assert "log_return_values is true" in found["policy"][0]["detail"]
    assert "mask_pulled_values is false" in found["masking"][0]["detail"]
    wrong = env | {"AIRFLOW__CORE__XCOM_BACKEND": "no_such_package.Backend"}
    done = home.run("secure-xcom", "doctor", "--json", env=wrong, check=False)
    backend = said(done)["backend"][0]
    assert backend["status"] == "fail"
    assert "no_such_package" in backend["detail"]
    assert BACKEND in backend["fix"]
    # Airflow 3 imports the backend when it looks a Variable up; the Variables are not at fault.
    misspelt = env | {"AIRFLOW__CORE__XCOM_BACKEND": BACKEND.replace("XCom", "Xcom")}
    checks = said(home.run("secure-xcom", "doctor", "--json", env=misspelt, check=False))
    failed = [name for name, all_ in checks.items() for one in all_ if one["status"] == "fail"]
    assert failed == ["backend"]


@pytest.mark.parametrize("environment", ["2.11.2"], indirect=True)
def test_settings_that_are_wrong(home):
    env = switch_on(home, kek_uri="local-kek:relative", threshold_bytes="48k")
    done = home.run("secure-xcom", "doctor", env=env, check=False)
    assert done.returncode == 1
    kek, threshold = [line for line in done.stdout.splitlines() if line.startswith("fail")]
    source = "settings: {0}, from AIRFLOW__SECURE_XCOM__{1}, is"
    assert kek.startswith(f"fail  {source.format('kek_uri', 'KEK_URI')}")
    assert threshold.startswith(f"fail  {source.format('threshold_bytes', 'THRESHOLD_BYTES')}")
    assert "Fix: Probably meant: local-kek:///relative (" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("NOT OK: ")

    (home.path / "airflow.cfg").write_text("[core\n")
    done = home.run("secure-xcom", "doctor", "--json", check=False)
    ((name, (check,)),) = said(done).items()
    assert (name, check["status"]) == ("airflow", "fail")
    assert "Airflow cannot be imported" in check["detail"]
    assert "MissingSectionHeaderError" in check["detail"]
