from __future__ import annotations

import json

from support.environments import run_in

from secure_xcom.airflow.provider import get_provider_info
from secure_xcom.settings import TABLE, load

OPTIONS = get_provider_info()["config"]["secure_xcom"]["options"]

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
print(json.dumps({
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
    for row in TABLE:
        assert f"# Example: {row.name} = {row.example}" in seen["config"]
        assert f"# Variable: AIRFLOW__SECURE_XCOM__{row.name.upper()}" in seen["config"]
    # What airflow.cfg does not set must not look as if it did: that would lock the Variable out.
    assert [name for name in names if seen["has_option"][name]] == ["instance"]
    assert seen["get"] == dict.fromkeys(names, "fell back") | {"instance": "prod-eu"}


def test_no_option_has_a_default():
    assert {option["default"] for option in OPTIONS.values()} == {None}


def test_the_description_says_what_is_done_without_the_option():
    assert "Default: none." in OPTIONS["kek_uri"]["description"]
    assert "Default: 49152." in OPTIONS["threshold_bytes"]["description"]
    assert "Default: empty." in OPTIONS["gcp_conn_id"]["description"]
    assert 'Default: ["skipmixin_key", ' in OPTIONS["clear_keys"]["description"]


def test_the_examples_work():
    examples = {name: option["example"] for name, option in OPTIONS.items()}
    del examples["strict"]  # it refuses some of the others
    assert load(examples, None, None)
