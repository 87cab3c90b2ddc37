"""Every URI that a setting or a row may hold: its grammar, and the parts it is made of.

    gs://bucket/prefix                                                   a prefix of a bucket
    file:///absolute/directory                                           a directory
    gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K             a key in Cloud KMS
    local-kek:///absolute/path                                           a key in a file

Stores and keys are compared as exact strings, so each has one spelling: no slash at the end, no
segment that is empty or of dots, no version of a key.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from secure_xcom.errors import ConfigError
from secure_xcom.text import Meant, Mistake, meant, without_secrets

#: The longest prefix of a bucket that a setting may name. The names of objects, below it or below
#: a folder of it, have the rest of Cloud Storage's 1,024 bytes.
PREFIX_CHARACTERS_MAX = 199

GCS = "gs://"
FILE = "file://"
CLOUD_KMS = "gcp-kms://"
LOCAL_KEK = "local-kek://"
#: What rows of hand-written backends begin with, which teams come from; it is no store's.
LEGACY = "gcs://"

_SEGMENT = r"/(?!\.{1,2}(?:/|$))"
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_PREFIX = re.compile(rf"(?:{_SEGMENT}[A-Za-z0-9._~=+@-]+)*")
_PATH = re.compile(rf"(?:{_SEGMENT}[^/\x00-\x1f\x7f\ud800-\udfff]+)+")
_ADDRESS = re.compile(r"(?:(?:GET|POST|PUT|DELETE) )?https?://\S+?(?=:? |$)")
# What a project's id may be: https://cloud.google.com/resource-manager/docs/creating-managing-projects
# (a domain may stand before it); the other parts as in the reference of Cloud KMS.
_KMS_KEY = re.compile(
    r"projects/(?P<project>(?:[a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{4,28}[a-z0-9])"
    r"/locations/(?P<location>[a-z0-9-]{1,63})"
    r"/keyRings/(?P<key_ring>[a-zA-Z0-9_-]{1,63})"
    r"/cryptoKeys/(?P<key>[a-zA-Z0-9_-]{1,63})"
)


#: Usual mistakes in any text that a setting holds.
TEXT_MISTAKES = (
    Mistake(re.compile(r"\s+[#;]\s.*$"), "", "without the comment behind it"),
    Mistake(re.compile(r"""^(["'])(.*)\1,?$"""), r"\2", "without quotes"),
    Mistake(re.compile(r"^\s+|\s+$"), "", "without white space around it"),
)
_PLACE_MISTAKES = (
    *TEXT_MISTAKES,
    Mistake(
        re.compile(r"\$"),
        None,
        "it names an environment variable that is not set where Airflow runs: write the value "
        "itself, or set the variable for every Airflow process",
    ),
    Mistake(
        re.compile(r"^(?:[\w-]+:/*)?(?:\.{1,2}|~[^/]*)(?:/|$)"),
        None,
        "it is a relative path: write it from the root on, with three slashes, such as {}",
    ),
    Mistake(re.compile(r"/\.{1,2}(?:/|$)"), None, "write the place itself, without . and .. in it"),
    Mistake(re.compile(r"/+$"), "", "without the slash at the end"),
)


def _place_mistakes(example: str, *mistakes: Mistake) -> tuple[Mistake, ...]:
    common = [
        mistake._replace(advice=mistake.advice.format(example)) for mistake in _PLACE_MISTAKES
    ]
    return (
        *common,
        *mistakes,
        Mistake(re.compile(r"(?<![:/])/{2,}"), "/", "without the empty segment"),
    )


