"""States: values under a key that are written over and over (`docs/format.md`, section 7.2).

A short state is a row like any other. A long one is an object, under a name that is the same for
every write of its key, and each write takes the place of the former one.
"""

from __future__ import annotations

from secure_xcom import audit, codecs, telemetry
from secure_xcom.errors import AuthenticationError, FormatError, ObjectNotFound
from secure_xcom.format import envelope, names
from secure_xcom.format.about import about, about_state
from secure_xcom.format.reference import dumps, loads, state_from_row, state_to_row, to_row
from secure_xcom.layers.sealed import Opened, Sealed, again_if_damaged
from secure_xcom.layers.threshold import METADATA, Threshold
from secure_xcom.model import Buffer, Coordinate, Expected, Inline, Payload, StateObject


class States:
    """The states of tasks, or those of assets.

    Args:
        sealed: seals and opens, under the mark of these states.
        below: the stores of these states.
        threshold_bytes: a state whose body is at least this long goes to the store; -1 sends none
            there.
    """

    def __init__(self, sealed: Sealed, below: Threshold, threshold_bytes: int) -> None:
        self._sealed = sealed
        self._below = below
        self._threshold_bytes = threshold_bytes

    def to_row(self, text: str, coordinate: Coordinate) -> str:
        """Seal a text; the row that stands for it, as JSON.

        Raises:
            SecureXComError: any of the tree; nothing readable was written.
        """
        with audit.attempt("seal", coordinate) as attempt:
            preamble, chunks = self._envelope(text, coordinate, attempt)
            body_bytes = sum(map(len, chunks))
            if body_bytes < self._threshold_bytes or self._threshold_bytes < 0:
                attempt.reference = inline = Inline(b"".join((preamble, *chunks)))
                kek_uri = attempt.wrapped.kek_uri if attempt.wrapped else ""
                return dumps(to_row(inline, about(inline, kek_uri))).decode()
            state = self._replace((preamble, *chunks), coordinate, attempt)
            return dumps(state_to_row(state, about_state(state.store_uri))).decode()

    def from_row(self, row: str, expected: Expected) -> Opened:
        """The text that a row stands for, if it is what was asked for, and whose it is.

        Raises:
            ObjectNotFound: the row names an object that is not there.
            SecureXComError: any of the tree; nothing of the text was released.
        """
        with audit.attempt("open", expected) as attempt:
            state = state_from_row(loads(row))
            if isinstance(state, Inline):
                return self._sealed.get(state, expected, attempt)
            return self._open(state, expected, attempt)

    def set(self, text: str, coordinate: Coordinate) -> None:
        """Write a text as the object of its key, however short it is."""
        with audit.attempt("seal", coordinate) as attempt:
            preamble, chunks = self._envelope(text, coordinate, attempt)
            self._replace((preamble, *chunks), coordinate, attempt)

    def get(self, coordinate: Coordinate) -> str | None:
        """The text of the object of a key; None if there is none."""
        expected = Expected.exactly(coordinate)
        try:
            with audit.attempt("open", expected) as attempt:
                opened = self._open(self._named(coordinate), expected, attempt)
        except ObjectNotFound:
            return None
        return text_of(opened.payload)

    def delete(self, coordinate: Coordinate) -> None:
        """Delete the object of a key, if there is one."""
        with audit.attempt("delete", coordinate) as attempt:
            attempt.reference = state = self._named(coordinate)
            store = self._below.store(state.store_uri)
            found = store.find(state.name)
            if found and store.delete(state.name, generation=found.generation):
                attempt.generation = found.generation

    def clear(self, coordinate: Coordinate, *, every_index: bool) -> None:
        """Delete the objects of all keys of a task instance, or of all its map indexes.

        Args:
            coordinate: of the task instance, with any key.
            every_index: whether those of all map indexes go.
        """
        folder = names.state_folder(self._sealed.instance, coordinate, every_index=every_index)
        expected = Expected(
            coordinate.dag_id,
            coordinate.run_id,
            coordinate.task_id,
            None if every_index else coordinate.map_index,
        )
        store = self._below.store(self._below.store_uri)
        with audit.attempt("delete", expected):
            found = list(store.objects(f"{folder}/"))
        for name, stored in found:
            with audit.attempt("delete", expected) as attempt:
                attempt.reference = StateObject(self._below.store_uri, name)
                if store.delete(name, generation=stored.generation):
                    attempt.generation = stored.generation

    def _named(self, coordinate: Coordinate) -> StateObject:
        name = names.state_name(self._sealed.instance, coordinate)
        return StateObject(self._below.store_uri, name)

    def _envelope(
        self, text: str, coordinate: Coordinate, attempt: audit.Attempt
    ) -> tuple[bytes, list[bytes]]:
        """The preamble and the body of a state. It is held whole, and its key is wrapped by now."""
        key = self._sealed.key_for(coordinate)
        payload = codecs.encode(text)
        attempt.raw_bytes = payload.raw_bytes
        sealing = self._sealed.seal(payload, coordinate, key)
        chunks = [bytes(chunk) for chunk in sealing.make_body()]
        attempt.wrapped = key.wrapped()
        return sealing.preamble(attempt.wrapped), chunks

    def _replace(
        self, data: tuple[Buffer, ...], coordinate: Coordinate, attempt: audit.Attempt
    ) -> StateObject:
        attempt.reference = state = self._named(coordinate)
        store = self._below.store(state.store_uri)
        with telemetry.step("upload"):
            stored = store.replace(state.name, data, METADATA)
        attempt.generation = stored.generation
        return state

    def _open(self, state: StateObject, expected: Expected, attempt: audit.Attempt) -> Opened:
        attempt.reference = state
        data = again_if_damaged(lambda: self._fetched(state, attempt))
        preamble, body = envelope.split_envelope(data)
        if names.state_name_of(preamble.unverified_header) != state.name:
            raise AuthenticationError
        self._sealed.check_preamble(preamble, expected, attempt)
        data_key = self._sealed.unwrap(preamble)
        opened = self._sealed.opened(preamble, data_key, (body,), len(body))
        attempt.where, attempt.raw_bytes = opened.coordinate, opened.payload.raw_bytes
        return opened

    def _fetched(self, state: StateObject, attempt: audit.Attempt) -> bytes:
        """The envelope of a state. It is held whole, so nothing is parsed that came damaged."""
        store = self._below.store(state.store_uri)
        with telemetry.step("download"):
            stored, chunks = store.fetch(state.name)
            attempt.generation = stored.generation
            self._sealed.check_envelope_length(stored.length_bytes)
            return b"".join(chunks)


def text_of(payload: Payload) -> str:
    """The text of a state.

    Raises:
        FormatError: what was sealed is no text.
    """
    text = codecs.decode(payload)
    if not isinstance(text, str):
        raise FormatError("The sealed value is not a state.")
    return text
