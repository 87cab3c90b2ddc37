"""The tables of the threat model that promise something: each row names the test that proves it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from secure_xcom.settings import TABLE
from secure_xcom.settings.strict import contradictions

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
SECTIONS = (
    "Airflow's own copies",
    "Which processes are masked",
    "What strict guarantees",
    "Failing closed",
)


def rows(section):
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("|")]
    return table[2:]  # without its head


PROMISES = [
    pytest.param(section, row, id=f"{section}-{number}")
    for section in SECTIONS
    for number, row in enumerate(rows(section))
]


@pytest.mark.parametrize(("section", "row"), PROMISES)
def test_each_promise_names_a_test_that_exists(section, row):
    assert section in SECTIONS
    found = re.fullmatch(r"\|.+\| `(tests/\S+\.py)::(test_\w+)` \|", row)
    assert found, f"no test is named in: {row}"
    tree = ast.parse((ROOT / found[1]).read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert found[2] in tests


CONTROLS = (ROOT / "docs" / "controls.md").read_text()


def test_the_controls_name_tests_and_checks_that_exist():
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", CONTROLS)
    assert len(named) > 20
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name
    operations = (ROOT / "docs" / "operations.md").read_text()
    doctor = operations.partition("\n## Doctor\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", doctor, re.MULTILINE)
    known = {name for cell in cells for name in re.findall(r"`([a-z_.]+)`", cell)}
    asked = re.findall(r"checks? ((?:`[a-z_.]+`(?:, )?)+)", CONTROLS)
    used = {name for names in asked for name in re.findall(r"`([a-z_.]+)`", names)}
    assert len(used) > 8
    assert used <= known


def test_the_tables_are_there():
    assert [len(rows(section)) >= 5 for section in SECTIONS] == [True] * len(SECTIONS)


def test_the_table_of_strict_names_every_setting_that_strict_refuses():
    promised = "\n".join(rows("What strict guarantees"))
    for setting in TABLE:
        if setting.name in ("kek_uri", "trusted_keks", "strict", "instance", "trusted_instances"):
            continue
        example = setting.kind.from_text(setting.example)
        held = tuple(example) if isinstance(example, list) else example
        for value in (held, not held):
            against = list(contradictions({"strict": True, "instance": "x", setting.name: value}))
            assert not against or f"`{setting.name}`" in promised
