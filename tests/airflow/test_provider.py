"""Each Airflow takes what the package says of itself: its settings, as options without defaults."""

from __future__ import annotations

import json

from support.environments import run_in

from secure_xcom.airflow.provider import get_provider_info
from secure_xcom.settings import TABLE

PROGRAM = """
import json, sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import airflow
import jsonschema
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.providers_manager import ProvidersManager


def run(*words):
    args = get_parser().parse_args(words)
    with redirect_stdout(StringIO()) as printed:
        args.func(args)
    return printed.getvalue()


provider = ProvidersManager().providers["secure-xcom"]
schema = Path(airflow.__file__).parent / "provider_info.schema.json"
jsonschema.validate(provider.data, json.loads(schema.read_text()))
functions = getattr(ProvidersManager(), "cli_command_functions", ())
ours = [command for function in functions for command in function()
        if command.name == "secure-xcom"]
print(json.dumps({
    "commands": [get_parser().parse_args(["secure-xcom", "gc", "--dry-run"]).arguments
                 for _ in ours],
    "version": provider.version,
    "data": provider.data,
    "providers": run("providers", "list", "--output", "json"),
    "config": run("config", "list", "--section", "secure_xcom", "--include-descriptions",
                  "--include-examples", "--include-env-vars"),
    "has_option": {name: conf.has_option("secure_xcom", name) for name in sys.argv[1:]},
    "get": {name: conf.get("secure_xcom", name, fallback="fell back") for name in sys.argv[1:]},
}))
"""


def test_airflow_knows_every_option_and_sets_none(environment):
    names = [row.name for row in TABLE]
    done = run_in(
        environment,
        *("python", "-c", PROGRAM, *names),
        env={"AIRFLOW__SECURE_XCOM__INSTANCE": "prod-eu"},
    )
    seen = json.loads(done.stdout.splitlines()[-1])

    assert seen["data"]["config"] == get_provider_info()["config"]
    [listed] = [
        row for row in json.loads(seen["providers"]) if row["package_name"] == "secure-xcom"
    ]
    assert listed["version"] == seen["version"]
    has_commands = tuple(map(int, environment.airflow.split(".")[:2])) >= (3, 2)
    assert seen["commands"] == [["gc", "--dry-run"]] * has_commands
    for row in TABLE:
        assert f"# Example: {row.name} = {row.example}" in seen["config"]
        assert f"# Variable: AIRFLOW__SECURE_XCOM__{row.name.upper()}" in seen["config"]
    # What airflow.cfg does not set must not look as if it did: that would lock the Variable out.
    assert [name for name in names if seen["has_option"][name]] == ["instance"]
    assert seen["get"] == dict.fromkeys(names, "fell back") | {"instance": "prod-eu"}
