"""The grammar of each URI, and what it is taken apart into."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_xcom import uris
from secure_xcom.errors import ConfigError
from secure_xcom.uris import BucketPrefix, KmsKey, parse_kek, parse_store

KEY = "projects/my-project/locations/europe-west1/keyRings/airflow/cryptoKeys/xcom"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("gs://abc", BucketPrefix("abc", "")),
        ("gs://a_b.c-d/x", BucketPrefix("a_b.c-d", "x")),
        ("gs://bucket/x/~state/task", BucketPrefix("bucket", "x/~state/task")),
        ("gs://bucket/a.b/..c/d=e+f@g", BucketPrefix("bucket", "a.b/..c/d=e+f@g")),
        ("file:///xcom", Path("/xcom")),
        ("file:///var/x com/ä", Path("/var/x com/ä")),
    ],
)
def test_stores(uri, place):
    assert parse_store(uri) == place


@pytest.mark.parametrize(
    "uri",
    [
        *("", "bucket", "gs://", "gs:/bucket", "GS://bucket", "gcs://bucket", "s3://bucket"),
        *("gs://ab", "gs://Bucket", "gs://-bucket", "gs://bucket-", "gs://" + "b" * 223),
        *("gs://bucket/", "gs://bucket/x/", "gs://bucket//x", "gs://bucket/./x", "gs://bucket/.."),
        *("gs://bucket/a b", "gs://bucket/ä", "gs://bucket/a%20", "gs://bucket/x\n"),
        *("file://", "file:///", "file://data", "file://host/data", "file:///a/", "file:///a//b"),
        *("file:///a/../b", "file:///.", "file:///a\0", "file:///a\n", "file:///\ud800"),
    ],
)
def test_what_names_no_store(uri):
    with pytest.raises(ConfigError, match="names no store"):
        parse_store(uri)


@pytest.mark.parametrize("uri", ["gs://bucket", "gs://bucket/a/b"])
def test_a_place_in_a_bucket_has_its_uri(uri):
    place = parse_store(uri)
    assert isinstance(place, BucketPrefix)
    assert place.uri == uri


def test_what_is_built_is_what_is_parsed(tmp_path):
    assert parse_store(uris.directory(tmp_path)) == tmp_path
    assert parse_kek(uris.key_file(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        *(("gs://bucket", uris.GCS), ("gs://", uris.GCS), ("file:///x", uris.FILE)),
        *((f"gcp-kms://{KEY}", uris.CLOUD_KMS), ("local-kek:///x", uris.LOCAL_KEK)),
        *(("gcs://run/task/x.json", uris.LEGACY), ("", ""), ("s3://bucket", ""), ("GS://b", "")),
    ],
)
def test_schemes(uri, scheme):
    assert uris.scheme(uri) == scheme


def test_rows_of_other_backends():
    assert uris.legacy_object("gcs://run/task/x.json") == "run/task/x.json"
    assert uris.looks_like_uri("s3://bucket/x")
    assert not uris.looks_like_uri("see the page https://example.com")


def test_an_object_lies_below_the_prefix():
    assert BucketPrefix("bucket", "a/b").object_name("c/d") == "a/b/c/d"
    assert BucketPrefix("bucket", "").object_name("c/d") == "c/d"


def test_the_states_have_stores_of_their_own():
    assert uris.state_store("gs://bucket/xcom", "task") == "gs://bucket/xcom/~state/task"
    longest = "gs://bucket/" + "p" * uris.PREFIX_CHARACTERS_MAX
    assert parse_store(uris.state_store(longest, "asset"))


def test_keys():
    key = parse_kek(f"gcp-kms://{KEY}")
    assert key == KmsKey("my-project", "europe-west1", "airflow", "xcom")
    assert key.resource_name == KEY
    assert parse_kek("local-kek:///etc/kek") == Path("/etc/kek")
    assert parse_kek(f"gcp-kms://{KEY.replace('my-project', 'example.com:my-project')}")


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "",
            KEY,
            f"GCP-KMS://{KEY}",
            f"gcp-kms:///{KEY}",
            f"gcp-kms://{KEY}/",
            f"aws-kms://{KEY}",
        ),
        *(f"gcp-kms://{KEY}\n", f"gcp-kms://{KEY}?x", "gcp-kms://", "gcp-kms://projects/p"),
        f"gcp-kms://{KEY.replace('xcom', 'x' * 64)}",
        f"gcp-kms://{KEY.replace('xcom', 'x.y')}",
        f"gcp-kms://{KEY.replace('europe-west1', 'Europe')}",
        *("local-kek://", "local-kek:///", "local-kek://kek", "local-kek:///a/../b"),
        *("local-kek:///a//b", "local-kek:///a/", "local-kek:///a\0b", "file:///kek"),
    ],
)
def test_what_names_no_key(uri):
    with pytest.raises(ConfigError, match="names no key encryption key"):
        parse_kek(uri)


@pytest.mark.parametrize(
    ("uri", "hint"),
    [
        (
            f"gcp-kms://{KEY}/cryptoKeyVersions/3",
            rf"Probably meant: gcp-kms://{KEY} \(without the v",
        ),
        (f"gcp-kms://{KEY.replace('my-project', '123456789')}", "by its id, not by its number"),
    ],
)
def test_usual_mistakes_are_named(uri, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_kek(uri)


@pytest.mark.parametrize("name", ["abc", "a.b_c-d0", "b" * 222])
def test_bucket_names(name):
    assert uris.is_bucket(name)


@pytest.mark.parametrize("name", ["", "ab", "gs://abc", "abc/", "ABC", "b" * 223, "abc\n"])
def test_what_is_no_bucket_name(name):
    assert not uris.is_bucket(name)
