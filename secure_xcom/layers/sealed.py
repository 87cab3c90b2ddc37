"""The layer that seals: payloads above it, preambles and bodies below it, nothing readable below.

It writes, reads and deletes as `docs/format.md`, section 8, orders.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from secure_xcom import audit, signals, telemetry
from secure_xcom.errors import (
    AuthenticationError,
    CodecError,
    ConfigError,
    FormatError,
    SecureXComError,
)
from secure_xcom.format import body, envelope, names
from secure_xcom.format.payload import longest, marshal_payload, parse_payload
from secure_xcom.keys.data_keys import DataKeys, SealingKey
from secure_xcom.layers.download import beside
from secure_xcom.layers.threshold import Threshold
from secure_xcom.model import (
    Buffer,
    Compression,
    Coordinate,
    Expected,
    Inline,
    Offloaded,
    Payload,
    Reference,
    WrappedKey,
)
from secure_xcom.stores.protocol import Damaged, Stored

#: How often a body is fetched again that came damaged.
DAMAGED_RETRIES = 2

_Result = TypeVar("_Result")


class Opened(NamedTuple):
    """What was opened, and whose it is, authenticated."""

    payload: Payload
    coordinate: Coordinate


@dataclass(frozen=True, slots=True)
class Checked:
    """A reference, and its preamble, of which nothing is authenticated yet."""

    reference: Reference
    preamble: envelope.Preamble


@dataclass(frozen=True, slots=True)
class Sealing:
    """A payload on its way: the header that was drawn for it, and how its body is made."""

    header: bytes
    name: str
    keys: envelope.ContentKeys = field(repr=False)
    make_body: Callable[[], Iterator[Buffer]] = field(repr=False)

    def preamble(self, wrapped: WrappedKey) -> bytes:
        """What goes before the body (section 2)."""
        key_block = envelope.marshal_key_block(wrapped)
        return envelope.marshal_preamble(key_block, self.header, self.keys.commitment)


class Sealed:
    """Seals payloads under a data key for each task instance, and opens what it trusts.

    Args:
        below: the layer that places bodies.
        keys: data keys and the KEKs that may be used.
        instance: this deployment's name, bound into every envelope.
        trusted_instances: further names that reads accept.
        mark: what follows the name where states are sealed, such as `#task-state`.
        compression: what large payloads are compressed with.
        max_value_bytes: the largest encoded value, in writes and in reads.
    """

    def __init__(  # noqa: PLR0913 - one argument for each setting that it obeys
        self,
        below: Threshold,
        keys: DataKeys,
        *,
        instance: str,
        trusted_instances: Iterable[str],
        mark: str = "",
        compression: Compression,
        max_value_bytes: int,
    ) -> None:
        self._below = below
        self._keys = keys
        self._trusted = frozenset((instance, *trusted_instances))
        self._mark = mark
        self.instance = instance + mark
        self._compression = compression
        self._max_value_bytes = max_value_bytes

    def key_for(self, coordinate: Coordinate) -> SealingKey:
        """The data key that seals for a coordinate now; a new one is wrapped in the background.

        Raises:
            FormatError: an id does not fit into the header.
        """
        return self._keys.for_sealing(envelope.scope_bytes(self.instance, coordinate))

    def seal(self, payload: Payload, coordinate: Coordinate, key: SealingKey) -> Sealing:
        """Draw the header of a payload; its body is made when it is asked for.

        Raises:
            CodecError: the payload is longer than `max_value_bytes`.
            FormatError: an id does not fit into the header.
        """
        if payload.raw_bytes > self._max_value_bytes:
            raise CodecError(
                f"The value has {payload.raw_bytes} bytes once encoded; `max_value_bytes` "
                f"allows {self._max_value_bytes}."
            )
        salt = os.urandom(envelope.SALT_BYTES)
        header = envelope.marshal_header(
            envelope.Header(key.key_id, salt, self.instance, coordinate)
        )
        keys = envelope.derive(key.data_key, header, salt)

        def make_body() -> Iterator[Buffer]:
            random = os.urandom(body.RANDOM_BYTES)
            pieces = marshal_payload(payload, self._compression)
            if longest(payload.raw_bytes) > body.SHORT_BYTES:
                return body.seal(keys.content_key, keys.header_hash, pieces, random)
            short = b"".join(pieces)
            return iter((body.seal_short(keys.content_key, keys.header_hash, short, random),))

        return Sealing(header, names.object_name(self.instance, header), keys, make_body)

    def put(self, payload: Payload, coordinate: Coordinate, key: SealingKey) -> Reference:
        """Seal a payload for its coordinate and place it (section 8.1).

        Args:
            payload: what is sealed.
            coordinate: whose it is.
            key: of `key_for`. It may still be wrapped while the body is made and uploaded.

        Raises:
            CodecError: the payload is longer than `max_value_bytes`.
            FormatError: an id does not fit into the header.
            KeyServiceError: the data key was not wrapped.
            StoreError: the body could not be stored.
        """
        sealing = self.seal(payload, coordinate, key)
        try:
            placed = self._below.put(sealing.name, lambda: _while_wrapping(key, sealing.make_body))
        except Exception as error:
            if key.has_failed() and not signals.is_callers(error):
                key.wrapped()
            raise
        if isinstance(placed, bytes):
            return Inline(sealing.preamble(key.wrapped()) + placed)
        return Offloaded(
            store_uri=self._below.store_uri,
            name=sealing.name,
            generation=placed.generation,
            length_bytes=placed.length_bytes,
            crc32c=placed.crc32c,
            preamble=self._preamble(sealing, key, placed),
        )

    def _preamble(self, sealing: Sealing, key: SealingKey, placed: Stored) -> bytes:
        """What the row keeps; where it cannot be had, the object that was written goes again."""
        try:
            return sealing.preamble(key.wrapped())
        except Exception as error:
            # Whoever interrupts a push is not kept waiting for that: the object is an orphan then.
            if not signals.is_callers(error):
                self._below.discard(sealing.name, placed)
            raise

    def get(self, reference: Reference, expected: Expected, attempt: audit.Attempt) -> Opened:
        """Open what a reference stands for, if it is what was asked for (section 8.2).

        Args:
            reference: what the row holds.
            expected: what is known of the coordinate that was asked for.
            attempt: what the audit log will say; it learns which key was used.

        Raises:
            FormatError: the envelope, or what is sealed in it, has a shape that is not allowed.
            ConfigError: its KEK, its store or its deployment is not trusted.
            AuthenticationError: it is not what was sealed for this XCom.
            KeyServiceError: its data key could not be unwrapped.
            StoreError: its object could not be read.
        """
        return self.open(self.check(reference, expected, attempt), attempt)

    def check(self, reference: Reference, expected: Expected, attempt: audit.Attempt) -> Checked:
        """Check what a row holds as far as it goes without a service (steps 1 to 4).

        Raises:
            FormatError: the envelope has a shape that is not allowed.
            ConfigError: its KEK, its store or its deployment is not trusted.
            AuthenticationError: it was sealed for another place.
        """
        attempt.reference = reference
        if isinstance(reference, Inline):
            self.check_envelope_length(len(reference.envelope))
            preamble, _ = envelope.split_envelope(reference.envelope)
        else:
            self._check_body_length(reference.length_bytes)
            self._below.store(reference.store_uri)
            preamble = envelope.parse_whole_preamble(reference.preamble)
            header = preamble.unverified_header
            if reference.name != names.object_name(header.instance, preamble.header_bytes):
                raise AuthenticationError
        self.check_preamble(preamble, expected, attempt)
        return Checked(reference, preamble)

    def unwrap_ahead(self, checked: Checked) -> bool:
        """Have the data key unwrapped of what is about to be opened; waits for nothing.

        Returns:
            Whether the key is there, or on its way.
        """
        return self._keys.unwrap_ahead(*_wrapping(checked.preamble))

    def open(self, checked: Checked, attempt: audit.Attempt) -> Opened:
        """Open what was checked (steps 5 to 9).

        Raises:
            FormatError: what is sealed in it has a shape that is not allowed.
            AuthenticationError: it is not what was sealed for this XCom.
            KeyServiceError: its data key could not be unwrapped.
            StoreError: its object could not be read.
        """
        attempt.reference, preamble = checked.reference, checked.preamble
        attempt.wrapped = preamble.unverified_wrapped
        reference = checked.reference
        if isinstance(reference, Inline):
            sealed = memoryview(reference.envelope)[preamble.length_bytes :]
            return self.opened(preamble, self.unwrap(preamble), (sealed,), len(sealed))
        with telemetry.step("download"):
            return again_if_damaged(lambda: self._get(reference, preamble))

    def _get(self, reference: Offloaded, preamble: envelope.Preamble) -> Opened:
        chunks = self._below.get(reference)
        if self._keys.held_for_opening(*_wrapping(preamble)) is not None:
            return self.opened(preamble, self.unwrap(preamble), chunks, reference.length_bytes)
        with beside(lambda: self.unwrap(preamble), chunks) as (data_key, download):
            return self.opened(preamble, data_key, download, reference.length_bytes)

    def unwrap(self, preamble: envelope.Preamble) -> bytes:
        """Unwrap the data key of a preamble that was checked (step 5).

        Raises:
            AuthenticationError: the wrapped key is not what was wrapped.
            KeyServiceError: it could not be unwrapped.
        """
        return self._keys.for_opening(*_wrapping(preamble))

    def check_preamble(
        self,
        preamble: envelope.Preamble,
        expected: Expected,
        attempt: audit.Attempt,
    ) -> None:
        """Check a preamble against settings and question (steps 3 and 4).

        Raises:
            ConfigError: its KEK or its deployment is not trusted.
            AuthenticationError: it was sealed for another place.
        """
        attempt.wrapped = preamble.unverified_wrapped
        self._keys.check_trusted(preamble.unverified_wrapped)
        header = preamble.unverified_header
        deployment, sign, kind = header.instance.partition("#")
        if deployment not in self._trusted:
            raise ConfigError(
                f"The value says that it was sealed by the deployment {deployment!r} (`instance`; "
                "this is not verified), which is neither this one nor among `trusted_instances`, "
                "so it is not opened. If this environment was made from a snapshot of that one, "
                "or had that name before, add it to `trusted_instances` in airflow.cfg."
            )
        if sign + kind != self._mark or not expected.matches(header.coordinate):
            raise AuthenticationError

    def opened(
        self,
        preamble: envelope.Preamble,
        data_key: bytes,
        chunks: Iterable[Buffer],
        body_bytes: int,
    ) -> Opened:
        """Open a body whose preamble was checked (steps 6 to 9).

        Raises:
            FormatError: what is sealed in it has a shape that is not allowed.
            AuthenticationError: it is not what was sealed.
            StoreError: it could not be read.
        """
        header = preamble.unverified_header
        keys = envelope.derive(data_key, preamble.header_bytes, header.salt)
        envelope.check_commitment(keys, preamble.commitment)
        payload_bytes = body.payload_length(body_bytes)
        opened: Iterable[Buffer]
        if body_bytes > body.SHORT_BYTES:
            opened = body.open_(keys.content_key, keys.header_hash, chunks, body_bytes)
        else:
            sealed = _joined(chunks)
            if len(sealed) != body_bytes:
                raise AuthenticationError
            opened = (body.open_short(keys.content_key, keys.header_hash, sealed),)
        try:
            payload = parse_payload(opened, payload_bytes, self._max_value_bytes)
        except SecureXComError:
            # A tag fails before the checksum of what was fetched is known, which tells damage on
            # the way from an object that is not what was sealed: the rest is fetched for it.
            deque(chunks, maxlen=0)
            raise
        return Opened(payload, header.coordinate)

    def fetch(self, reference: Reference) -> None:
        """Have the layers below fetch a body, which a cache among them then holds.

        Raises:
            FormatError: it is longer than is allowed.
            ConfigError: its store is not trusted.
            StoreError: its object could not be read.
        """
        if isinstance(reference, Offloaded):
            self._check_body_length(reference.length_bytes)
            with telemetry.step("download"):
                again_if_damaged(lambda: deque(self._below.get(reference), maxlen=0))

    def delete(self, reference: Offloaded, expected: Expected) -> str | None:
        """Delete the object of a row that is gone, or about to go (section 8.3).

        Args:
            reference: what the row held. Its writer may not be who wrote the object.
            expected: the coordinate of the row.

        Returns:
            The generation that was deleted; None where there was nothing to delete.

        Raises:
            ConfigError: its store is not the one that is written to, or its deployment another.
            FormatError: its preamble is malformed.
            AuthenticationError: it is the object of another coordinate, or not all is known.
            StoreError: the store did not delete it.
        """
        if reference.store_uri != self._below.store_uri:
            raise ConfigError(
                f"The object lies in {reference.store_uri!r}, and only those in `store_uri` are "
                "deleted with their rows."
            )
        preamble = envelope.parse_whole_preamble(reference.preamble)
        header = preamble.unverified_header
        if header.instance != self.instance:
            raise ConfigError(
                f"The object is that of the deployment {header.instance!r} (this is not "
                "verified), which may still need it. It is left to that deployment."
            )
        if (
            Expected.exactly(header.coordinate) != expected
            or names.object_name(header.instance, preamble.header_bytes) != reference.name
        ):
            raise AuthenticationError(
                "The row that goes is not known to be the one that its object was written for, "
                "so the object was left as it is."
            )
        return self._below.delete(reference)

    def check_envelope_length(self, length_bytes: int) -> None:
        """Hold the length of an envelope against `max_value_bytes`, before anything is fetched.

        Raises:
            FormatError: it is too long.
        """
        self._check_body_length(length_bytes - envelope.PREAMBLE_BYTES_MAX)

    def _check_body_length(self, length_bytes: int) -> None:
        max_bytes = body_bytes_max(self._max_value_bytes)
        if length_bytes > max_bytes:
            raise FormatError(
                f"The sealed value has {length_bytes} bytes; `max_value_bytes` "
                f"({self._max_value_bytes}) allows no more than {max_bytes}."
            )


def again_if_damaged(read: Callable[[], _Result]) -> _Result:
    """Read something that is fetched, and again where it came damaged.

    Raises:
        AuthenticationError: it came damaged each time.
        SecureXComError: what `read` raised.
    """
    for _ in range(1 + DAMAGED_RETRIES):
        with suppress(Damaged):
            return read()
    raise AuthenticationError


def body_bytes_max(max_value_bytes: int) -> int:
    """How long the body of a value of `max_value_bytes` can be (section 8.2, step 1)."""
    return body.body_length(longest(max_value_bytes))


def _joined(chunks: Iterable[Buffer]) -> Buffer:
    """Chunks as one; each is good until the next one is asked for."""
    if isinstance(chunks, tuple) and len(chunks) == 1:
        return chunks[0]
    return b"".join(map(bytes, chunks))


def _wrapping(preamble: envelope.Preamble) -> tuple[WrappedKey, bytes]:
    """The wrapped key of a preamble, and what it is bound to."""
    header = preamble.unverified_header
    scope = envelope.scope_bytes(header.instance, header.coordinate)
    return preamble.unverified_wrapped, envelope.key_aad(scope, header.key_id)


def _while_wrapping(key: SealingKey, make_body: Callable[[], Iterator[Buffer]]) -> Iterator[Buffer]:
    """A body that breaks off once it is known that its key was not wrapped."""
    for chunk in make_body():
        if key.has_failed():
            key.wrapped()
        yield chunk
