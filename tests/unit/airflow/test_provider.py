from __future__ import annotations

from secure_xcom.airflow.provider import get_provider_info
from secure_xcom.settings import load

OPTIONS = get_provider_info()["config"]["secure_xcom"]["options"]


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
