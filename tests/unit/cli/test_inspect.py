"""`secure-xcom inspect`: what it shows without a key, what it opens with one, and to whom."""
# ruff: noqa: ARG001, PD013, PLR0913, PLR0917 - fixtures by name; `stack` is not of pandas

from __future__ import annotations

import base64
import dataclasses
import errno
import getpass
import io
import json
import os
import stat
import subprocess
import sys
from types import SimpleNamespace
from uuid import UUID

import pandas as pd
import pytest
from support.deployment import CANARY, WHERE, Deployment
from vectors import generate
from vectors.case import load

from secure_xcom.airflow import versions
from secure_xcom.cli import main
from secure_xcom.cli.inspect import clear, opening, stores, subject
from secure_xcom.errors import ConfigError, FormatError, SecureXComError
from secure_xcom.format.envelope import parse_preamble
from secure_xcom.format.names import object_name
from secure_xcom.model import Expected
from secure_xcom.settings import load as load_settings
from secure_xcom.stack import build_states

MAPPED = dataclasses.replace(WHERE, map_index=2, ti_id=UUID(int=7))
VALUE = {"card": CANARY, "amounts": [1, 2.5, None, True]}


@pytest.fixture
def deployment(tmp_path, monkeypatch):
    """A deployment that is configured by the environment alone, as where Airflow is not."""
    monkeypatch.setattr(versions, "is_installed", lambda: False)
    stores.settings.cache_clear()
    made = Deployment(tmp_path / "deployment")
    for name, value in (
        ("store_uri", made.store_uri),
        ("kek_uri", made.kek_uri),
        ("instance", "prod"),
    ):
        monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{name.upper()}", value)
    yield made
    stores.settings.cache_clear()


@pytest.fixture
def inspect(capsys):
    """Run the command; its exit status, and what it printed where."""

    def run(*arguments):
        capsys.readouterr()  # where Airflow logs to standard output, a test's own values left lines
        code = main(["inspect", *map(str, arguments)])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


@pytest.fixture
def found(inspect):
    """Run it with --json; its exit status and what it found."""

    def run(*arguments):
        done = inspect(*arguments, "--json")
        return done.code, json.loads(done.out)

    return run


def inline(deployment, value=VALUE, where=MAPPED):
    return deployment.stack(threshold_bytes="-1").put(value, where)


def offloaded(deployment, value=VALUE, where=MAPPED):
    return deployment.stack(threshold_bytes="0").put(value, where)


def path_of(deployment, row):
    return deployment.store_folder / row["object"]


def states(deployment, threshold_bytes):
    section = {
        "kek_uri": deployment.kek_uri,
        "store_uri": deployment.store_uri,
        "instance": "prod",
        "threshold_bytes": str(threshold_bytes),
    }
    return build_states(load_settings(section, None, None), "task")


def state(deployment, threshold_bytes):
    return states(deployment, threshold_bytes).to_row(json.dumps(VALUE), WHERE)


CONTEXT = {
    "instance": "prod",
    "dag_id": "payments",
    "run_id": "manual__2026-11-22",
    "task_id": "load",
    "map_index": 2,
    "key": "return_value",
    "ti_id": str(UUID(int=7)),
    "kek_version_hint": "",
    "suite": 1,
    "scope": 1,
    "version": 1,
    "wrapped_key_bytes": 60,
    "payload_bytes": 256,
    "body_bytes": 312,
}


def test_an_inline_row_shows_all_that_stands_in_clear_without_a_key(deployment, found):
    row = inline(deployment)
    deployment.key_file.unlink()
    code, report = found(json.dumps(row))
    assert code == 0
    assert report["ok"] is True
    assert (report["kind"], report["authenticated"]) == ("XCom", False)
    envelope = base64.b64decode(row["envelope"])
    assert CONTEXT.items() <= report["envelope"].items()
    assert report["envelope"]["kek"] == deployment.kek_uri
    assert report["envelope"]["length_bytes"] == len(envelope)
    assert report["envelope"]["preamble_bytes"] == len(envelope) - 312
    assert report["envelope"]["key_id"] in envelope.hex()
    assert report["row"]["placement"] == "inline"
    assert report["row"]["about"] == row["about"]
    assert report["object"] is None


