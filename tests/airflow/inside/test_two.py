"""What only Airflow 2 has: sessions, listings, bytes, pickles."""
# ruff: noqa: AIR311, AIR312, ARG001, S301, UP017 - Airflow 2; fixtures are asked for by name

from __future__ import annotations

import datetime as dt
import json
import os
import pickle
from types import SimpleNamespace

import pytest
from conftest import VERSION, WHERE, push

if VERSION >= (3, 0):
    pytest.skip("for Airflow 2", allow_module_level=True)

from airflow.decorators import dag, task
from airflow.models import DagRun, TaskInstance
from airflow.models.variable import Variable
from airflow.models.xcom import BaseXCom, LazyXComSelectSequence, XCom
from airflow.operators.empty import EmptyOperator
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import prohibit_commit
from airflow.utils.types import DagRunType

from secure_xcom.airflow import overwriting
from secure_xcom.airflow.backend import SecureXComBackend
from secure_xcom.airflow.process import process
from secure_xcom.errors import AuthenticationError, UnsealedError

RUN = "manual__1"


@pytest.fixture
def run():
    """Make a run of a DAG with the tasks `a` and `b`, and three instances of a mapped one."""

    @dag(schedule=None, start_date=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc))
    def two():
        @task
        def mapped(n):
            return n

        [EmptyOperator(task_id="a"), EmptyOperator(task_id="b"), mapped.expand(n=[1, 2, 3])]

    with create_session() as session:
        made = two().create_dagrun(
            state="running",
            execution_date=dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),
            run_id=RUN,
            run_type=DagRunType.MANUAL,
            session=session,
        )
        for ti in made.task_instances:
            session.expunge(ti)
        tis = {(ti.task_id, ti.map_index): ti for ti in made.task_instances}
    yield tis
    with create_session() as session:
        for table in (XCom, TaskInstance, DagRun, Variable):
            session.query(table).delete()


def raw(task_id, key="k"):
    with create_session() as session:
        query = session.query(BaseXCom.value).filter_by(task_id=task_id, key=key)
        return [json.loads(value) for (value,) in query]


def test_a_push_leaves_the_callers_session_alone(deployment, run):
    with create_session() as session:
        pending = Variable(key="pending", val="1")
        session.add(pending)
        changed = session.query(DagRun).one()
        changed.external_trigger = not changed.external_trigger
        # The settings are looked up in here, and with them a Variable.
        XCom.set("k", {"v": 1}, task_id="a", dag_id="two", run_id=RUN, session=session)
        assert process._current is not None
        assert pending in session
        assert changed in session
        assert session.in_transaction()
        session.rollback()
    with create_session() as session:
        assert session.query(Variable).count() == 0
        assert session.query(XCom).count() == 0


def test_the_schedulers_guard_against_commits_is_not_tripped(deployment, configure, run):
    uris = {"kek_uri": f"local-kek://{deployment.kek}", "store_uri": f"file://{deployment.store}"}
    configure(kek_uri=None, store_uri=None)
    with create_session() as session:
        session.add(Variable(key="SECURE_XCOM", val=json.dumps(uris)))
    with create_session() as session:
        XCom.set("k", "value", task_id="a", dag_id="two", run_id=RUN, session=session)
    process.forget()
    with create_session() as session, prohibit_commit(session) as guard:
        ti = session.merge(run["a", -1])
        assert ti.xcom_pull(task_ids="a", key="k", session=session) == "value"
        guard.commit()


def test_a_listing_shows_a_description_and_asks_nobody(deployment, run, configure):
    for task_id, value in (("a", {"card": "4111"}), ("b", ["4111", os.urandom(100_000).hex()])):
        XCom.set("k", value, task_id=task_id, dag_id="two", run_id=RUN)
    deployment.kek.unlink()
    configure(kek_uri=None, store_uri=None)
    with create_session() as session:
        shown = {xcom.task_id: xcom.value for xcom in session.query(XCom).filter_by(key="k")}
    assert shown["a"].startswith("Sealed by secure_xcom: ")
    assert "in this row" in shown["a"]
    assert f"in file://{deployment.store}, under key file {deployment.kek}." in shown["b"]
    assert process._current is None
    assert all(len(text) < 400 for text in shown.values())


