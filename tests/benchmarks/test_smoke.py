"""The benchmark runs, and what it reads is right; its figures are for a person to look at."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"


@pytest.fixture
def module(monkeypatch):
    """A module of the benchmark, by name."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module


def test_the_quick_form_runs(module, tmp_path):
    names, values, sections = module("names"), module("values"), list(module("run").SECTIONS)
    out = tmp_path / "results.json"
    command = [sys.executable, HERE / "run.py", "--quick", "--out", out, "--only", *sections]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # It ends otherwise if what a backend read is not what it wrote.
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert list(found) == sections

    every = {names.OURS, names.OURS_HELD, names.STOCK, *names.PEERS}
    for section in ("loopback", "shaped link"):
        took = {}
        for row in found[section]["rows"]:
            took.setdefault((row["value"], row["operation"]), set()).add(row["backend"])
        for value in values.makers(quick=True):
            expected = {names.OURS, names.OURS_HELD} if value == values.BYTES else every
            assert took[value, "push"] == took[value, "pull"] == expected
    # Calls are counted, and so the same on each machine.
    assert [one["what"] for one in found["calls"]["targets"] if not one["holds"]] == []
    ours = [row for row in found["cost"]["rows"] if row["backend"] == names.OURS]
    assert len(ours) == 3
    for row in ours:
        for operation in ("KMS", "class A", "class B"):
            assert row[f"{operation}, counted"] == row[f"{operation}, model"]
    assert {row["backend"] for row in found["scale"]["rows"]} == {names.OURS, *names.PEERS}
    about = json.dumps([section["environment"] for section in found.values()])
    assert '"cryptography"' in about
    report = module("report")
    assert len(report.plots(found)) == 6


def test_the_cost_of_masking_is_measured():
    command = [sys.executable, HERE / "masking.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["masked"], row["lines"]) for row in rows] == [
        *((False, 0), (False, 10), (True, 0), (True, 10)),
    ]
    assert all((row["first_line_ms"] > 0) == (row["lines"] > 0) for row in rows)


def compiles():
    """Whether there is what the loop in C is made with."""
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    command = [compiler, "-fsyntax-only", "-xc", "-"]
    program = "#include <openssl/evp.h>\n"
    done = subprocess.run(command, input=program, text=True, capture_output=True, check=False)
    return done.returncode == 0


NEEDS_COMPILER = pytest.mark.skipif(
    not compiles(), reason="needs a C compiler and OpenSSL's headers (Debian: gcc libssl-dev)"
)


@pytest.mark.parametrize(
    "section", [pytest.param("sealing", marks=NEEDS_COMPILER), "peak memory", "cold start"]
)
def test_the_programs_run(module, tmp_path, section):
    out = tmp_path / "results.json"
    command = [sys.executable, HERE / "run.py", "--quick", "--out", out, "--only", section]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    assert found[section]["rows"]
    told = module("report").table("targets", found)
    assert found[section]["targets"]
    for one in found[section]["targets"]:
        assert f"| {one['what']} | {one['target']} |" in told


def test_a_value_that_came_back_changed_stops_it(module):
    bench = module("bench").Bench(None, {}, quick=True)
    bench.check([1], [1], "anyone")
    for found in ([2], (1,), "gs://bucket/name"):
        with pytest.raises(SystemExit, match="not what was written"):
            bench.check(found, [1], "anyone")


def test_the_model_of_costs(module):
    """By hand, for the shapes of the page."""
    cost = module("cost")
    each = cost._OURS
    orchestration, pipeline, fan_out = (
        cost.model(shape.tasks, each, keys=True) for shape in cost.shapes(7)
    )
    assert orchestration == {"KMS": 10 + 5}
    assert pipeline == {"KMS": 10 + 9, "class A": 3, "class B": 3}
    assert fan_out == {"KMS": 7 + 1 + 7, "class A": 7, "class B": 7}


def test_the_page_is_what_the_results_make(module):
    report, results = module("report"), module("results").load()
    page = (DOCS / report.PAGE).read_text(encoding="utf-8")
    assert report.filled(page, results) == page
    plots = report.plots(results)
    stored = {f"performance/{path.name}" for path in (DOCS / "performance").glob("*")}
    assert stored == set(plots)
    for name, text in plots.items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, name
        assert f"]({name})" in page


def test_a_run_of_some_sections_makes_the_whole_page(module, tmp_path, monkeypatch):
    run, report, results = module("run"), module("report"), module("results").load()
    page = tmp_path / report.PAGE
    page.write_text((DOCS / report.PAGE).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(report, "DOCS", tmp_path)
    monkeypatch.setattr(run, "_run", lambda *_args, **_options: 0)
    monkeypatch.setattr(run.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "links"])
    assert run.main() == 0
    text = page.read_text(encoding="utf-8")
    assert text == report.filled(text, results)
    assert "not measured" not in text
    assert len(list(tmp_path.rglob("*.svg"))) == len(report.plots(results))


def test_the_page_has_a_place_for_every_section(module):
    report, run = module("report"), module("run")
    page = (DOCS / report.PAGE).read_text(encoding="utf-8")
    measured = module("results").load()
    for name in {*run.SECTIONS, *run.PROGRAMS, *measured, "targets", "prices", "environment"}:
        assert f"<!-- table: {name} -->" in page


def test_a_target_that_is_missed_is_said(module):
    report, results = module("report"), module("results")
    missed = results.target("speed", "≤ 1", "2", holds=False, why="It is far.")
    silent = results.target("weight", "≤ 1", "3", holds=False)
    reached = results.target("size", "≤ 1", "1", holds=True, why="Not said.")
    section = {"rows": [], "targets": [missed, silent, reached], "notes": []}
    told = report.table("targets", {"some": section})
    assert "| speed | ≤ 1 | 2 | **no** | It is far. |" in told
    assert "| weight | ≤ 1 | 3 | **no** | Not looked into yet. |" in told
    assert "| size | ≤ 1 | 1 | yes |  |" in told
    # What was not measured does not hold.
    assert "| 10,000 dicts, shaped link, new key: pull | ≤ 0.35 | not measured | **no** |" in told


def test_a_ratio_is_judged_by_its_bound(module):
    report, names, values = module("report"), module("names"), module("values")
    about = {"value": values.DICTS, "operation": "push", "backend": names.OURS}
    for ratio, verdict in ((0.5, "yes"), (0.501, "**no**")):
        row = about | {"ratio": ratio, "ratio_low": 0.4, "ratio_high": 0.6, "against": "common-io"}
        section = {"rows": [row], "targets": [], "notes": []}
        told = report.table("targets", {"loopback": section})
        line = next(line for line in told.splitlines() if "loopback, new key: push" in line)
        assert f"| {verdict} |" in line


def test_points_lie_on_their_decades(module):
    points = [(100, 100), (1, 1), (10, 10), (5, 0)]
    text = module("plots").log_log("a & b", "x", "y", {"one": points})
    drawn = ET.fromstring(text)  # noqa: S314 - it was made here
    circles = [one for one in drawn if one.tag.endswith("circle") and one.get("r") == "3"]
    at = [(float(one.get("cx")), float(one.get("cy"))) for one in circles]
    (left, bottom), (middle, centre), (right, top) = at
    assert left < middle < right
    assert top < centre < bottom
    assert middle - left == right - middle
    assert bottom - centre == centre - top
    labels = {one.text: float(one.get("x")) for one in drawn if one.get("text-anchor") == "middle"}
    assert (labels["1"], labels["10"], labels["100"]) == (left, middle, right)
