"""Where settings come from, and when a change of them is seen."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import collections
import decimal
import json
import os

import pytest
from airflow.models.variable import Variable
from airflow.utils.session import create_session
from conftest import VERSION, pull, push

from secure_xcom.airflow import configuration, versions
from secure_xcom.airflow.process import process
from secure_xcom.errors import CodecError, ConfigError, KeyServiceError, SecureXComError


@pytest.fixture
def variables():
    """Set Variables in the metadata database, and delete them afterwards."""

    def write(**values):
        with create_session() as session:
            session.query(Variable).delete()
            for name, value in values.items():
                session.add(Variable(key=name, val=value))

    yield write
    write()


def placement(row):
    return row["placement"]


def test_the_section_of_airflow_cfg_counts(tmp_path, deployment, configure):
    conf = versions.config()
    configure(store_uri=None)
    conf.read_string(f"[secure_xcom]\nstore_uri = file://{tmp_path}\nthreshold_bytes = 7\n")
    try:
        settings = configuration.read()
        assert (settings.store_uri, settings.threshold_bytes) == (f"file://{tmp_path}", 7)
        conf.read_string("[secure_xcom]\nthreshold = 7\n")
        with pytest.raises(ConfigError, match=r'"threshold".*did you mean threshold_bytes'):
            configuration.read()
    finally:
        conf.remove_section("secure_xcom")


def test_messages_say_where_a_setting_truly_comes_from(
    tmp_path, deployment, configure, variables, monkeypatch
):
    conf = versions.config()
    configure(store_uri=f"file://{tmp_path}/", threshold_bytes=None)
    conf.read_string("[secure_xcom]\nthreshold_bytes = 7k\nstore_uri = file:///right\n")
    variables(SECURE_XCOM='{"compression": "ZSTD"}')
    try:
        with pytest.raises(ConfigError) as refused:
            configuration.read()
        monkeypatch.setenv("AIRFLOW_VAR_SECURE_XCOM", '{"compression": "zip"}')
        with pytest.raises(ConfigError) as refused_again:
            configuration.read()
    finally:
        conf.remove_section("secure_xcom")
    said = str(refused.value)
    assert "- store_uri, from AIRFLOW__SECURE_XCOM__STORE_URI, is" in said
    assert "- threshold_bytes, from airflow.cfg [secure_xcom], is" in said
    assert "- compression, from the Variable SECURE_XCOM, is" in said
    said = str(refused_again.value)
    assert "- compression, from the Variable SECURE_XCOM (AIRFLOW_VAR_SECURE_XCOM), is" in said


def test_airflow_calls_no_setting_of_ours_sensitive_so_that_no_command_is_run(configure):
    configure(kek_uri_cmd="echo local-kek:///k")
    assert not [
        name
        for section, name in versions.config().sensitive_config_values
        if section == "secure_xcom"
    ]
    with pytest.raises(ConfigError, match=r'"kek_uri_cmd".*set kek_uri itself'):
        configuration.read()


@pytest.mark.parametrize("name", ["kek", "kek_uri_cmd", "threshold"])
def test_a_misnamed_option_in_the_environment_is_an_error(deployment, configure, name):
    configure(**{name: "x"})
    with pytest.raises(ConfigError, match=f'"{name}"'):
        push("value")


def test_a_deployment_may_be_configured_by_variables_alone(deployment, configure, variables):
    configure(kek_uri=None, store_uri=None)
    with pytest.raises(ConfigError) as refused:
        push("value")
    assert "kek_uri is not set" in str(refused.value)
    assert "store_uri is not set" in str(refused.value)

    uris = {"kek_uri": f"local-kek://{deployment.kek}", "store_uri": f"file://{deployment.store}"}
    variables(SECURE_XCOM=json.dumps(uris))
    assert pull(push("value")) == "value"


def test_the_bucket_comes_from_the_variable_that_deployments_have(configure, variables):
    configure(kek_uri="local-kek:///k")
    variables(XCOM_BACKEND_DATA_GCS_NAME="my-bucket")
    assert configuration.read().store_uri == "gs://my-bucket"
    variables(XCOM_BACKEND_DATA_GCS_NAME="my-bucket", SECURE_XCOM='{"store_uri": "file:///s"}')
    with pytest.raises(ConfigError, match=r"store_uri.*protected"):
        configuration.read()
    configure(kek_uri=None)
    variables(
        XCOM_BACKEND_DATA_GCS_NAME="not a bucket",
        SECURE_XCOM='{"kek_uri": "local-kek:///k", "store_uri": "file:///s"}',
    )
    assert configuration.read().store_uri == "file:///s"


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"threshold_bytes": "many"}', "null"])
def test_a_wrong_variable_is_an_error(deployment, variables, text):
    variables(SECURE_XCOM=text)
    with pytest.raises(ConfigError, match="SECURE_XCOM"):
        push("value")


def test_a_new_threshold_counts_for_the_next_process(deployment, variables):
    assert placement(push("small")) == "inline"
    variables(SECURE_XCOM='{"threshold_bytes": 0}')
    # This process has looked them up already, and keeps them for settings_ttl_seconds.
    assert placement(push("small")) == "inline"

    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(write, placement(push("small")).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == "offloaded"
    os.waitpid(child, 0)


def test_settings_are_looked_up_again_after_their_time(deployment, configure, variables):
    configure(settings_ttl_seconds=0)
    row = push("small")
    _, before = process.current()
    assert process.current()[1] is before
    variables(SECURE_XCOM='{"threshold_bytes": 0}')
    assert placement(push("small")) == "offloaded"
    assert process.current()[1] is not before
    variables(SECURE_XCOM='{"threshold_bytes": -1}')
    assert placement(push("small" * 100_000)) == "inline"
    assert pull(row) == "small"


def test_a_missing_key_is_an_error_and_no_row(deployment):
    deployment.kek.unlink()
    with pytest.raises(SecureXComError) as refused:
        push("canary")
    assert isinstance(refused.value, KeyServiceError | ConfigError)
    assert "canary" not in str(refused.value)
    assert deployment.objects() == []


def test_a_variable_that_cannot_be_read_is_an_error(deployment, monkeypatch):
    target = "airflow.models.Variable" if VERSION < (3, 0) else "airflow.sdk.Variable"

    def fail(*_args, **_kwargs):
        raise ConnectionError("no database")

    monkeypatch.setattr(f"{target}.get", fail)
    with pytest.raises(ConfigError, match="SECURE_XCOM could not be read") as refused:
        push("value")
    assert isinstance(refused.value.__cause__, ConnectionError)


def test_fidelity_counts_for_what_is_pushed_and_not_for_who_pulls(deployment, configure):
    value = {"rows": [{"price": decimal.Decimal("1.10"), 7: (1, 2)}]}
    exactly = repr(value)
    assert repr(pull(push(value))) != exactly
    configure(fidelity="exact")
    row = push(value)
    with pytest.raises(CodecError, match=r"\$\.rows\[0\]\.price: .*fidelity is exact"):
        push({"rows": [{"price": collections.Counter(a=1)}]})
    configure(fidelity="stock")
    assert repr(pull(row)) == exactly
    push({"rows": [{"price": collections.Counter(a=1)}]})
    configure(fidelity="exakt")
    with pytest.raises(ConfigError, match="one of stock, exact"):
        push(value)
