"""`gcp_conn_id`: credentials from an Airflow connection, by the Google provider."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import json

import pytest
from conftest import push
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from secure_xcom.airflow import configuration
from secure_xcom.errors import ConfigError


@pytest.fixture(scope="module")
def key_file():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": pem.decode(),
        "client_email": "xcom@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    }


def test_without_a_connection_there_are_no_credentials(deployment):
    assert configuration.credentials(configuration.read()) is None


def test_a_connections_key_gives_the_credentials(deployment, configure, monkeypatch, key_file):
    connection = {
        "conn_type": "google_cloud_platform",
        "extra": {"keyfile_dict": json.dumps(key_file)},
    }
    monkeypatch.setenv("AIRFLOW_CONN_XCOM_STORAGE", json.dumps(connection))
    configure(gcp_conn_id="xcom_storage")
    credentials = configuration.credentials(configuration.read())
    assert credentials.service_account_email == key_file["client_email"]
    assert "https://www.googleapis.com/auth/cloud-platform" in credentials.scopes


def test_a_missing_connection_is_an_error_that_names_it(deployment, configure):
    configure(gcp_conn_id="no_such_connection")
    with pytest.raises(ConfigError, match="no_such_connection"):
        push("value")
