"""What a collection takes, what it leaves, and what it refuses."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool
from support.metadata import WRITTEN, Metadata
from support.scenes import Scene

from secure_xcom.errors import ConfigError, ObjectNotFound, StoreUnavailable
from secure_xcom.format.names import deployment
from secure_xcom.lifecycle import gc as gc_module
from secure_xcom.lifecycle.objects import Unnameable
from secure_xcom.lifecycle.rows import RowsUnreadable
from secure_xcom.stores import open_store
from secure_xcom.stores.file import Directory
from secure_xcom.stores.gcs.store import Gcs

one_version = pytest.mark.parametrize("metadata", ["3.3"], indirect=True)
one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
one_store = pytest.mark.parametrize("store_uri", ["file"], indirect=True)
in_cloud = pytest.mark.parametrize("store_uri", ["gcs"], indirect=True)


def copied(scene, tmp_path, **changes):
    """A copy of a deployment's database, as a restored snapshot is."""
    source = scene.metadata.engine.url.database
    path = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}.db"
    shutil.copyfile(source, path)
    metadata = Metadata(
        sa.create_engine(f"sqlite:///{path}", poolclass=NullPool), scene.metadata.version
    )
    memory = path.with_suffix(".variable")
    if scene.variable is not None:
        memory.write_text(scene.variable)
    copy = Scene(metadata, scene.folder, scene.store_uri, memory=memory, server=scene.server)
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


def test_objects_that_no_row_names_go_and_the_others_open(scene):
    live = scene.push("live")
    archived = scene.push("archived", run=2)
    scene.metadata.clean(scene.metadata.xcom)
    scene.push("again", run=3)
    scene.metadata.push(live, dag_id="d", run_id="r", task_id="live", run=4)
    orphan = scene.upload("orphan")
    done = scene.collect(adopt=True)
    assert (done.orphans, done.deleted, done.gone, done.rows) == (1, 1, 0, 4)
    assert orphan["object"] not in scene.names()
    assert len(scene.names()) == 3
    for row in (live, archived):
        assert scene.open(row) == "value"
    with pytest.raises(ObjectNotFound):
        scene.open(orphan)
    again = scene.collect()
    assert (again.orphans, again.deleted, again.marks) == (0, 0, [2])


@one_version
@one_database
def test_young_objects_stay(scene):
    scene.push("live")
    scene.upload("orphan")
    done = scene.collect(adopt=True, grace_seconds=60.0)
    assert (done.objects, done.young, done.orphans) == (2, 2, 0)
    assert len(scene.names()) == 2


@one_version
@one_database
def test_large_states_are_taken_like_xcoms(scene):
    scene.push("live")
    common = {"updated_at": WRITTEN}
    scene.metadata.put(
        "task_state_store",
        dag_run_id=1,
        dag_id="d",
        run_id="r",
        task_id="t",
        map_index=-1,
        key="kept",
        value=scene.state("task", "kept"),
        **common,
    )
    scene.metadata.put(
        "asset_state_store", asset_id=1, key="kept", value=scene.state("asset", "kept"), **common
    )
    kept = scene.names()
    scene.state("task", "gone")
    scene.state("asset", "gone")
    assert len(scene.names()) == len(kept) + 2 == 5
    assert scene.collect(adopt=True).deleted == 2
    assert scene.names() == kept


@one_version
@one_database
def test_another_deployment_in_the_same_store_loses_nothing(scene, tmp_path):
    scene.push("live")
    scene.upload("orphan")
    other = Scene(
        scene.metadata, tmp_path / "other", scene.store_uri, "staging", server=scene.server
    )
    theirs = other.upload("theirs")
    assert scene.collect(adopt=True).deleted == 1
    assert other.open(theirs) == "value"