#: What holds of an offloaded row, by the steps of a read.
OFFLOADED = [
    (1, "the row is well-formed"),
    (1, "the length is within max_value_bytes"),
    (1, "the store is trusted"),
    (2, "the preamble is well-formed"),
    (2, "the object's name is the one that the header gives"),
    (3, "the key is trusted"),
    (4, "the deployment (instance) is trusted"),
    (4, "it was sealed as what it stands for: an XCom, or a state of its kind"),
    (7, "the object is there"),
    (7, "row and object agree: length"),
    (8, "row and object agree: checksum"),
]


def test_an_offloaded_row_is_looked_at_step_by_step_and_compared_with_its_object(deployment, found):
    row = offloaded(deployment)
    deployment.key_file.unlink()
    code, report = found(json.dumps(row))
    assert code == 0
    named = ("store", "object", "generation", "length_bytes", "crc32c")
    assert report["object"] == {member: row[member] for member in named}
    assert report["object"].items() <= report["row"].items()
    assert report["row"]["preamble_bytes"] == len(base64.b64decode(row["preamble"]))
    assert CONTEXT.items() <= report["envelope"].items()
    assert [(check["step"], check["what"]) for check in report["checks"]] == OFFLOADED
    assert {(check["holds"], check["error"]) for check in report["checks"]} == {(True, "")}
    assert report["notes"] == []


def test_an_object_alone_shows_its_size_and_whether_it_is_named_as_one(deployment, found, inspect):
    row = offloaded(deployment)
    uri = f"{row['store']}/{row['object']}"
    code, report = found(uri)
    assert (code, report["kind"]) == (0, "body")
    assert (report["row"], report["envelope"]) == (None, None)
    named = ("store", "object", "generation", "length_bytes", "crc32c")
    assert report["object"] == {member: row[member] for member in named}
    assert "stand in the row" in report["notes"][0]
    done = inspect(uri, "--open")
    assert done.code == 2
    assert "Give the row" in done.err
    assert [line["error"] for line in audited(done.err)] == ["ConfigError"]
    path = path_of(deployment, row)
    path.rename(path.with_name("renamed"))
    code, report = found(uri.rpartition("/")[0] + "/renamed")
    assert code == 1
    assert list(disagreeing(report)) == ["the name has the form of an XCom's object"]


def test_a_body_of_a_length_that_no_payload_makes_is_said(deployment, found):
    row = offloaded(deployment)
    path_of(deployment, row).write_bytes(b"\x28" + bytes(200))
    code, report = found(f"{row['store']}/{row['object']}")
    assert (code, list(disagreeing(report))) == (1, ["the length is a body's"])


def test_a_file_holds_an_envelope_a_body_or_a_row(deployment, found, tmp_path):
    kept = tmp_path / "kept"
    envelope = base64.b64decode(inline(deployment)["envelope"])
    kept.write_bytes(envelope)
    code, report = found(kept)
    assert code == 0
    assert report["object"]["length_bytes"] == len(envelope)
    assert CONTEXT.items() <= report["envelope"].items()
    row = offloaded(deployment)
    code, report = found(path_of(deployment, row))
    assert (code, report["kind"]) == (0, "body")
    assert report["object"] == {"length_bytes": row["length_bytes"], "crc32c": row["crc32c"]}
    kept.write_text(json.dumps(row))
    assert found(kept)[1]["row"]["object"] == row["object"]
    kept.write_text("(a text, of another kind: " + "é" * 40)
    assert found(kept)[1]["kind"] == "unsealed"


def test_standard_input_holds_a_row(deployment, found, monkeypatch):
    data = json.dumps(inline(deployment)).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"  " + data + b"\n")))
    assert CONTEXT.items() <= found("-")[1]["envelope"].items()


@pytest.mark.parametrize("times", [1, 2])
def test_a_row_that_the_server_encoded_again_is_read_and_said(deployment, found, times):
    text = json.dumps(inline(deployment))
    for _ in range(times):
        text = json.dumps(text)
    code, report = found(text)
    assert code == 0
    assert CONTEXT.items() <= report["envelope"].items()
    assert "stands as text in JSON" in report["notes"][0]


def test_a_column_of_bytes_may_come_as_postgresql_shows_it(deployment, found):
    text = json.dumps(inline(deployment))
    assert CONTEXT.items() <= found("\\x" + text.encode().hex())[1]["envelope"].items()


