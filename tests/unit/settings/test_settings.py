from __future__ import annotations

import dataclasses
import json
from collections import UserDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_xcom.errors import ConfigError
from secure_xcom.keys import open_kek
from secure_xcom.settings import CLEAR_KEYS, TABLE, Settings, is_kek_uri, is_store_uri, load
from secure_xcom.stores import open_store

KEK = "gcp-kms://projects/acme-data/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom"
OTHER_KEK = "gcp-kms://projects/acme-data/locations/europe-west1/keyRings/airflow/cryptoKeys/old"
STORE = "gs://acme-xcom/prod"
WORKING = {"kek_uri": KEK, "store_uri": STORE}

ROWS = {row.name: row for row in TABLE}
TUNING = {row.name for row in TABLE if row.tuning}
ONLY_IN_SECTION = {"log_return_values", "unlocked"}
PROTECTED = set(ROWS) - TUNING - ONLY_IN_SECTION


def faults(section=None, variable=None, bucket=None, **names) -> list[str]:
    """The lines of the one ConfigError that this must raise."""
    with pytest.raises(ConfigError) as caught:
        load(section or {}, variable, bucket, **names)
    first, *lines = str(caught.value).split("\n")
    assert first == "secure_xcom writes and reads nothing until its settings are right:"
    assert all(line.startswith("- ") for line in lines)
    return [line.removeprefix("- ") for line in lines]


def as_json(row):
    """A row's example as the Variable would hold it."""
    value = row.kind.from_text(row.example)
    assert row.kind.accepts(value)
    return value


def test_the_defaults_are_the_designed_ones():
    assert load(WORKING, None, None) == Settings(
        store_uri=STORE,
        kek_uri=KEK,
        trusted_keks=(),
        instance="",
        trusted_instances=(),
        trusted_stores=(),
        gcp_conn_id="",
        threshold_bytes=49152,
        compression="zstd",
        max_value_bytes=8 * 1024**3,
        cache_max_bytes=64 * 1024**2,
        data_key_ttl_seconds=300,
        settings_ttl_seconds=60,
        clear_keys=("skipmixin_key", "past_depends_met", "_link_*", "trigger_run_id"),
        unsealed_reads="deny",
        legacy_reads=(),
        describe="minimal",
        mask_pulled_values=True,
        log_return_values=False,
        require_cloud_kms=False,
        strict=False,
        unlocked=(),
    )


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(WORKING, None, None).threshold_bytes = 0


def test_everything_set_in_the_section_arrives():
    section = {row.name: row.example for row in TABLE if row.name != "strict"} | WORKING
    settings = load(section, None, None)
    for row in TABLE:
        if row.name not in {*WORKING, "strict"}:
            value = as_json(row)
            expected = tuple(value) if isinstance(value, list) else value
            assert getattr(settings, row.name) == expected
            assert expected != row.default, f"the example of {row.name} is its default"


def test_a_deployment_configured_by_variables_alone_works():
    variable = {
        row.name: as_json(row) for row in TABLE if row.name not in ONLY_IN_SECTION | {"strict"}
    }
    from_text = load({}, json.dumps(variable), None)
    assert from_text == load({}, variable, None)
    assert from_text.kek_uri == ROWS["kek_uri"].example
    assert from_text.unsealed_reads == "warn"


def test_the_variable_is_over_the_section_for_tuning_settings():
    assert {
        "threshold_bytes",
        "compression",
        "cache_max_bytes",
        "kms_deadline_seconds",
        "store_deadline_seconds",
        "unmasked_texts",
    } == TUNING
    settings = load(
        {**WORKING, "threshold_bytes": "1", "cache_max_bytes": "2"},
        '{"threshold_bytes": -1, "compression": "none"}',
        None,
    )
    assert settings.threshold_bytes == -1
    assert settings.cache_max_bytes == 2
    assert settings.compression == "none"


@pytest.mark.parametrize("name", sorted(PROTECTED))
@pytest.mark.parametrize("setter", sorted(PROTECTED | {"unlocked"}))
def test_one_protected_setting_in_the_section_locks_all_of_them(setter, name):
    section = {setter: ROWS[setter].example}
    if setter == "unlocked":
        section = {"unlocked": "[]"}
    variable = {**{k: as_json(ROWS[k]) for k in WORKING if k != setter}, name: as_json(ROWS[name])}
    refused = [line for line in faults(section, variable) if line.startswith(f"{name}, ")]
    [line] = refused
    assert line == (
        f"{name}, from the Variable SECURE_XCOM, is protected: airflow.cfg [secure_xcom] sets "
        f"{setter}, so set {name} there too, or name it in unlocked there"
    )


