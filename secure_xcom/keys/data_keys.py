"""Data keys: made, wrapped, unwrapped, and kept for a while.

One key seals for one scope until its time or its count is up. Keys that were unwrapped for
reading are kept apart and never seal (`docs/format.md`, section 3).
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

from cachetools import TTLCache

from secure_xcom import forks, telemetry
from secure_xcom.errors import ConfigError
from secure_xcom.format.envelope import DATA_KEY_BYTES, KEY_ID_BYTES, correlation_id, key_aad
from secure_xcom.keys.protocol import Kek
from secure_xcom.model import WrappedKey
from secure_xcom.single_flight import SingleFlight
from secure_xcom.threads import result, start

TTL_SECONDS_MAX = 3_600
#: How many messages one data key seals. Each message has a derived key of its own, so AES-GCM
#: would allow many more; this bounds what the loss of one data key exposes.
MESSAGES_MAX = 2**20
#: How many scopes have a sealing key, and how many unwrapped keys are kept, at most; the one
#: that was used least recently goes.
SEALING_KEYS_MAX = 1_024
OPENING_KEYS_MAX = 8_192


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A data key of 32 bytes, its id of 16, and its wrapping, which may be under way."""

    key_id: bytes
    data_key: bytes = field(repr=False)
    _wrapping: Future[WrappedKey]
    #: By which the audit log and that of Cloud KMS name the key.
    correlation_id: str = ""

    def wrapped(self) -> WrappedKey:
        """The form in which the key travels; waits for it.

        Raises:
            KeyServiceError: the KEK did not wrap the key.
            ConfigError: the KEK cannot be used as it is set.
        """
        return result(self._wrapping)

    def has_failed(self) -> bool:
        """Whether the wrapping has ended, without success."""
        return self._wrapping.done() and self._wrapping.exception() is not None


class _Sealer:
    """A sealing key and the count of what it may still seal."""

    def __init__(self, key: SealingKey) -> None:
        self.key = key
        # `next` on a count is atomic, so threads may take at once.
        self._taken = itertools.count(1)

    def take(self) -> bool:
        """Whether it may seal one more: not if it has sealed enough, or was not wrapped."""
        return not self.key.has_failed() and next(self._taken) <= MESSAGES_MAX


class DataKeys:
    """The data keys of one process; threads may share it.

    Args:
        keks: by URI, those that reads may use.
        kek_uri: the one of them that wraps new keys.
        ttl_seconds: how long a key seals, and how long an unwrapped one is kept; 3,600 at most.
        clock: seconds that never go backwards.

    Raises:
        ConfigError: the time is out of its bounds, or `kek_uri` is not among the KEKs.
    """

    def __init__(
        self,
        keks: Mapping[str, Kek],
        kek_uri: str,
        ttl_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0 <= ttl_seconds <= TTL_SECONDS_MAX:
            raise ConfigError(
                f"`data_key_ttl_seconds` is {ttl_seconds}; 0 to {TTL_SECONDS_MAX} are allowed."
            )
        if kek_uri not in keks:
            raise ConfigError(f"`kek_uri` {kek_uri!r} is not among the KEKs that were opened.")
        self._keks = dict(keks)
        self._kek = self._keks[kek_uri]
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self.forget()
        forks.run_in_children(self.forget)

    def forget(self) -> None:
        """Drop all keys, and the locks around them; those who hold a key may finish with it."""
        self._sealing: SingleFlight[bytes, _Sealer] = SingleFlight(
            TTLCache(SEALING_KEYS_MAX, self._ttl_seconds, self._clock)
        )
        self._opening: SingleFlight[bytes, bytes] = SingleFlight(
            TTLCache(OPENING_KEYS_MAX, self._ttl_seconds, self._clock)
        )

    def for_sealing(self, scope: bytes) -> SealingKey:
        """The key that seals for a scope now, to be used for one message.

        A new one is given out at once, while the KEK wraps it in the background.

        Args:
            scope: the scope's bytes (`docs/format.md`, section 3).
        """
        while True:
            sealer = self._sealing.get(scope, lambda: _Sealer(self._new_key(scope)))
            if sealer.take():
                return sealer.key
            self._sealing.discard(scope, sealer)

    def held_for_opening(self, wrapped: WrappedKey, aad: bytes) -> bytes | None:
        """The data key in a wrapped key, if it was unwrapped before and is kept."""
        return self._opening.held(_digest(wrapped.kek_uri.encode(), wrapped.ciphertext, aad))

    def for_opening(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        """The data key in a wrapped key; for reading only.

        Raises:
            ConfigError: its KEK is not trusted, or cannot be used as it is set.
            AuthenticationError: the wrapped key, or `aad`, is not what was wrapped.
            KeyServiceError: the KEK did not unwrap it.
        """
        self.check_trusted(wrapped)
        kek = self._keks[wrapped.kek_uri]
        digest = _digest(wrapped.kek_uri.encode(), wrapped.ciphertext, aad)

        def unwrap() -> bytes:
            with telemetry.step("unwrap"):
                return kek.unwrap(wrapped, aad)

        if self._opening.held(digest) is not None:
            telemetry.count("key_cache.hits")
        return self._opening.get(digest, unwrap)

    def unwrap_ahead(self, wrapped: WrappedKey, aad: bytes) -> bool:
        """Have a key unwrapped that reads are about to ask for; waits for nothing.

        What is wrong with it is said to those who ask (`for_opening`).

        Args:
            wrapped: the wrapped key; its KEK is trusted.
            aad: what it is bound to.

        Returns:
            Whether the key is there, or on its way.
        """
        if not self._ttl_seconds:
            # It would be gone again before anybody asks.
            return False
        kek = self._keks[wrapped.kek_uri]
        digest = _digest(wrapped.kek_uri.encode(), wrapped.ciphertext, aad)
        return self._opening.expect(digest, partial(kek.unwrap_ahead, wrapped, aad))

    def check_trusted(self, wrapped: WrappedKey) -> None:
        """Compare the KEK that a wrapped key names with those that reads may use.

        Raises:
            ConfigError: it is none of them.
        """
        if wrapped.kek_uri not in self._keks:
            raise ConfigError(
                f"The value was sealed under {wrapped.kek_uri!r}, which is neither `kek_uri` nor "
                "among `trusted_keks`, so it is not opened. If that key was this deployment's, "
                "add exactly that URI to `trusted_keks` in airflow.cfg."
            )

    def _new_key(self, scope: bytes) -> SealingKey:
        key_id = os.urandom(KEY_ID_BYTES)
        data_key = os.urandom(DATA_KEY_BYTES)
        aad = key_aad(scope, key_id)

        def wrap() -> WrappedKey:
            with telemetry.step("wrap"):
                return self._kek.wrap(data_key, aad)

        wrapping = start(wrap, "secure-xcom-wrap")
        return SealingKey(key_id, data_key, wrapping, correlation_id(aad))


def _digest(*parts: bytes) -> bytes:
    """SHA-256 over parts and their lengths: no two lists of parts have one digest."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
