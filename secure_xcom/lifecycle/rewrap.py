"""`secure-xcom rewrap`: data keys are wrapped anew by the primary version of `kek_uri`.

What a row or the object of a state holds besides the wrapped key stays byte for byte: header,
commitment and body. A row is changed only where it still is what was read, an object only in the
place of the generation that was read, so whatever happens meanwhile, each value has a wrapped key
that opens it. Nothing is remembered of a run: the key service says of each wrapped key whether the
primary version has wrapped it, and the next run passes over what is done.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import NamedTuple

from cachetools import LRUCache

from secure_xcom import audit
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    KeyAccessDenied,
    KeyServiceError,
    ObjectNotFound,
    SecureXComError,
    StoreError,
)
from secure_xcom.format import envelope, names
from secure_xcom.format.about import with_key
from secure_xcom.format.envelope import Preamble
from secure_xcom.format.reference import STATE_MARKS, VERSION, to_row
from secure_xcom.keys.protocol import Kek
from secure_xcom.layers.sealed import again_if_damaged, body_bytes_max
from secure_xcom.layers.threshold import METADATA
from secure_xcom.lifecycle.content import Content, read
from secure_xcom.lifecycle.objects import Told
from secure_xcom.lifecycle.rows import Rows, StoredRow
from secure_xcom.lifecycle.tables import ALL, Selection
from secure_xcom.model import Expected, Inline, Offloaded, StateObject, WrappedKey
from secure_xcom.single_flight import SingleFlight
from secure_xcom.stores.protocol import Entry, Store
from secure_xcom.threads import Crew
from secure_xcom.uris import state_store

#: How many rows or objects are taken at once, about how many bytes of them, and how many are told
#: to the audit log in one line.
BATCH = 1000
BATCH_BYTES = 8_388_608
#: How many wrapped keys are kept, each with its data key, so that rows which share one cost one
#: call. Rows of one task instance stand close together.
KEYS_MAX = 8192
#: How many of what was left are told one by one.
LEFT_TOLD = 20
_THREADS = 16
#: How often something is read again that others change all the while.
_READINGS_MAX = 10
_CHANGING = "Others change it all the while."


@dataclass(frozen=True, slots=True)
class Keyring:
    """Which keys are to open, which one is to wrap, and what belongs to the deployment."""

    #: By URI, all that reads may use.
    keks: Mapping[str, Kek]
    #: The one of them whose primary version is to have wrapped every data key.
    kek_uri: str
    instance: str
    store_uri: str
    open_store: Callable[[str], Store]
    #: The longest encoded value; longer objects of states are not read.
    max_value_bytes: int
    trusted_instances: tuple[str, ...] = ()
    trusted_stores: tuple[str, ...] = ()
    #: A name that the deployment had before; objects of states of that name are written, too.
    former_instance: str | None = None


class Left(NamedTuple):
    """Something that was left as it is, and why."""

    #: The name of the table, or the URI of the object.
    place: str
    where: Expected
    #: The class of the error, `broken`, or `elsewhere`.
    reason: str
    detail: str


@dataclass(slots=True)
class Rewrapped:
    """What a run came to."""

    began: datetime
    #: The version that wraps new data keys, by the service's own answer; empty for a key file.
    version: str = ""
    #: All rows that were read.
    rows: int = 0
    #: Those that hold a wrapped key, and objects of states.
    sealed_rows: int = 0
    states: int = 0
    #: Rows and states whose data key the primary version has wrapped before.
    current: int = 0
    #: Those that need another version, if nothing was to be changed.
    old: int = 0
    changed_rows: int = 0
    changed_states: int = 0
    #: Deleted by others meanwhile.
    gone: int = 0
    #: How many data keys each version has wrapped in this run.
    wrapped_by: Counter[str] = field(default_factory=Counter)
    #: What stays as it is, by reason, and the first of it.
    left: Counter[str] = field(default_factory=Counter)
    left_first: list[Left] = field(default_factory=list)
    #: SHA-256 over what was changed, in order.
    digest: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether nothing that was looked at needs another version than the primary."""
        return not self.old and not self.left.total()

    @property
    def is_done(self) -> bool:
        """Whether all that was looked at is under the version that the run began with."""
        return self.is_clean and not set(self.wrapped_by) - {self.version}