def test_a_listing_survives_every_row(deployment, run):
    junk = [None, b"", b"\x80\x04K\x01.", b'{"__secure_xcom__": 1}', b'{"a": 1, "a": 2}', b"[1]"]
    for number, value in enumerate(junk):
        with create_session() as session:
            session.query(XCom).delete()
            session.add(XCom(**coordinate("a"), dag_run_id=_run_id(session), value=value))
        with create_session() as session:
            [xcom] = session.query(XCom).all()
            if number == 3:
                assert xcom.value.startswith("Not a valid sealed XCom")
            if value == b"[1]":
                assert xcom.value == [1]


def test_the_webservers_api_opens_a_whole_row(deployment, run):
    XCom.set("k", {"card": "4111"}, task_id="a", dag_id="two", run_id=RUN)
    with create_session() as session:
        xcom, value = session.query(XCom, XCom.value).one()
        stub = SimpleNamespace(**coordinate("a"), value=value)
        assert XCom.deserialize_value(stub) == {"card": "4111"}
        with pytest.raises(AuthenticationError):
            XCom.deserialize_value(SimpleNamespace(**coordinate("b"), value=value))
        assert "4111" not in str(xcom.value)


def test_clearing_a_task_deletes_its_objects(deployment, run, configure):
    configure(threshold_bytes=0)
    for task_id in ("a", "b"):
        XCom.set("k", "value", task_id=task_id, dag_id="two", run_id=RUN)
    assert len(deployment.objects()) == 2
    run["a", -1].clear_xcom_data()
    [left] = deployment.objects()
    [row] = raw("b")
    assert left == deployment.store / row["object"]
    with create_session() as session:
        XCom.delete(session.query(XCom).filter_by(task_id="b").all(), session)
    assert deployment.objects() == []
    assert raw("a") == raw("b") == []


@pytest.fixture
def offloaded(deployment, run, configure, monkeypatch):
    """Push a value that has an object, in a process that has pushed nothing before."""
    monkeypatch.setattr(overwriting, "_pushed", overwriting._Pushed())
    configure(threshold_bytes=0)
    XCom.set("k", "former", task_id="a", dag_id="two", run_id=RUN)
    return deployment.objects


def write_over(session):
    XCom.set("k", "next", task_id="a", dag_id="two", run_id=RUN, session=session)


def clear(session):
    XCom.purge(session.query(XCom).filter_by(task_id="a").one(), session)


@pytest.mark.parametrize("change", [write_over, clear])
def test_an_object_goes_once_the_row_is_gone_for_good(offloaded, change):
    [former] = offloaded()
    with create_session() as session:
        change(session)
        session.begin_nested().commit()
        assert former in offloaded(), "to release a savepoint commits nothing"
        session.commit()
        assert former not in offloaded()


@pytest.mark.parametrize("change", [write_over, clear])
@pytest.mark.parametrize("end", ["rollback", "close", "savepoint", "expired"])
def test_an_object_stays_with_a_row_that_stays(offloaded, change, end):
    [former] = offloaded()
    with create_session() as session:
        if end == "savepoint":
            savepoint = session.begin_nested()
            change(session)
            savepoint.rollback()
            session.commit()
        else:
            change(session)
            session.close() if end in ("close", "expired") else session.rollback()
        if end == "expired":
            # The same session, with a transaction that knows nothing of the one before.
            session.query(DagRun).count()
            session.commit()
        session.commit()
    assert former in offloaded()
    assert XCom.get_one(run_id=RUN, task_id="a", dag_id="two", key="k") == "former"


def test_a_push_without_a_session_is_committed_when_it_returns(offloaded):
    XCom.set("k", "next", task_id="a", dag_id="two", run_id=RUN)
    [left] = offloaded()
    [row] = raw("a")
    assert left.name == row["object"].rpartition("/")[2]


