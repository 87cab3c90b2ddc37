"""What a rewrap changes, what it leaves, and what it says of what is left to do."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from servers.kms import KEY, URI, KmsServer
from support.metadata import WRITTEN

from secure_xcom.airflow import configuration
from secure_xcom.airflow import metadata as metadata_module
from secure_xcom.cli import main
from secure_xcom.errors import ConfigError, KeyAccessDenied, KeyUnavailable
from secure_xcom.format.envelope import marshal_key_block, parse_preamble
from secure_xcom.keys import open_kek
from secure_xcom.keys.cloud_kms import kek as cloud_kms
from secure_xcom.keys.local import create_key_file
from secure_xcom.lifecycle import rewrap as rewrap_module
from secure_xcom.lifecycle import terms
from secure_xcom.lifecycle.rewrap import Keyring, Look, rewrap
from secure_xcom.lifecycle.rows import Rows
from secure_xcom.lifecycle.tables import Selection
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import build, build_states
from secure_xcom.stores import open_store

one_version = pytest.mark.parametrize("metadata", ["3.3"], indirect=True)
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
one_store = pytest.mark.parametrize("store_uri", ["file"], indirect=True)

OTHER_KEY = KEY.replace("keyRings/airflow/cryptoKeys/xcom", "keyRings/other/cryptoKeys/next")
OTHER_URI = f"gcp-kms://{OTHER_KEY}"


@pytest.fixture
def kms(monkeypatch):
    with KmsServer() as server:
        server.create_key(KEY)
        server.create_key(OTHER_KEY)
        monkeypatch.setattr(cloud_kms, "make_client", server.make_client)
        yield server


@pytest.fixture
def sealed(scene, kms):  # noqa: ARG001 - it has to be there
    """A deployment whose KEK is in Cloud KMS."""
    scene.deployment.kek_uri = URI
    return scene


def settings(scene, **more):
    return load(scene.settings() | scene.deployment.settings | more, None, None)


def run(scene, trusted_keks=(), trusted_instances=(), **more):
    kek_uri = scene.deployment.kek_uri
    names = {key: more.pop(key) for key in ("former_instance", "trusted_stores") if key in more}
    keyring = Keyring(
        keks={uri: open_kek(uri, deadline_seconds=5) for uri in (kek_uri, *trusted_keks)},
        kek_uri=kek_uri,
        instance=scene.instance,
        store_uri=scene.store_uri,
        open_store=open_store,
        max_value_bytes=10_000_000,
        trusted_instances=trusted_instances,
        **names,
    )
    return rewrap(keyring, scene.metadata.rows(), **more)


def fill(scene):
    """XComs in the row and in the store, live and archived, and states of both kinds."""
    scene.push("archived")
    scene.metadata.clean(scene.metadata.xcom)
    scene.push("offloaded", run=2)
    where = Coordinate("d", "r", "inline", -1, "return_value")
    inline = build(settings(scene, threshold_bytes="-1")).put("value", where)
    scene.metadata.push(inline, dag_id="d", run_id="r", task_id="inline", run=3)
    scene.metadata.push({"clear": True}, dag_id="d", run_id="r", task_id="clear", run=4)
    if scene.metadata.version != "2.11":
        put_state(scene, "task", scene.state("task", "k"))


def put_state(scene, kind, text, key="k"):
    common = {"key": key, "value": text, "updated_at": WRITTEN}
    if kind == "asset":
        scene.metadata.put("asset_state_store", asset_id=1, **common)
        return
    region = {"region_id": uuid.UUID(int=0)} if scene.metadata.version == "3.4" else {}
    scene.metadata.put(
        "task_state_store", dag_run_id=1, dag_id="d", run_id="r", task_id="t", **common, **region
    )


def tables(scene):
    with scene.metadata.engine.connect() as connection:
        names = scene.metadata.engine.dialect.get_table_names(connection)
    return [name for name in names if "xcom" in name or "state_store" in name]


def rows(scene):
    """Every sealed row, out of what stands around it, by its text in the database."""
    found = []
    for table in tables(scene):
        for text in scene.metadata.texts(table):
            value = json.loads(text) if text else None
            while isinstance(value, str) or (
                isinstance(value, dict) and list(value) == ["__airflow_state_ref__"]
            ):
                value = json.loads(value if isinstance(value, str) else value.popitem()[1])
            if isinstance(value, dict) and "about" in value:
                found.append(value)
    return found


def opened(scene, **more):
    """Open all of it, as a process does that has just begun."""
    stack, states = build(settings(scene, **more)), build_states(settings(scene, **more), "task")
    values = []
    for row in rows(scene):
        if "__secure_xcom_state__" in row:
            values.append(states.from_row(json.dumps(row), Expected()).payload.buffers[0])
        else:
            values.append(stack.get(row, Expected()).value)
    return values


def preamble_of(row):
    return parse_preamble(base64.b64decode(row.get("preamble") or row["envelope"]))


def hints(scene):
    return sorted(
        preamble_of(row).unverified_wrapped.unverified_version
        for row in rows(scene)
        if "__secure_xcom__" in row
    )


def test_a_rotation_from_its_beginning_to_the_end_of_the_old_version(sealed, kms):
    fill(sealed)
    held = opened(sealed)
    count = len(held)
    assert count == (3 if sealed.metadata.version == "2.11" else 4)
    assert kms.rotate() == 2
    sealed.push("later", run=5)
    assert hints(sealed) == ["1", "1", "1", "2"]
    assert len(opened(sealed)) == count + 1

    before = run(sealed, dry_run=True)
    assert (before.old, before.current, before.is_clean) == (count, 1, False)
    assert hints(sealed) == ["1", "1", "1", "2"]

    done = run(sealed)
    assert done.version == "2"
    assert (done.changed_rows, done.changed_states, done.current) == (3, count - 3, 1)
    assert (done.is_done, done.wrapped_by) == (True, {"2": count})
    assert hints(sealed) == ["2", "2", "2", "2"]

    assert run(sealed, dry_run=True).is_clean
    again = run(sealed)
    assert (again.changed_rows, again.changed_states, again.wrapped_by.total()) == (0, 0, 0)
    for state in ("DISABLED", "DESTROYED"):
        kms.set_state(state, version=1)
        assert len(opened(sealed)) == count + 1


@one_version
def test_nothing_changes_but_the_key_block(sealed, kms):
    fill(sealed)
    rows_before = {
        preamble_of(row).header_bytes: row for row in rows(sealed) if "__secure_xcom__" in row
    }
    name = next(name for name in sealed.names() if name.startswith("~state"))
    store = open_store(sealed.store_uri)
    state_before = b"".join(store.fetch(name)[1])
    objects = sealed.names()
    kms.rotate()
    run(sealed)
    assert sealed.names() == objects
    for row in rows(sealed):
        if "__secure_xcom__" not in row:
            continue
        now = preamble_of(row)
        former_row = rows_before.pop(now.header_bytes)
        former = preamble_of(former_row)
        assert now.commitment == former.commitment
        assert now.unverified_wrapped.ciphertext != former.unverified_wrapped.ciphertext
        part = "preamble" if "preamble" in row else "envelope"
        before, after = (base64.b64decode(each.pop(part)) for each in (former_row, row))
        assert after[now.length_bytes :] == before[former.length_bytes :]
        assert row == former_row
    assert rows_before == {}
    state = b"".join(store.fetch(name)[1])
    now, former = parse_preamble(state), parse_preamble(state_before)
    assert state[now.length_bytes :] == state_before[former.length_bytes :]
    assert (now.header_bytes, now.commitment) == (former.header_bytes, former.commitment)
    assert now.unverified_wrapped != former.unverified_wrapped


@pytest.mark.usefixtures("kms")
@one_version
@one_database
def test_another_key_in_another_ring(sealed):
    fill(sealed)
    sealed.deployment.kek_uri = OTHER_URI
    assert len(opened(sealed, trusted_keks=URI)) == 4
    done = run(sealed, trusted_keks=(URI,))
    assert (done.changed_rows, done.changed_states, done.is_done) == (3, 1, True)
    # From here on it does without the former one.
    assert len(opened(sealed)) == 4
    for row in rows(sealed):
        if "__secure_xcom__" in row:
            assert preamble_of(row).unverified_wrapped.kek_uri == OTHER_URI
            assert row["about"].endswith(", under key next (europe-west3).")


@one_version
@one_database
@one_store
def test_rows_that_share_a_wrapped_key_cost_one_call_each_way(sealed, kms):
    stack = build(settings(sealed))
    for number in range(20):
        where = Coordinate("d", "r", "t", -1, f"k{number}")
        sealed.metadata.push(stack.put(number, where), f"k{number}", dag_id="d", run_id="r")
    kms.rotate()
    kms.traffic.reset()
    done = run(sealed)
    assert (done.changed_rows, done.wrapped_by) == (20, {"2": 1})
    # One more tells which version wraps.
    assert kms.traffic.calls() == {"Decrypt": 1, "Encrypt": 2}
    assert sorted(opened(sealed)) == list(range(20))


@one_version
@one_store
@pytest.mark.parametrize("fault", ["moved", "hint", "commitment", "deployment", "key"])
def test_what_no_task_would_open_is_not_carried_over(sealed, kms, fault):
    row = sealed.upload("mine")
    preamble = preamble_of(row)
    data = base64.b64decode(row["preamble"])
    task, reason = "mine", "AuthenticationError"
    if fault == "moved":
        task = "other"
    elif fault == "commitment":
        data = data[:-1] + bytes((data[-1] ^ 1,))
    elif fault == "deployment":
        sealed.instance, reason = "elsewhere", "ConfigError"
    elif fault == "key":
        sealed.deployment.kek_uri, reason = OTHER_URI, "ConfigError"
    row["preamble"] = base64.b64encode(data).decode()
    sealed.metadata.push(row, dag_id="d", run_id="r", task_id=task)
    before = sealed.metadata.texts("xcom")
    kms.rotate()
    if fault == "hint":
        # Who says of himself that he is under the new version is not believed.
        block = marshal_key_block(replace(preamble.unverified_wrapped, unverified_version="2"))
        old = marshal_key_block(preamble.unverified_wrapped)
        row["preamble"] = base64.b64encode(data.replace(old, block)).decode()
        sealed.metadata.run("DELETE FROM xcom")
        sealed.metadata.push(row, dag_id="d", run_id="r", task_id=task)
        assert run(sealed, dry_run=True).old == 1
        return
    done = run(sealed)
    assert (done.left, done.is_clean, done.changed_rows) == ({reason: 1}, False, 0)
    assert (done.left_first[0].place, done.left_first[0].where.task_id) == ("xcom", task)
    assert sealed.metadata.texts("xcom") == before


@one_version
@one_store
def test_a_row_that_changes_meanwhile_is_read_again(sealed, kms, monkeypatch):
    sealed.push("t")
    kms.rotate()
    newer = json.dumps(sealed.upload("t", "newer"))
    change = Rows.change

    def late(self, row, text):
        monkeypatch.undo()
        monkeypatch.setattr(cloud_kms, "make_client", kms.make_client)
        typed = "CAST(:new AS JSONB)" if "postgres" in str(sealed.metadata.engine.url) else ":new"
        sealed.metadata.run(f"UPDATE xcom SET value = {typed}", new=newer)
        return change(self, row, text)

    monkeypatch.setattr(Rows, "change", late)
    done = run(sealed)
    assert (done.changed_rows, done.current, done.is_done) == (0, 1, True)
    assert opened(sealed) == ["newer"]


@one_version
@one_store
def test_a_row_that_goes_meanwhile_stays_gone(sealed, kms, monkeypatch):
    sealed.push("t")
    kms.rotate()
    change = Rows.change

    def late(self, row, text):
        sealed.metadata.run("DELETE FROM xcom")
        return change(self, row, text)

    monkeypatch.setattr(Rows, "change", late)
    done = run(sealed)
    assert (done.gone, done.changed_rows, done.is_done) == (1, 0, True)
    assert sealed.metadata.texts("xcom") == []


@one_version
@one_database
@pytest.mark.parametrize("times", [1, 100])
def test_a_state_that_is_written_meanwhile_stays_the_newer_one(sealed, kms, monkeypatch, times):
    text = sealed.state("task", "k")
    put_state(sealed, "task", text)
    kms.rotate()
    kind = type(open_store(sealed.store_uri))
    fetch, written = kind.fetch, []

    def late(self, name):
        stored, chunks = fetch(self, name)
        data = list(map(bytes, chunks))
        if len(written) < times:
            if times > 1:
                # By a worker that the service has not told of the rotation yet.
                kms._keys[KEY].primary = 1
            states = build_states(settings(sealed), "task")
            written.append(len(written))
            states.to_row(json.dumps(f"newer {len(written)}"), Coordinate("d", "r", "t", -1, "k"))
            kms._keys[KEY].primary = 2
        return stored, iter(data)

    monkeypatch.setattr(kind, "fetch", late)
    done = run(sealed)
    monkeypatch.setattr(kind, "fetch", fetch)
    assert b"newer %d" % len(written) in bytes(opened(sealed)[0])
    if times == 1:
        assert (done.changed_states, done.current, done.is_done) == (0, 1, True)
    else:
        assert (done.left, done.is_clean) == ({"changing": 1}, False)


@one_version
@one_store
@pytest.mark.parametrize("kind", ["task", "asset"])
def test_a_state_in_its_row_is_rewrapped_there(sealed, kms, kind):
    states = build_states(settings(sealed, threshold_bytes="-1"), kind)
    where = {
        "task": Coordinate("d", "r", "t", -1, "k"),
        "asset": Coordinate("asset", "name", "a", -1, "k"),
    }[kind]
    put_state(sealed, kind, json.dumps({"__airflow_state_ref__": states.to_row("text", where)}))
    kms.rotate()
    done = run(sealed)
    assert (done.changed_rows, done.is_done) == (1, True)
    kms.set_state("DESTROYED", version=1)
    [text] = sealed.metadata.texts(f"{kind}_state_store")
    row = json.loads(text)["__airflow_state_ref__"]
    states = build_states(settings(sealed), kind)
    assert states.from_row(row, Expected.exactly(where)).coordinate == where


@one_version
@one_database
def test_states_without_a_row_are_states(sealed, kms):
    where = Coordinate("d", "r", "t", -1, "k")
    build_states(settings(sealed), "task").set("text", where)
    build_states(settings(sealed), "asset").set("text", Coordinate("asset", "name", "a", -1, "k"))
    kms.rotate()
    done = run(sealed, selection=Selection(dag_id="d"))
    assert (done.changed_states, done.states) == (1, 1)
    assert run(sealed, dry_run=True).old == 1
    assert run(sealed).changed_states == 1
    kms.set_state("DESTROYED", version=1)
    assert build_states(settings(sealed), "task").get(where) == "text"


@one_version
@one_database
def test_the_states_of_another_deployment_are_not_written(sealed, kms):
    text = sealed.state("task", "k")
    put_state(sealed, "task", text)
    name = next(iter(sealed.names()))
    kms.rotate()
    sealed.instance = "copy"
    generation = open_store(sealed.store_uri).find(name).generation
    done = run(sealed, trusted_instances=("prod",))
    assert (done.left, done.changed_states, done.is_clean) == ({"elsewhere": 1}, 0, False)
    assert open_store(sealed.store_uri).find(name).generation == generation
    renamed = run(sealed, trusted_instances=("prod",), former_instance="prod")
    assert (renamed.changed_states, renamed.is_done) == (1, True)


@one_version
@one_database
@one_store
def test_a_version_that_is_lost_holds_nothing_else_up(sealed, kms):
    sealed.push("lost")
    kms.rotate()
    sealed.push("kept", run=2)
    kms.rotate()
    kms.set_state("DESTROYED", version=1)
    done = run(sealed)
    assert (done.changed_rows, done.left) == (1, {"KeyUnavailable": 1})
    assert "version 1 is destroyed" in done.left_first[0].detail


@one_version
@one_database
@one_store
def test_a_key_service_that_does_not_answer_ends_it(sealed, kms):
    sealed.push("a")
    kms.rotate()
    kms.deny("cloudkms.cryptoKeyVersions.useToDecrypt")
    with pytest.raises(KeyAccessDenied):
        run(sealed)
    kms.deny()
    kms.set_state("DISABLED", version=2)
    with pytest.raises(KeyUnavailable):
        run(sealed)
    assert hints(sealed) == ["1"]


@one_version
@one_database
@one_store
def test_a_key_service_that_fails_on_the_way_ends_it_there(sealed, kms, monkeypatch):
    monkeypatch.setattr(rewrap_module, "BATCH", 1)
    for number in range(3):
        sealed.push(f"t{number}", run=number)
    kms.rotate()
    change = Rows.change

    def last(self, row, text):
        for version in (1, 2):
            kms.set_state("DISABLED", version=version)
        return change(self, row, text)

    monkeypatch.setattr(Rows, "change", last)
    with pytest.raises(KeyUnavailable, match="version 2 is disabled"):
        run(sealed)
    assert hints(sealed) == ["1", "1", "2"]
    for version in (1, 2):
        kms.set_state("ENABLED", version=version)
    monkeypatch.setattr(Rows, "change", change)
    assert run(sealed).changed_rows == 2
    assert opened(sealed) == ["value"] * 3


@one_version
@one_database
@one_store
def test_a_selection_is_all_that_is_changed(sealed, kms):
    sealed.push("a")
    sealed.metadata.push(sealed.upload("b"), dag_id="other", run_id="r", task_id="b", run=2)
    kms.rotate()
    done = run(sealed, selection=Selection(dag_id="d"))
    assert (done.rows, done.changed_rows) == (1, 1)
    assert hints(sealed) == ["1", "2"]


@one_version
@one_database
@one_store
def test_what_was_changed_is_told_to_the_audit_log(sealed, kms, caplog, monkeypatch):
    monkeypatch.setattr(rewrap_module, "BATCH", 2)
    for number in range(3):
        sealed.push(f"t{number}", run=number)
    kms.rotate()
    with caplog.at_level(logging.INFO, "secure_xcom.audit"):
        caplog.clear()
        done = run(sealed)
    lines = [
        json.loads(record.getMessage())
        for record in caplog.records
        if record.name == "secure_xcom.audit"
    ]
    assert [(line["operation"], line["what"], line["count"]) for line in lines] == [
        ("rewrap", "rows", 2),
        ("rewrap", "rows", 1),
    ]
    assert len({line["digest"] for line in lines} | {done.digest}) == 3


@one_version
@one_database
@one_store
def test_two_looks_complete_each_other_after_the_wait(sealed, kms):
    sealed.push("a")
    first = Look.parse(str(Look.of(run(sealed, dry_run=True), URI)))
    assert first.version == "1"
    with pytest.raises(ConfigError, match="too early"):
        first.check_due(first.at + timedelta(seconds=59), 60)
    first.check_due(first.at + timedelta(seconds=60), 60)
    first.check_same(run(sealed, dry_run=True), URI)
    with pytest.raises(ConfigError, match="Begin again"):
        first.check_same(run(sealed, dry_run=True), OTHER_URI)
    kms.rotate()
    sealed.metadata.run("DELETE FROM xcom")
    rotated = run(sealed, dry_run=True)
    assert rotated.is_clean
    with pytest.raises(ConfigError, match="Begin again"):
        first.check_same(rotated, URI)
    for text in ("", "1", "1-20261399T000000Z-00000000", "1-20261125T180000Z"):
        with pytest.raises(ConfigError, match="is no first look"):
            Look.parse(text)


KILLED = """
import json, os, signal, sys
import sqlalchemy as sa
from support.metadata import Metadata
from secure_xcom.keys import open_kek
from secure_xcom.lifecycle.rewrap import Keyring, rewrap
from secure_xcom.lifecycle.rows import Rows
from secure_xcom.stores import open_store

