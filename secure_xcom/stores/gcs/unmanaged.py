"""Objects that this package did not write: read whole, by name, within a bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom import signals
from secure_xcom.errors import FormatError
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs.wire import make_client
from secure_xcom.text import escaped

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


def read_object(
    bucket: str, name: str, *, max_bytes: int, credentials: Credentials | None
) -> bytes:
    """Read one object of a bucket, at the generation that is there now.

    Raises:
        FormatError: it has more than `max_bytes`.
        ObjectNotFound: there is none of that name.
        StoreError: it could not be read.
    """
    uri = escaped(f"gs://{bucket}/{name}")
    try:
        blob = make_client(credentials).bucket(bucket).get_blob(name)
        data = None if blob is None or blob.size > max_bytes else blob.download_as_bytes()
    except Exception as error:
        if signals.is_callers(error):
            raise
        raise gcs_errors.translate(error, gcs_errors.READ, uri) from error
    if blob is None:
        raise gcs_errors.no_object(uri)
    if data is None:
        raise FormatError(f"{uri} has {blob.size} bytes; `max_value_bytes` allows {max_bytes}.")
    return bytes(data)