_STORE_MISTAKES = _place_mistakes(
    "file:///home/airflow/xcom",
    Mistake(
        re.compile(r"^(?:s3a?|abfss?|wasbs?|az|hdfs)://"),
        None,
        "it is another service's: values go to Cloud Storage, or to a directory on a laptop",
    ),
    Mistake(
        re.compile(
            r"^https?://(?:storage\.googleapis\.com"
            r"|(?:console|storage)\.cloud\.google\.com(?:/storage/browser)?)/"
        ),
        GCS,
        "its address as gs://",
    ),
    Mistake(re.compile(r"^(?:gcs|gs):/*", re.IGNORECASE), GCS, "the scheme is gs://"),
    Mistake(
        re.compile(r"^file:/*", re.IGNORECASE),
        f"{FILE}/",
        "file:// and then a path from the root on",
    ),
    Mistake(re.compile(r"^(?=/[^/])"), FILE, "with file:// before it"),
    # Digits beside capitals are rather a token's than a bucket's, and a message shows this.
    Mistake(
        re.compile(
            r"^(?=[a-z0-9][a-z0-9._-]{2,62}(?:/[a-z0-9._/-]*)?$|[A-Za-z][A-Za-z_.-]{2,30}$)"
        ),
        GCS,
        "with gs:// before it",
    ),
    Mistake(
        re.compile(r"(?<=^gs://)[\w.-]*[A-Z][\w.-]*", re.ASCII),
        lambda found: found[0].lower(),
        "names of buckets have no capitals",
    ),
)
_KEK_MISTAKES = _place_mistakes(
    "local-kek:///home/airflow/kek",
    Mistake(
        re.compile(r"/cryptoKeyVersions(?:/\d*)?$"),
        "",
        "without the version, since new values are sealed under the key's primary version",
    ),
    Mistake(
        re.compile(r"^(?:(?:https?:)?//cloudkms\.googleapis\.com/(?:v1/)?)?(?=projects/)"),
        CLOUD_KMS,
        "with gcp-kms:// before it",
    ),
    Mistake(
        re.compile(r"^(?:gcp|google|cloud)?[-_]?kms:/*(?=projects/)", re.IGNORECASE),
        CLOUD_KMS,
        "the scheme is gcp-kms://",
    ),
    Mistake(
        re.compile(rf"^{CLOUD_KMS}projects/\d+/"),
        None,
        "name the project by its id, not by its number",
    ),
    Mistake(
        re.compile(r"^local[-_]?kek:/*", re.IGNORECASE),
        f"{LOCAL_KEK}/",
        "local-kek:// and then a path from the root on",
    ),
    Mistake(
        re.compile(r"^file:/*", re.IGNORECASE), f"{LOCAL_KEK}/", "a key's file is local-kek://"
    ),
    Mistake(re.compile(r"^(?=/[^/])"), LOCAL_KEK, "with local-kek:// before it"),
)
_BUCKET_MISTAKES = (
    *TEXT_MISTAKES,
    Mistake(
        re.compile(r"^(?:gcs|gs):/+[^/]+/+[^/]"),
        None,
        "it has a prefix: set store_uri, which may have one, in airflow.cfg instead",
    ),
    Mistake(re.compile(r"^(?:gcs|gs):/*", re.IGNORECASE), "", "without gs://"),
    Mistake(re.compile(r"/+$"), "", "without the slash at the end"),
    Mistake(
        re.compile(r"^[\w.-]*[A-Z][\w.-]*$", re.ASCII),
        lambda found: found[0].lower(),
        "names of buckets have no capitals",
    ),
)
#: What people give for a place, and what messages may therefore show of one.
_PLACE = re.compile(r"""["']?(?:[A-Za-z][\w+.-]{0,19}:/|projects/|\.{0,2}/|~|\$|[a-z_-]+/)""")