url, store_uri, former, kek_uri, left = sys.argv[1:]
change, left = Rows.change, int(left)

def counted(self, row, text):
    global left
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return change(self, row, text)

Rows.change = counted
keks = {uri: open_kek(uri) for uri in (kek_uri, former)}
keyring = Keyring(keks, kek_uri, "prod", store_uri, open_store, 10_000_000)
rewrap(keyring, Metadata(sa.create_engine(url), "3.3").rows())
"""


@one_version
@one_database
@one_store
def test_a_run_that_is_killed_is_taken_up_by_the_next(scene, database_url):
    for number in range(6):
        scene.push(f"t{number}", number, run=number)
    former = scene.deployment.kek_uri
    create_key_file(scene.folder / "new")
    scene.deployment.kek_uri = f"local-kek://{scene.folder / 'new'}"
    path = os.pathsep.join(sys.path)
    ended = subprocess.run(
        [
            *(sys.executable, "-c", KILLED, database_url, scene.store_uri, former),
            *(scene.deployment.kek_uri, "4"),
        ],
        env=os.environ | {"PYTHONPATH": path},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert sorted(opened(scene, trusted_keks=former)) == list(range(6))
    done = run(scene, trusted_keks=(former,))
    assert (done.changed_rows, done.current, done.is_done) == (2, 4, True)
    Path(former.removeprefix("local-kek://")).unlink()
    assert sorted(opened(scene)) == list(range(6))


@pytest.fixture
def command(sealed, monkeypatch, capfd):
    """The command in an environment whose database is the test's."""
    monkeypatch.setattr(metadata_module, "rows", sealed.metadata.rows)
    monkeypatch.setattr(configuration, "_variable", lambda _name: None)
    for name, value in sealed.settings().items():
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)

    def call(*arguments):
        capfd.readouterr()
        status = main(["rewrap", *arguments])
        out, err = capfd.readouterr()
        lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
        return status, " ".join(out.split()), err, lines

    return call


