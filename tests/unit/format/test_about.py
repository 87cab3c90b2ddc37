"""The sentence by which a row says to a person what it is."""

from __future__ import annotations

import pytest

from secure_xcom.format.about import about, about_state, size
from secure_xcom.model import CodecId, Inline, Offloaded, Payload

KMS = "gcp-kms://projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom"
OFFLOADED = Offloaded("gs://bucket/prefix", f"{'0' * 16}/{'a' * 64}", "1", 1_258_291, 7, b"")


def test_an_offloaded_row_says_how_much_lies_where_under_which_key():
    assert about(OFFLOADED, KMS) == (
        "Sealed by secure_xcom: 1.2 MiB in gs://bucket/prefix, under key xcom (europe-west1)."
    )


def test_an_inline_row_says_so():
    assert about(Inline(bytes(566)), "local-kek:///etc/kek") == (
        "Sealed by secure_xcom: 566 bytes in this row, under key file /etc/kek."
    )


def test_type_and_size_are_told_on_request():
    payload = Payload(CodecId.PLAIN, (bytes(3_000_000),), "builtins.dict")
    assert about(OFFLOADED, KMS, payload) == (
        "Sealed by secure_xcom: builtins.dict of 2.9 MiB, sealed to 1.2 MiB in "
        "gs://bucket/prefix, under key xcom (europe-west1)."
    )
    assert "dict" not in about(OFFLOADED, KMS)


def test_a_key_of_another_kind_is_named_as_it_is():
    assert about(Inline(b""), "other://key") == (
        "Sealed by secure_xcom: 0 bytes in this row, under key other://key."
    )


def test_a_state_says_where_it_is_and_nothing_that_changes():
    assert (
        about_state("gs://b/~state/task") == "Sealed by secure_xcom: a state in gs://b/~state/task."
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1_048_575, "1.0 MiB"),
        (1_048_576, "1.0 MiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes_are_as_people_read_them(count, text):
    assert size(count) == text