class Look(NamedTuple):
    """A reading that found nothing which needs another version; written `2-20261125T180000Z-…`."""

    version: str
    at: datetime
    #: The first digits of a hash of the KEK's URI.
    kek: str

    @classmethod
    def of(cls, done: Rewrapped, kek_uri: str) -> Look:
        """What a clean run saw."""
        return cls(done.version, done.began.replace(microsecond=0), _digits(kek_uri))

    @classmethod
    def parse(cls, text: str) -> Look:
        """Take one from its text.

        Raises:
            ConfigError: it is none.
        """
        match = re.fullmatch(r"([0-9]{0,10})-([0-9]{8}T[0-9]{6}Z)-([0-9a-f]{8})", text)
        try:
            at = datetime.strptime(match[2] if match else "", "%Y%m%dT%H%M%S%z")
        except ValueError:
            match = None
        if match is None:
            raise ConfigError(
                f"{text[:100]!r} is no first look. It is what `rewrap --verify` prints once it has "
                "found nothing that needs another version, such as 2-20261125T180000Z-0a1b2c3d."
            )
        return cls(match[1], at, match[3])

    def __str__(self) -> str:
        return f"{self.version}-{self.at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{self.kek}"

    def check_due(self, now: datetime, wait_seconds: float) -> None:
        """See whether it is time for the look that completes this one.

        Args:
            now: when that one begins.
            wait_seconds: how long what was wrapped before the primary version changed may still
                come in.

        Raises:
            ConfigError: it is not.
        """
        due = self.at + timedelta(seconds=wait_seconds)
        if now < due:
            raise ConfigError(
                f"It is too early for a second look: until {due.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
                " a push may still bring in what another version has wrapped."
            )

    def check_same(self, done: Rewrapped, kek_uri: str) -> None:
        """See whether another look was for the same version.

        Raises:
            ConfigError: it was for another one.
        """
        if (self.version, self.kek) != (done.version, _digits(kek_uri)):
            raise ConfigError(
                "The first look was for another version, or another key, than the primary version "
                f"{done.version} of {kek_uri}. Begin again: `secure-xcom rewrap`, then "
                "`secure-xcom rewrap --verify`."
            )


@dataclass(frozen=True, slots=True)
class _DataKey:
    """What a wrapped key holds, and what takes its place."""

    data_key: bytes = field(repr=False)
    #: Whether the primary version of the KEK has wrapped it.
    is_current: bool
    #: By the primary version; None where it is current, or nothing is to be changed.
    renewed: WrappedKey | None


def rewrap(
    keyring: Keyring,
    rows: Rows,
    told: Told = lambda _what, _count: None,
    *,
    selection: Selection = ALL,
    dry_run: bool = False,
) -> Rewrapped:
    """Have every data key of a deployment wrapped by the primary version of its KEK.

    Args:
        keyring: keys, and what belongs to the deployment.
        rows: the deployment's.
        told: is told how far it is.
        selection: which rows and states are meant.
        dry_run: only see which need another version. That opens each wrapped key, too.

    Raises:
        KeyServiceError: the key service cannot be used.
        RowsUnreadable: the database could not be read whole, or written.
        StoreError: the store could not be read whole, or written. After any of these, what is done
            stays done, and the next run goes on.
    """
    return _Rewrap(keyring, rows, told, selection, dry_run=dry_run).done()


