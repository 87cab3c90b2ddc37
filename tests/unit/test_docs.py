"""The documents say what the code does: settings, errors, commands, links and configuration."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import json
import re
import subprocess
import typing
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

import pytest

from secure_xcom import audit, errors
from secure_xcom.cli import main
from secure_xcom.model import Coordinate, Expected, Inline, Offloaded, StateObject, WrappedKey
from secure_xcom.settings import SECTION, TABLE, load

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW_3 = importlib.util.find_spec("airflow.sdk") is not None
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
ROWS = {row.name: row for row in TABLE}
ERRORS = {
    name: error
    for name, error in vars(errors).items()
    if isinstance(error, type) and issubclass(error, errors.SecureXComError)
}


def page(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(language: str):
    """Every fenced block of a language, with where it stands."""
    return [
        pytest.param(found[1], id=f"{path.relative_to(ROOT)}-{number}")
        for path in PAGES
        for number, found in enumerate(
            re.finditer(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
        )
    ]


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def code(text: str) -> str:
    """Everything of a page that is code, inline or in blocks."""
    return "\n".join(re.findall(r"^```.*?^```$|`[^`\n]+`", text, flags=re.DOTALL | re.MULTILINE))


def entry(row) -> str:
    """What docs/settings.md says of a setting."""
    if row.section_only:
        variable = "never"
    elif row.tuning:
        variable = "always"
    else:
        variable = "only while airflow.cfg sets no protected setting, or names it in `unlocked`"
    default = row.default_text if row.default in (None, "") else f"`{row.default_text}`"
    return "\n".join(
        [
            f"### {row.name}",
            "",
            row.description.replace(". ", ".\n"),
            "",
            f"- Default: {default}",
            f"- Allowed: {row.kind.allowed}",
            f"- From the Variable: {variable}",
            f"- Example: `{row.example}`",
            "",
        ]
    )


def test_the_settings_page_is_the_table():
    listed = page("docs/settings.md").partition("## All settings\n\n")[2]
    assert listed == "\n".join(entry(row) for row in TABLE)


def test_the_settings_page_lists_all_tuning_settings():
    (listed,) = re.findall(
        r"^- \*Tuning\* settings .+?: (.+)\.$", page("docs/settings.md"), re.MULTILINE
    )
    assert re.findall(r"`(\w+)`", listed) == [row.name for row in TABLE if row.tuning]


def test_the_errors_page_has_each_error_once_and_in_the_order_of_the_tree():
    headings = re.findall(r"^## (\w+)$", page("docs/errors.md"), re.MULTILINE)
    assert headings == list(ERRORS)


@pytest.mark.parametrize("name", ERRORS)
def test_the_errors_page_says_meaning_causes_and_what_to_do(name):
    section = page("docs/errors.md").partition(f"## {name}\n")[2].partition("\n## ")[0]
    base = ERRORS[name].__base__.__name__
    assert base == "Exception" or f"[{base}](#{base.lower()})" in section
    if name not in {"SecureXComError", "KeyServiceError", "StoreError"}:
        assert "\n**Causes.**" in section
        assert "\n**What to do.**" in section


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_error_that_is_named_exists(path):
    named = re.findall(
        r"`([A-Z]\w+(?:Error|Denied|Unavailable|NotFound|Mismatch))`", path.read_text()
    )
    others = {
        *("ValueError", "TypeError", "OSError", "TimeoutError"),
        *("BaseException", "DeadlockImminentError"),
    }
    assert set(named) <= ERRORS.keys() | others


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(path):
    # What is to be wrong is left out.
    text = re.sub(
        r"\n### Names and the Variable as a whole\n.*?\n#", "", path.read_text(), flags=re.DOTALL
    )
    sure = re.findall(rf"\b{SECTION}-([a-z_]+)=", text)
    sure += [n.lower() for n in re.findall(rf"AIRFLOW__{SECTION.upper()}__([A-Z_]+)", text)]
    assert set(sure) <= ROWS.keys()
    # A word in code that is nearly a setting's name is one that is misspelt.
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)(?: ?=[^`]*)?`", prose(text)))
    misspelt = {word: get_close_matches(word, ROWS, 1, 0.85) for word in words - ROWS.keys()}
    assert {word for word, close in misspelt.items() if close} == set()


AUDIT = page("docs/operations.md").partition("\n## Audit log\n")[2].partition("\n## ")[0]
#: What the column of types says, as JSON has it.
TYPES = {
    "text": (str,),
    "text or null": (str, type(None)),
    "integer or null": (int, type(None)),
}


def audit_fields():
    """The audit log's fields and their types, as operations.md lists them."""
    return dict(re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", AUDIT, re.MULTILINE))


@pytest.mark.parametrize(
    ("where", "known", "error"),
    [
        (Coordinate("d", "r", "t", -1, "k"), {}, None),
        (Expected(), {}, None),
        (Expected("d"), {}, errors.AuthenticationError()),
        (Expected("d"), {}, errors.KeyUnavailable("away")),
        (
            Coordinate("d", "r", "t", -1, "k"),
            {
                "reference": Inline(b"x" * 500),
                "wrapped": WrappedKey("local-kek:///k", b"w", "7"),
                "raw_bytes": 9,
            },
            None,
        ),
        (
            Coordinate("d", "r", "t", 3, "k"),
            {
                "reference": Offloaded("gs://b", "n", "1", 500, 7, b"preamble"),
                "wrapped": WrappedKey("local-kek:///k", b"w"),
            },
            None,
        ),
        (
            Coordinate("d", "r", "t", 3, "k"),
            {"reference": StateObject("gs://b", "n"), "generation": "3"},
            None,
        ),
    ],
)
@pytest.mark.parametrize("operation", ["seal", "open", "delete"])
def test_the_audit_log_has_the_fields_that_operations_lists(caplog, operation, where, known, error):
    caplog.set_level("INFO", audit.logger.name)
    with suppress(errors.SecureXComError), audit.attempt(operation, where) as tried:
        for name, value in known.items():
            setattr(tried, name, value)
        if error:
            raise error
    written = json.loads(caplog.messages[-1])
    fields = audit_fields()
    assert list(written) == list(fields)
    assert [name for name in fields if type(written[name]) not in TYPES[fields[name]]] == []


def test_the_example_of_the_audit_log_has_its_fields():
    (example,) = re.findall(r"^```json\n(.+)\n```$", AUDIT, re.MULTILINE)
    assert list(json.loads(example)) == list(audit_fields())


def test_the_audit_log_has_the_operations_that_operations_lists():
    (listed,) = re.findall(r"^\| `operation` \| text \| (.+) \|$", AUDIT, re.MULTILINE)
    named = set(re.findall(r"`(\w+)`", listed))
    assert named == {*typing.get_args(audit.Operation), "refuse"}


def test_the_query_names_fields_and_values_that_there_are():
    (query,) = re.findall(r"^```text\n(.+?)```$", AUDIT, re.MULTILINE | re.DOTALL)
    *entry, texts = query.splitlines()
    # Of Cloud Logging's own: which environment, and which log.
    assert [re.match(r"\w+", line)[0] for line in entry] == ["resource", "log_id"]
    *names, value = re.findall(r'"(\w+)"', texts)
    assert set(names) <= set(audit_fields())
    assert f"`{value}`" in AUDIT
    inline = re.findall(r"`jsonPayload\.(\w+)=", AUDIT)
    assert inline
    assert set(inline) <= set(audit_fields())


def told():
    """Every name of a counter or a timer that the package can tell."""
    modules = [path.read_text() for path in (ROOT / "secure_xcom").rglob("*.py")]
    found = [
        name
        for text in modules
        for name in re.findall(r"telemetry\.(count|step)\(\s*\"([^\"]+)", text)
    ]
    counters = {name for kind, name in found if kind == "count"}
    timers = {name for kind, name in found if kind == "step"}
    operations = {*typing.get_args(audit.Operation)} - {"mask"}
    for operation in operations:
        counters |= {f"{operation}.ok"}
        counters |= {f"{operation}.{outcome}.<Error>" for outcome in ("failed", "refused")}
    counters |= {"seal.bytes", "open.bytes", "seal.inline", "seal.offloaded"}
    return counters, {f"{timer}.duration" for timer in timers | operations}


METRICS = page("docs/operations.md").partition("\n## Metrics\n")[2].partition("\n## Traces\n")[0]
ALERTS = METRICS.partition("\n### Alerts\n")[2]


def test_operations_lists_every_metric_and_no_other():
    listed = re.findall(r"`secure_xcom\.([\w.<>]+)`", METRICS)
    counters, timers = told()
    assert len(counters) > 10
    assert len(timers) > 5
    assert set(listed) == counters | timers
    assert len(listed) == len(set(listed))
    # More characters than these, with its prefix, Airflow 2 gives to no meter of OpenTelemetry.
    longest = max(ERRORS, key=len)
    names = [f"airflow.secure_xcom.{name}".replace("<Error>", longest) for name in listed]
    assert max(map(len, names)) <= 63


def test_each_alert_asks_for_a_metric_that_there_is():
    counters, timers = told()
    there = {name for name in counters | timers if "<Error>" not in name}
    for name in counters - there:
        there |= {name.replace("<Error>", error) for error in ERRORS}
    exported = {f"airflow_secure_xcom_{name.replace('.', '_')}" for name in there}
    # In a table, what is to stand between alternatives has a backslash before it.
    patterns = re.findall(r"airflow_secure_xcom_(?:\([\w|]+\)|[\w.*])+", ALERTS.replace("\\|", "|"))
    assert len(patterns) > 5
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in exported), pattern


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_ours_that_is_named_exists(path, capsys):
    for words in re.findall(r"\bsecure-xcom ([a-z-][^`\n]*)", code(path.read_text())):
        command = words.split()[0]
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0, words
        known = capsys.readouterr().out
        assert all(flag in known for flag in re.findall(r"--[a-z-]+", words)), words


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_index_lists_every_page_and_every_decision_by_its_title():
    index = page("docs/index.md")
    linked = re.findall(r"\]\(([^)#\s]+\.md)\)", index)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(linked)
    listed = index.partition("\n## Decisions\n\n")[2].partition("\n## ")[0]
    titles = {
        path.name: path.read_text().partition("\n")[0].removeprefix(f"# {path.name[:4]}: ")
        for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))
    }
    assert listed.strip().splitlines() == [
        f"- [{name[:4]}](decisions/{name}): {title}" for name, title in titles.items()
    ]