@one_version
@one_database
def test_a_store_below_anothers_prefix_loses_nothing(scene, tmp_path):
    scene.push("live")
    scene.upload("orphan")
    below = f"{scene.store_uri}/{deployment('prod')}"
    theirs = []
    for uri in (f"{scene.store_uri}/below", below, f"{scene.store_uri}2"):
        other = Scene(scene.metadata, tmp_path / "other", uri, server=scene.server)
        theirs.append((other, other.upload("theirs")))
    before = scene.names()
    assert scene.collect(adopt=True).deleted == 1
    assert len(before - scene.names()) == 1
    for other, row in theirs:
        assert other.open(row) == "value"


@one_version
@one_database
@one_store
def test_names_of_later_versions_and_in_any_text_count(scene):
    rows = [scene.upload(f"t{number}") for number in range(5)]
    scene.metadata.push({**rows[0], "__secure_xcom__": 2, "placement": "new"}, task_id="t0")
    scene.metadata.push(f"somebody's note on {rows[1]['object'][17:]}", task_id="t1")
    scene.metadata.push({"joined": "ab" + rows[2]["object"][17:] + "cd"}, task_id="t2")
    scene.metadata.put(
        "_xcom_archive",
        dag_run_id=1,
        task_id="t",
        key="k",
        dag_id="d",
        run_id="r",
        value=b"\x80\x04\x8cC" + rows[3]["object"].encode() + b"\x94\xff.",
        timestamp=WRITTEN,
    )
    assert scene.collect(adopt=True).deleted == 1
    assert scene.names() == {row["object"] for row in rows[:4]}


@one_version
@one_database
@in_cloud
def test_objects_of_a_later_version_and_of_other_names_are_left_alone(scene):
    scene.push("live")
    store = Gcs(scene.store_uri)
    folder = deployment("prod")
    later = f"{folder}/{'a' * 64}"
    others = [f"{folder}/note", f"{folder}/{'a' * 63}", f"{folder}/{'a' * 64}/{'b' * 64}"]
    store.create(later, lambda: [b"x"], {"secure-xcom": "2"})
    for name in others:
        store.create(name, lambda: [b"x"], {"secure-xcom": "1"})
    # Names that begin with no hexadecimal digit are not even listed.
    done = scene.collect(adopt=True)
    assert (done.deleted, done.orphans) == (0, 0)
    assert {later, *others} < scene.names()


@one_version
@one_database
@one_store
class TestRefusals:
    """Each refusal leaves every object, and says how to go on."""

    @pytest.fixture(autouse=True)
    def orphan(self, scene):
        scene.push("live")
        scene.upload("orphan")
        before = scene.names()
        yield
        assert scene.names() == before

    def test_without_a_name_of_its_own(self, scene):
        with pytest.raises(ConfigError, match="`instance` is empty"):
            scene.collect(adopt=True, instance="")

    def test_a_grace_that_is_short(self, scene):
        with pytest.raises(ConfigError, match="--short-grace"):
            scene.collect(adopt=True, grace_seconds=86_399.0, short_grace=False)

    def test_too_many_at_once(self, scene):
        with pytest.raises(ConfigError, match=r"1 of 2 objects .* --max-share 1"):
            scene.collect(adopt=True, share=0.49)

    def test_no_rows(self, scene):
        scene.metadata.run("DELETE FROM xcom")
        with pytest.raises(ConfigError, match="--no-rows"):
            scene.collect(adopt=True)

    def test_a_database_that_is_new_to_the_store(self, scene):
        with pytest.raises(ConfigError, match=r"Nothing has been collected .* --adopt"):
            scene.collect()

    def test_a_former_name_that_is_not_trusted(self, scene):
        for name in ("staging", "prod", ""):
            with pytest.raises(ConfigError, match="trusted_instances"):
                scene.collect(adopt=True, former_instance=name)

    def test_a_table_that_is_not_known(self, scene):
        scene.metadata.run("CREATE TABLE xcom_v3 (value TEXT)")
        with pytest.raises(Unnameable, match="xcom_v3"):
            scene.collect(adopt=True)

    def test_an_archive_that_cannot_be_read(self, scene):
        scene.metadata.run("CREATE TABLE _airflow_deleted__xcom__20261125 (id INTEGER)")
        with pytest.raises(RowsUnreadable, match="_airflow_deleted__xcom__20261125"):
            scene.collect(adopt=True)

    def test_a_sealed_row_whose_name_cannot_be_told(self, scene):
        row = json.loads(scene.metadata.texts("xcom")[0])
        scene.metadata.push({**row, "object": "gone"}, task_id="broken")
        with pytest.raises(Unnameable, match="'broken'") as caught:
            scene.collect(adopt=True)
        assert row["preamble"] not in str(caught.value)

    def test_a_manifest_of_a_directory(self, scene, tmp_path):
        with pytest.raises(ConfigError, match="directory"):
            scene.collect(adopt=True, manifest=tmp_path / "manifest.csv")

    def test_a_dry_run_deletes_nothing_and_leaves_no_mark(self, scene):
        done = scene.collect(adopt=True, dry_run=True)
        assert (done.orphans, done.deleted, done.marks) == (1, 0, [])
        assert scene.variable is None
        with pytest.raises(ConfigError, match="--adopt"):
            scene.collect()


