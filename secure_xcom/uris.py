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
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from secure_xcom.errors import ConfigError

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


def parse_store(uri: str) -> StorePlace:
    """Take a store's URI apart.

    Raises:
        ConfigError: it names no store.
    """
    if uri.startswith(FILE) and (path := _path(uri.removeprefix(FILE))):
        return path
    bucket, slash, prefix = uri.removeprefix(GCS).partition("/")
    if uri.startswith(GCS) and is_bucket(bucket) and _PREFIX.fullmatch(slash + prefix):
        return BucketPrefix(bucket, prefix)
    raise ConfigError(
        f"{uri!r} names no store. Allowed are gs://bucket and gs://bucket/prefix, and "
        "file:///absolute/directory on a laptop, with no slash at the end and no segment that is "
        "empty or of dots."
    )


def parse_kek(uri: str) -> KekPlace:
    """Take a KEK's URI apart.

    Raises:
        ConfigError: it names no KEK.
    """
    if uri.startswith(LOCAL_KEK) and (path := _path(uri.removeprefix(LOCAL_KEK))):
        return path
    if uri.startswith(CLOUD_KMS) and (match := _KMS_KEY.fullmatch(uri.removeprefix(CLOUD_KMS))):
        return KmsKey(**match.groupdict())
    hint = ""
    if "/cryptoKeyVersions" in uri:
        hint = " Leave the version out: new values are sealed under the key's primary version."
    elif re.match(r"gcp-kms://projects/\d+/", uri):
        hint = " Name the project by its id, not by its number."
    raise ConfigError(
        f"{uri!r} names no key encryption key. Allowed are "
        "gcp-kms://projects/P/locations/L/keyRings/R/cryptoKeys/K, and local-kek:///absolute/path "
        f"on a laptop.{hint}"
    )


def state_store(store_uri: str, kind: str) -> str:
    """The store below another one that holds the states of a kind, `task` or `asset`."""
    return f"{store_uri}/~state/{kind}"


def _path(path: str) -> Path | None:
    return Path(path) if _PATH.fullmatch(path) else None