class _Rewrap:
    """One run of it."""

    def __init__(
        self, keyring: Keyring, rows: Rows, told: Told, selection: Selection, *, dry_run: bool
    ) -> None:
        self._keyring = keyring
        self._kek = keyring.keks[keyring.kek_uri]
        self._rows = rows
        self._told = told
        self._selection = selection
        self._dry_run = dry_run
        self._trusted = {keyring.instance, *keyring.trusted_instances}
        self._stores: dict[str, Store] = {}
        self._keys: SingleFlight[tuple[str, bytes, bytes, bool], _DataKey] = SingleFlight(
            LRUCache(KEYS_MAX)
        )
        self._lock = threading.Lock()
        self._whole = hashlib.sha256()
        self._done = Rewrapped(datetime.now(UTC))

    def done(self) -> Rewrapped:
        """Go through all rows, and then all states."""
        self._done.version = self._primary()
        with Crew(_THREADS, "secure-xcom-rewrap") as crew:
            for batch in self._sealed_rows():
                self._take_rows(batch, crew)
            for kind in STATE_MARKS:
                self._take_states(kind, crew)
        return self._done

    def _primary(self) -> str:
        """The version that wraps now, as the service says; what is wrapped for that is dropped.

        Raises:
            SecureXComError: it does not wrap.
        """
        aad = envelope.key_aad(b"", os.urandom(envelope.KEY_ID_BYTES))
        return self._kek.wrap(os.urandom(envelope.DATA_KEY_BYTES), aad).unverified_version

    # Rows.

    def _sealed_rows(self) -> Iterator[list[tuple[StoredRow, Content]]]:
        batch: list[tuple[StoredRow, Content]] = []
        batch_bytes = 0
        for row in self._rows.stream(self._selection):
            self._done.rows += 1
            if self._done.rows % BATCH == 0:
                self._told("rows read", self._done.rows)
            if (content := self._sealed(row)) is None:
                continue
            self._done.sealed_rows += 1
            batch.append((row, content))
            batch_bytes += len(row.text or "")
            if len(batch) == BATCH or batch_bytes >= BATCH_BYTES:
                yield batch
                batch, batch_bytes = [], 0
        yield batch

    def _sealed(self, row: StoredRow) -> Content | None:
        """What a row holds, if it needs a key."""
        content = read(row)
        if content.state == "broken":
            detail = (
                "a newer release may have written it"
                if content.other_version
                else "it claims to be sealed, and no reader takes it"
            )
            self._leave(Left(row.source.name, row.where, "broken", detail))
            return None
        if isinstance(content.reference, StateObject) and self._is_ours(content.reference):
            # It is among the objects of the store, where those are that no row names, too.
            return None
        return content if content.reference is not None else None

    def _is_ours(self, state: StateObject) -> bool:
        """Whether the object of a state is one that this deployment writes."""
        folder = state.name.partition("/")[0]
        return any(
            state.store_uri == self._states_uri(kind) and folder in self._folders(kind)
            for kind in STATE_MARKS
        )

    def _states_uri(self, kind: str) -> str:
        return state_store(self._keyring.store_uri, kind)

    def _folders(self, kind: str) -> dict[str, str]:
        """The folders of the states that this deployment writes, with the names in them."""
        former = self._keyring.former_instance
        instances = [self._keyring.instance] if former is None else [self._keyring.instance, former]
        mark = STATE_MARKS[kind]
        return {names.deployment(instance + mark): instance + mark for instance in instances}

    def _take_rows(self, batch: list[tuple[StoredRow, Content]], crew: Crew) -> None:
        changed: list[bytes] = []
        for _ in range(_READINGS_MAX):
            if not batch:
                break
            futures = [crew.submit(partial(self._key_of_row, *taken)) for taken in batch]
            again: list[tuple[StoredRow, Content]] = []
            failed: KeyServiceError | None = None
            for (row, content), future in zip(batch, futures, strict=True):
                try:
                    key = future.result()
                except SecureXComError as error:
                    failed = self._failed(row.source.name, row.where, error) or failed
                    continue
                if key is None or key.is_current:
                    self._done.current += key is not None
                elif key.renewed is None:
                    self._done.old += 1
                elif self._rows.change(row, text := _renewed(content, key.renewed)):
                    self._done.changed_rows += 1
                    changed.append(_digest_of_row(row, text))
                else:
                    again += self._read_again(row)
            if failed is not None:
                # Whether it is the service or a version that cannot be used any more.
                self._primary()
            batch = again
        for row, _ in batch:
            self._leave(Left(row.source.name, row.where, "changing", _CHANGING))
        self._record("rows", changed)
        self._told("rows rewrapped", self._done.changed_rows)

    def _read_again(self, row: StoredRow) -> list[tuple[StoredRow, Content]]:
        """A row that was not what had been read any more, as it is now, if it needs a key."""
        now = self._rows.again(row)
        if now is None:
            self._done.gone += 1
            return []
        content = self._sealed(now)
        return [] if content is None else [(now, content)]

    def _key_of_row(self, row: StoredRow, content: Content) -> _DataKey | None:
        """The data key of a row that was sealed for its place; None where it has none.

        Raises:
            ConfigError: KEK, deployment or store are not trusted.
            AuthenticationError: it was sealed for another place.
            KeyServiceError: the data key was not unwrapped, or not wrapped.
            _Passed: it names the state of another deployment, under another version.
        """
        if isinstance(content.reference, StateObject):
            return self._key_elsewhere(row, content.reference)
        preamble = content.preamble
        if preamble is None:
            raise AuthenticationError
        header = preamble.unverified_header
        if isinstance(content.reference, Offloaded) and content.reference.name != names.object_name(
            header.instance, preamble.header_bytes
        ):
            raise AuthenticationError
        mark = STATE_MARKS.get(row.kind, "")
        return self._key(preamble, mark, row.where)

    def _key_elsewhere(self, row: StoredRow, state: StateObject) -> _DataKey | None:
        """The data key of a state that this deployment reads, and does not write.

        Another deployment may still live there, which does not read by this one's key.
        """
        uris = (self._keyring.store_uri, *self._keyring.trusted_stores)
        if state.store_uri not in [state_store(uri, row.kind) for uri in uris]:
            raise ConfigError(
                f"The state lies in {state.store_uri!r}, which is none of this deployment's stores "
                "(`store_uri`, `trusted_stores`)."
            )
        try:
            start = self._store(state.store_uri).beginning(state.name, envelope.PREAMBLE_BYTES_MAX)
        except ObjectNotFound:
            return None
        preamble = envelope.parse_preamble(start)
        if names.state_name_of(preamble.unverified_header) != state.name:
            raise AuthenticationError
        key = self._key(preamble, STATE_MARKS[row.kind], row.where, renew=False)
        if not key.is_current:
            raise _Passed(
                "elsewhere",
                f"The state {state.store_uri}/{state.name} needs another version, and is left: it "
                "lies in a store, or under the name of a deployment, that this one reads and does "
                "not write. The next write of it goes to this deployment's own place.",
            )
        return key

    # States.

    def _take_states(self, kind: str, crew: Crew) -> None:
        store = self._store(self._states_uri(kind))
        for folder, instance in self._folders(kind).items():
            entries = store.entries(f"{folder}/")
            while batch := list(islice(entries, BATCH)):
                self._take_objects(store, instance, batch, crew)

    def _take_objects(self, store: Store, instance: str, batch: list[Entry], crew: Crew) -> None:
        changed: list[bytes] = []
        failed: KeyServiceError | None = None
        work = [
            (entry, crew.submit(partial(self._rewrap_state, store, instance, entry)))
            for entry in batch
        ]
        for entry, future in work:
            place = f"{store.uri}/{entry.name}"
            try:
                outcome = future.result()
            except ObjectNotFound:
                self._done.gone += 1
                continue
            except StoreError:
                raise
            except SecureXComError as error:
                self._done.states += 1
                failed = self._failed(place, Expected(), error) or failed
                continue
            if outcome is None:
                continue
            self._done.states += 1
            if outcome == "current":
                self._done.current += 1
            elif outcome == "old":
                self._done.old += 1
            else:
                self._done.changed_states += 1
                changed.append(f"{place}#{outcome}\n".encode())
        if failed is not None:
            self._primary()
        self._record("states", changed)
        self._told("states read", self._done.states)

    def _rewrap_state(self, store: Store, instance: str, entry: Entry) -> str | None:
        """Give one object of a state another key block.

        Returns:
            `current`, `old`, or the generation that was written; None where it is not selected.
        """
        name = entry.name
        if entry.format_version not in (None, str(VERSION)) or not names.is_state_name(name):
            raise ConfigError(
                "The object has another form or version of the format than this release's; a newer "
                "release may have written it."
            )
        before = self._selection.before
        if before is not None and entry.created >= before.timestamp():
            return None
        start = store.beginning(name, envelope.PREAMBLE_BYTES_MAX)
        preamble = envelope.parse_preamble(start)
        coordinate = preamble.unverified_header.coordinate
        dag_id, run_id, _ = self._selection
        if dag_id not in (None, coordinate.dag_id) or run_id not in (None, coordinate.run_id):
            return None
        for _ in range(_READINGS_MAX):
            key = self._key_of_state(preamble, instance, name)
            if key.is_current:
                return "current"
            if self._dry_run:
                return "old"
            generation, data = again_if_damaged(partial(self._whole_state, store, name))
            preamble, body = envelope.split_envelope(data)
            key = self._key_of_state(preamble, instance, name)
            if key.renewed is not None:
                written = store.exchange(
                    name, (_preamble(preamble, key.renewed), body), METADATA, generation=generation
                )
                if written is not None:
                    return written.generation
                # Somebody has written it meanwhile: read again.
        raise _Passed("changing", _CHANGING)

    def _key_of_state(self, preamble: Preamble, instance: str, name: str) -> _DataKey:
        header = preamble.unverified_header
        if names.state_name_of(header) != name or header.instance != instance:
            raise AuthenticationError
        mark = instance[instance.index("#") :]
        return self._key(preamble, mark, Expected.exactly(header.coordinate))

    def _whole_state(self, store: Store, name: str) -> tuple[str, bytes]:
        stored, chunks = store.fetch(name)
        bytes_max = body_bytes_max(self._keyring.max_value_bytes) + envelope.PREAMBLE_BYTES_MAX
        if stored.length_bytes > bytes_max:
            raise ConfigError(
                f"The object has {stored.length_bytes} bytes; `max_value_bytes` allows no more "
                f"than {bytes_max}."
            )
        return stored.generation, b"".join(chunks)

    def _store(self, uri: str) -> Store:
        with self._lock:
            if uri not in self._stores:
                self._stores[uri] = self._keyring.open_store(uri)
            return self._stores[uri]

    # Keys.

    def _key(
        self, preamble: Preamble, mark: str, where: Expected, *, renew: bool = True
    ) -> _DataKey:
        """The data key of a preamble, once that was checked as a reader does.

        Steps 3 to 6 of `docs/format.md`, section 8.2.
        """
        wrapped, header = preamble.unverified_wrapped, preamble.unverified_header
        if wrapped.kek_uri not in self._keyring.keks:
            raise ConfigError(
                f"It was sealed under {wrapped.kek_uri!r}, which is neither `kek_uri` nor among "
                "`trusted_keks`, so no task opens it."
            )
        deployment, sign, kind = header.instance.partition("#")
        if deployment not in self._trusted:
            raise ConfigError(
                f"It says that it was sealed by the deployment {deployment!r} (`instance`; this is "
                "not verified), which is neither this one nor among `trusted_instances`, so no "
                "task opens it."
            )
        if sign + kind != mark or not where.matches(header.coordinate):
            raise AuthenticationError
        scope = envelope.scope_bytes(header.instance, header.coordinate)
        aad = envelope.key_aad(scope, header.key_id)
        renew = renew and not self._dry_run
        held = (wrapped.kek_uri, wrapped.ciphertext, aad, renew)
        key = self._keys.get(held, partial(self._unwrapped, wrapped, aad, renew=renew))
        keys = envelope.derive(key.data_key, preamble.header_bytes, header.salt)
        envelope.check_commitment(keys, preamble.commitment)
        return key

    def _unwrapped(self, wrapped: WrappedKey, aad: bytes, *, renew: bool) -> _DataKey:
        unwrapped = self._keyring.keks[wrapped.kek_uri].examine(wrapped, aad)
        is_current = unwrapped.used_primary and wrapped.kek_uri == self._keyring.kek_uri
        if is_current or not renew:
            return _DataKey(unwrapped.data_key, is_current, None)
        renewed = self._kek.wrap(unwrapped.data_key, aad)
        with self._lock:
            self._done.wrapped_by[renewed.unverified_version] += 1
        return _DataKey(unwrapped.data_key, is_current, renewed)

    # What is told.

    def _failed(
        self, place: str, where: Expected, error: SecureXComError
    ) -> KeyServiceError | None:
        """Take down what could not be opened; gives back what may be the service's own failure.

        Raises:
            SecureXComError: it concerns all others as well.
        """
        if isinstance(error, (KeyAccessDenied, StoreError)):
            raise error
        reason = error.reason if isinstance(error, _Passed) else type(error).__name__
        self._leave(Left(place, where, reason, str(error)))
        return error if isinstance(error, KeyServiceError) else None

    def _leave(self, left: Left) -> None:
        self._done.left[left.reason] += 1
        if len(self._done.left_first) < LEFT_TOLD:
            self._done.left_first.append(left)

    def _record(self, what: str, changed: list[bytes]) -> None:
        if changed:
            lines = b"".join(changed)
            self._whole.update(lines)
            self._done.digest = self._whole.hexdigest()
            audit.changed("rewrap", what, len(changed), hashlib.sha256(lines).hexdigest())


