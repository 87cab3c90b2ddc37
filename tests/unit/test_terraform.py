"""The Terraform module in docs/terraform: what a parser can hold of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secure_xcom.airflow import states
from secure_xcom.airflow.backend import DOTTED_NAME
from secure_xcom.settings import SECTION, TABLE, load

hcl2 = pytest.importorskip("hcl2", reason="python-hcl2 is not there")

DOCS = Path(__file__).resolve().parents[2] / "docs"
FILES = sorted((DOCS / "terraform").glob("*.tf"))
TEXT = "\n".join(path.read_text() for path in FILES)
README = (DOCS / "terraform" / "README.md").read_text()
COMPOSER = (DOCS / "composer.md").read_text()


def blocks(kind):
    """Give the blocks of a kind by their labels, such as `google_storage_bucket.xcom`."""

    def unwrapped(block, labels=()):
        for label, body in block.items():
            if label.startswith('"'):
                yield from unwrapped(body, (*labels, label.strip('"')))
        if "__is_block__" in block:
            yield ".".join(labels), block

    found = [block for path in FILES for block in hcl2.loads(path.read_text()).get(kind, [])]
    return dict(pair for block in found for pair in unwrapped(block))


RESOURCES = blocks("resource")
VARIABLES = blocks("variable")


def test_it_has_what_an_environment_needs_and_nothing_else():
    assert set(RESOURCES) == {
        "google_kms_key_ring.airflow",
        "google_kms_crypto_key.xcom",
        "google_kms_crypto_key_iam_member.tasks",
        "google_storage_bucket.xcom",
        "google_storage_bucket_iam_member.tasks",
        "google_logging_project_sink.audit",
        "google_storage_bucket_iam_member.audit",
    }
    for name, resource in RESOURCES.items():
        assert "for_each" in resource, name


def test_every_reference_has_its_declaration_and_every_variable_its_use():
    assert set(re.findall(r"\bvar\.(\w+)", TEXT)) == set(VARIABLES)
    assert set(re.findall(r"\b(google_\w+\.\w+)\b(?!\")", TEXT)) <= set(RESOURCES)
    (known,) = re.findall(r"map\(object\(\{(.*)\}\)\)", VARIABLES["environments"]["type"])
    attributes = set(re.findall(r"(\w+) = ", known))
    used = set(re.findall(r"\beach\.value\.(\w+)", TEXT)) - {"writer_identity"}
    used |= set(re.findall(r"\benvironment\.(\w+)", TEXT))
    assert used == attributes


@pytest.mark.parametrize(
    "grant", ["google_kms_crypto_key_iam_member", "google_storage_bucket_iam_member"]
)
def test_the_grants_are_those_of_the_page_on_composer(grant):
    role = RESOURCES[f"{grant}.tasks"]["role"].strip('"')
    assert f"--role {role}\n" in COMPOSER


def test_key_and_bucket_have_what_doctor_asks_for():
    key, bucket = RESOURCES["google_kms_crypto_key.xcom"], RESOURCES["google_storage_bucket.xcom"]
    assert key["purpose"] == '"ENCRYPT_DECRYPT"'
    assert key["rotation_period"] == '"${90 * local.day_seconds}s"'
    assert bucket["uniform_bucket_level_access"] is True
    assert bucket["public_access_prevention"] == '"enforced"'
    [rule], [soft_delete] = bucket["lifecycle_rule"], bucket["soft_delete_policy"]
    assert rule["action"][0]["type"] == '"Delete"'
    assert rule["condition"][0]["age"] == "${var.row_retention_days + 10}"
    assert "soft_delete_days" in soft_delete["retention_duration_seconds"]
    for resource in (key, bucket):
        assert resource["lifecycle"][0]["prevent_destroy"] is True


def test_the_overrides_are_settings_and_are_accepted():
    assert list(blocks("output")) == ["airflow_config_overrides"]
    outputs = (DOCS / "terraform" / "outputs.tf").read_text()
    lines = re.findall(r'^ +"([a-z_]+-\w+)" += (.+)$', outputs, re.MULTILINE)
    overrides = {name: text.strip('"') for name, text in lines}
    assert overrides.pop("core-xcom_backend") == DOTTED_NAME
    assert overrides.pop("workers-state_store_backend") == states.DOTTED_NAME
    named = {name.removeprefix(f"{SECTION}-"): text for name, text in overrides.items()}
    assert set(named) == {"kek_uri", "store_uri", "instance"}
    assert set(named) <= {row.name for row in TABLE}
    key = "projects/my-keys/locations/europe-west1/keyRings/airflow-prod-eu/cryptoKeys/xcom"
    filled = {
        "${google_kms_crypto_key.xcom[name].id}": key,
        "${google_storage_bucket.xcom[name].name}": "my-xcom-bucket",
    }
    section = {}
    for name, text in named.items():
        for expression, known in filled.items():
            text = text.replace(expression, known)  # noqa: PLW2901 - the same text, filled in
        section[name] = "prod-eu" if text == "name" else text
    assert load(section, None, None).kek_uri == f"gcp-kms://{key}"


def test_the_example_of_its_page_names_what_there_is():
    (example,) = re.findall(r"^```hcl\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    [module] = hcl2.loads(example)["module"]
    arguments = module['"secure_xcom"']
    assert set(arguments) - {"source", "__is_block__"} <= set(VARIABLES)
    [environment] = arguments["environments"].values()
    for name in environment:
        assert re.search(rf"\b{name} = ", VARIABLES["environments"]["type"]), name
    assert {setting.strip('"') for setting in environment["settings"]} <= {
        row.name for row in TABLE
    }
