"""The arguments of the commands that look after rows and objects."""

from __future__ import annotations

import argparse
import io
import json

import pytest

from secure_xcom.airflow import configuration, metadata
from secure_xcom.cli import main
from secure_xcom.cli.lifecycle import common
from secure_xcom.cli.output import Output, Progress
from secure_xcom.keys.local import create_key_file
from secure_xcom.lifecycle.rows import RowsUnreadable


def test_durations():
    texts = {"90s": 90, "15m": 900, "36h": 129_600, "7d": 604_800, "0s": 0}
    assert {text: common.duration(text) for text in texts} == texts
    for text in ("", "7", "d", "-1d", "1.5h", "7 d", "1w", "٣d"):
        with pytest.raises(argparse.ArgumentTypeError):
            common.duration(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["gc", "--max-share", "2"],
        ["gc", "--max-share", "nan"],
        ["gc", "--names", "XY"],
        ["gc", "--names", ""],
        ["gc", "--older-than", "yesterday"],
        ["scan", "--older-than", "1"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_a_selection_does_not_go_with_objects(capsys):
    assert main(["scan", "--objects", "--dag-id", "d"]) == 2
    assert "compares with all rows" in capsys.readouterr().err


def test_a_refusal_has_its_line_in_the_audit_log(monkeypatch, capfd, tmp_path):
    def unreadable():
        raise RowsUnreadable("The metadata database could not be read.")

    monkeypatch.setattr(metadata, "rows", unreadable)
    (tmp_path / "kek").touch()
    for name, value in {
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "store_uri": f"file://{tmp_path}/store",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)
    monkeypatch.setattr(configuration, "_variable", lambda _name: None)
    assert main(["gc", "--json"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    line = next(json.loads(line) for line in err.splitlines() if line.startswith("{"))
    assert (line["operation"], line["what"], line["outcome"]) == ("gc", "run", "failed")
    assert (line["error"], line["count"]) == ("RowsUnreadable", 0)
    assert line["actor"].startswith("gc:")


@pytest.mark.parametrize("command", ["gc", "rewrap", "scan"])
def test_lines_of_a_run_are_in_the_files_of_the_audit_log(command, monkeypatch, capfd, tmp_path):
    def unreadable():
        raise RowsUnreadable("The metadata database could not be read.")

    monkeypatch.setattr(metadata, "rows", unreadable)
    create_key_file(tmp_path / "kek")
    trail = tmp_path / "audit.jsonl"
    for name, value in {
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "store_uri": f"file://{tmp_path}/store",
        "audit_log": f"task-log, {trail}",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)
    monkeypatch.setattr(configuration, "_variable", lambda _name: None)
    assert main([command]) == 2
    (line,) = map(json.loads, trail.read_text().splitlines())
    assert (line["operation"], line["error"]) == (command, "RowsUnreadable")
    # Where the line could not be written, nothing is done.
    monkeypatch.setattr(metadata, "rows", lambda: pytest.fail("rows were read"))
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__AUDIT_LOG", str(tmp_path / "gone" / "audit.jsonl"))
    assert main([command]) == 2
    assert "takes no lines" in capfd.readouterr().err


def test_progress_is_told_now_and_then_with_a_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(common.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    told = common.Rate(Progress(Output(stream)), is_terminal=False)
    for count in range(0, 50_000, 1000):
        told("rows read", count)
        now[0] += 1.0
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert "10,000 rows read, 1,000 a second" in lines[0]
