"""The throw-away home: nobody else's, and gone afterwards."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from secure_xcom.errors import ConfigError
from secure_xcom.trial.home import ProgramFailed, throw_away_home


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary directory of the test's own, so that what is left behind can be seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def is_alive(pid):
    """Whether the process runs; one that ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_its_owner_s_alone_and_goes_away(temporary):
    with throw_away_home(None, {}) as home:
        assert home.path.parent == temporary
        assert {mode(path) for path in (home.path, home.store, home.dags, home.printed)} == {0o700}
        assert mode(home.kek) == 0o600
        (home.path / "airflow.db").write_text("x")
    assert list(temporary.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), throw_away_home(None, {}):
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_each_home_has_a_key_of_its_own():
    with throw_away_home(None, {}) as one, throw_away_home(None, {}) as other:
        assert one.kek.read_bytes() != other.kek.read_bytes()


def test_a_home_is_kept_where_it_was_asked_for(tmp_path, temporary):
    keep = tmp_path / "new" / "kept"
    with throw_away_home(keep, {}) as home:
        assert home.path == keep
    assert keep.is_dir()
    assert mode(keep) == 0o700
    assert (keep / "kek").exists()
    assert list(temporary.iterdir()) == []


def test_an_empty_directory_is_closed_to_others(tmp_path):
    keep = tmp_path / "kept"
    keep.mkdir(mode=0o755)
    with throw_away_home(keep, {}):
        assert mode(keep) == 0o700


@pytest.mark.parametrize("name", ["a%20b", "a$HOME", "a?b", "a#b", "a'b", "a\nb"])
def test_a_path_that_would_be_read_as_something_else_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match="cannot be used"), throw_away_home(tmp_path / name, {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(ConfigError, match="cannot be used: File exists"),
        throw_away_home(tmp_path / "file", {}),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_programs_know_nothing_of_the_user_s_airflow(monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_HOME", "/home/of/the/user")
    monkeypatch.setenv("AIRFLOW_CONFIG", "/home/of/the/user/airflow.cfg")
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "theirs.Backend")
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__UNSEALED_READS", "allow")
    monkeypatch.setenv("AIRFLOW_VAR_SECURE_XCOM", '{"threshold_bytes": -1}')
    monkeypatch.setenv("AIRFLOW_CONN_X", "x://")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/home/of/the/user/key.json")
    overrides = {"EXTRA": "1", "AIRFLOW__CORE__LOAD_EXAMPLES": None}
    with throw_away_home(tmp_path / "home", overrides) as home:
        home.run("look", "-c", "import os; print(*map('='.join, os.environ.items()), sep='\\n')")
        printed = (home.printed / "look.log").read_text()
    seen = dict(line.split("=", 1) for line in printed.splitlines())
    assert seen["HOME"] == seen["AIRFLOW_HOME"] == str(home.path)
    assert seen["AIRFLOW__CORE__XCOM_BACKEND"].startswith("secure_xcom.")
    assert seen["AIRFLOW__SECURE_XCOM__STORE_URI"] == f"file://{home.path}/store"
    assert seen["AIRFLOW__SECURE_XCOM__KEK_URI"] == f"local-kek://{home.path}/kek"
    assert seen["TMPDIR"] == str(home.temporary)
    # As Airflow calls itself by its name, so also where this environment is not the active one.
    assert seen["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert seen["EXTRA"] == "1"
    assert "AIRFLOW__CORE__LOAD_EXAMPLES" not in seen
    assert "of/the/user" not in printed
    assert {name for name in seen if name.startswith(("AIRFLOW_VAR", "AIRFLOW_CONN"))} == set()
    assert "AIRFLOW__SECURE_XCOM__UNSEALED_READS" not in seen


def test_a_program_that_fails_says_so_and_leaves_what_it_printed(tmp_path):
    lines = []
    with throw_away_home(tmp_path / "home", {}) as home:
        with pytest.raises(ProgramFailed, match=r"the step failed \(exit 3\)") as failed:
            home.run(
                "the step",
                "-c",
                "import sys; print('one'); print('two', file=sys.stderr, flush=True); sys.exit(3)",
                on_line=lines.append,
            )
        assert sorted(failed.value.printed.read_text().splitlines()) == ["one", "two"]
    assert sorted(lines) == ["one\n", "two\n"]


def test_what_runs_is_ended_when_this_is_interrupted(temporary):
    pids = []

    def interrupt(line):
        pids.extend(map(int, line.split()))
        raise KeyboardInterrupt

    program = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(os.getpid(), child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(KeyboardInterrupt), throw_away_home(None, {}) as home:
        home.run("sleep", "-c", program, on_line=interrupt)
    assert len(pids) == 2
    until = time.monotonic() + 10
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(is_alive, pids))
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_the_demo_leaves_nothing_when_it_is_told_to_end(number, status, temporary):
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from secure_xcom.cli import main; raise SystemExit(main(['demo']))",
        ],
        env={**os.environ, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        # The first step is under way, and the home is there.
        assert process.stderr.readline() == "  … airflow db migrate\n"
        assert len(list(temporary.iterdir())) == 1
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == status
    assert out == ""
    assert list(temporary.iterdir()) == []