def test_a_left_out_setting_with_a_safe_default_is_locked_too():
    lines = faults(WORKING, {"clear_keys": ["return_value"], "trusted_keks": [OTHER_KEK]})
    assert [line.split(",")[0] for line in lines] == ["clear_keys", "trusted_keks"]


def test_a_protected_setting_that_is_wrong_locks_all_the_same():
    lines = faults({"unsealed_reads": "no"}, {"kek_uri": KEK, "store_uri": STORE})
    assert [line.split(",")[0] for line in lines] == ["unsealed_reads", "kek_uri", "store_uri"]


def test_tuning_settings_in_the_section_lock_nothing():
    section = {name: ROWS[name].example for name in TUNING}
    assert load(section, dict(WORKING), None).kek_uri == KEK


def test_an_unlocked_setting_may_come_from_the_variable_over_the_section():
    section = {**WORKING, "instance": "from-cfg", "unlocked": "instance"}
    assert load(section, {"instance": "from-variable"}, None).instance == "from-variable"
    [line] = faults(section, {"instance": "x", "describe": "full"})
    assert line.startswith("describe, from the Variable SECURE_XCOM, is protected")


def test_the_variable_never_unlocks():
    for section in ({}, WORKING):
        lines = faults(section, {"unlocked": ["clear_keys"], **({} if section else WORKING)})
        assert lines == [
            "unlocked, from the Variable SECURE_XCOM: only airflow.cfg [secure_xcom] may set it"
        ]


@pytest.mark.parametrize("name", ["unlocked", "threshold_bytes", "nonsense"])
def test_only_protected_settings_can_be_unlocked(name):
    [line] = faults({**WORKING, "unlocked": name})
    assert line.startswith("unlocked, from airflow.cfg [secure_xcom], is ")
    assert "names of protected settings" in line


def test_the_bucket_variable_is_the_store_where_none_is_set():
    assert load({"kek_uri": KEK}, None, "acme-bucket").store_uri == "gs://acme-bucket"
    assert load(WORKING, None, "acme-bucket").store_uri == STORE
    assert load({}, dict(WORKING), "acme-bucket").store_uri == STORE


@pytest.mark.parametrize("bucket", ["gs://acme-bucket", "acme/prefix", "Acme", "gs://a"])
def test_a_bucket_variable_that_is_no_bucket_name_is_a_fault(bucket):
    [line] = faults({"kek_uri": KEK}, None, bucket)
    variable = "the Variable XCOM_BACKEND_DATA_GCS_NAME"
    said = f"{variable} is {json.dumps(bucket)}; allowed: the bare name of a bucket"
    assert line == said or line.startswith(f"{said}. Probably meant: acme")


@pytest.mark.parametrize("bucket", ["", "a", "a b c"])
def test_of_a_bucket_variable_that_may_be_anything_the_beginning_is_shown(bucket):
    [line] = faults({"kek_uri": KEK}, None, bucket)
    shown = f"{bucket[: len(bucket) // 2]}… ({len(bucket)} characters)"
    assert line.startswith(f'the Variable XCOM_BACKEND_DATA_GCS_NAME is "{shown}"; allowed: ')


def test_a_wrong_store_uri_is_not_replaced_by_the_bucket():
    [line] = faults({"kek_uri": KEK, "store_uri": "s3://acme"}, None, "acme-bucket")
    assert line.startswith('store_uri, from airflow.cfg [secure_xcom], is "s3://acme"; allowed: ')


def test_a_missing_key_or_store_says_what_to_set():
    store, kek = faults()
    assert store == (
        "store_uri is not set: set it in airflow.cfg [secure_xcom] to gs://bucket/prefix (at most "
        "199 characters of prefix) or file:///dir, no slash at the end"
    )
    assert kek == (
        "kek_uri is not set: set it in airflow.cfg [secure_xcom] to gcp-kms://projects/P/"
        "locations/L/keyRings/R/cryptoKeys/K or local-kek:///path"
    )


