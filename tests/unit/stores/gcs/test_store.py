from __future__ import annotations

import google_crc32c

from secure_xcom.stores.blocks import Checksummed
from secure_xcom.stores.gcs.store import _is_sent
from secure_xcom.stores.protocol import Stored


def _stored(data: bytes) -> Stored:
    return Stored("1", len(data), google_crc32c.value(data))


def test_only_an_attempt_that_was_sent_to_its_end_made_an_object():
    attempt, other = Checksummed(lambda: [b"begin", b"end"]), Checksummed(lambda: [b"other"])
    assert next(iter(attempt)) == b"begin"
    assert (attempt.length_bytes, attempt.crc32c) == (5, google_crc32c.value(b"begin"))
    assert not _is_sent(_stored(b"begin"), [other, attempt])
    assert b"".join([*attempt, *other]) == b"endother"
    for data, is_ours in ((b"beginend", True), (b"other", True), (b"begin", False), (b"", False)):
        assert _is_sent(_stored(data), [other, attempt]) is is_ours