def test_without_settings_the_object_is_not_looked_at_and_the_row_is_shown(
    deployment, found, monkeypatch
):
    row = offloaded(deployment)
    monkeypatch.delenv("AIRFLOW__SECURE_XCOM__STORE_URI")
    code, report = found(json.dumps(row))
    assert code == 0
    assert report["row"]["object"] == row["object"]
    assert CONTEXT.items() <= report["envelope"].items()
    assert report["object"] is None
    (check,) = [check for check in report["checks"] if check["holds"] is None]
    assert "store_uri is not set" in check["detail"]


def test_a_store_is_looked_into_without_a_key_being_set(deployment, found, monkeypatch):
    row = offloaded(deployment)
    monkeypatch.delenv("AIRFLOW__SECURE_XCOM__KEK_URI")
    monkeypatch.delenv("AIRFLOW__SECURE_XCOM__INSTANCE")
    code, report = found(json.dumps(row))
    assert (code, report["object"]["object"]) == (0, row["object"])
    assert [check["step"] for check in report["checks"] if check["holds"] is None] == [3, 4]


def disagreeing(report):
    return {check["what"]: check["detail"] for check in report["checks"] if not check["holds"]}


@pytest.mark.parametrize(
    ("member", "other", "what"),
    [("length_bytes", 4711, "length"), ("crc32c", "AAAAAA==", "checksum")],
)
def test_a_row_that_says_otherwise_than_the_object_disagrees(
    deployment, inspect, found, member, other, what
):
    row = offloaded(deployment)
    code, report = found(json.dumps(row | {member: other}))
    assert code == 1
    assert disagreeing(report) == {
        f"row and object agree: {what}": f"the row says {other}, the object has {row[member]}"
    }
    assert errors(report) == ["AuthenticationError"]
    done = inspect(json.dumps(row | {member: other}), "--open")
    assert done.code == 2
    assert CANARY not in done.out + done.err


def test_an_object_that_was_restored_is_said_and_opened(deployment, found):
    row = offloaded(deployment)
    path = path_of(deployment, row)
    os.utime(path, ns=(1, 7))
    code, report = found(json.dumps(row), "--open")
    assert code == 0
    (there,) = [check for check in report["checks"] if check["what"] == "the object is there"]
    assert there["detail"].startswith(f"It is generation 7, and the row says {row['generation']}.")
    assert "as after a restore" in there["detail"]
    assert report["opened"]["value"] == VALUE


def test_another_object_of_another_generation_disagrees(deployment, found):
    row = offloaded(deployment)
    path = path_of(deployment, row)
    path.write_bytes(path.read_bytes() + b"x")
    os.utime(path, ns=(1, 7))
    code, report = found(json.dumps(row))
    assert code == 1
    assert set(disagreeing(report)) == {
        *("row and object agree: length", "row and object agree: checksum"),
    }
    (there,) = [check for check in report["checks"] if check["what"] == "the object is there"]
    assert "if the bucket has kept it" in there["detail"]


def errors(report):
    return [check["error"] for check in report["checks"] if check["holds"] is False]


def test_an_object_of_another_name_disagrees(deployment, found, inspect):
    row = offloaded(deployment)
    name = f"{row['object'][:17]}{'0' * 64}"
    path_of(deployment, row).rename(deployment.store_folder / name)
    moved = json.dumps(row | {"object": name})
    code, report = found(moved)
    assert code == 1
    assert disagreeing(report) == {
        "the object's name is the one that the header gives": f"by the header it is {row['object']}"
    }
    assert errors(report) == ["AuthenticationError"]
    done = inspect(moved, "--open")
    assert done.code == 2
    assert '"operation": "refuse"' in done.err
    assert CANARY not in done.out + done.err


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("INSTANCE", "test", "the deployment (instance) is trusted"),
        ("KEK_URI", "local-kek:///another", "the key is trusted"),
        ("MAX_VALUE_BYTES", "10", "the length is within max_value_bytes"),
    ],
)
@pytest.mark.parametrize("place", [inline, offloaded])
def test_what_a_task_would_refuse_is_said_without_a_key(
    deployment, found, inspect, monkeypatch, setting, value, what, place
):
    row = json.dumps(
        place(deployment, os.urandom(30_000) if setting == "MAX_VALUE_BYTES" else VALUE)
    )
    monkeypatch.setenv(f"AIRFLOW__SECURE_XCOM__{setting}", value)
    code, report = found(row)
    assert (code, list(disagreeing(report))) == (1, [what])
    (error,) = errors(report)
    assert [line["error"] for line in audited(inspect(row, "--open").err)] == [error]
    assert f"{what}: no ({error})" in inspect(row).out