def test_all_faults_come_at_once_each_with_its_source_its_value_and_what_is_allowed():
    lines = faults(
        {"kek_uri": "kms://key", "describe": "all", "treshold_bytes": "1"},
        {"threshold_bytes": "64 KiB", "compression": None, "instance": "x"},
        "Not A Bucket",
    )
    assert "\n".join(lines) == (
        'kek_uri, from airflow.cfg [secure_xcom], is "kms://key"; '
        f"allowed: {ROWS['kek_uri'].kind.allowed}\n"
        'describe, from airflow.cfg [secure_xcom], is "all"; allowed: one of minimal, full\n'
        '"treshold_bytes", from airflow.cfg [secure_xcom], is not a setting; '
        "did you mean threshold_bytes?\n"
        "instance, from the Variable SECURE_XCOM, is protected: airflow.cfg [secure_xcom] sets "
        "kek_uri, describe, so set instance there too, or name it in unlocked there\n"
        'threshold_bytes, from the Variable SECURE_XCOM, is "64 KiB"; allowed: a plain integer of '
        "bytes, from -1 to 1099511627776. Probably meant: 65536 (in bytes, and digits alone).\n"
        "compression, from the Variable SECURE_XCOM, is null; allowed: one of zstd, none\n"
        'the Variable XCOM_BACKEND_DATA_GCS_NAME is "Not … (12 characters)"; allowed: the bare '
        "name of a bucket"
    )


def test_an_unknown_name_is_a_fault_and_what_it_holds_is_not_shown():
    lines = faults({**WORKING, "password": "hunter2"}, {"zzz": "hunter3"})
    assert lines[0].startswith('"password", from airflow.cfg [secure_xcom], is not a setting; ')
    assert lines[1].startswith('"zzz", from the Variable SECURE_XCOM, is not a setting; known are ')
    assert all(name in lines[1] for name in ROWS)
    assert "hunter" not in "".join(lines)


def test_a_long_wrong_value_is_cut():
    [line] = faults({**WORKING, "instance": "é" * 100_000})
    assert len(line) < 300


@pytest.mark.parametrize(
    "variable",
    ["", "{", "[]", "1", "null", '"text"', "[" * 100_000, '{"instance": "a", "instance": "b"}'],
)
def test_a_variable_that_is_no_json_object_is_a_fault(variable):
    [line] = faults(WORKING, variable)
    assert line.startswith("the Variable SECURE_XCOM is not a JSON object with each name once. ")
    assert line.endswith(".")


@pytest.mark.parametrize("variable", [[], 5, {5: 5}])
def test_a_parsed_variable_that_is_no_object_is_a_fault(variable):
    [line] = faults(WORKING, variable)
    assert "not a JSON object" in line


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("threshold_bytes", " 49153 ", 49153),
        ("threshold_bytes", "-1", -1),
        ("threshold_bytes", "0", 0),
        ("max_value_bytes", str(1 << 40), 1 << 40),
        ("data_key_ttl_seconds", "3600", 3600),
        ("settings_ttl_seconds", "0", 0),
        ("cache_max_bytes", "0", 0),
        ("trusted_keks", f"{KEK},{OTHER_KEK}", (KEK, OTHER_KEK)),
        ("trusted_keks", f"\n{KEK}\n,\n{OTHER_KEK}", (KEK, OTHER_KEK)),
        ("trusted_keks", f'["{KEK}"]', (KEK,)),
        ("trusted_keks", "[]", ()),
        ("trusted_stores", '["file:///a,b"]', ("file:///a,b",)),
        ("trusted_instances", '["", "old"]', ("", "old")),
        ("clear_keys", "[]", ()),
        ("clear_keys", "a, b_*, c?", ("a", "b_*", "c?")),
        ("instance", "", ""),
        ("instance", "prod/eu-1@acme:a.b_c", "prod/eu-1@acme:a.b_c"),
        ("gcp_conn_id", "google_cloud_storage_default", "google_cloud_storage_default"),
    ],
)
def test_text_that_is_allowed(name, text, expected):
    assert getattr(load({**WORKING, name: text}, None, None), name) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("threshold_bytes", text)
            for text in ("", "-2", "1e3", "1_000", "64k", "1.0", "٣", "0x10", "true", "9" * 19)
        ),
        ("threshold_bytes", str((1 << 40) + 1)),
        ("max_value_bytes", "0"),
        ("max_value_bytes", str((1 << 40) + 1)),
        ("cache_max_bytes", "-1"),
        ("data_key_ttl_seconds", "0"),
        ("data_key_ttl_seconds", "3601"),
        ("settings_ttl_seconds", "-1"),
        ("compression", "gzip"),
        ("compression", "ZSTD"),
        ("compression", ""),
        ("unsealed_reads", "denied"),
        ("describe", ""),
        ("trusted_keks", ""),
        ("trusted_keks", f"{KEK},"),
        ("trusted_keks", f"{KEK} {OTHER_KEK}"),
        ("trusted_keks", f'["{KEK}"'),
        ("trusted_keks", f'["{KEK}", 1]'),
        ("trusted_keks", "[" * 100_000),
        ("trusted_instances", ""),
        ("trusted_stores", "file:///a,b"),
        ("clear_keys", ""),
        ("clear_keys", '[""]'),
        ("clear_keys", "*"),
        ("clear_keys", "??*"),
        ("clear_keys", "k" * 513),
        ("instance", "a b"),
        ("instance", "i" * 129),
        ("gcp_conn_id", "a b"),
    ],
)
def test_text_that_is_not_allowed(name, text):
    [line] = faults({**WORKING, name: text})
    assert line.startswith(f"{name}, from airflow.cfg [secure_xcom], is ")
    _, allowed, advice = line.partition(f"; allowed: {ROWS[name].kind.allowed}")
    assert allowed
    assert advice == "" or advice.startswith((". Probably meant: ", ". Write it as a JSON list"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threshold_bytes", "65536"),
        ("threshold_bytes", True),
        ("threshold_bytes", 1.0),
        ("threshold_bytes", float("nan")),
        ("threshold_bytes", None),
        ("threshold_bytes", [1]),
        ("compression", ["zstd"]),
        ("trusted_keks", KEK),
        ("trusted_keks", {KEK: 1}),
        ("trusted_keks", [[KEK]]),
        ("instance", 5),
        ("clear_keys", "a,b"),
    ],
)
def test_the_variable_takes_json_types_and_no_others(name, value):
    variable = {**WORKING, name: value}
    [line] = faults({}, variable)
    assert line.startswith(f"{name}, from the Variable SECURE_XCOM, is ")


