"""What Cloud Storage does and fake-gcs-server does not; the proxy in front of it fills in.

- A resumable upload is not begun in a bucket that does not exist.
- It honours `ifGenerationMatch=0`, at its start and at its end.
- A part may repeat bytes that are already kept; they are ignored.
- A query of a session's status says what is kept, and does not finish the upload.
- A session that is finished answers every further request with the object.
- A deletion spares another generation than the one that it names.

Source: https://cloud.google.com/storage/docs/performing-resumable-uploads and
https://cloud.google.com/storage/docs/json_api/v1/objects/delete.
"""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass
class Answer:
    """An HTTP answer that does not come from the server."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class Session:
    """A resumable upload."""

    bucket: str
    name: str
    create_only: bool
    kept_bytes: int = 0
    finished: Answer | None = None


class Gaps:
    """Answers in the server's place where it would answer wrongly."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def before(self, kind: str, path: str) -> Answer | None:
        """An answer to a request without a body, or to the head of one; None to let it pass."""
        query = parse_qs(urlsplit(path).query)
        if kind == "delete" and "generation" in query:
            found = self._resource(urlsplit(path).path)
            if found and found["generation"] != query["generation"][0]:
                return error(404)
        return None

    def started(self, path: str, body: bytes, location: str) -> None:
        """Note a session that the server has opened."""
        with self._lock:
            self._sessions[_session_id(location)] = Session(
                *_target(path, body), create_only=_is_create_only(path)
            )

    def refuses_start(self, path: str, body: bytes) -> Answer | None:
        """The answer to the start of an upload that must not be."""
        bucket, name = _target(path, body)
        if self._resource(f"/storage/v1/b/{bucket}") is None:
            return error(404)
        if _is_create_only(path) and self._exists(bucket, name):
            return error(412)
        return None

    def part(  # noqa: PLR0911 - one for each thing that can be the case
        self, path: str, content_range: str, body: bytes
    ) -> Answer | tuple[str, bytes]:
        """What to answer to a part, or the range and bytes to send on."""
        session = self._sessions.get(_session_id(path))
        if session is None:
            return error(404)
        if session.finished:
            return session.finished
        first, _last, total = _RANGE.fullmatch(content_range).groups()
        start = int(first) if first else session.kept_bytes
        if first is None and total == "*":
            return self._kept(session)
        if start > session.kept_bytes:
            return error(503)
        rest = body[session.kept_bytes - start :]
        if total == "*":
            if not rest:
                return self._kept(session)
        elif session.create_only and self._exists(session.bucket, session.name):
            return error(412)
        if not rest:
            return f"bytes */{total}", b""
        return f"bytes {session.kept_bytes}-{session.kept_bytes + len(rest) - 1}/{total}", rest

    def sent(self, path: str, body_bytes: int, answer: Answer) -> None:
        """Note what became of a part."""
        session = self._sessions[_session_id(path)]
        if answer.status in (200, 308):
            session.kept_bytes += body_bytes
        if answer.status == 200:
            session.finished = answer

    def cancelled(self, path: str) -> None:
        self._sessions.pop(_session_id(path), None)

    def _kept(self, session: Session) -> Answer:
        if not session.kept_bytes:
            return Answer(308)
        return Answer(308, headers=(("Range", f"bytes=0-{session.kept_bytes - 1}"),))

    def _exists(self, bucket: str, name: str) -> bool:
        return self._resource(f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}") is not None

    def _resource(self, path: str) -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(self._upstream + path, timeout=60) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as refused:
            refused.close()
            return None


def error(status: int, reason: str = "") -> Answer:
    """An answer that says no, as Cloud Storage words it."""
    message = f"test says {status}"
    errors = [{"domain": "global", "reason": reason, "message": message}]
    body = {"error": {"code": status, "message": message, "errors": errors}}
    return Answer(status, json.dumps(body).encode(), (("Content-Type", "application/json"),))


def _is_create_only(path: str) -> bool:
    return parse_qs(urlsplit(path).query).get("ifGenerationMatch") == ["0"]


def _target(path: str, body: bytes) -> tuple[str, str]:
    """Bucket and name of an upload that starts."""
    split = urlsplit(path)
    named = parse_qs(split.query).get("name")
    bucket = split.path.split("/b/")[1].split("/")[0]
    return bucket, named[0] if named else json.loads(body)["name"]


def _session_id(url: str) -> str:
    return parse_qs(urlsplit(url).query)["upload_id"][0]
