"""What a key encryption key (KEK) can do: wrap and unwrap a data key."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from secure_xcom.model import WrappedKey


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A data key, and whether the version that wrapped it is the KEK's primary one now."""

    data_key: bytes = field(repr=False)
    #: By the service's own answer, and not by a hint. A KEK of one version has no other.
    used_primary: bool


class Kek(Protocol):
    """A key encryption key, named by a URI that is compared as an exact string."""

    @property
    def uri(self) -> str:
        """The URI that stands in key blocks and in `trusted_keks`."""
        ...

    def wrap(self, data_key: bytes, aad: bytes) -> WrappedKey:
        """Wrap a 32-byte data key, bound to `aad`.

        Raises:
            KeyAccessDenied: the caller may not encrypt under the key.
            KeyUnavailable: the key or the service cannot be used now.
            KeyServiceError: the service's answer failed its checks.
        """
        ...

    def unwrap_ahead(self, wrapped: WrappedKey, aad: bytes, data_key: Future[bytes]) -> bool:
        """Begin to unwrap a key that is about to be asked for; waits for nothing.

        Args:
            wrapped: the wrapped key.
            aad: what it is bound to.
            data_key: gets the data key. Where it could not be had it is cancelled, and says nothing
                of the reason: whoever needs the key calls `unwrap`.

        Returns:
            Whether it has begun; if not, `data_key` stays as it is.
        """
        ...

    def unwrap(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        """Give back the data key; raises what `examine` does."""
        ...

    def examine(self, wrapped: WrappedKey, aad: bytes) -> Unwrapped:
        """Give back the data key, and tell whether it needs another version than the primary.

        Raises:
            AuthenticationError: the wrapped key, or `aad`, is not what was wrapped.
            KeyAccessDenied: the caller may not decrypt with the key.
            KeyUnavailable: the key or the service cannot be used now.
            KeyServiceError: the service's answer failed its checks.
        """
        ...