@pytest.mark.parametrize(
    "uri",
    [
        KEK,
        "gcp-kms://projects/example.com:legacy/locations/global/keyRings/R_1/cryptoKeys/K-2",
        "local-kek:///home/me/airflow/kek",
        "local-kek:///home/me/.local/my kek",
    ],
)
def test_key_uris_that_are_allowed(uri):
    assert is_kek_uri(uri)
    assert load({**WORKING, "kek_uri": uri}, None, None).kek_uri == uri
    assert open_kek(uri).uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "kms://" + KEK,
        KEK.removeprefix("gcp-kms://"),
        KEK.upper(),
        KEK + "/",
        KEK + "\n",
        KEK + "/cryptoKeyVersions/1",
        KEK.replace("acme-data", ""),
        KEK.replace("acme-data", "../x"),
        KEK.replace("acme-data", "123456789012"),
        KEK.replace("/keyRings/airflow", ""),
        KEK.replace("cryptoKeys/xcom", "cryptoKeys/" + "k" * 64),
        "local-kek://",
        "local-kek:///",
        "local-kek://relative/kek",
        "local-kek:///a/../kek",
        "local-kek:///a/./kek",
        "local-kek:///a//kek",
        "local-kek:///a/kek/",
        "local-kek:///a\nb",
        "local-kek:///a\ud800",
        "local-kek:///" + "k" * 512,
        "file:///kek",
    ],
)
def test_key_uris_that_are_not_allowed(uri):
    assert not is_kek_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "gs://acme-xcom",
        STORE,
        "gs://acme.xcom_1/a/b=c/d~e/..f",
        "gs://acme-xcom/" + "a" * 199,
        "file:///var/lib/airflow/xcom",
        "file:///var/lib/my xcom",
    ],
)
def test_store_uris_that_are_allowed(uri):
    assert is_store_uri(uri)
    assert load({**WORKING, "store_uri": uri}, None, None).store_uri == uri
    assert open_store(uri).uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://",
        "gs:///prefix",
        "gs://ab",
        "gs://Acme",
        "gs://acme-xcom/",
        "gs://acme-xcom//a",
        "gs://acme-xcom/a/",
        "gs://acme-xcom/../other",
        "gs://acme-xcom/a/..",
        "gs://acme-xcom/./a",
        "gs://acme-xcom/a b",
        "gs://acme-xcom/a%2fb",
        "gs://acme-xcom/a?b",
        "gs://acme-xcom/a#b",
        "gs://acme-xcom/a\n",
        "gs://acme-xcom/" + "a" * 200,
        "file:///" + "a" * 512,
        "gcs://acme-xcom/a",
        "s3://acme-xcom/a",
        "acme-xcom",
        "file://",
        "file:///",
        "file://host/dir",
        "file:dir",
        "file:///a/../b",
        "file:///a/",
        "file:///a//b",
        "file:///a\x00b",
    ],
)
def test_store_uris_that_are_not_allowed(uri):
    assert not is_store_uri(uri)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
names = st.sampled_from(sorted(ROWS)) | st.text()