def test_ci_runs_the_tests_as_the_readme_says_and_ends_with_them():
    (command,) = re.findall(r"^pip install uv && uv run pytest.*$", page("README.md"), re.MULTILINE)
    assert page(".ci/run").splitlines()[-1] == command
    assert f"\n{command}\n" in page("docs/CONTRIBUTING.md")


def test_every_path_of_a_test_that_contributing_names_exists():
    text = page("docs/CONTRIBUTING.md").replace("{unit,contract}", "unit")
    text = text.replace("{unit,contract,vectors,tamper,property}", "unit")
    named = set(re.findall(r"\btests/[\w/]+(?:\.py)?", code(text)))
    assert len(named) > 10
    assert {name for name in named if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_resolves(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("block", blocks("ini"))
def test_every_airflow_cfg_in_the_documents_works(block):
    parser = configparser.ConfigParser()
    parser.read_string(block)
    assert set(parser.sections()) <= {"core", "workers", SECTION}
    for section, option in (("core", "xcom_backend"), ("workers", "state_store_backend")):
        if name := parser.get(section, option, fallback=None):
            module, _, backend = name.rpartition(".")
            # What is for later versions of Airflow is looked for, but cannot be imported here.
            assert importlib.util.find_spec(module), name
            if option == "xcom_backend" or AIRFLOW_3:
                assert getattr(importlib.import_module(module), backend)
    if parser.has_section(SECTION):
        section = dict(parser[SECTION])
        missing = {row.name: row.example for row in TABLE if row.default is None}
        assert load(missing | section, None, None)


@pytest.mark.parametrize("block", blocks("json"))
def test_every_variable_in_the_documents_works(block):
    members = json.loads(block)
    if "__secure_xcom__" in members or "operation" in members:  # a row, or a line of the audit log
        return
    missing = {row.name: row.example for row in TABLE if row.default is None}
    protected = {name for name in members if not ROWS[name].tuning}
    section = missing if not protected else {}
    assert load(section, (missing | members) if protected else members, None)


@pytest.mark.parametrize("block", blocks("sh"))
def test_every_command_in_the_documents_is_sound_shell(block):
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
