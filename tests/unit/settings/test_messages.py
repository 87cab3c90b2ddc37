"""Usual mistakes, and what is said of each: the tables of `docs/settings.md`, row by row.

What is written is put where the row says, and read as a deployment reads it; Airflow alone is
played. `tests/airflow/inside/test_settings.py` asks each real one where it has settings from.
"""

from __future__ import annotations

import json
import os
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_xcom.airflow import configuration, versions
from secure_xcom.errors import ConfigError
from secure_xcom.settings import TABLE, check

ROOT = Path(__file__).resolve().parents[3]
ROWS = {row.name: row for row in TABLE}
KEK = "gcp-kms://projects/acme-data/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom"
WORKING = {"kek_uri": KEK, "store_uri": "gs://acme-xcom/prod"}
#: What the Variable may set in these tests.
UNLOCKED = {"unlocked": "strict, unsealed_reads, trusted_keks, mask_pulled_values, instance"}
BUCKET = "XCOM_BACKEND_DATA_GCS_NAME"


class Conf(ConfigParser):
    """Looks for options as Airflow does: in the environment, then in the file."""

    sensitive_config_values: frozenset[tuple[str, str]] = frozenset()

    def get(self, section, option, **options):
        found = os.environ.get(f"AIRFLOW__{section.upper()}__{option.upper()}")
        return super().get(section, option, **options) if found is None else found


def backend(kind, **variables):
    """A secrets backend of a class of this name."""
    return type(kind, (), {"get_variable": lambda _, key: variables.get(key)})()


class Deployment:
    """What is configured, and where."""

    def __init__(self, monkeypatch):
        self.conf = Conf(interpolation=None)
        self.conf.add_section("secure_xcom")
        self.backends = []
        self.environment = monkeypatch.setenv
        for name in [name for name in os.environ if "SECURE_XCOM" in name]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(versions, "config", lambda: self.conf)
        monkeypatch.setattr(versions, "is_airflow_3", lambda: True)
        monkeypatch.setattr(versions, "secrets_backends", lambda: self.backends)
        monkeypatch.setattr(versions, "variable", self.variable)

    def variable(self, name):
        found = (one.get_variable(key=name) for one in self.backends)
        return next((text for text in found if text is not None), None)

    def section(self, **options):
        self.conf.read_dict({"secure_xcom": options})

    def write(self, written, source):
        """Put what a table's first column says where its second column says."""
        name, _, text = written.partition(" = ")
        if source == "airflow.cfg [secure_xcom]":
            self.section(**WORKING | {name: text})
            return
        if source.startswith("AIRFLOW__"):
            self.section(**WORKING)
            self.environment(source, text)
            return
        variable, _, kind = re.fullmatch(r"the Variable (\w+)( \((.+)\))?", source).groups()
        kind = {
            None: "MetastoreBackend",
            f"AIRFLOW_VAR_{variable}": "EnvironmentVariablesBackend",
        }.get(kind, (kind or "").removeprefix("secrets backend "))
        held = text if name == variable else written
        self.backends = [backend("First"), backend(kind, **{variable: held})]
        self.section(**{"kek_uri": KEK} if variable == BUCKET else WORKING | UNLOCKED)


@pytest.fixture
def deployment(monkeypatch):
    return Deployment(monkeypatch)


def table(heading):
    """The cells of the table under a heading of docs/settings.md."""
    page = (ROOT / "docs/settings.md").read_text()
    rows = page.partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    lines = [line for line in rows.splitlines() if line.startswith("|")][2:]
    cells = [[one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[one.replace("\\|", "|") for one in row] for row in cells]


def code(text):
    return re.sub(r"^(`+) ?(.*?) ?\1$", r"\2", text)


VALUES = table("Values")
OTHERS = table("Names and the Variable as a whole")


def lines_of(deployment, written, source):
    deployment.write(written, source)
    with pytest.raises(ConfigError) as refused:
        configuration.read()
    return str(refused.value).splitlines()[1:]


@pytest.mark.parametrize("row", VALUES, ids=lambda row: row[0][:60])
def test_what_a_wrong_value_is_answered(row, deployment):
    written, source, shown, allowed, advice = row
    name = code(written).partition(" = ")[0]
    if name.startswith("{"):
        (name,) = json.loads(name)
    [line] = lines_of(deployment, code(written), source)
    begin = f"- {name}, from {source}, is" if name in ROWS else f"- {source} is"
    expected = f"{begin} {code(shown)}; allowed: {allowed}"
    assert line == (f"{expected}. {advice}" if advice else expected)
    if name in ROWS:
        assert allowed == ROWS[name].kind.allowed


@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row[0][:60])
def test_what_other_mistakes_are_answered(row, deployment):
    written, source, message = row
    [line] = lines_of(deployment, code(written), source)
    assert line == f"- {message}"


