"""What the links are, without any backend: round trips, and bytes in one second.

The proxy must be as slow as it is told to be, and no slower: without distance it has to carry
several times what the shaped link does.
"""

from __future__ import annotations

import http.client
import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cloud import BUCKET
from names import COUNTED, FAR, NEAR
from timing import spread

if TYPE_CHECKING:
    from bench import Bench

_NAMES = {NEAR: "loopback", COUNTED: "proxy without distance", FAR: "shaped: 20 ms, 100 MB/s"}


def measure(bench: Bench) -> list[dict[str, Any]]:
    """Plain HTTP over each link."""
    data = os.urandom((4 if bench.quick else 64) * 2**20)
    return [_link(bench, link, data) for link in (NEAR, COUNTED, FAR)]


def _link(bench: Bench, link: str, data: bytes) -> dict[str, Any]:
    bench.link(link)
    bench.say(link)
    connection = http.client.HTTPConnection(
        urlsplit(os.environ["STORAGE_EMULATOR_HOST"]).netloc, timeout=60
    )
    asked = f"/storage/v1/b/{BUCKET}"
    _call(connection, "GET", asked)
    ups, downs = [], []
    trips = [_call(connection, "GET", asked)[0] for _ in range(3 if bench.quick else 20)]
    for _ in range(1 if bench.quick else 5):
        up, _ = _call(connection, "POST", f"/upload{asked}/o?uploadType=media&name=link", data)
        down, found = _call(connection, "GET", f"/download{asked}/o/link?alt=media")
        bench.check(found, data, link)
        ups.append(len(data) / 1e6 / up)
        downs.append(len(data) / 1e6 / down)
    connection.close()
    bench.cloud.empty()
    return {
        "link": _NAMES[link],
        "round trip, ms": str(spread([seconds * 1e3 for seconds in trips])),
        "upload, MB/s": str(spread(ups)),
        "download, MB/s": str(spread(downs)),
    }


def _call(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[float, bytes]:
    started = time.perf_counter()
    connection.request(method, path, body)
    found = connection.getresponse().read()
    return time.perf_counter() - started, found
