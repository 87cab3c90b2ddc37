"""A resumable upload: https://cloud.google.com/storage/docs/performing-resumable-uploads.

Nothing of the object is visible before its last part is in. The session's address is as good as a
password for the object's name, so it stands in no error, and a session that failed is cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import cast

from secure_xcom.stores.blocks import HeldBody
from secure_xcom.stores.gcs.bucket import Bucket, Resource, checked, resource_of, stored_of
from secure_xcom.stores.gcs.retry import Doubtful, Failure, Interrupted, Retries, SessionGone
from secure_xcom.stores.protocol import Stored

#: Parts but the last are a multiple of this.
PART_MULTIPLE_BYTES = 262_144

#: A task that has failed should not wait long for its tidying up.
_CANCEL_SECONDS = 5.0
_KEPT = re.compile(r"bytes=0-(\d+)")
_GONE = frozenset((HTTPStatus.NOT_FOUND, HTTPStatus.GONE))


class UploadSession:
    """Sends the parts of an object in order; each is sent again from where the service lost it.

    A session that the service has forgotten is begun anew while no part of it has been let go.

    Args:
        bucket: the bucket's.
        resource: the object's name, and what is to be known of it.
    """

    def __init__(self, bucket: Bucket, resource: Resource) -> None:
        self._bucket = bucket
        self._resource = resource
        self._url: str | None = None
        self._kept_bytes = 0
        self._stored: Stored | None = None

    def send(self, part: HeldBody, *, last: bool) -> Stored | None:
        """Send a part until the service has kept all of it.

        Returns:
            What the service holds, if the part was the last; nothing before.

        Raises:
            SessionGone: the session is lost, and parts with it that were sent before this one.
        """
        first = self._kept_bytes
        end = first + len(part)
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            if self._url is None:
                self._url, in_doubt = self._bucket.start_upload(self._resource), False
            if in_doubt:
                self._put(HeldBody(()), "bytes */*")
            in_doubt = True
            while first <= self._kept_bytes <= end:
                before = self._kept_bytes
                if self._stored or (before == end and not last):
                    return
                rest = part.after(before - first)
                span = f"{before}-{end - 1}" if len(rest) else "*"
                self._put(rest, f"bytes {span}/{end if last else '*'}")
                if self._kept_bytes <= before and not self._stored:
                    raise Interrupted("nothing of a part was kept")
                self._bucket.retries.moved(self._kept_bytes - before)
            raise SessionGone("the service has kept another number of bytes than was sent")

        def attempt_or_begin_anew() -> None:
            try:
                attempt()
            except SessionGone as gone:
                self.cancel()
                if first:
                    raise
                self._kept_bytes = 0
                raise Doubtful(str(gone)) from None

        self._bucket.retries.attempt(attempt_or_begin_anew)
        return self._stored

    def cancel(self) -> None:
        """Drop what was sent, if the service can be reached; otherwise it does so in a week."""
        if self._url is None:
            return
        url, self._url = self._url, None
        retries = Retries(_CANCEL_SECONDS)
        try:
            self._bucket.within(retries).request("DELETE", url).close()
        except Exception as error:  # noqa: BLE001 - what went wrong before is what counts
            own = retries.own(error)
        else:
            return
        if own:
            raise own

    def _put(self, body: HeldBody, content_range: str) -> None:
        from requests import RequestException  # noqa: PLC0415

        try:
            response = self._bucket.request(
                "PUT",
                cast("str", self._url),
                data=cast("Iterable[bytes]", body) if len(body) else b"",
                headers={"Content-Range": content_range},
            )
        except RequestException as error:
            # What it says has the address.
            if own := self._bucket.retries.own(error):
                raise own from None
            final = self._bucket.retries.failure_of(error) is Failure.FINAL
            kind = OSError if final else Interrupted
            raise kind(f"an upload broke off with a {type(error).__name__}") from None
        if response.status_code in _GONE:
            self._url = None
            raise SessionGone("the service no longer knows the upload session")
        checked(response, HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.PERMANENT_REDIRECT)
        if response.status_code != HTTPStatus.PERMANENT_REDIRECT:
            self._stored = stored_of(resource_of(response))
            return
        kept = _KEPT.fullmatch(response.headers.get("Range", ""))
        self._kept_bytes = int(kept[1]) + 1 if kept else 0
