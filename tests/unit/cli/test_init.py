"""`secure-xcom init`: a key file, once, for its owner alone."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from secure_xcom.airflow import states
from secure_xcom.cli import main
from secure_xcom.keys import open_kek
from secure_xcom.settings import load


@pytest.fixture(autouse=True)
def airflow_home(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def umask():
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_the_key_is_made_in_airflows_home_and_opens_what_it_wraps(airflow_home, capsys):
    assert main(["init"]) == 0
    file = airflow_home / "kek"
    assert file.stat().st_mode & 0o777 == 0o600
    printed = dict(
        shlex.split(line)[1].split("=", 1)
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("export ")
    )
    assert printed["AIRFLOW__WORKERS__STATE_STORE_BACKEND"] == states.DOTTED_NAME
    kek = open_kek(printed["AIRFLOW__SECURE_XCOM__KEK_URI"])
    assert kek.unwrap(kek.wrap(bytes(32), b"aad"), b"aad") == bytes(32)
    section = {
        name.removeprefix("AIRFLOW__SECURE_XCOM__").lower(): value
        for name, value in printed.items()
        if "SECURE_XCOM__" in name
    }
    assert load(section, None, None).store_uri == f"file://{airflow_home}/xcom"


def test_a_file_that_exists_is_kept(tmp_path, capsys):
    file = tmp_path / "mine"
    assert main(["init", str(file)]) == 0
    before = file.read_bytes()
    capsys.readouterr()
    assert main(["init", str(file)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"{file} exists already" in printed.err
    assert file.read_bytes() == before


def test_two_keys_differ(tmp_path):
    assert main(["init", str(tmp_path / "one")]) == main(["init", str(tmp_path / "two")]) == 0
    assert (tmp_path / "one").read_bytes() != (tmp_path / "two").read_bytes()


def test_nothing_of_the_key_is_printed(tmp_path, capsys):
    assert main(["init", str(tmp_path / "kek"), "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["key_file"] == str(tmp_path / "kek")
    key = (tmp_path / "kek").read_text().split()[-1]
    assert key not in printed.out + printed.err


def test_a_path_may_be_relative_and_hold_blanks(tmp_path, monkeypatch, capsys):
    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    assert main(["init", "../a folder/kek"]) == 0
    assert f"'local-kek://{tmp_path}/a folder/kek'" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_told(tmp_path, capsys):
    assert main(["init", str(tmp_path / "missing" / "kek")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_home_that_cannot_be_made_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "file" / "home"))
    assert main(["init"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "file" / "home").exists()
