"""`secure-xcom evidence`: what stands in the folder, and what never does.

Doctor's checks of Airflow itself are left out here; `tests/airflow/test_evidence.py` has them.
"""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from support.deployment import CANARY, Deployment
from support.metadata import Metadata

import secure_xcom
from secure_xcom.airflow import configuration, metadata
from secure_xcom.cli import main
from secure_xcom.cli.doctor import examination
from secure_xcom.cli.evidence import collection, folder
from secure_xcom.lifecycle.rows import RowsUnreadable
from secure_xcom.model import Coordinate

WHERE = Coordinate("d", "r", "sealed", -1, "return_value")


class Scene:
    """A deployment on a laptop's key and store, and its rows; `out` is the folder."""

    def __init__(self, monkeypatch, tmp_path):
        self.monkeypatch = monkeypatch
        self.deployment = Deployment(tmp_path / "deployment")
        self.trail = tmp_path / "audit.jsonl"
        self.out = tmp_path / "evidence"
        engine = sa.create_engine(f"sqlite:///{tmp_path}/airflow.db", poolclass=NullPool)
        self.database = Metadata(engine, "3.3")
        self.database.push(self.deployment.stack().put(CANARY, WHERE), task_id="sealed")
        self.database.push({"plain": CANARY}, task_id="clear")
        monkeypatch.setattr(metadata, "rows", self.database.rows)
        monkeypatch.setattr(configuration, "_variable", lambda _name: None)
        monkeypatch.setattr(examination, "examine", self._examine)
        self.set("kek_uri", self.deployment.kek_uri)
        self.set("store_uri", self.deployment.store_uri)
        self.set("instance", "prod")
        self.set("audit_log", f"task-log, {self.trail}")

    def set(self, name, text):
        self.monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", text)

    def _examine(self, retention_days, counts):
        del retention_days
        yield from examination.settings_checks.checks(configuration.read(), {})
        yield from examination.services(configuration.read(), lambda: None, None, counts)

    def run(self, *more):
        return main(["evidence", "--out", str(self.out), *more])

    def said(self, name):
        return json.loads((self.out / name).read_text())

    def text(self):
        return "".join(path.read_text() for path in self.out.iterdir())


@pytest.fixture
def scene(monkeypatch, tmp_path):
    return Scene(monkeypatch, tmp_path)