@one_version
@one_database
@one_store
def test_the_command_from_a_rotation_to_its_end(sealed, kms, command):
    fill(sealed)
    kms.rotate()
    status, out, _, _ = command("--verify")
    assert status == 1
    assert "4 rows and states need another version than version 2 of gcp-kms" in out
    status, out, _, _ = command("--dry-run")
    assert (status, hints(sealed)) == (0, ["1", "1", "1"])
    assert "4 rows and states would be rewrapped. Nothing was changed." in out
    status, out, err, lines = command()
    assert status == 0
    assert "3 rows and 1 states rewrapped. Rows, archives and states are under version 2" in out
    assert terms.REWRAP in out
    assert [(line["what"], line["count"]) for line in lines] == [
        *(("rows", 3), ("states", 1), ("run", 4))
    ]
    assert lines[-1]["actor"].startswith("rewrap:")
    assert "Rewrapping data keys" in err
    status, out, _, _ = command("--verify")
    assert status == 1
    look = out.split()[-1]
    assert out.endswith(f"secure-xcom rewrap --verify --first-look {look}")
    status, out, err, _ = command("--verify", "--first-look", look)
    assert (status, out) == (2, "")
    assert "It is too early for a second look" in err
    # Six hours of the service's, five minutes of a data key's, a day of a push's.
    look = Look.parse(look)
    waited = (look.at - timedelta(hours=30, minutes=4), look.at - timedelta(hours=31))
    early, due = (str(look._replace(at=at)) for at in waited)
    assert command("--verify", "--first-look", early)[0] == 2
    assert command("--verify", "--first-look", early, "--longest-push", "23h")[0] == 0
    status, out, _, _ = command("--verify", "--first-look", due)
    assert status == 0
    assert "No row, archived row or state needs another version than version 2 of gcp-kms" in out
    assert "backups from before 20" in out
    kms.set_state("DESTROYED", version=1)
    assert len(opened(sealed)) == 4


@one_version
@one_database
@one_store
def test_the_command_names_what_it_left(sealed, kms, command):
    sealed.metadata.push(sealed.upload("mine"), dag_id="d\x1b[2J", run_id="r", task_id="other")
    kms.rotate()
    status, out, _, _ = command()
    assert status == 1
    assert "left, AuthenticationError: xcom (dag d" in out
    assert "run r, task other, map index -1, key return_value)" in out
    assert "\x1b" not in out
    assert "Not all is under version 2" in out
    status, out, _, _ = command("--json")
    found = json.loads(out)
    assert (status, found["ok"], found["left"]) == (1, False, {"AuthenticationError": 1})
    assert found["left_first"][0]["task_id"] == "other"
    assert command("--verify")[0] == 1


@one_version
@one_database
@one_store
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--verify", "--dag-id", "d"], "looks at all of them"),
        (["--first-look", "2-20261125T180000Z-00000000"], "is for --verify"),
        (["--verify", "--first-look", "x"], "is no first look"),
        (["--former-instance", "x"], "is no former name"),
    ],
)
def test_the_command_refuses(command, arguments, says):
    status, out, err, _ = command(*arguments)
    assert (status, out) == (2, "")
    assert says in err