class _Passed(SecureXComError):  # noqa: N818 - nobody outside sees it
    """Something needs another version, and is left: `elsewhere`, or `changing` all the while."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _preamble(preamble: Preamble, wrapped: WrappedKey) -> bytes:
    """A preamble with another key block."""
    key_block = envelope.marshal_key_block(wrapped)
    return envelope.marshal_preamble(key_block, preamble.header_bytes, preamble.commitment)


def _renewed(content: Content, wrapped: WrappedKey) -> str | bytes:
    """The text of a row with another key block, and all the rest as it is."""
    row, preamble, reference = content.row or {}, content.preamble, content.reference
    if preamble is None or not isinstance(reference, (Inline, Offloaded)):
        raise FormatError("The row has no preamble.")
    begins = _preamble(preamble, wrapped)
    if isinstance(reference, Inline):
        body = reference.envelope[preamble.length_bytes :]
        reference = replace(reference, envelope=begins + body)
    else:
        reference = replace(reference, preamble=begins)
    former = preamble.unverified_wrapped.kek_uri
    return content.rewritten(
        to_row(reference, with_key(str(row["about"]), former, wrapped.kek_uri))
    )


def _digest_of_row(row: StoredRow, text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return f"{row.source.name} {row.key} {hashlib.sha256(data).hexdigest()}\n".encode()


def _digits(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
