"""A body that is fetched while its key is still awaited, held within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from threading import Condition

from secure_xcom.model import Buffer
from secure_xcom.threads import Crew, wait_for

#: How much of a body is held until it is asked for; one chunk more may be on its way.
HELD_BYTES_MAX = 8_388_608


class Download:
    """Fetches chunks in a thread of a crew, and gives them out in order.

    Args:
        chunks: what is fetched. Each is good until the next one is asked for.
        crew: once it is left, no more is fetched.
    """

    def __init__(self, chunks: Iterator[Buffer], crew: Crew) -> None:
        self._changed = Condition()
        self._held: deque[bytes] = deque()
        self._held_bytes = 0
        #: Done once all was fetched, or with the error that ended it.
        self._ended: Future[None] = crew.submit(lambda: self._fetch(chunks))
        self._ended.add_done_callback(self._notify)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks; whatever ended the fetching is raised in its place."""
        while True:
            with self._changed:
                wait_for(self._changed, lambda: bool(self._held) or self._ended.done())
                if not self._held:
                    break
                chunk = self._held.popleft()
                self._held_bytes -= len(chunk)
                self._changed.notify_all()
            yield chunk
        self._ended.result()

    def wait_for_key(self, key: Future[bytes]) -> bytes:
        """Wait for a key, or for an error, whichever comes first.

        Raises:
            Exception: what failed first; what the key raised, where both have failed by then.
        """
        key.add_done_callback(self._notify)
        with self._changed:
            wait_for(self._changed, lambda: key.done() or self._has_failed())
        if not key.done():
            self._ended.result()
        return key.result()

    def _has_failed(self) -> bool:
        return self._ended.done() and self._ended.exception() is not None

    def _fetch(self, chunks: Iterator[Buffer]) -> None:
        with _closing(chunks):
            for chunk in chunks:
                with self._changed:
                    self._held.append(bytes(chunk))
                    self._held_bytes += len(self._held[-1])
                    self._changed.notify_all()
                    wait_for(self._changed, lambda: self._held_bytes < HELD_BYTES_MAX)

    def _notify(self, _: Future[None] | Future[bytes]) -> None:
        with self._changed:
            self._changed.notify_all()


@contextmanager
def _closing(chunks: Iterator[Buffer]) -> Iterator[None]:
    """End a transfer with the context, and not when what is left of it is collected."""
    try:
        yield
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


@contextmanager
def beside(
    make_key: Callable[[], bytes], chunks: Iterator[Buffer]
) -> Iterator[tuple[bytes, Iterable[Buffer]]]:
    """Get a key while a body is fetched: the key, as soon as it is there, and the body.

    What is still under way when the context ends is told to stop, and not waited for.

    Args:
        make_key: gets the key.
        chunks: the body. Each is good until the next one is asked for.

    Raises:
        Exception: what failed first; what the key raised, where both have failed by then.
    """
    crew = Crew(2, "secure-xcom-download")
    try:
        key = crew.submit(make_key)
        if key.done():
            # There may be no thread to be had; and with the key there, none is needed.
            with _closing(chunks):
                yield key.result(), chunks
        else:
            download = Download(chunks, crew)
            yield download.wait_for_key(key), download
    finally:
        crew.leave()