def test_what_was_trusted_before_is_trusted(deployment, found, monkeypatch):
    row = inline(deployment)
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__INSTANCE", "test")
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__TRUSTED_INSTANCES", "prod")
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__TRUSTED_KEKS", deployment.kek_uri)
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__KEK_URI", "local-kek:///another")
    assert found(json.dumps(row))[0] == 0


def test_a_preamble_that_is_none_is_said(deployment, found):
    row = offloaded(deployment)
    preamble = base64.b64decode(row["preamble"])
    for wrong in (preamble + b"x", preamble[:-1], b"junk"):
        changed = row | {"preamble": base64.b64encode(wrong).decode()}
        code, report = found(json.dumps(changed))
        assert (code, report["kind"]) == (1, "malformed")
        assert list(disagreeing(report)) == ["the preamble is well-formed"]
        assert report["object"]["object"] == row["object"]


def test_an_object_that_is_gone_is_said(deployment, found):
    row = offloaded(deployment)
    path_of(deployment, row).unlink()
    code, report = found(json.dumps(row))
    assert code == 1
    assert "There is no object" in disagreeing(report)["the object is there"]


def test_a_store_that_is_not_trusted_is_not_looked_into(deployment, found, inspect, tmp_path):
    row = offloaded(deployment)
    elsewhere = tmp_path / "elsewhere"
    deployment.store_folder.rename(elsewhere)
    code, report = found(json.dumps(row | {"store": f"file://{elsewhere}"}))
    assert code == 1
    assert report["object"] is None
    assert list(disagreeing(report)) == ["the store is trusted"]
    done = inspect(f"file://{elsewhere}/{row['object']}")
    assert (done.code, done.out) == (2, "")
    assert "does not lie in a store of this deployment" in done.err


def test_a_trusted_store_is_looked_into(deployment, found, monkeypatch, tmp_path):
    row = offloaded(deployment)
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__STORE_URI", f"file://{tmp_path}/new")
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__TRUSTED_STORES", deployment.store_uri)
    assert found(json.dumps(row))[0] == 0


def test_no_name_leads_out_of_the_store(deployment, inspect, tmp_path):
    (tmp_path / "secret").write_bytes(b"SXCM" + bytes(400))
    done = inspect(f"{deployment.store_uri}/../../secret")
    assert done.code == 2
    assert "is not the name of an object" in done.err


def test_what_about_says_otherwise_is_noted(deployment, found):
    for place in (inline, offloaded):
        row = place(deployment)
        assert found(json.dumps(row))[1]["row"]["about"] == row["about"]
        for about in ("", row["about"].replace("kek", "key"), f"{row['about']} Believe it."):
            code, report = found(json.dumps(row | {"about": about}))
            assert code == 0  # no reader uses it
            assert report["row"]["about"] == about
            assert report["notes"] == [
                "The row's about says something else than the row. No task uses it."
            ]
    told = deployment.stack(threshold_bytes="0", describe="full").put(VALUE, MAPPED)
    assert "builtins.dict of" in told["about"]
    assert found(json.dumps(told))[1]["notes"] == []
    long = found(json.dumps(row | {"about": "x" * 5000}))[1]
    assert long["row"]["about"] == "x" * 1024


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (json.dumps({"card": CANARY}), "unsealed"),
        (json.dumps([CANARY]), "unsealed"),
        (json.dumps(CANARY), "unsealed"),
        ("null", "unsealed"),
        (f'"gcs://run/task/{UUID(int=1)}.json"', "legacy"),
        (f"gcs://run/task/{UUID(int=1)}.json", "legacy"),
        ('"gs://bucket/xcom/d/r/t/x.gz"', "legacy"),
    ],
)
def test_rows_that_are_not_sealed_are_recognised_and_not_shown(
    deployment, inspect, found, row, kind, tmp_path
):
    if row == "null":
        (tmp_path / "null").write_text(row)
        row = tmp_path / "null"
    code, report = found(row)
    assert (code, report["kind"], report["ok"]) == (1, kind, False)
    assert report["envelope"] is None
    assert CANARY not in json.dumps(report)
    done = inspect(row, "--open")
    assert done.code == 2
    assert "nothing to open" in done.err
    assert CANARY not in done.out + done.err


