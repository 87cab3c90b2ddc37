"""What Cloud Storage says of a bucket itself.

https://cloud.google.com/storage/docs/json_api/v1/buckets lists the members. No push or pull asks
for them; they are for who looks after a deployment (`cli/doctor/`).
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from secure_xcom.stores.gcs.bucket import Resource
from secure_xcom.stores.gcs.errors import BucketOperation
from secure_xcom.stores.gcs.store import Gcs

LOOK = BucketOperation("look at the bucket of", "storage.buckets.get")


def bucket_resource(store: Gcs) -> Resource:
    """The bucket's settings as the JSON API shows them.

    Raises:
        StoreAccessDenied: the caller lacks `storage.buckets.get`.
        StoreError: the bucket cannot be reached.
    """
    with store.bucket(LOOK, "") as bucket:
        return bucket.resource()


def server_time(store: Gcs) -> datetime | None:
    """What time it is for the service, to the second; None where it does not say.

    Raises:
        StoreError: the service cannot be reached.
    """
    with store.bucket(LOOK, "") as bucket:
        date = bucket.date()
    try:
        return parsedate_to_datetime(date)
    except ValueError:
        return None
