"""A resumable upload: https://cloud.google.com/storage/docs/performing-resumable-uploads.

Nothing of the object is visible before its last part is in. The session's address is as good as a
password for the object's name, so it stands in no error, and a session that failed is cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from secure_xcom.stores.blocks import Blocks
from secure_xcom.stores.gcs import wire as gcs_wire
from secure_xcom.stores.gcs.errors import Interrupted, is_passing
from secure_xcom.stores.gcs.wire import Resource, checked, resource_of, retrying

if TYPE_CHECKING:
    from requests import Session

#: Parts but the last are a multiple of this.
PART_MULTIPLE_BYTES = 262_144

#: A task that has failed should not wait long for its tidying up.
_CANCEL_SECONDS = (5.0, 5.0)
_KEPT = re.compile(r"bytes=0-(\d+)")


class UploadSession:
    """Sends the parts of an object in order; each is sent again from where the service lost it.

    Args:
        http: a session of Google's client.
        url: the address of the upload session.
    """

    def __init__(self, http: Session, url: str) -> None:
        self._http = http
        self._url = url
        self._kept_bytes = 0
        self._resource: Resource = {}

    def send(self, part: Blocks, *, last: bool) -> Resource:
        """Send a part until the service has kept all of it.

        Returns:
            What the service knows of the object, if the part was the last; nothing before.
        """
        first = self._kept_bytes
        end = first + len(part)
        in_doubt = False

        def attempt() -> None:
            nonlocal in_doubt
            if in_doubt:
                self._put(Blocks(()), "bytes */*")
            in_doubt = True
            while True:
                before = self._kept_bytes
                if not first <= before <= end:
                    raise ValueError("the service has kept another number of bytes than was sent")
                if self._resource or (before == end and not last):
                    return
                rest = part.after(before - first)
                span = f"{before}-{end - 1}" if len(rest) else "*"
                self._put(rest, f"bytes {span}/{end if last else '*'}")
                if self._kept_bytes <= before and not self._resource:
                    raise Interrupted("nothing of a part was kept")

        retrying()(attempt)()
        return self._resource

    def cancel(self) -> None:
        """Drop what was sent, if the service can be reached; otherwise it does so in a week."""
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
        from requests import RequestException  # noqa: PLC0415

        with suppress(RequestException, GoogleAuthError):
            self._http.request("DELETE", self._url, timeout=_CANCEL_SECONDS).close()

    def _put(self, body: Blocks, content_range: str) -> None:
        from requests import RequestException  # noqa: PLC0415

        try:
            response = self._http.request(
                "PUT",
                self._url,
                data=cast("Iterable[bytes]", body) if len(body) else b"",
                headers={"Content-Range": content_range},
                timeout=gcs_wire.TIMEOUT_SECONDS,
                allow_redirects=False,
            )
        except RequestException as error:
            # What it says has the address.
            kind = Interrupted if is_passing(error) else OSError
            raise kind(f"an upload broke off with a {type(error).__name__}") from None
        checked(response, HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.PERMANENT_REDIRECT)
        if response.status_code != HTTPStatus.PERMANENT_REDIRECT:
            self._resource = resource_of(response)
            return
        kept = _KEPT.fullmatch(response.headers.get("Range", ""))
        self._kept_bytes = int(kept[1]) + 1 if kept else 0