@pytest.mark.parametrize("threshold_bytes", [-1, 0], ids=["inline", "object"])
def test_states_are_recognised_and_opened(deployment, found, threshold_bytes):
    code, report = found(state(deployment, threshold_bytes), "--open")
    assert (code, report["kind"]) == (0, "state")
    assert report["envelope"]["instance"] == "prod#task-state"
    assert report["opened"]["value"] == VALUE
    assert report["notes"] == []
    if threshold_bytes == 0:
        assert report["object"]["store"] == report["row"]["store"]
        assert report["object"]["object"] == report["row"]["object"]
        assert report["object"]["length_bytes"] == report["envelope"]["length_bytes"]


def test_a_state_that_is_no_json_is_an_error_without_its_text(deployment, inspect):
    row = states(deployment, -1).to_row(CANARY, WHERE)
    done = inspect(row, "--open")
    assert done.code == 2
    assert "not JSON" in done.err
    assert CANARY not in done.out + done.err


def test_a_state_is_read_as_airflow_keeps_it_in_its_table(deployment, found):
    kept = json.dumps({"__airflow_state_ref__": state(deployment, 0)})
    code, report = found(kept)
    assert (code, report["kind"], report["notes"]) == (0, "state", [])
    assert report["envelope"]["task_id"] == "load"
    assert found(json.dumps({"__airflow_state_ref__": [CANARY]}))[1]["kind"] == "unsealed"


def test_the_object_of_a_state_holds_all_and_is_opened(deployment, found, tmp_path):
    row = json.loads(state(deployment, 0))
    path = deployment.store_folder / "~state/task" / row["object"]
    code, report = found(f"file://{path}", "--open")
    assert (code, report["kind"]) == (0, "state")
    assert report["envelope"]["task_id"] == "load"
    assert report["opened"]["value"] == VALUE
    (tmp_path / "downloaded").write_bytes(path.read_bytes())
    code, report = found(tmp_path / "downloaded", "--open")
    assert (code, report["kind"], report["opened"]["value"]) == (0, "state", VALUE)


def test_a_state_in_another_place_is_refused(deployment, found, inspect):
    row = json.loads(state(deployment, 0))
    path = deployment.store_folder / "~state/task" / row["object"]
    # Under another name, and as the other kind.
    name = row["object"][:-64] + "0" * 64
    path.with_name("0" * 64).write_bytes(path.read_bytes())
    as_asset = deployment.store_folder / "~state/asset" / row["object"]
    as_asset.parent.mkdir(parents=True)
    as_asset.write_bytes(path.read_bytes())
    for moved, what in (
        (row | {"object": name}, "the object's name is the one that the header gives"),
        (
            row | {"store": row["store"].replace("task", "asset")},
            "it was sealed as what it stands for: an XCom, or a state of its kind",
        ),
    ):
        code, report = found(json.dumps(moved))
        assert (code, list(disagreeing(report))) == (1, [what])
        assert errors(report) == ["AuthenticationError"]
        done = inspect(json.dumps(moved), "--open")
        assert (done.code, [line["error"] for line in audited(done.err)]) == (
            *(2, ["AuthenticationError"]),
        )


def test_a_state_s_preamble_in_the_row_of_an_xcom_is_refused(deployment, found, inspect):
    envelope = base64.b64decode(json.loads(state(deployment, -1))["envelope"])
    preamble = parse_preamble(envelope)
    row = offloaded(deployment)
    row |= {
        "preamble": base64.b64encode(envelope[: preamble.length_bytes]).decode(),
        "object": object_name("prod#task-state", preamble.header_bytes),
    }
    code, report = found(json.dumps(row))
    assert (code, list(disagreeing(report))) == (
        1,
        [
            "it was sealed as what it stands for: an XCom, or a state of its kind",
            "the object is there",
        ],
    )
    assert [line["error"] for line in audited(inspect(json.dumps(row), "--open").err)] == [
        "AuthenticationError"
    ]


