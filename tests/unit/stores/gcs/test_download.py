"""What a read makes of answers that no test server gives."""

from __future__ import annotations

import io
from collections.abc import Iterator

import google_crc32c
import pytest

from secure_xcom.errors import AuthenticationError
from secure_xcom.stores.gcs import retry
from secure_xcom.stores.gcs.download import get
from secure_xcom.stores.gcs.retry import Interrupted
from secure_xcom.stores.protocol import Stored

DATA = bytes(range(100))


class Answer:
    """A body without a length, as in chunked transfer encoding."""

    headers: dict[str, str] = {}  # noqa: RUF012 - there are none

    def __init__(self, body: bytes) -> None:
        self.raw = self
        self._body = io.BytesIO(body)
        self.closed = False

    def read(self, count: int, *, decode_content: bool) -> bytes:
        assert not decode_content
        return self._body.read(min(count, 30))

    def close(self) -> None:
        self.closed = True


class Bucket:
    def __init__(self, *answers: bytes) -> None:
        self.answers = [Answer(body) for body in answers]
        self.asked: list[int] = []
        self.retries = retry.Retries(0.05)

    def download(self, _name: str, _generation: str, first_byte: int = 0) -> Answer:
        self.asked.append(first_byte)
        return self.answers[len(self.asked) - 1]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.001, 0.001))


def _read(bucket: Bucket, length_bytes: int = len(DATA)) -> Iterator[bytes]:
    asked = Stored("1", length_bytes, google_crc32c.value(DATA[:length_bytes]))
    return get(bucket, "name", asked)


def test_a_body_without_a_length_is_read():
    bucket = Bucket(DATA)
    assert b"".join(_read(bucket)) == DATA
    assert bucket.asked == [0]
    assert bucket.answers[0].closed


def test_one_that_ends_early_is_gone_on_with():
    bucket = Bucket(DATA[:42], b"", DATA[42:])
    assert b"".join(_read(bucket)) == DATA
    assert bucket.asked == [0, 42, 42]


def test_one_that_always_ends_early_is_given_up():
    with pytest.raises(Interrupted, match="ended before its time"):
        list(_read(Bucket(*[b""] * 1_000)))


def test_one_that_goes_on_after_its_end_is_refused_and_not_given_out():
    given: list[bytes] = []
    with pytest.raises(AuthenticationError):
        given.extend(_read(Bucket(DATA), 50))
    assert b"".join(given) == DATA[:30]