#: What stands for a secret that got into a setting, and the part that nobody may see.
SECRETS = {
    "hunter2-swordfish": "swordfish",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "FEMI/K7",
    "ya29.a0AfH6SMBx-3kQ1rT5vW7yZ9aB": "AfH6",
    "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln": "I1NiJ9",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----": "MIIE",
    "https://airflow:hunter2@example.com/x": "hunter2",
    "gs://my-bucket/xcom?X-Goog-Signature=5f3a": "5f3a",
    "gs://my-bucket/ya29.a0AfH6SMBx/": "AfH6",
    "0123456789abcdef0123456789abcdef": "456789",
    '{"type": "service_account", "private_key": "s3cret"}': "s3cret",
}
TAKEN_FOR_BUCKETS = {
    ("store_uri", "hunter2-swordfish"),
    ("trusted_stores", "hunter2-swordfish"),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_a_secret_in_the_wrong_place_is_not_shown(row, secret):
    told = []
    for section, variable in (
        (WORKING | {row.name: secret}, None),
        ({}, WORKING | {row.name: secret}),
        ({}, WORKING | {row.name: [secret]}),
        ({}, WORKING | {row.name: {"deep": secret}}),
    ):
        # These words could well be a bucket's name, and it is shown what they were taken for.
        if (row.name, secret) not in TAKEN_FOR_BUCKETS:
            told.extend(check(section, variable, None)[1])
    # Some settings take any text, and none takes all of these.
    assert told or (row.name, secret) in TAKEN_FOR_BUCKETS
    assert SECRETS[secret] not in str(told)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_a_variable_is_not_shown(secret):
    texts = [(secret, None), ("{" + secret, None)]
    if len(secret) > 32:
        texts.append((None, secret))  # what is shorter may be a bucket's name
    for variable, bucket in texts:
        _, faults = check({"kek_uri": KEK}, variable, bucket)
        assert faults
        assert SECRETS[secret] not in str(faults)


@given(st.sampled_from(TABLE), st.data())
def test_what_is_proposed_is_allowed(row, data):
    right = row.kind.from_text(row.example)
    written = data.draw(
        st.sampled_from([row.example, json.dumps(right), right])
        | st.text()
        | st.sampled_from(list(SECRETS))
    )
    around = data.draw(st.text("'\"/ ,.#$~gcsfile:[]\n0", max_size=6))
    for wrong in (written, f"{around}{written}", f"{written}{around}", [written, around]):
        found = row.kind.meant(wrong)
        if found and found.value is not None:
            assert row.kind.accepts(found.value)


def test_what_is_long_is_not_looked_at_for_long():
    for row in TABLE:
        for filler in ("/", " ", ".", ",", "'", "0", "a/", "$", "gs:/"):
            row.kind.meant(filler * 200_000)
            row.kind.meant(f"gs://{filler * 200_000}x")


@pytest.mark.parametrize("how", ["cmd", "secret"])
@pytest.mark.parametrize("place", ["airflow.cfg", "environment"])
def test_a_command_or_a_secret_is_a_source_where_airflow_takes_it_for_one(
    how, place, deployment, monkeypatch
):
    name = f"store_uri_{how}"
    variable = f"AIRFLOW__SECURE_XCOM__{name.upper()}"
    monkeypatch.setattr(Conf, "sensitive_config_values", {("secure_xcom", "store_uri")})
    deployment.section(kek_uri=KEK)
    if place == "environment":
        monkeypatch.setenv(variable, "print-it")
    else:
        deployment.section(**{name: "print-it"})
    # What the command prints, or the secrets backend says.
    monkeypatch.setattr(
        Conf,
        "get",
        lambda self, section, option, **options: (
            "my-bucket"
            if option == "store_uri"
            else ConfigParser.get(self, section, option, **options)
        ),
    )
    with pytest.raises(ConfigError) as refused:
        configuration.read()
    [line] = str(refused.value).splitlines()[1:]
    sources = {
        ("airflow.cfg", "cmd"): "the command store_uri_cmd in airflow.cfg [secure_xcom]",
        (
            "airflow.cfg",
            "secret",
        ): "the secret that store_uri_secret names in airflow.cfg [secure_xcom]",
        ("environment", "cmd"): f"the command in {variable}",
        ("environment", "secret"): f"the secret that {variable} names",
    }
    assert line.startswith(f'- store_uri, from {sources[place, how]}, is "my-bucket"; ')
