"""What an upload session does where no service can be brought to do it."""

from __future__ import annotations

import ssl
import traceback
from types import SimpleNamespace

import pytest
import requests
from google.auth.exceptions import RefreshError

from secure_xcom.stores.blocks import HeldBody
from secure_xcom.stores.gcs import retry
from secure_xcom.stores.gcs.bucket import Bucket
from secure_xcom.stores.gcs.retry import Doubtful, Failure, Interrupted, SessionGone, failure_of
from secure_xcom.stores.gcs.session import UploadSession
from secure_xcom.stores.protocol import Stored

URL = "https://storage.example/upload?upload_id=SECRET"


class Http:
    """Gives the answers it was given, or raises them."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.ranges: list[str | None] = []

    def request(self, method: str, _url: str, **options: object) -> requests.Response:
        if method == "POST":
            response = _answer(200)
            response.headers["Location"] = URL
            return response
        self.ranges.append(options.get("headers", {}).get("Content-Range"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _session(http: Http, deadline_seconds: float = 5.0) -> UploadSession:
    connection = SimpleNamespace(http=http, base_url="https://storage.example")
    bucket = Bucket(connection, "bucket", retry.Retries(deadline_seconds))
    return UploadSession(bucket, {"name": "name"})


def _answer(status: int, kept: int | None = None, body: bytes = b"{}") -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = body
    if kept is not None:
        response.headers["Range"] = f"bytes=0-{kept - 1}"
    return response


@pytest.mark.parametrize(
    "error",
    [
        requests.exceptions.SSLError(URL, ssl.SSLCertVerificationError("certificate")),
        requests.exceptions.ProxyError(URL, OSError("Tunnel connection failed: 407 No")),
        requests.exceptions.InvalidURL(URL),
    ],
)
def test_an_error_that_does_not_pass_has_no_address(error: Exception):
    with pytest.raises(OSError, match=type(error).__name__) as caught:
        _session(Http(error)).send(HeldBody([b"x"]), last=True)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    assert failure_of(caught.value) is Failure.FINAL


@pytest.mark.parametrize("kept", [0, 3, 100])
def test_a_service_that_lost_or_made_up_bytes_is_not_believed(kept: int):
    session = _session(
        Http(_answer(308, kept=4), _answer(308, kept=kept), _answer(308, kept=kept), _answer(204))
    )
    session.send(HeldBody([b"abcd"]), last=False)
    with pytest.raises(SessionGone, match="another number of bytes"):
        session.send(HeldBody([b"efgh", b"i"]), last=False)


def test_a_service_that_keeps_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.001))
    session = _session(Http(*[_answer(308)] * 10_000), 0.05)
    with pytest.raises(Interrupted, match="nothing of a part was kept"):
        session.send(HeldBody([b"abcd"]), last=True)


def test_cancelling_never_hides_what_went_wrong():
    for error in (requests.ConnectionError(URL), RefreshError("gone")):
        session = _session(Http(_answer(308, kept=4), error))
        session.send(HeldBody([b"abcd"]), last=False)
        session.cancel()


OBJECT = b'{"generation": "7", "size": "4", "crc32c": "AAAAAQ=="}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        OBJECT[:-1],
        OBJECT.replace(b'"generation"', b'"generatio"'),
        OBJECT.replace(b'"7"', b"null"),
        OBJECT.replace(b'"7"', b'"-7"'),
        OBJECT.replace(b'"4"', b'""'),
        OBJECT.replace(b"AAAAAQ==", b"AAAA"),
        OBJECT.replace(b"AAAAAQ==", b"!"),
    ],
    ids=range(11),
)
def test_an_answer_that_cannot_be_read_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, body: bytes
):
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.001))
    http = Http(_answer(200, body=body), _answer(200, body=OBJECT))
    assert _session(http).send(HeldBody([b"abcd"]), last=True) == Stored("7", 4, 1)
    assert http.ranges == ["bytes 0-3/4", "bytes */*"]
    with pytest.raises(Doubtful, match="the answer"):
        _session(Http(*[_answer(200, body=body)] * 3)).send(HeldBody([b"abcd"]), last=True)


def test_a_part_that_was_kept_to_the_end_but_not_finished_is_finished():
    http = Http(_answer(308, kept=4), _answer(200, body=OBJECT))
    assert _session(http).send(HeldBody([b"abcd"]), last=True) == Stored("7", 4, 1)
    assert http.ranges == ["bytes 0-3/4", "bytes */4"]
