"""Rows of former backends: followed where they were written, refused everywhere else."""

from __future__ import annotations

import gzip
import json
import logging
import uuid

import pytest

from secure_xcom.airflow import configuration, legacy, reading
from secure_xcom.airflow.process import process
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    ObjectNotFound,
    SecureXComError,
    StoreError,
    UnsealedError,
)
from secure_xcom.model import Expected
from secure_xcom.settings import load
from secure_xcom.stores.gcs import client
from secure_xcom.stores.gcs import legacy as legacy_objects

BaseXCom = pytest.importorskip(
    "airflow.sdk.bases.xcom", reason="the rows here are as Airflow 3 keeps them"
).BaseXCom

VALUE = {"card": "4000 0012 3456 7899", "rows": [1, 2.5, None, True]}
UUID = "01234567-89ab-4cde-8f01-23456789abcd"
RUN = "scheduled__2026-01-01T00:00:00+00:00"
WHERE = Expected("pay", RUN, "charge", -1, "return_value")


class Row:
    def __init__(self, value):
        self.value = value


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """What the process under test is set to; by name, so that a test can change it."""
    section = {
        "store_uri": f"file://{tmp_path}/store",
        "kek_uri": f"local-kek://{tmp_path}/kek",
        "legacy_reads": "gcs, common-io",
    }

    def use(**changes):
        section.update(changes)
        current = load(section, None, None)
        monkeypatch.setattr(process, "current", lambda: (current, None))
        return current

    use()
    return use


