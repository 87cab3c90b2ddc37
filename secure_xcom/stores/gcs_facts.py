"""What Cloud Storage says of a bucket itself.

https://cloud.google.com/storage/docs/json_api/v1/buckets lists the members. No push or pull asks
for them; they are for who looks after a deployment (`cli/doctor.py`).
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from secure_xcom.stores.gcs import Gcs
from secure_xcom.stores.gcs_errors import Operation
from secure_xcom.stores.gcs_wire import Resource

LOOK = Operation("look at the bucket of", "storage.buckets.get")


def bucket_resource(store: Gcs) -> Resource:
    """The bucket's settings as the JSON API shows them.

    Raises:
        StoreAccessDenied: the caller lacks `storage.buckets.get`.
        StoreError: the bucket cannot be reached.
    """
    with store.wire(LOOK, "") as wire:
        return wire.bucket()


def server_time(store: Gcs) -> datetime | None:
    """What time it is for the service, to the second; None where it does not say.

    Raises:
        StoreError: the service cannot be reached.
    """
    with store.wire(LOOK, "") as wire:
        date = wire.date()
    try:
        return parsedate_to_datetime(date)
    except ValueError:
        return None