@dataclass(frozen=True, slots=True)
class BucketPrefix:
    """A prefix of a bucket; the empty one is the whole bucket."""

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The URI that names it."""
        return f"{GCS}{self.bucket}/{self.prefix}" if self.prefix else f"{GCS}{self.bucket}"

    def object_name(self, name: str) -> str:
        """What the bucket calls the object that the store calls `name`."""
        return f"{self.prefix}/{name}" if self.prefix else name


@dataclass(frozen=True, slots=True)
class KmsKey:
    """A key in Cloud KMS, by the parts of its resource name."""

    project: str
    location: str
    key_ring: str
    key: str

    @property
    def resource_name(self) -> str:
        """What Cloud KMS calls the key."""
        return (
            f"projects/{self.project}/locations/{self.location}"
            f"/keyRings/{self.key_ring}/cryptoKeys/{self.key}"
        )


#: Where a store's objects are: in a bucket, or in a directory.
StorePlace: TypeAlias = BucketPrefix | Path
#: Where a KEK is: in Cloud KMS, or in a file.
KekPlace: TypeAlias = KmsKey | Path


def is_bucket(name: str) -> bool:
    """Whether `name` is the bare name of a bucket."""
    return _BUCKET.fullmatch(name) is not None


def scheme(uri: str) -> str:
    """The scheme of those above that a text begins with; empty where it is none of them."""
    known = (GCS, FILE, CLOUD_KMS, LOCAL_KEK, LEGACY)
    return next((scheme for scheme in known if uri.startswith(scheme)), "")


def looks_like_uri(text: str) -> bool:
    """Whether a text begins with a scheme, of those above or any other."""
    return "://" in text[:20]


def bucket_of(uri: str) -> str:
    """The bucket of a store's or an object's URI (`gs://…`)."""
    return uri.removeprefix(GCS).partition("/")[0]


def without_addresses(text: str) -> str:
    """A service's message without what was asked of it, and where.

    The address of an upload session is as good as a password for the object's name.
    """
    return _ADDRESS.sub("", text)


def legacy_object(reference: str) -> str:
    """The name of the object that a hand-written backend's row names."""
    return reference.removeprefix(LEGACY)


def directory(path: Path) -> str:
    """The URI of a store in a directory, by its absolute path."""
    return f"{FILE}{path}"


def key_file(path: Path) -> str:
    """The URI of a KEK in a file, by its absolute path."""
    return f"{LOCAL_KEK}{path}"


def meant_store(text: str, is_right: Callable[[str], bool]) -> Meant | None:
    """The store that a wrong URI was probably meant to name."""
    return meant(text, _STORE_MISTAKES, is_right)


def meant_kek(text: str, is_right: Callable[[str], bool]) -> Meant | None:
    """The KEK that a wrong URI was probably meant to name."""
    return meant(text, _KEK_MISTAKES, is_right)


def meant_bucket(text: str) -> Meant | None:
    """The bucket that a wrong name was probably meant to be."""
    return meant(text, _BUCKET_MISTAKES, is_bucket)


def looks_like_place(text: str) -> bool:
    """Whether a text begins like the URI of a store or a KEK, a path or a resource's name."""
    return _PLACE.match(text) is not None


def parse_store(uri: str) -> StorePlace:
    """Take a store's URI apart.

    Raises:
        ConfigError: it names no store.
    """
    if place := _store(uri):
        return place
    raise ConfigError(
        f"{without_secrets(uri)!r} names no store. Allowed are gs://bucket and gs://bucket/prefix, "
        "and file:///absolute/directory on a laptop, with no slash at the end and no segment that "
        f"is empty or of dots.{_sentence(meant_store(uri, lambda text: _store(text) is not None))}"
    )


def parse_kek(uri: str) -> KekPlace:
    """Take a KEK's URI apart.

    Raises:
        ConfigError: it names no KEK.
    """
    if place := _kek(uri):
        return place
    raise ConfigError(
        f"{without_secrets(uri)!r} names no key encryption key. Allowed are "
        "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K, and local-kek:///absolute/path "
        f"on a laptop.{_sentence(meant_kek(uri, lambda text: _kek(text) is not None))}"
    )


def state_store(store_uri: str, kind: str) -> str:
    """The store below another one that holds the states of a kind, `task` or `asset`."""
    return f"{store_uri}/~state/{kind}"


def _store(uri: str) -> StorePlace | None:
    if uri.startswith(FILE):
        return _path(uri.removeprefix(FILE))
    bucket, slash, prefix = uri.removeprefix(GCS).partition("/")
    if uri.startswith(GCS) and is_bucket(bucket) and _PREFIX.fullmatch(slash + prefix):
        return BucketPrefix(bucket, prefix)
    return None


def _kek(uri: str) -> KekPlace | None:
    if uri.startswith(LOCAL_KEK):
        return _path(uri.removeprefix(LOCAL_KEK))
    if uri.startswith(CLOUD_KMS) and (match := _KMS_KEY.fullmatch(uri.removeprefix(CLOUD_KMS))):
        return KmsKey(**match.groupdict())
    return None


def _path(path: str) -> Path | None:
    return Path(path) if _PATH.fullmatch(path) else None


def _sentence(found: Meant | None) -> str:
    return "" if found is None else f" {found.sentence(str)}"
