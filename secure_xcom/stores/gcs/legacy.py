"""Objects that another backend wrote: read whole, by name, within a bound."""

from __future__ import annotations

import functools
import zlib
from typing import TYPE_CHECKING

from secure_xcom.errors import FormatError
from secure_xcom.stores.gcs import download, retry
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs.bucket import calling
from secure_xcom.stores.gcs.client import SharedClient
from secure_xcom.text import escaped
from secure_xcom.uris import BucketPrefix

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response

#: Deployments have one pair of credentials, or none.
_shared_client = functools.lru_cache(4)(SharedClient)


def read_object(
    bucket_name: str, name: str, *, max_bytes: int, credentials: Credentials | None
) -> bytes:
    """Read one object of a bucket, at the generation that is there now.

    Raises:
        FormatError: it has more than `max_bytes`, or is marked as gzip and is none.
        ObjectNotFound: there is none of that name.
        StoreError: it could not be read.
    """
    uri = escaped(BucketPrefix(bucket_name, name).uri)
    connect = _shared_client(credentials).connection
    with calling(connect, bucket_name, gcs_errors.READ, uri, retry.DEADLINE_SECONDS) as bucket:
        try:
            stored, response = download.open_live(bucket, name)
            if stored.length_bytes > max_bytes:
                response.close()
                raise _too_long(uri, max_bytes)
            is_packed = _is_packed(response)
            data = b"".join(download.receive(bucket, name, stored, response))
        except gcs_errors.not_found():
            raise gcs_errors.no_object(uri) from None
    return _unpacked(data, uri, max_bytes) if is_packed else data


def _is_packed(response: Response) -> bool:
    headers = response.headers
    encoding = headers.get("X-Goog-Stored-Content-Encoding") or headers.get("Content-Encoding")
    return encoding == "gzip"


def _unpacked(data: bytes, uri: str, max_bytes: int) -> bytes:
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = inflate.decompress(data, max_bytes + 1)
    except zlib.error:
        raise FormatError(f"{uri} is marked as gzip, and is not.") from None
    if len(unpacked) > max_bytes:
        raise _too_long(uri, max_bytes)
    if not inflate.eof:
        raise FormatError(f"{uri} is marked as gzip, and ends in the middle of it.")
    return unpacked


def _too_long(uri: str, max_bytes: int) -> FormatError:
    return FormatError(f"{uri} has more than {max_bytes} bytes (`max_value_bytes`).")