def test_a_state_without_an_object_or_of_no_state_store_is_said(deployment, found, inspect):
    row = json.loads(state(deployment, 0))
    for changed, what, error in (
        (row | {"store": deployment.store_uri}, "the store is trusted", "ConfigError"),
        (row | {"object": row["object"][:-1]}, "the row is well-formed", "FormatError"),
    ):
        code, report = found(json.dumps(changed))
        assert (code, list(disagreeing(report)), errors(report)) == (1, [what], [error])
        done = inspect(json.dumps(changed), "--open")
        assert [line["error"] for line in audited(done.err)] == [error]
    (deployment.store_folder / "~state/task" / row["object"]).unlink()
    code, report = found(json.dumps(row))
    assert (code, list(disagreeing(report))) == (1, ["the object is there"])
    assert errors(report) == ["ObjectNotFound"]


HOSTILE = "d\x1b]0;owned\x07\x1b[2J\u202e\x9b31m\n"


def test_what_is_not_authenticated_gives_no_orders_to_a_terminal(deployment, inspect, tmp_path):
    where = dataclasses.replace(WHERE, dag_id=HOSTILE)
    row = inline(deployment, where=where)
    row["about"] = HOSTILE
    hostile = tmp_path / HOSTILE.strip()
    hostile.write_text(json.dumps(row))
    printed = ""
    for what in (json.dumps(row), hostile, json.dumps(row | {HOSTILE: 1})):
        for options in ((), ("--json",), ("--open",)):
            done = inspect(what, *options)
            printed += done.out + done.err
    for name in (HOSTILE, f"gs://{HOSTILE}", f'{{"{HOSTILE}'):
        done = inspect(name)
        assert done.code in (1, 2)
        printed += done.out + done.err
    assert "\\u001b]0;owned" in printed
    assert {one for one in printed if not one.isprintable()} == {"\n"}


def test_what_is_opened_gives_no_orders_to_a_terminal_either(deployment, inspect):
    for value in (HOSTILE, [HOSTILE], (HOSTILE,), HOSTILE.encode(), {HOSTILE: 1}):
        done = inspect(json.dumps(inline(deployment, value)), "--open")
        assert done.code == 0
        assert "owned" in done.out
        assert {one for one in done.out if not one.isprintable()} == {"\n"}


@pytest.mark.parametrize(
    "path", sorted(generate.FILES.glob("bad-*.txt")), ids=lambda path: path.stem
)
def test_no_malformed_vector_makes_it_crash(deployment, path, tmp_path):
    """Rows, and objects as files: an answer or one of our errors, and nothing else."""
    vector = load(path.stem, path.read_text(encoding="utf-8"))
    answers = [vector.row]
    if vector.object and vector.object[2]:
        kept = tmp_path / "object"
        kept.write_bytes(vector.object[2])
        answers.append(str(kept))
    (tmp_path / "row").write_text(vector.row, encoding="utf-8")
    answers.append(str(tmp_path / "row"))
    for what in answers:
        try:
            report = clear.report_on(subject.given(what))
        except SecureXComError:
            continue
        json.dumps(report.as_json())
        if vector.expect == "FormatError" and what == vector.row and not vector.data_key:
            assert not report.ok


def test_junk_is_not_an_envelope(deployment, found, tmp_path):
    junk = tmp_path / "junk"
    for data in (b"SXCM", b"SXCM\x01" + os.urandom(500), b"SXCM\x01\xff\xff" + bytes(13_000)):
        junk.write_bytes(data)
        code, report = found(junk)
        assert (code, report["kind"]) == (1, "malformed")
    for data in (b"", os.urandom(500), b"[" * 100_000, b"9" * 10_000):
        junk.write_bytes(data)
        assert found(junk)[1]["kind"] == "unsealed"