@given(
    st.dictionaries(names, st.text()),
    st.none() | st.text() | st.dictionaries(names, json_values),
    st.none() | st.text(),
)
def test_whatever_is_configured_gives_settings_or_a_config_error(section, variable, bucket):
    try:
        settings = load(section, variable, bucket)
    except ConfigError:
        return
    assert is_kek_uri(settings.kek_uri)
    assert is_store_uri(settings.store_uri)


def test_the_table_is_the_dataclass():
    assert [row.name for row in TABLE] == [row.name for row in dataclasses.fields(Settings)]
    assert ROWS["clear_keys"].default == CLEAR_KEYS
    assert {row.name for row in TABLE if row.default is None} == {"store_uri", "kek_uri"}


STRICT = WORKING | {"strict": "true", "instance": "prod-eu"}
LOCAL_KEK = "local-kek:///etc/kek"


def test_strict_needs_no_more_than_a_name():
    settings = load(STRICT, None, None)
    assert settings.strict
    assert load(STRICT | {"require_cloud_kms": "true"}, None, None).require_cloud_kms


@pytest.mark.parametrize("switch", ["require_cloud_kms", "strict"])
@pytest.mark.parametrize(
    "keks", [{"kek_uri": LOCAL_KEK}, {"trusted_keks": f"{OTHER_KEK},{LOCAL_KEK}"}]
)
def test_keys_that_are_not_of_cloud_kms_are_refused(switch, keks):
    [name] = keks
    section = WORKING | keks | {"instance": "prod-eu"}
    load(section, None, None)
    [line] = faults(section | {switch: "true"})
    assert line == (
        f"{name}, from airflow.cfg [secure_xcom], has {LOCAL_KEK}, which is no Cloud KMS key, and "
        f"{switch} (from airflow.cfg [secure_xcom]) refuses it"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("require_cloud_kms", "false"),
        ("unsealed_reads", "warn"),
        ("unsealed_reads", "allow"),
        ("legacy_reads", "gcs"),
        ("mask_pulled_values", "false"),
        ("log_return_values", "true"),
    ],
)
def test_a_setting_against_strict_is_an_error_and_not_overruled(name, value):
    [line] = faults(STRICT | {name: value})
    shown = json.dumps(["gcs"]) if name == "legacy_reads" else value
    assert line == (
        f"{name}, from airflow.cfg [secure_xcom], is {shown}, and strict (from airflow.cfg "
        "[secure_xcom]) refuses it; leave it out"
    )


def test_strict_needs_a_name():
    section = {**STRICT, "instance": ""}
    [line] = faults(section)
    assert line.startswith("instance is not set, and strict (from airflow.cfg [secure_xcom]) needs")
    del section["instance"]
    assert faults(section) == [line]
    [line] = faults(STRICT | {"trusted_instances": '["", "prod-us"]'})
    assert line.startswith("trusted_instances, from airflow.cfg [secure_xcom], has the empty name")


def test_all_that_stands_against_strict_is_named_at_once():
    lines = faults(
        {
            "strict": "true",
            "store_uri": STORE,
            "kek_uri": LOCAL_KEK,
            "unsealed_reads": "warn",
            "mask_pulled_values": "false",
            "threshold_bytes": "x",
        }
    )
    named = [line.replace(",", " ").split()[0] for line in lines]
    assert named == [
        "threshold_bytes",
        "kek_uri",
        "unsealed_reads",
        "mask_pulled_values",
        "instance",
    ]


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "odd",
    [10**5000, -(10**5000), deep(1500), deep(100_000), object(), b"text", {1: 2}, {(): []}, {1, 2}],
    ids=["number", "negative", "deep", "deeper", "object", "bytes", "keys", "tuples", "set"],
)
def test_odd_values_are_errors_of_ours(odd):
    for row in TABLE:
        if row.section_only:
            continue
        with pytest.raises(ConfigError, match=row.name):
            load({}, WORKING | {row.name: odd}, None)
        with pytest.raises(ConfigError, match=row.name):
            load(WORKING | {row.name: odd}, None, None)
    with pytest.raises(ConfigError):
        load({"kek_uri": WORKING["kek_uri"]}, None, odd)


@pytest.mark.parametrize("method", ["items", "__iter__", "__len__", "__getitem__"])
@pytest.mark.parametrize("error", [ValueError, RecursionError, KeyError])
def test_a_mapping_that_raises_is_an_error_of_ours(method, error):
    def fail(*_):
        raise error("not for the log")

    held = type("Held", (UserDict,), {method: fail})()
    held.data = {"threshold_bytes": 1}
    for section, variable in ((WORKING, held), (held, None)):
        try:
            load(section, variable, None)
        except ConfigError as caught:
            assert "not for the log" not in str(caught) + repr(caught.__context__)  # noqa: PT017
