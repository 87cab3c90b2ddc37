"""What an upload session does where no service can be brought to do it."""

from __future__ import annotations

import traceback

import pytest
import requests
from google.auth.exceptions import RefreshError

from secure_xcom.stores.blocks import Blocks
from secure_xcom.stores.gcs import wire as gcs_wire
from secure_xcom.stores.gcs.errors import is_passing
from secure_xcom.stores.gcs.session import UploadSession

URL = "https://storage.example/upload?upload_id=SECRET"


class Http:
    """Gives the answers it was given, or raises them."""

    def __init__(self, *answers: object) -> None:
        self._answers = list(answers)
        self.ranges: list[str | None] = []

    def request(self, _method: str, _url: str, **options: object) -> requests.Response:
        self.ranges.append(options.get("headers", {}).get("Content-Range"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


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
        requests.exceptions.SSLError(f"Max retries exceeded with url: {URL}"),
        requests.exceptions.ProxyError(URL),
        requests.exceptions.InvalidURL(URL),
    ],
)
def test_an_error_that_does_not_pass_has_no_address(error: Exception):
    with pytest.raises(OSError, match=type(error).__name__) as caught:
        UploadSession(Http(error), URL).send(Blocks([b"x"]), last=True)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    assert not is_passing(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 100])
def test_a_service_that_lost_or_made_up_bytes_is_not_believed(kept: int):
    session = UploadSession(
        Http(_answer(308, kept=4), _answer(308, kept=kept), _answer(308, kept=kept)), URL
    )
    session.send(Blocks([b"abcd"]), last=False)
    with pytest.raises(ValueError, match="another number of bytes"):
        session.send(Blocks([b"efgh", b"i"]), last=False)


def test_a_service_that_keeps_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gcs_wire, "BACKOFF_SECONDS", (0.001, 0.001))
    monkeypatch.setattr(gcs_wire, "DEADLINE_SECONDS", 0.05)
    with pytest.raises(Exception, match="nothing of a part was kept"):
        UploadSession(Http(*[_answer(308)] * 10_000), URL).send(Blocks([b"abcd"]), last=True)


def test_cancelling_never_hides_what_went_wrong():
    for error in (requests.ConnectionError(URL), RefreshError("gone")):
        UploadSession(Http(error), URL).cancel()


def test_an_answer_that_describes_no_object_is_an_error():
    with pytest.raises(TypeError, match="does not describe"):
        UploadSession(Http(_answer(200, body=b"[]")), URL).send(Blocks([b"x"]), last=True)


def test_a_part_that_was_kept_to_the_end_but_not_finished_is_finished():
    http = Http(_answer(308, kept=4), _answer(200, body=b'{"size": "4"}'))
    assert UploadSession(http, URL).send(Blocks([b"abcd"]), last=True) == {"size": "4"}
    assert http.ranges == ["bytes 0-3/4", "bytes */4"]