def test_the_folder_has_what_it_says_and_each_digest(scene, capsys):
    assert scene.run("--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {path.name for path in scene.out.iterdir()} == {*collection.FILES, folder.DIGESTS}
    assert answer["files"].keys() == collection.FILES.keys()
    for path in scene.out.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(scene.out.stat().st_mode) == 0o700
    check = ["sha256sum", "--check", "--strict", folder.DIGESTS]
    assert subprocess.run(check, cwd=scene.out, check=False, capture_output=True).returncode == 0
    listed = (scene.out / folder.DIGESTS).read_bytes()
    assert len(listed.splitlines()) == len(collection.FILES)
    assert answer["sha256"] == hashlib.sha256(listed).hexdigest()
    # The audit log names the folder by the same digest.
    line = json.loads(scene.trail.read_text().splitlines()[-1])
    assert (line["operation"], line["what"], line["count"]) == ("evidence", "run", 7)
    assert line["digest"] == answer["sha256"]
    (scene.out / "scan.json").write_text("{}")
    assert subprocess.run(check, cwd=scene.out, check=False, capture_output=True).returncode == 1


def test_each_file_tells_of_its_subject(scene):
    assert scene.run() == 0
    assert scene.said("about.json")["version"] == secure_xcom.__version__
    report = scene.said("doctor.json")
    statuses = {check["name"]: check["status"] for check in report["checks"]}
    assert (report["ok"], statuses["key.round_trip"], statuses["key.kind"]) == (
        *(True, "pass", "warn"),
    )
    keys = {check["name"] for check in scene.said("keys.json")["checks"]}
    assert keys == {"key.kind", "key.round_trip"}
    settings = {one["name"]: one for one in scene.said("settings.json")["settings"]}
    assert settings["instance"] == {
        "name": "instance",
        "value": "prod",
        "origin": "AIRFLOW__SECURE_XCOM__INSTANCE",
    }
    assert settings["threshold_bytes"]["origin"] == "default"
    found = scene.said("scan.json")
    assert (found["ok"], found["rows"]) == (True, 2)
    assert found["tables"][scene.database.xcom] == {"archived": False, "inline": 1, "clear": 1}
    assert found["keys"] == [{"kek": scene.deployment.kek_uri, "unverified_version": "", "rows": 1}]
    package = scene.said("package.json")
    module = Path(secure_xcom.__file__)
    assert package["files"]["__init__.py"] == hashlib.sha256(module.read_bytes()).hexdigest()
    assert "format/envelope.py" in package["files"]
    assert not [name for name in package["files"] if "__pycache__" in name]
    assert (package["format"]["envelope_version"], package["format"]["row_version"]) == (1, 1)


def test_nothing_secret_is_in_it(scene):
    scene.set("unmasked_texts", f"Germany, {CANARY}")
    line = {"time": "2026-11-25T10:00:00.000+00:00", "operation": "gc", "what": "run"}
    line |= {"outcome": "ok", "reason": CANARY, "value": CANARY, "actor": CANARY * 20}
    scene.trail.write_text(json.dumps(line) + "\n")
    assert scene.run() == 0
    key = (scene.deployment.key_file).read_text().split()[1]
    text = scene.text()
    assert CANARY not in text
    assert key not in text
    assert '"value": "2 texts"' in text
    assert scene.said("runs.json")["runs"]["gc"]["outcome"] == "ok"


def test_a_secret_where_a_key_is_named_is_not_repeated(scene):
    scene.set("kek_uri", f"-----BEGIN PRIVATE KEY-----{CANARY}")
    scene.set("no_such_setting", CANARY)
    scene.monkeypatch.setattr(examination, "examine", lambda *_: iter(()))
    scene.run()
    faults = scene.said("settings.json")["faults"]
    assert any("kek_uri" in fault for fault in faults)
    assert any("no_such_setting" in fault for fault in faults)
    assert CANARY not in scene.text()
    # Rows are counted all the same.
    assert scene.said("scan.json")["rows"] == 2


def test_the_last_run_of_each_command_is_taken_from_the_files(scene, tmp_path):
    def line(operation, day, **more):
        time = f"2026-11-{day:02}T10:00:00.000+00:00"
        said = {"time": time, "operation": operation, "outcome": "ok", "actor": f"{operation}:al"}
        return json.dumps(said | {"what": "run", "count": day, "digest": "ab"} | more) + "\n"

    other = tmp_path / "other.jsonl"
    scene.set("audit_log", f"{scene.trail}, {other}")
    scene.trail.write_text(
        line("gc", 3)
        + line("gc", 4, what="objects")
        + 'not JSON, "what": "run"\n'
        + line("scan", 9)
    )
    other.write_text(line("gc", 2))
    assert scene.run() == 0
    told = scene.said("runs.json")
    assert told["files"] == {str(scene.trail): True, str(other): True}
    assert told["runs"]["rewrap"] is None
    assert told["runs"]["gc"] == {
        "file": str(scene.trail),
        "time": "2026-11-03T10:00:00.000+00:00",
        "outcome": "ok",
        "actor": "gc:al",
        "digest": "ab",
        "count": 3,
    }
    assert "has left no line" in told["note"]


def test_where_no_file_has_the_audit_log_it_is_said(scene):
    scene.set("audit_log", "stderr")
    assert scene.run() == 0
    told = scene.said("runs.json")
    assert (told["files"], told["runs"]) == ({}, {"gc": None, "rewrap": None})
    assert "audit_log names no file" in told["note"]


def test_rows_that_cannot_be_read_are_told_and_make_the_exit_status(scene):
    def unreadable():
        raise RowsUnreadable("The metadata database could not be read.")

    scene.monkeypatch.setattr(metadata, "rows", unreadable)
    assert scene.run() == 1
    assert scene.said("scan.json") == {
        "ok": False,
        "unseen": "The metadata database could not be read.",
    }
    assert scene.said("doctor.json")["ok"] is True


def test_a_check_that_fails_makes_the_exit_status(scene):
    scene.deployment.key_file.chmod(0o644)
    assert scene.run() == 1
    failed = [one for one in scene.said("keys.json")["checks"] if one["status"] == "fail"]
    assert [check["name"] for check in failed] == ["key.round_trip"]


def test_the_profile_is_doctors(scene):
    assert scene.run("--profile", "regulated") == 1
    report = scene.said("doctor.json")
    assert report["profile"] == "regulated"
    assert "fail" in {one["status"] for one in report["checks"] if one["name"] == "key.kind"}


def test_a_folder_with_something_in_it_is_left_alone(scene, capsys):
    scene.out.mkdir()
    (scene.out / "mine").write_text("mine")
    assert scene.run() == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in scene.out.iterdir()] == ["mine"]
    (scene.out / "mine").unlink()
    assert scene.run() == 0
    scene.out = scene.out / "about.json"
    assert scene.run() == 2
    assert "cannot be used" in capsys.readouterr().err


def test_without_its_line_in_the_audit_log_nothing_is_read(scene, tmp_path):
    scene.set("audit_log", str(tmp_path / "gone" / "audit.jsonl"))
    scene.monkeypatch.setattr(metadata, "rows", lambda: pytest.fail("rows were read"))
    assert scene.run() == 2
    assert list(scene.out.iterdir()) == []
