"""A body that is fetched while its key is still awaited, held within a bound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future

from secure_xcom.model import Buffer
from secure_xcom.threads import start

#: How much of a body is held until it is asked for.
HELD_BYTES_MAX = 8_388_608


class Download:
    """Fetches chunks in a thread of its own, and gives them out in order.

    Args:
        chunks: what is fetched. Each is good until the next one is asked for.
    """

    def __init__(self, chunks: Iterator[Buffer]) -> None:
        self._changed = threading.Condition()
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        self._is_stopped = False
        #: Done once all was fetched, or with the error that ended it.
        self.ended: Future[None] = start(lambda: self._fetch(chunks), "secure-xcom-download")
        self.ended.add_done_callback(self._notify)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; whatever ended the fetching is raised in its place."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._held or self.ended.done())
                if not self._held:
                    break
                chunk = self._held.popleft()
                self._held_bytes -= len(chunk)
                self._changed.notify_all()
            yield chunk
        self.ended.result()

    def stop(self) -> None:
        """Fetch no more."""
        with self._changed:
            self._is_stopped = True
            self._held.clear()
            self._changed.notify_all()

    def _fetch(self, chunks: Iterator[Buffer]) -> None:
        for chunk in chunks:
            with self._changed:
                self._held.append(bytes(chunk))
                self._held_bytes += len(self._held[-1])
                self._changed.notify_all()
                self._changed.wait_for(
                    lambda: self._is_stopped or self._held_bytes < HELD_BYTES_MAX
                )
                if self._is_stopped:
                    return

    def _notify(self, _: Future[None]) -> None:
        with self._changed:
            self._changed.notify_all()


def beside(make_key: Callable[[], bytes], chunks: Iterator[Buffer]) -> tuple[bytes, Download]:
    """Get a key while a body is fetched; return as soon as the key is there.

    Raises:
        Exception: what failed first; what the key raised, where both have failed by then.
    """
    settled = threading.Event()
    download = Download(chunks)
    key = start(make_key, "secure-xcom-unwrap")
    key.add_done_callback(lambda _: settled.set())
    download.ended.add_done_callback(lambda ended: settled.set() if ended.exception() else None)
    try:
        settled.wait()
        if not key.done():
            download.ended.result()
        return key.result(), download
    except BaseException:
        download.stop()
        raise
