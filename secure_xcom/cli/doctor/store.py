"""Checks stores, through the clients that workers use."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom.cli.doctor import bucket as bucket_checks
from secure_xcom.cli.doctor.check import (
    Check,
    failed,
    is_out_of_reach,
    passed,
    refused,
    unseen,
    warned,
    within,
)
from secure_xcom.errors import (
    ObjectNotFound,
    SecureXComError,
    StoreAccessDenied,
    StoreUnavailable,
)
from secure_xcom.layers.sealed import again_if_damaged
from secure_xcom.stores import open_store
from secure_xcom.stores.gcs.facts import LOOK, bucket_resource, server_time
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.uris import GCS, BucketPrefix, parse_store

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from secure_xcom.settings import Settings
    from secure_xcom.stores.protocol import Store, Stored

#: Where the objects of round trips lie; no XCom's name begins like that (`format/names.py`).
FOLDER = "~doctor"
#: The size of such an object.
_OBJECT_BYTES = 1024
#: Clocks that differ by more are worth a look.
_CLOCK_SECONDS_MAX = 60


def checks(
    settings: Settings, credentials: Credentials | None, retention_days: int | None
) -> Iterator[Check]:
    """Look at the store that writes use.

    Args:
        settings: with the store, and the key that writes use.
        credentials: for Cloud Storage.
        retention_days: how long rows live in the database; None if nobody has said it.
    """
    uri = settings.store_uri
    place = parse_store(uri)
    store = _open(uri, settings, credentials)
    if isinstance(place, Path):
        yield warned(
            "store.kind",
            f"{uri} is a directory: good for a laptop. Workers on other machines do not see it.",
            f"In a deployment, set store_uri to a {GCS} bucket.",
        )
        yield _round_trip(store)[0]
        yield _folder(place)
        return
    yield passed(
        "store.kind",
        f"{uri} in Cloud Storage, which takes about one write a second to each large state",
    )
    check, reached = _round_trip(store)
    yield check
    if reached and isinstance(store, Gcs):
        yield from _metadata(store, place, settings, retention_days)
        yield from _clock(store)


def trusted(uri: str, settings: Settings, credentials: Credentials | None) -> Check:
    """Look at a store that references may point into, and writes do not go to."""
    name = "trusted_stores"
    store = _open(uri, settings, credentials)
    absent = f"{FOLDER}/{secrets.token_hex(16)}"
    try:
        within(lambda: list(store.get(absent, generation="1", length_bytes=0, crc32c=0)))
    except ObjectNotFound:
        return passed(name, f"{uri} may be read")
    except StoreAccessDenied as error:
        check = refused(name, error)
        # https://cloud.google.com/storage/docs/json_api/v1/status-codes: of what may not be listed,
        # the service does not say that it is not there.
        also = "An object that is not there looks the same to who lacks storage.objects.list."
        return failed(name, f"{check.detail} {also}", check.fix)
    except SecureXComError as error:
        return refused(name, error)
    return failed(
        name,
        f"{uri} gave an object that was never written.",
        "Find out what answers in the store's place.",
    )


def _open(uri: str, settings: Settings, credentials: Credentials | None) -> Store:
    return open_store(
        uri, credentials=credentials, deadline_seconds=settings.store_deadline_seconds
    )


def _round_trip(store: Store) -> tuple[Check, bool]:
    """Write, read, replace and delete an object as workers do; and whether the service answered."""
    name = "store.round_trip"
    own = f"{FOLDER}/{secrets.token_hex(16)}"
    first, second = os.urandom(_OBJECT_BYTES), os.urandom(_OBJECT_BYTES)
    metadata = {"secure-xcom": "doctor"}
    written: Stored | None = None

    def there_and_back() -> bool:
        nonlocal written
        written = store.create(own, lambda: (first,), metadata)
        try:
            # What XComs take, and then what large states do.
            stored = written
            is_first = again_if_damaged(lambda: _read(store, own, stored)) == first
            written = store.replace(own, (second,), metadata)
            is_second = again_if_damaged(lambda: b"".join(store.fetch(own)[1])) == second
        except SecureXComError:
            # What failed first says more.
            with suppress(SecureXComError):
                store.delete(own, generation=written.generation)
            raise
        store.delete(own, generation=written.generation)
        return is_first and is_second

    try:
        is_unchanged = within(there_and_back)
    except SecureXComError as error:
        check = refused(name, error)
        if written:
            left = f"{check.detail} The object {store.uri}/{own}, of random bytes, may be left."
            check = failed(name, left, check.fix)
        return check, not is_out_of_reach(error)
    if not is_unchanged:
        return failed(
            name,
            "An object came back changed.",
            "Find out what answers in the store's place.",
        ), True
    return passed(name, "an object was written, read, replaced and deleted"), True


def _read(store: Store, name: str, stored: Stored) -> bytes:
    chunks = store.get(
        name,
        generation=stored.generation,
        length_bytes=stored.length_bytes,
        crc32c=stored.crc32c,
    )
    return b"".join(chunks)


def _folder(path: Path) -> Check:
    name = "store.folder"
    try:
        status = path.stat()
    except OSError as error:
        return failed(
            name, f"{path} cannot be looked at ({error.strerror}).", "Check its owner and mode."
        )
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return warned(
            name,
            f"{path} is open to other users of this machine (mode "
            f"{stat.S_IMODE(status.st_mode):04o}), who see names and sealed values, or may replace "
            "them.",
            f"chmod 700 {path}",
        )
    return passed(name, f"{path} is open to its owner only")


def _metadata(
    store: Gcs, place: BucketPrefix, settings: Settings, retention_days: int | None
) -> Iterator[Check]:
    name = "store.metadata"
    try:
        resource = within(lambda: bucket_resource(store))
    except StoreAccessDenied:
        yield unseen(
            name,
            f"The service account lacks {LOOK.permission}, which workers do not need: location, "
            "access, encryption, retention, soft delete, versioning and lifecycle of the bucket "
            "were not looked at.",
            "Run the command with an account that has it, or grant it: gcloud storage buckets "
            f"add-iam-policy-binding {GCS}{place.bucket} --role roles/storage.legacyBucketReader "
            f"--member {store.member()}",
        )
    except StoreUnavailable as error:
        yield refused(name, error)
    except SecureXComError as error:
        yield unseen(name, f"The bucket could not be looked at: {error}", "See the message.")
    else:
        yield passed(name, "the bucket can be looked at")
        yield from bucket_checks.checks(place, resource, settings, retention_days)


def _clock(store: Gcs) -> Iterator[Check]:
    """Compare with the service's clock, which says whole seconds."""
    name = "clock"
    try:
        theirs = within(lambda: server_time(store))
    except SecureXComError as error:
        yield unseen(name, f"The service's clock could not be asked: {error}", "See the message.")
        return
    if theirs is None:
        yield warned(
            name,
            "The answers of the service have no date.",
            "Look for a proxy between here and storage.googleapis.com.",
        )
        return
    seconds = (datetime.now(UTC) - theirs).total_seconds()
    if abs(seconds) <= _CLOCK_SECONDS_MAX:
        yield passed(name, "this machine's clock agrees with the service's")
        return
    way = "ahead of" if seconds > 0 else "behind"
    yield warned(
        name,
        f"This machine's clock is {abs(seconds):.0f} seconds {way} the service's: "
        "times in the audit log are wrong, and tokens may be refused.",
        "Have the machine's clock set by NTP.",
    )
