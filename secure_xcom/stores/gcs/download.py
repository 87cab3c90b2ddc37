"""How objects come: in one request, and where that broke off, in further ones for the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import google_crc32c

from secure_xcom.errors import SecureXComError
from secure_xcom.stores.gcs import errors as gcs_errors
from secure_xcom.stores.gcs.bucket import Bucket, stored_of_headers
from secure_xcom.stores.gcs.retry import Interrupted, Retries
from secure_xcom.stores.protocol import Damaged, Stored

if TYPE_CHECKING:
    from requests import Response

#: The size of the blocks that reads give out.
BLOCK_BYTES = 1_048_576


def get(bucket: Bucket, name: str, asked: Stored) -> Iterator[bytes]:
    """Yield an object, of the generation that is asked for or the live one with the same bytes.

    Raises:
        NotFound: there is no such object.
        Damaged: length or checksum are others.
    """
    try:
        response = bucket.retries.attempt(partial(bucket.download, name, asked.generation))
    except gcs_errors.not_found():
        live = bucket.find(name)
        if live is None:
            raise
        if (live.length_bytes, live.crc32c) != (asked.length_bytes, asked.crc32c):
            raise Damaged from None
        asked = live
        response = bucket.retries.attempt(partial(bucket.download, name, asked.generation))
    yield from receive(bucket, name, asked, response)


def open_live(bucket: Bucket, name: str) -> tuple[Stored, Response]:
    """The live object of a name, and the answer that carries it, its body unread.

    Raises:
        NotFound: there is none.
    """

    def attempt() -> tuple[Stored, Response]:
        response = bucket.download(name)
        try:
            return stored_of_headers(response.headers), response
        except Exception:
            response.close()
            raise

    return bucket.retries.attempt(attempt)


def beginning(bucket: Bucket, name: str, length_bytes: int) -> bytes:
    """The first bytes of the live object of a name, so many at most.

    Raises:
        NotFound: there is none.
    """
    from google.api_core.exceptions import RequestRangeNotSatisfiable  # noqa: PLC0415

    def attempt() -> bytes:
        with closing(bucket.download(name, bytes_max=length_bytes)) as response:
            start: bytes = response.raw.read(length_bytes, decode_content=False)
            return start

    try:
        return bucket.retries.attempt(attempt)
    except RequestRangeNotSatisfiable:
        # What has no bytes has no first one.
        return b""


def receive(
    bucket: Bucket, object_name: str, stored: Stored, response: Response
) -> Iterator[bytes]:
    """Yield an object, from the answer that begins with it and the further ones that it takes.

    Raises:
        NotFound: that generation is gone by now.
        Damaged: length or checksum are others.
    """
    received_bytes, checksum = 0, 0
    retries = bucket.retries
    while True:
        failure: Exception | None = None
        try:
            with closing(response):
                _check_length(response, stored.length_bytes - received_bytes)
                while block := _read(retries, response):
                    received_bytes += len(block)
                    if received_bytes > stored.length_bytes:
                        raise Damaged  # noqa: TRY301 - it passes
                    checksum = google_crc32c.extend(checksum, block)
                    retries.moved(len(block))
                    yield block
        except SecureXComError:
            raise
        except Exception as error:  # noqa: BLE001 - raised again, or tried again
            failure = error
        if failure is None and received_bytes < stored.length_bytes:
            failure = Interrupted("an object ended before its time")
        if failure is not None:
            retries.wait(failure)
        if received_bytes >= stored.length_bytes:
            break
        response = retries.attempt(
            partial(bucket.download, object_name, stored.generation, received_bytes)
        )
    if checksum != stored.crc32c:
        raise Damaged


def _read(retries: Retries, response: Response) -> bytes:
    with retries.spent():
        block: bytes = response.raw.read(BLOCK_BYTES, decode_content=False)
    return block


def _check_length(response: Response, left_bytes: int) -> None:
    """Refuse what is longer or shorter than the reference says before any of it is used."""
    claimed = response.headers.get("Content-Length")
    if claimed is not None and claimed != str(left_bytes):
        raise Damaged