@one_version
@one_database
class TestCopies:
    """Of a database and its copy, one collects, and the other is told what it is."""

    def test_a_copy_that_is_in_use_is_refused_once_the_original_has_collected(
        self, scene, tmp_path
    ):
        scene.push("before")
        scene.collect(adopt=True)
        copy = copied(scene, tmp_path)
        scene.push("after", run=2)
        assert scene.collect().deleted == 0
        with pytest.raises(ConfigError, match="is a copy of another database"):
            copy.collect()
        assert len(scene.names()) == 2
        # And the original goes on.
        assert scene.collect().marks == [3]

    def test_a_copy_never_collects_where_nothing_was_collected_before(self, scene, tmp_path):
        scene.push("before")
        copy = copied(scene, tmp_path)
        scene.push("after", run=2)
        with pytest.raises(ConfigError, match="--adopt"):
            copy.collect()
        assert len(scene.names()) == 2

    def test_a_restored_database_is_adopted_by_a_person_alone(self, scene, tmp_path):
        scene.push("before")
        scene.collect(adopt=True)
        restored = copied(scene, tmp_path)
        lost = scene.push("lost", run=2)
        scene.collect()
        with pytest.raises(ConfigError, match="restored from a backup"):
            restored.collect()
        done = restored.collect(adopt=True)
        assert (done.deleted, done.marks) == (1, [3])
        assert lost["object"] not in scene.names()
        assert restored.collect().marks == [4]

    def test_a_mark_that_is_gone_asks_for_a_person(self, scene):
        scene.push("live")
        scene.collect(adopt=True)
        store = open_store(scene.store_uri)
        for entry in list(store.entries(f"~gc/{deployment('prod')}/")):
            store.delete(entry.name, generation=entry.generation)
        with pytest.raises(ConfigError, match="is gone"):
            scene.collect()
        assert scene.collect(adopt=True).marks == [1]

    def test_one_mark_is_left(self, scene):
        scene.push("live")
        scene.collect(adopt=True)
        scene.collect()
        scene.collect()
        store = open_store(scene.store_uri)
        folder = f"~gc/{deployment('prod')}"
        assert [entry.name for entry in store.entries(f"{folder}/")] == [f"{folder}/{3:016}"]

    def test_a_copy_that_loses_the_race_is_refused_from_then_on(self, scene, tmp_path, monkeypatch):
        scene.push("before")
        scene.collect(adopt=True)
        copy = copied(scene, tmp_path)
        copy.upload("orphan")
        after = scene.push("after", run=2)
        check = gc_module._check_share

        def overtaken(wanted, done):
            check(wanted, done)
            monkeypatch.setattr(gc_module, "_check_share", check)
            scene.collect()

        monkeypatch.setattr(gc_module, "_check_share", overtaken)
        # It overtakes after the copy has checked its mark, and before it raises it.
        with pytest.raises(ConfigError, match="at the same time"):
            copy.collect()
        with pytest.raises(ConfigError, match="--adopt"):
            copy.collect()
        assert scene.open(after) == "value"

    def test_a_collection_that_ends_around_its_mark_goes_on(self, scene, monkeypatch):
        scene.push("live")
        scene.collect(adopt=True)
        kind = Directory if scene.store_uri.startswith("file") else Gcs
        create = kind.create

        def unsent(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(kind, "create", unsent)
        with pytest.raises(KeyboardInterrupt):
            scene.collect()

        def unanswered(self, *arguments):
            create(self, *arguments)
            raise KeyboardInterrupt

        monkeypatch.setattr(kind, "create", unanswered)
        with pytest.raises(KeyboardInterrupt):
            scene.collect()
        monkeypatch.setattr(kind, "create", create)
        assert scene.collect().marks == [3]

    def test_a_renamed_deployment_takes_its_former_folder_once_that_is_quiet(self, scene):
        scene.push("live")
        scene.upload("orphan")
        scene.collect(adopt=True, dry_run=True)
        scene.instance = "renamed"
        wanted = {"former_instance": "prod", "trusted_instances": ("prod",), "adopt": True}
        with pytest.raises(ConfigError, match="still lives"):
            scene.collect(**wanted, grace_seconds=60.0)
        assert len(scene.names()) == 2
        done = scene.collect(**wanted)
        assert (done.deleted, done.marks) == (1, [1, 1])
        assert len(scene.names()) == 1

    def test_a_former_name_that_collects_on_its_own_is_refused(self, scene, tmp_path):
        scene.push("live")
        scene.collect(adopt=True)
        renamed = copied(scene, tmp_path, instance="renamed")
        scene.collect()
        with pytest.raises(ConfigError, match=r"instance 'prod'.* still lives"):
            renamed.collect(adopt=True, former_instance="prod", trusted_instances=("prod",))


@one_version
@one_database
@one_store
def test_a_row_that_comes_between_the_readings_saves_its_object(scene, monkeypatch):
    scene.push("live")
    row = scene.upload("late")
    check = gc_module._check_share

    def meanwhile(wanted, done):
        check(wanted, done)
        scene.metadata.push(row, task_id="late", run=9)

    monkeypatch.setattr(gc_module, "_check_share", meanwhile)
    done = scene.collect(adopt=True)
    assert (done.orphans, done.named_later, done.deleted) == (1, 1, 0)
    assert scene.open(row) == "value"


@one_version
@one_database
def test_a_state_that_is_written_again_meanwhile_stays(scene, monkeypatch):
    scene.push("live")
    scene.state("task", "k")
    check = gc_module._check_share

    def meanwhile(wanted, done):
        check(wanted, done)
        scene.state("task", "k")

    before = scene.names()
    monkeypatch.setattr(gc_module, "_check_share", meanwhile)
    done = scene.collect(adopt=True)
    assert (done.orphans, done.deleted, done.gone) == (1, 0, 1)
    assert scene.names() == before


@one_version
@one_database
@in_cloud
def test_a_manifest_names_what_would_be_deleted(scene, tmp_path):
    scene.push("live")
    orphans = [scene.upload(f"orphan{number}") for number in range(3)]
    path = tmp_path / "manifest.csv"
    done = scene.collect(adopt=True, manifest=path)
    assert (done.deleted, done.listed_in_manifest) == (0, 3)
    bucket, _, prefix = scene.store_uri.removeprefix("gs://").partition("/")
    [head, *lines] = csv.reader(path.read_text().splitlines())
    assert head == ["bucket", "name", "generation"]
    assert sorted(lines) == sorted(
        [bucket, f"{prefix}/{row['object']}", row["generation"]] for row in orphans
    )
    assert len(scene.names()) == 4
    with pytest.raises(ConfigError, match="cannot be written"):
        scene.collect(manifest=path)
    assert len(path.read_text().splitlines()) == 4


@one_version
@one_database
@one_store
def test_a_part_of_the_names_is_a_collection_of_its_own(scene):
    scene.push("live")
    rows = [scene.upload(f"orphan{number}") for number in range(12)]
    first = rows[0]["object"][17]
    expected = sum(row["object"][17] == first for row in rows)
    assert scene.collect(adopt=True, beginning=first).deleted == expected
    assert scene.collect().deleted == 12 - expected
    assert len(scene.names()) == 1


@one_version
@one_database
@one_store
def test_each_batch_leaves_a_line_with_a_digest(scene, monkeypatch, caplog):
    monkeypatch.setattr(gc_module, "BATCH", 2)
    scene.push("live")
    for number in range(5):
        scene.upload(f"orphan{number}")
    caplog.clear()
    with caplog.at_level(logging.INFO, "secure_xcom.audit"):
        done = scene.collect(adopt=True)
    lines = [json.loads(record.getMessage()) for record in caplog.records]
    lines = [line for line in lines if line["operation"] == "gc"]
    assert [(line["what"], line["count"]) for line in lines] == [
        ("objects", 2),
        ("objects", 2),
        ("objects", 1),
    ]
    assert len({line["digest"] for line in lines}) == 3
    assert len(done.digest) == 64


@one_version
@one_database
@one_store
def test_a_deletion_that_fails_ends_it_and_the_next_one_goes_on(scene, monkeypatch):
    monkeypatch.setattr(gc_module, "BATCH", 2)
    scene.push("live")
    for number in range(6):
        scene.upload(f"orphan{number}")
    delete = Directory.delete
    failing = []

    def fails_later(self, name, **arguments):
        failing.append(name)
        if len(failing) > 2:
            raise StoreUnavailable("the disk is gone")
        return delete(self, name, **arguments)

    monkeypatch.setattr(Directory, "delete", fails_later)
    done = scene.collect(adopt=True)
    assert (done.deleted, done.failure) == (2, "the disk is gone")
    assert len(failing) == 4
    monkeypatch.setattr(Directory, "delete", delete)
    assert scene.collect().deleted == 4
    assert len(scene.names()) == 1


@one_version
@one_database
@one_store
@pytest.mark.parametrize("where", ["before a mark", "after a mark", "in the middle", "at the end"])
def test_a_process_that_is_killed_leaves_the_rest_to_the_next(scene, monkeypatch, where):
    monkeypatch.setattr(gc_module, "BATCH", 4)
    live = scene.push("live")
    scene.collect(adopt=True)
    for number in range(12):
        scene.upload(f"orphan{number}")
    child = os.fork()
    if child == 0:
        try:
            dies(where)
            scene.collect()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = len(scene.names())
    bounds = {"before a mark": (13, 13), "after a mark": (13, 13), "in the middle": (2, 12)}
    lowest, highest = bounds.get(where, (1, 1))
    assert lowest <= left <= highest
    done = scene.collect()
    assert (done.deleted, done.failure) == (left - 1, "")
    assert scene.names() == {live["object"]}
    assert scene.open(live) == "value"


def dies(where):
    """Have this process be killed at some place of its next collection."""
    create, delete = Directory.create, Directory.delete
    deleted, batches = [], []

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def created(self, *arguments):
        create(self, *arguments)
        die()

    def half(self, name, **arguments):
        deleted.extend([name] * (not name.startswith("~gc/")))
        return die() if len(deleted) == 6 else delete(self, name, **arguments)

    def last(*batch):
        batches.append(batch)
        return die() if len(batches) == 3 else None

    owner, name, replacement = {
        "before a mark": (Directory, "create", die),
        "after a mark": (Directory, "create", created),
        "in the middle": (Directory, "delete", half),
        "at the end": (gc_module.audit, "changed", last),
    }[where]
    setattr(owner, name, replacement)