def test_a_row_is_read_up_to_a_bound(deployment, inspect, tmp_path, monkeypatch):
    monkeypatch.setattr(subject, "ROW_BYTES_MAX", 1000)
    (tmp_path / "row").write_text(json.dumps("x" * 998))
    assert inspect(tmp_path / "row").code == 1
    (tmp_path / "row").write_text(json.dumps("x" * 999))
    done = inspect(tmp_path / "row")
    assert done.code == 2
    assert "1000 bytes" in done.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[" * 1001)))
    assert inspect("-").code == 2


def test_what_cannot_be_looked_at_is_said(deployment, inspect, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for what, said in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "cannot be read"),
        (tmp_path / "missing", "is no file"),
        ("x" * 5000, "is no file"),
        ("", "the argument is empty"),
    ):
        done = inspect(what)
        assert (done.code, done.out) == (2, "")
        assert said in done.err


# --open


def audited(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith('{"time"')]


@pytest.mark.parametrize("place", [inline, offloaded])
def test_it_opens_with_the_deployment_s_settings_and_says_so(deployment, inspect, place):
    row = place(deployment)
    done = inspect(json.dumps(row), "--open")
    assert done.code == 0
    assert json.loads(done.out.partition("Opened: builtins.dict\n")[2]) == VALUE
    (line,) = audited(done.err)
    assert line["operation"] == "open"
    assert line["outcome"] == "ok"
    assert line["actor"] == f"inspect:{getpass.getuser()}"
    assert [line[name] for name in ("dag_id", "run_id", "task_id", "map_index", "key")] == [
        *("payments", "manual__2026-11-22", "load", 2, "return_value")
    ]
    assert line["object"] == row.get("object")
    assert CANARY not in done.err


def test_a_file_is_opened(deployment, found, tmp_path):
    kept = tmp_path / "kept"
    for data in (
        base64.b64decode(inline(deployment)["envelope"]),
        json.dumps(offloaded(deployment)).encode(),
    ):
        kept.write_bytes(data)
        code, report = found(kept, "--open")
        assert code == 0
        assert report["authenticated"] is True
        assert report["opened"] == {"type": "builtins.dict", "form": "JSON", "value": VALUE}


@pytest.mark.parametrize(
    ("value", "form", "written"),
    [
        (VALUE, "JSON", json.dumps(VALUE, indent=2).encode() + b"\n"),
        (f"é {CANARY}", "text", f"é {CANARY}".encode()),
        (b"\x00\xff", "bytes", b"\x00\xff"),
        ((1, 2), "repr", b"(1, 2)\n"),
        ([float("nan")], "repr", b"[nan]\n"),
        (pd.DataFrame({"a": range(200)}), "CSV", pd.DataFrame({"a": range(200)}).to_csv().encode()),
    ],
    ids=["JSON", "text", "bytes", "tuple", "nan", "frame"],
)
def test_it_writes_to_a_new_file_for_its_owner_alone(
    deployment, inspect, found, tmp_path, value, form, written
):
    row = json.dumps(inline(deployment, value))
    output = tmp_path / "value"
    before = os.umask(0)
    try:
        code, report = found(row, "--open", "--output", output)
    finally:
        os.umask(before)
    assert code == 0
    assert output.read_bytes() == written
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    assert report["opened"]["form"] == form
    assert (report["opened"]["file"], report["opened"]["bytes"]) == (str(output), len(written))
    assert CANARY not in json.dumps(report)
    done = inspect(row, "--open", "--output", output)
    assert done.code == 2
    assert "is left as it is" in done.err
    assert audited(done.err) == []
    assert output.read_bytes() == written


def test_bytes_go_into_json_as_base64(deployment, found):
    _, report = found(json.dumps(inline(deployment, b"\x00\xff")), "--open")
    assert report["opened"] == {"type": "builtins.bytes", "form": "bytes", "base64": "AP8="}


