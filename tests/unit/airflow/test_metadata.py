"""What a process is told that has no metadata database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from secure_xcom.airflow import metadata, versions
from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle.rows import RowsUnreadable


def test_where_there_is_no_airflow(monkeypatch):
    monkeypatch.setattr(versions, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match="no Airflow in this environment"):
        metadata.rows()


def test_a_task_of_airflow_3(monkeypatch):
    monkeypatch.setattr(versions, "is_supervised", lambda: True)
    with pytest.raises(ConfigError, match="task of Airflow 3"):
        metadata.rows()


def test_a_process_without_an_engine(monkeypatch):
    monkeypatch.setattr(versions, "engine", lambda: None)
    with pytest.raises(ConfigError, match="no metadata database in this process"):
        metadata.rows()


def test_a_database_of_another_kind(monkeypatch):
    engine = sa.create_mock_engine("mysql+pymysql://", lambda *_: None)
    monkeypatch.setattr(versions, "engine", lambda: engine)
    with pytest.raises(RowsUnreadable, match="mysql"):
        metadata.rows()


def test_variables_that_cannot_be_read_are_an_error_of_ours(monkeypatch):
    def fails(*_):
        raise sa.exc.OperationalError("SELECT secret", {"val": "secret"}, Exception("secret"))

    monkeypatch.setattr(versions, "stored_variable", fails)
    monkeypatch.setattr(versions, "store_variable", fails)
    for call in (lambda: metadata.memory().read(), lambda: metadata.memory().write("x")):
        with pytest.raises(RowsUnreadable, match="OperationalError") as caught:
            call()
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None
