"""The layer that seals: payloads above it, envelopes below it, and nothing readable below.

It writes and checks in the order of `docs/format.md`, sections 2 and 8.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from secure_xcom import audit
from secure_xcom.errors import AuthenticationError, CodecError, FormatError, SecureXComError
from secure_xcom.format import body, envelope
from secure_xcom.format.payload import longest, marshal_payload, parse_payload
from secure_xcom.keys.data_keys import DataKeys, SealingKey
from secure_xcom.model import (
    Buffer,
    Compression,
    Coordinate,
    Description,
    Expected,
    Inline,
    Payload,
    Reference,
)

#: How often an envelope is fetched again that came damaged.
DAMAGED_RETRIES = 2

_T = TypeVar("_T")


class Below(Protocol):
    """The layer under this one: it places envelopes."""

    def put(
        self, chunks: Iterable[Buffer], coordinate: Coordinate, description: Description
    ) -> Reference:
        """Place an envelope."""
        ...

    def get(self, reference: Reference) -> Iterator[Buffer]:
        """Yield an envelope; nothing of it counts before the iteration has ended."""
        ...

    def delete(self, reference: Reference, expected: Expected) -> None:
        """Delete the object, if the reference has one."""
        ...


class Sealed:
    """Seals payloads under a data key for each task instance, and opens what it trusts.

    Args:
        below: the layer that places envelopes.
        keys: data keys and the KEKs that may be used.
        instance: this deployment's name, bound into every envelope.
        trusted_instances: further names that reads accept.
        compression: what large payloads are compressed with.
        max_value_bytes: the largest encoded value, in writes and in reads.
        describe: whether rows show the type and the exact size of a value.
        random: where random bytes come from.
    """

    def __init__(  # noqa: PLR0913 - one argument for each setting that it obeys
        self,
        below: Below,
        keys: DataKeys,
        *,
        instance: str,
        trusted_instances: Iterable[str],
        compression: Compression,
        max_value_bytes: int,
        describe: bool,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._below = below
        self._keys = keys
        self._instance = instance
        self._instances = frozenset((instance, *trusted_instances))
        self._compression = compression
        self._max_value_bytes = max_value_bytes
        self._describe = describe
        self._random = random

    def put(self, payload: Payload, coordinate: Coordinate) -> Reference:
        """Seal a payload for its coordinate and place it.

        Raises:
            CodecError: the payload is longer than `max_value_bytes`.
            FormatError: an id does not fit into the header.
            KeyServiceError: no data key could be had.
            StoreError: the envelope could not be stored.
        """
        key: SealingKey | None = None
        try:
            if payload.raw_bytes > self._max_value_bytes:
                raise CodecError(
                    f"The value has {payload.raw_bytes} bytes once encoded; `max_value_bytes` "
                    f"allows {self._max_value_bytes}."
                )
            key = sealing = self._keys.for_sealing(envelope.scope_bytes(self._instance, coordinate))
            reference = self._below.put(
                _Again(lambda: self._seal(payload, coordinate, sealing)),
                coordinate,
                self._description(payload, key),
            )
        except SecureXComError as error:
            audit.record("seal", coordinate, wrapped=key.wrapped if key else None, error=error)
            raise
        audit.record(
            "seal",
            coordinate,
            reference=reference,
            wrapped=key.wrapped,
            raw_bytes=payload.raw_bytes,
        )
        return reference

    def _description(self, payload: Payload, key: SealingKey) -> Description:
        if not self._describe:
            return Description(key.wrapped.kek_uri)
        return Description(key.wrapped.kek_uri, payload.type_name, payload.raw_bytes)

    def _seal(self, payload: Payload, coordinate: Coordinate, key: SealingKey) -> Iterator[Buffer]:
        salt = self._random(envelope.SALT_BYTES)
        header = envelope.marshal_header(
            envelope.Header(key.key_id, salt, self._instance, coordinate)
        )
        keys = envelope.derive(key.data_key, header, salt)
        key_block = envelope.marshal_key_block(key.wrapped)
        yield envelope.marshal_preamble(key_block, header, keys.commitment)
        yield from body.seal(
            keys.content_key,
            keys.header_hash,
            marshal_payload(payload, self._compression),
            self._random(body.RANDOM_BYTES),
        )

    def get(self, reference: Reference, expected: Expected) -> Payload:
        """Open the envelope of a reference, if it is what was asked for.

        Raises:
            FormatError: the envelope, or what is sealed in it, has a shape that is not allowed.
            ConfigError: its KEK or store is not trusted.
            AuthenticationError: it is not what was sealed for this XCom.
            KeyServiceError: its data key could not be unwrapped.
            StoreError: its object could not be read.
        """
        preamble: envelope.Preamble | None = None
        try:
            length_bytes = self._length(reference)

            def open_(chunks: Iterator[Buffer]) -> Payload:
                nonlocal preamble
                preamble, rest = envelope.split_preamble(chunks)
                return self._open(preamble, rest, length_bytes - preamble.length_bytes, expected)

            payload = self._read(reference, open_)
        except SecureXComError as error:
            wrapped = preamble.unverified_wrapped if preamble else None
            audit.record("open", expected, reference=reference, wrapped=wrapped, error=error)
            raise
        audit.record(
            "open",
            expected if preamble is None else preamble.unverified_header.coordinate,
            reference=reference,
            wrapped=preamble.unverified_wrapped if preamble else None,
            raw_bytes=payload.raw_bytes,
        )
        return payload

    def _read(self, reference: Reference, use: Callable[[Iterator[Buffer]], _T]) -> _T:
        """Use an envelope that is fetched, again where it came damaged.

        Raises:
            AuthenticationError: it came damaged each time.
            SecureXComError: what `use` raised.
        """
        for _ in range(1 + DAMAGED_RETRIES):
            try:
                return use(self._below.get(reference))
            except AuthenticationError as error:
                if not error.damaged:
                    raise
        raise AuthenticationError

    def _open(
        self,
        preamble: envelope.Preamble,
        rest: Iterable[Buffer],
        body_bytes: int,
        expected: Expected,
    ) -> Payload:
        payload_bytes = body.payload_length(body_bytes)
        header = preamble.unverified_header
        self._keys.check_trusted(preamble.unverified_wrapped)
        if header.instance not in self._instances or not expected.matches(header.coordinate):
            raise AuthenticationError
        scope = envelope.scope_bytes(header.instance, header.coordinate)
        data_key = self._keys.for_opening(
            preamble.unverified_wrapped, envelope.key_aad(scope, header.key_id)
        )
        keys = envelope.derive(data_key, preamble.header_bytes, header.salt)
        envelope.check_commitment(keys, preamble.commitment)
        opened = body.open_(keys.content_key, keys.header_hash, rest, body_bytes)
        try:
            return parse_payload(opened, payload_bytes, self._max_value_bytes)
        except SecureXComError:
            # A tag fails before the checksum of what was fetched is known, which tells damage on
            # the way from an object that is not what was sealed: the rest is fetched for it.
            deque(rest, maxlen=0)
            raise

    def fetch(self, reference: Reference) -> None:
        """Have the layers below fetch an envelope, which a cache among them then holds.

        Raises:
            FormatError: it is longer than is allowed.
            ConfigError: its store is not trusted.
            StoreError: its object could not be read.
        """
        self._length(reference)
        self._read(reference, lambda chunks: deque(chunks, maxlen=0))

    def delete(self, reference: Reference, expected: Expected) -> None:
        """Delete what the reference names, under the coordinate that is known to own it.

        Raises:
            ConfigError: its store is not trusted.
            AuthenticationError: it lies outside what the coordinate may own.
            StoreError: the store did not delete it.
        """
        try:
            self._below.delete(reference, expected)
        except SecureXComError as error:
            audit.record("delete", expected, reference=reference, error=error)
            raise
        audit.record("delete", expected, reference=reference)

    def _length(self, reference: Reference) -> int:
        """The envelope's length, checked before anything is fetched."""
        if isinstance(reference, Inline):
            length_bytes = len(reference.envelope)
        else:
            length_bytes = reference.length_bytes
        most = envelope_bytes_max(self._max_value_bytes)
        if length_bytes > most:
            raise FormatError(
                f"The envelope has {length_bytes} bytes; `max_value_bytes` "
                f"({self._max_value_bytes}) allows no more than {most}."
            )
        return length_bytes


def envelope_bytes_max(max_value_bytes: int) -> int:
    """How long the envelope of a value of `max_value_bytes` can be (section 8, step 1)."""
    return envelope.PREAMBLE_BYTES_MAX + body.body_length(longest(max_value_bytes))


class _Again:
    """An envelope that can be made anew, with fresh salts, for an upload that starts over."""

    def __init__(self, make: Callable[[], Iterator[Buffer]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Buffer]:
        return self._make()
