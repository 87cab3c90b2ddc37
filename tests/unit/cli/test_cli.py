"""The command line as a user meets it, short of running Airflow."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.environments import ROOT

import secure_xcom
from secure_xcom.airflow.commands import get_commands
from secure_xcom.cli import main, within_airflow
from secure_xcom.cli.output import Output, Progress
from secure_xcom.cli.trials import show_demo
from secure_xcom.model import Coordinate
from secure_xcom.trial import demo, values, xcoms
from secure_xcom.trial.report import Outcome, XCom
from secure_xcom.trial.surfaces import Found

ABOUT = "Sealed by secure_xcom: 412 bytes in this row, under key file /kek."


class Terminal(io.StringIO):
    def isatty(self):
        return True


def outcome(**changes):
    coordinate = Coordinate("secure_xcom_demo", "run", "customer", -1, "return_value")
    inline = xcoms.StoredXCom(coordinate, b'{"__secure_xcom__": 1}' * 20, "inline", ABOUT)
    coordinate = Coordinate("secure_xcom_demo", "run", "records", -1, "return_value")
    file = Path("/somewhere/object")
    offloaded = xcoms.StoredXCom(
        coordinate, b"{}", "offloaded", "", "demo/object", file, b"(" + bytes(2047)
    )
    found = Outcome(
        airflow_version="3.3.2",
        texts={values.CARD: "9785541247384469"},
        xcoms=[
            XCom(inline, "{'card': '9785541247384469'}", 90),
            XCom(offloaded, "a list of 50,000: [{'id': 0}, …", 5_000_000),
        ],
        found=Found(looked=Counter({"table xcom": 2, "store: objects": 1})),
        seconds=21.4,
    )
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def shown(found, stream=None):
    stream = stream or io.StringIO()
    show_demo(found, Output(stream))
    return stream.getvalue()


def test_the_console_script_is_this_main():
    (script,) = entry_points(group="console_scripts", name="secure-xcom")
    assert script.load() is main


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"secure-xcom {secure_xcom.__version__}\n"


def test_help_says_what_there_is(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    assert "demo" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--keep DIR" in text


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "--nonsense"], ["demo", "x"]])
def test_a_wrong_command_line_is_refused_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: secure-xcom" in printed.err


def test_help_comes_without_airflow_and_without_the_cloud():
    code = (
        "import sys\nfrom secure_xcom.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'airflow', 'cryptography', 'google.cloud.storage', 'pandas'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_directory_that_holds_something_is_not_used(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["demo", "--keep", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "is not empty" in printed.err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert main(["demo", "--json"]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "interrupted" in printed.err


def test_json_is_all_there_is_on_stdout(monkeypatch, capsys):
    monkeypatch.setattr(demo, "run", lambda *_: outcome())
    assert main(["demo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "airflow_version": "3.3.2",
        "xcoms": [
            {
                "task_id": "customer",
                "key": "return_value",
                "map_index": -1,
                "placement": "inline",
                "plain_bytes": 90,
                "stored_bytes": 440,
            },
            {
                "task_id": "records",
                "key": "return_value",
                "map_index": -1,
                "placement": "offloaded",
                "plain_bytes": 5_000_000,
                "stored_bytes": 2048,
            },
        ],
        "problems": [],
        "notes": [],
    }


@pytest.mark.parametrize("changes", [{"problems": ["Task records is failed."]}, {"found": Found()}])
def test_what_is_off_ends_with_1(changes, monkeypatch, capsys):
    monkeypatch.setattr(demo, "run", lambda *_: outcome(**changes))
    assert main(["demo", "--json"]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["ok"] is False
    assert "NOT OK on Airflow 3.3.2" in printed.err
    assert main(["demo"]) == 1
    printed = capsys.readouterr()
    assert "NOT OK on Airflow 3.3.2" in printed.out
    assert all(problem in printed.out for problem in changes.get("problems", []))


def test_a_person_sees_what_lies_where():
    text = shown(outcome())
    assert "customer · return_value  inline" in text
    assert "returned   {'card': '9785541247384469'}" in text
    assert 'row        {"__secure_xcom__": 1}' in text
    assert ABOUT in text
    assert "90 bytes before, 440 bytes in the row" in text
    assert "store      nothing" in text
    assert "records · return_value  offloaded" in text
    assert "store      demo/object" in text
    assert "           (···" in text
    assert "4.8 MiB before, 2.0 KiB in the store" in text
    assert "OK: 2 XComs sealed on Airflow 3.3.2, 1 inline and 1 offloaded, in 21 s" in text


def test_a_person_sees_what_failed_and_where_to_look():
    failed = outcome(problems=["airflow db migrate failed (exit 1)."], tail="one\ntwo")
    failed.xcoms[0].faults.append("it is not sealed")
    text = shown(failed)
    assert "  NOT OK     it is not sealed\n" in text
    assert "The end of what it printed:\n  one\n  two\n" in text
    assert "  - airflow db migrate failed (exit 1).\n" in text
    assert "run it again with --keep DIR" in text
    assert "OK: 2 XComs" not in text
    failed.kept = Path("/kept/here")
    text = shown(failed)
    assert "Kept: /kept/here\n" in text
    assert "--keep" not in text


def test_a_note_is_shown_and_is_no_problem():
    text = shown(outcome(notes=["No DataFrame in this run."]))
    assert "Note: No DataFrame in this run.\n" in text
    assert "OK: 2 XComs" in text


def test_lines_fit_where_it_is_narrow_and_have_no_colours_elsewhere(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    for found in (outcome(), outcome(problems=["long " * 50])):
        plain = shown(found, Terminal())
        assert max(map(len, plain.splitlines())) <= 80
        fields = [line for line in plain.splitlines() if line.startswith("  ")]
        assert max(map(len, fields)) <= 60
    assert "\x1b" not in plain
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[1m" in shown(outcome(), Terminal())
    assert "\x1b" not in shown(outcome())
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(outcome(), Terminal())


def test_progress_is_lines_where_lines_cannot_be_rewritten():
    stream = io.StringIO()
    progress = Progress(Output(stream))
    with progress.step("airflow db migrate"):
        progress.detail("half of it")
    with pytest.raises(KeyboardInterrupt), progress.step("the next"):
        raise KeyboardInterrupt
    first, second, *rest = stream.getvalue().splitlines()
    assert (first, second) == ("  … airflow db migrate", "    half of it")
    assert rest[0].startswith("  ✓ airflow db migrate (0.")
    assert rest[2].startswith("  ✗ the next (0.")


def test_progress_rewrites_its_line_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    progress = Progress(Output(stream))
    with progress.step("airflow db migrate"):
        progress.detail("x" * 500)
    *drawn, last = stream.getvalue().split("\r\x1b[K")
    assert all("\n" not in line and len(line) < 120 for line in drawn)
    assert last.startswith("  ✓ airflow db migrate (0.")
    assert last.endswith("s)\n")


def test_a_stream_that_cannot_write_a_character_gets_a_question_mark():
    code = """