def test_the_settings_are_read_without_the_session_that_has_just_ended(
    offloaded, configure, deployment
):
    """What is deleted after a commit may look Variables up, and must not disturb who committed."""
    uris = {"kek_uri": f"local-kek://{deployment.kek}", "store_uri": f"file://{deployment.store}"}
    configure(kek_uri=None, store_uri=None, threshold_bytes=0)
    with create_session() as session:
        session.add(Variable(key="SECURE_XCOM", val=json.dumps(uris)))
    with create_session() as session:
        clear(session)
        session.query(XCom).delete()
        session.commit()
        assert offloaded() == []
        session.add(Variable(key="after", val="1"))
    with create_session() as session:
        assert session.query(Variable).filter_by(key="after").count() == 1


def test_a_row_whose_coordinate_was_changed_is_refused(deployment, run):
    XCom.set("k", "value", task_id="a", dag_id="two", run_id=RUN)
    with create_session() as session:
        session.query(XCom).update({"task_id": "b"})
    ti = run["b", -1]
    with pytest.raises(AuthenticationError):
        ti.xcom_pull(task_ids="b", key="k")
    with pytest.raises(AuthenticationError):
        XCom.get_one(run_id=RUN, task_id="b", dag_id="two", key="k")


def test_what_is_asked_for_by_other_types_is_what_airflow_gives(deployment, run):
    for key, value in ((5, "five"), ("k", "value")):
        XCom.set(key, value, task_id="a", dag_id="two", run_id=RUN)
    where = {"run_id": RUN, "dag_id": "two"}
    assert XCom.get_one(**where, task_id="a", key=5) == "five"
    assert XCom.get_one(**where, task_id=["a", "b"], key="k") == "value"
    assert XCom.get_one(**where, task_id="a", key="k", map_index=[-1, 0]) == "value"
    assert XCom.get_one(**where, task_id="a", key="5", map_index="-1") == "five"
    # For Airflow, an empty key is no key: it gives what was pushed last.
    assert XCom.get_one(**where, task_id="a", key="") == "value"


def test_a_lazy_sequence_that_was_pickled_still_knows_its_rows(deployment, run):
    for index in (0, 1, 2):
        XCom.set("return_value", index, task_id="mapped", dag_id="two", run_id=RUN, map_index=index)
    with create_session() as session:
        ti = session.merge(run["a", -1])
        sequence = ti.xcom_pull(task_ids="mapped", session=session)
        assert isinstance(sequence, LazyXComSelectSequence)
        state = pickle.loads(pickle.dumps(sequence.__getstate__()))
        again = LazyXComSelectSequence.__new__(LazyXComSelectSequence)
        again._session = session
        from airflow.utils import db  # noqa: PLC0415

        db_session, db.get_current_task_instance_session = (
            db.get_current_task_instance_session,
            lambda: session,
        )
        try:
            again.__setstate__(state)
        finally:
            db.get_current_task_instance_session = db_session
        assert list(again) == [0, 1, 2]
        rows = session.query(XCom.map_index, XCom.value).order_by(XCom.map_index).all()
        session.query(XCom).filter_by(map_index=1).update({"value": rows[0].value})
        with pytest.raises(AuthenticationError):
            list(again)


class _Boom:
    def __reduce__(self):
        return os.putenv, ("SECURE_XCOM_PICKLE", "ran")


@pytest.mark.parametrize("policy", ["deny", "allow"])
def test_no_pickle_is_ever_read(deployment, configure, monkeypatch, policy):
    monkeypatch.setenv("AIRFLOW__CORE__ENABLE_XCOM_PICKLING", "True")
    configure(unsealed_reads=policy)
    ran = []
    monkeypatch.setattr(pickle, "loads", ran.append)
    planted = SimpleNamespace(value=pickle.dumps(_Boom()), **WHERE)
    with pytest.raises(UnsealedError):
        SecureXComBackend.deserialize_value(planted)
    assert ran == []


def test_nothing_is_pickled(deployment, monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__ENABLE_XCOM_PICKLING", "True")
    assert "__secure_xcom__" in push({"a": 1})
    assert push({"a": 1}, key="skipmixin_key") == {"a": 1}


def coordinate(task_id):
    return {"dag_id": "two", "run_id": RUN, "task_id": task_id, "map_index": -1, "key": "k"}


def _run_id(session):
    return session.query(DagRun.id).scalar()