def test_an_output_is_not_written_through_a_link(deployment, inspect, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    done = inspect(json.dumps(inline(deployment)), "--open", "--output", tmp_path / "link")
    assert done.code == 2
    assert not (tmp_path / "target").exists()


def test_a_file_that_could_not_be_closed_is_taken_away_and_said(
    deployment, inspect, tmp_path, monkeypatch
):
    """Some file systems keep nothing until then."""
    output = tmp_path / "value"
    close = os.close

    def full(descriptor):
        is_output = os.path.samestat(os.fstat(descriptor), output.stat())
        close(descriptor)
        if is_output:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with monkeypatch.context() as patched:
        patched.setattr(opening.os, "close", full)
        done = inspect(json.dumps(inline(deployment)), "--open", "--output", output)
    assert done.code == 2
    assert "could not be written: Disk quota exceeded" in done.err
    assert not output.exists()


def test_an_output_without_open_is_a_mistake(deployment, inspect, tmp_path):
    done = inspect(json.dumps(inline(deployment)), "--output", tmp_path / "value")
    assert (done.code, done.out) == (2, "")
    assert not (tmp_path / "value").exists()


def other_key(deployment, monkeypatch):
    deployment.key_file.write_text(
        f"secure-xcom-local-kek-1 {base64.b64encode(os.urandom(32)).decode()}\n"
    )
    return "AuthenticationError", "refuse"


def no_key(deployment, monkeypatch):
    deployment.key_file.unlink()
    return "ConfigError", "refuse"


def other_kek(deployment, monkeypatch):
    other = f"local-kek://{deployment.folder}/other"
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__KEK_URI", other)
    return "ConfigError", "refuse"


def other_instance(deployment, monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__INSTANCE", "test")
    return "ConfigError", "refuse"


def wrong_setting(deployment, monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__UNSEALED_READS", "perhaps")
    return "ConfigError", "refuse"


def low_limit(deployment, monkeypatch):
    monkeypatch.setenv("AIRFLOW__SECURE_XCOM__MAX_VALUE_BYTES", "10")
    return "FormatError", "refuse"


@pytest.mark.parametrize("place", [inline, offloaded, "file"])
@pytest.mark.parametrize(
    "change", [other_key, no_key, other_kek, other_instance, wrong_setting, low_limit]
)
def test_it_fails_closed(deployment, inspect, tmp_path, monkeypatch, place, change):
    if place == "file":
        what = tmp_path / "envelope"
        what.write_bytes(
            base64.b64decode(inline(deployment, [os.urandom(9000), VALUE])["envelope"])
        )
    else:
        what = json.dumps(place(deployment, [os.urandom(9000), VALUE]))
    error, operation = change(deployment, monkeypatch)
    output = tmp_path / "value"
    for options in ((), ("--json",), ("--output", output)):
        done = inspect(what, "--open", *options)
        assert done.code == 2
        assert "Opened" not in done.out
        assert CANARY not in done.out + done.err
        assert [(line["operation"], line["error"]) for line in audited(done.err)] == [
            (operation, error)
        ]
    assert not output.exists()


def test_a_file_is_not_read_that_is_longer_than_a_value_may_be(tmp_path):
    missing = subject.File(tmp_path / "missing", 1001, 0, b"")
    with pytest.raises(FormatError, match="1000"):
        opening._read(missing, 1000)
    with pytest.raises(ConfigError, match="cannot be read"):
        opening._read(missing, 1001)


def test_an_envelope_that_was_altered_is_not_opened(deployment, inspect, tmp_path):
    data = bytearray(base64.b64decode(inline(deployment)["envelope"]))
    data[-20] ^= 1
    (tmp_path / "envelope").write_bytes(data)
    assert inspect(tmp_path / "envelope").code == 0
    done = inspect(tmp_path / "envelope", "--open")
    assert done.code == 2
    assert "could not be authenticated" in done.err


def test_without_airflow_it_imports_none_and_needs_no_cryptography_to_show(deployment):
    code = """
import sys
sys.modules["airflow"] = None
from secure_xcom.airflow import versions
from secure_xcom.cli import main
code = main(["inspect", sys.argv[1]])
assert not any(name.partition(".")[0] == "airflow" for name in sys.modules if name != "airflow")
raise SystemExit(code)
"""
    row = inline(deployment)
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(row)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "manual__2026-11-22" in done.stdout


def test_nothing_is_expected_that_the_reader_is_not_told(deployment, found):
    """What opens here opens by what it says of itself; a task compares."""
    row = inline(deployment)
    assert found(json.dumps(row), "--open")[0] == 0
    assert deployment.stack().get(row, Expected.exactly(MAPPED)).value == VALUE


@pytest.mark.parametrize("argument", ["", "  ", "\n"])
def test_an_empty_argument_is_called_so(argument, capsys):
    assert main(["inspect", argument]) == 2
    assert "the argument is empty" in capsys.readouterr().err