from secure_xcom.airflow.commands import get_commands
from secure_xcom.cli import main, within_airflow
from secure_xcom.trial import demo
from secure_xcom.errors import ConfigError

def run(keep, progress):
    with progress.step("a step"):
        raise ConfigError("seen")

demo.run = run
raise SystemExit(main(["demo"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 2
    assert done.stderr == "  ? a step\n  ? a step (0.0 s)\nsecure-xcom: seen\n"


def test_airflows_command_line_ends_with_the_commands_exit_status(capsys):
    for words, code in ((["--version"], 0), (["gc", "--names", "?"], 2), (["scan", "-h"], 0)):
        with pytest.raises(SystemExit) as caught:
            within_airflow(argparse.Namespace(arguments=words))
        assert caught.value.code == code
    assert f"secure-xcom {secure_xcom.__version__}" in capsys.readouterr().out


def test_what_airflow_adds_to_its_commands_leads_here():
    [command] = get_commands()
    assert command.name == "secure-xcom"
    with pytest.raises(SystemExit) as caught:
        command.func(argparse.Namespace(arguments=["--version"]))
    assert caught.value.code == 0


def test_a_command_loads_airflow_only_once_it_runs():
    """Before, standard output is not led away from what Airflow's log writes to for good."""
    code = (
        "import sys\n"
        "from secure_xcom.cli.doctor import examination\n"
        "from secure_xcom.airflow import versions\n"
        "versions.is_airflow_3()\n"
        "print('airflow' in sys.modules)"
    )
    assert printed(code, ROOT) == "False\n"


@pytest.mark.parametrize(("parts", "is_airflow_3"), [((), False), (("a",), True), (("b",), True)])
def test_the_parts_of_airflow_may_lie_apart(parts, is_airflow_3, tmp_path):
    (tmp_path / "a/airflow").mkdir(parents=True)
    (tmp_path / "a/airflow/__init__.py").write_text("raise ImportError('it was imported')")
    for part in parts:
        (tmp_path / part / "airflow/sdk").mkdir(parents=True)
        (tmp_path / part / "airflow/sdk/__init__.py").touch()
    code = (
        "import sys\n"
        "sys.path[:] = [p for p in sys.path if not p.endswith('site-packages')]\n"
        "from secure_xcom.airflow import versions\n"
        "print(versions.is_airflow_3())"
    )
    assert printed(code, tmp_path / "a", tmp_path / "b", ROOT) == f"{is_airflow_3}\n"


def printed(code, *paths):
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env
    )
    return done.stdout