@pytest.fixture
def old(gcs_server, bucket, monkeypatch):
    """A bucket that a hand-written backend wrote to; gives the row of what is put into it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setattr(client, "make_client", gcs_server.make_client)
    legacy_objects._shared_client.cache_clear()
    monkeypatch.setattr(configuration, "_variable", lambda _name: bucket)

    def write(data, name=None):
        name = name or f"{RUN}/charge/{uuid.uuid4()}.json"
        gcs_server.write(bucket, name, data)
        return f"gcs://{name}"

    return write


@pytest.fixture
def base(tmp_path, monkeypatch):
    """The path of an object-storage backend."""
    path = tmp_path / "objects"
    path.mkdir()
    monkeypatch.setattr(configuration, "common_io_path", lambda: f"file://{path}")
    return path


def read(row, expected=WHERE):
    return reading.read(row, expected, lambda row: BaseXCom.deserialize_value(Row(row))).value


def placed(base, data, suffix="", where=("pay", RUN, "charge")):
    path = base.joinpath(*where, f"{uuid.uuid4()}{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return f"file://{path}"


@pytest.mark.usefixtures("settings", "base")
@pytest.mark.parametrize("value", [VALUE, [1, "two"], "text", 0, None, "gcs://not/followed"])
def test_a_hand_written_row_gives_its_object(old, value):
    assert read(old(json.dumps(value).encode())) == value


@pytest.mark.usefixtures("settings", "base")
def test_a_hand_written_row_is_read_where_the_context_is_not_known(old):
    assert read(old(json.dumps(VALUE).encode()), Expected()) == VALUE


@pytest.mark.usefixtures("base")
@pytest.mark.parametrize(
    ("kinds", "refusal"), [("[]", UnsealedError), ("common-io", UnsealedError)]
)
def test_a_kind_that_is_off_is_not_followed(settings, old, kinds, refusal):
    settings(legacy_reads=kinds)
    with pytest.raises(refusal):
        read(old(json.dumps(VALUE).encode()))


@pytest.mark.usefixtures("settings", "old", "base")
def test_other_plain_rows_follow_the_policy(settings):
    with pytest.raises(UnsealedError):
        read("just a text")
    settings(unsealed_reads="allow")
    assert read("just a text") == "just a text"


@pytest.mark.usefixtures("settings", "base")
def test_a_missing_object_raises_and_is_not_its_path(old, gcs_server, bucket):
    row = old(b"{}")
    gcs_server.delete(bucket, row.removeprefix("gcs://"))
    with pytest.raises(ObjectNotFound, match="gs://"):
        read(row)


@pytest.mark.usefixtures("settings", "base")
@pytest.mark.parametrize("data", [b"", b'{"card": "4000', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_object_raises_without_its_contents(old, data):
    with pytest.raises(FormatError) as caught:
        read(old(data))
    assert "4000" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.usefixtures("base")
def test_an_object_over_the_limit_is_not_downloaded(settings, old):
    settings(max_value_bytes="10")
    with pytest.raises(FormatError, match="max_value_bytes"):
        read(old(json.dumps("x" * 100).encode()))


@pytest.mark.usefixtures("settings", "base")
@pytest.mark.parametrize(
    "expected",
    [
        Expected("pay", "another run", "charge", -1, "k"),
        Expected("pay", RUN, "another", -1, "k"),
    ],
)
def test_a_row_of_another_run_or_task_is_refused(old, expected):
    with pytest.raises(AuthenticationError):
        read(old(json.dumps(VALUE).encode()), expected)


@pytest.mark.usefixtures("settings", "base", "old")
@pytest.mark.parametrize(
    "row",
    [
        "gcs://",
        "gcs://secret.json",
        "gcs://run/charge/not-a-uuid.json",
        f"gcs://../{RUN}/charge/{UUID}.json",
        f"gcs://{RUN}/../charge/{UUID}.json",
        f"gcs://{RUN}//{UUID}.json",
        f"gcs:///{RUN}/charge/{UUID}.json",
    ],
)
def test_a_path_that_was_never_written_is_neither_followed_nor_given(row):
    with pytest.raises(FormatError):
        read(row, Expected())


@pytest.mark.usefixtures("settings", "base")
def test_without_the_variable_the_bucket_is_not_guessed(old, monkeypatch):
    row = old(b"{}")
    monkeypatch.setattr(configuration, "_variable", lambda _name: None)
    with pytest.raises(ConfigError, match="XCOM_BACKEND_DATA_GCS_NAME"):
        read(row)


@pytest.mark.usefixtures("settings", "old")
@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_an_object_storage_row_gives_its_object(base, suffix, pack):
    assert read(placed(base, pack(json.dumps(VALUE).encode()), suffix)) == VALUE


@pytest.mark.usefixtures("settings", "old")
def test_an_object_storage_path_of_airflow_3_4_is_read(base):
    where = ("pay", RUN, "charge", f"ti-{uuid.uuid4()}")
    row = placed(base, json.dumps(VALUE).encode(), ".json", where)
    assert read(row) == VALUE


@pytest.mark.usefixtures("settings", "old")
@pytest.mark.parametrize(
    "expected",
    [
        Expected("other", RUN, "charge", -1, "k"),
        Expected("pay", "another", "charge", -1, "k"),
        Expected("pay", RUN, "other", -1, "k"),
    ],
)
def test_an_object_storage_row_of_another_task_is_refused(base, expected):
    with pytest.raises(AuthenticationError):
        read(placed(base, b"{}"), expected)


@pytest.mark.usefixtures("settings", "old")
@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("pay/../../secret/x/y", FormatError),
        ("pay/./charge/y", FormatError),
        ("secret", FormatError),
        (f"pay/{RUN}/charge/gone", ObjectNotFound),
    ],
)
def test_an_object_storage_path_that_leaves_or_is_gone_raises(base, path, refusal):
    (base.parent / "secret").write_text('"secret"')
    with pytest.raises(refusal):
        read(f"file://{base}/{path}", Expected())


@pytest.mark.usefixtures("settings", "old")
def test_a_path_beside_the_base_is_a_plain_row(base):
    with pytest.raises(UnsealedError):
        read(f"file://{base}-other/pay/{RUN}/charge/x")


@pytest.mark.usefixtures("settings", "old")
@pytest.mark.parametrize(
    ("data", "suffix"),
    [(b"not gzip", ".gz"), (b"{", ""), (gzip.compress(b"{}", mtime=0)[:-9], ".gz")],
)
def test_a_broken_object_storage_object_raises(base, data, suffix):
    with pytest.raises((FormatError, StoreError)):
        read(placed(base, data, suffix))


@pytest.mark.usefixtures("settings", "old")
def test_a_refusal_is_audited(base, caplog):
    caplog.set_level(logging.INFO, "secure_xcom.audit")
    with pytest.raises(SecureXComError):
        read(placed(base, b"{}"), Expected("other", RUN, "charge", -1, "k"))
    event = json.loads(caplog.records[-1].getMessage())
    assert (event["operation"], event["dag_id"], event["error"]) == (
        "refuse",
        "other",
        "AuthenticationError",
    )


def test_what_is_a_reference(base):
    both = (legacy.HAND_WRITTEN, legacy.COMMON_IO)
    assert legacy.is_reference("gcs://x", both)
    assert legacy.is_reference(f"file://{base}/x", both)
    for value in ("gcs:/x", "GCS://x", f"file://{base}", {"gcs://x": 1}, 7, None, b"gcs://x"):
        assert not legacy.is_reference(value, both)
    assert not legacy.is_reference("gcs://x", (legacy.COMMON_IO,))
