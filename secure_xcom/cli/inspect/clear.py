"""What stands in clear in a row, an object or a file, and what a reader would refuse of it.

No key is used, so none of it is authenticated. The checks are those of a reader, in its order
(`docs/format.md`, section 8.2), as far as they need no key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from secure_xcom.cli.inspect import stores
from secure_xcom.cli.inspect.report import Report
from secure_xcom.cli.inspect.subject import File, Object, Row
from secure_xcom.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    ObjectNotFound,
    StoreError,
)
from secure_xcom.format import names
from secure_xcom.format.about import about, about_state
from secure_xcom.format.body import payload_length
from secure_xcom.format.envelope import (
    KIND_WRAPPED,
    MAGIC,
    PREAMBLE_BYTES_MAX,
    SCOPE_TASK,
    SUITE,
    VERSION,
    Preamble,
    parse_preamble,
    parse_whole_preamble,
)
from secure_xcom.format.reference import (
    STATE_MARKS,
    STATE_TAG,
    TAG,
    from_row,
    is_tagged,
    state_from_row,
)
from secure_xcom.layers.sealed import body_bytes_max
from secure_xcom.model import Inline, Offloaded, StateObject
from secure_xcom.text import crc32c_base64
from secure_xcom.uris import LEGACY, looks_like_uri, scheme

if TYPE_CHECKING:
    from secure_xcom.settings import Settings
    from secure_xcom.stores.protocol import Stored

_ABOUT_CHARACTERS_MAX = 1024
_STATE_KINDS = {mark: kind for kind, mark in STATE_MARKS.items()}
_BODY = (
    "The object of an XCom is its body alone: its key and all that it says of itself stand in the "
    "row, and without the row nobody can open it."
)

_Found = TypeVar("_Found")


def report_on(given: Row | Object | File) -> Report:
    """Report what stands in clear in what was given.

    Raises:
        SecureXComError: an object that was asked for is not there, or may not be looked at.
    """
    if isinstance(given, Row):
        return _report_on_row(given)
    if isinstance(given, Object):
        return _report_on_object(given)
    return _report_on_file(given)


def _report_on_row(row: Row) -> Report:
    report = Report("XCom", row.origin)
    if row.wrapped:
        report.notes.append(
            "The row stands as text in JSON, as Airflow 3's server keeps what it was given over "
            "the REST API. A task does not read such a row as sealed."
        )
    if not is_tagged(row.value):
        _add_unsealed(report, row.value)
        return report
    members = row.value if isinstance(row.value, Mapping) else {}
    what = "the row is well-formed"
    try:
        reference = state_from_row(members) if STATE_TAG in members else from_row(members)
    except FormatError as error:
        report.kind = "malformed"
        report.check(1, what, holds=False, error=FormatError, detail=str(error))
        return report
    report.check(1, what, holds=True)
    settings = _settings(report)
    if isinstance(reference, Inline):
        _add_inline(report, reference, settings)
    elif isinstance(reference, Offloaded):
        _add_offloaded(report, reference, settings)
    else:
        _add_state(report, reference, settings)
    _add_about(report, members["about"], reference)
    return report


def _report_on_object(given: Object) -> Report:
    store_uri, name = stores.store_of(given.uri)
    settings = stores.settings(with_key=False)
    kind = stores.trusted(settings)[store_uri]
    if kind is None:
        report = Report("body", given.uri)
        report.check(
            *(1, "the name has the form of an XCom's object"),
            holds=names.is_object_name(name),
            error=FormatError,
        )
        stored = stores.find(store_uri, name)
        _add_stored(report, store_uri, name, stored)
        _add_body(report, stored.length_bytes, settings)
        return report
    report = Report("state", given.uri, state=kind)
    report.check(
        *(1, "the name has the form of a state's object"),
        holds=names.is_state_name(name),
        error=FormatError,
    )
    stored, start = stores.begin(store_uri, name)
    _add_state_object(report, StateObject(store_uri, name), stored, start, settings)
    return report


def _report_on_file(given: File) -> Report:
    report = Report("XCom", str(given.path))
    report.object = {"length_bytes": given.length_bytes, "crc32c": crc32c_base64(given.crc32c)}
    settings = _settings(report)
    if not given.start.startswith(MAGIC):
        report.kind = "body"
        _add_body(report, given.length_bytes, settings)
        return report
    _check_length(report, given.length_bytes - PREAMBLE_BYTES_MAX, settings)
    _add_envelope(report, given.start, given.length_bytes, settings)
    return report


def _settings(report: Report) -> Settings | None:
    """What says what is trusted; None where it is not known."""
    try:
        return stores.settings(with_key=False)
    except ConfigError as error:
        report.check(1, "what this deployment trusts", holds=None, detail=str(error))
        return None


def _add_unsealed(report: Report, value: object) -> None:
    """Say what kind of row it is, and nothing of what it holds."""
    report.kind = "unsealed"
    report.row = {"placement": "clear", "type": type(value).__name__}
    if isinstance(value, str) and scheme(value) == LEGACY:
        report.kind = "legacy"
        report.notes.append(
            "It has the form of a row of a hand-written backend: the name of an object in the "
            "bucket of the Variable XCOM_BACKEND_DATA_GCS_NAME, which holds the value in clear. "
            "`legacy_reads = gcs` reads it."
        )
    elif isinstance(value, str) and looks_like_uri(value):
        report.kind = "legacy"
        report.notes.append(
            "It has the form of a row of Airflow's object storage backend: a path to an object "
            "that holds the value in clear. `legacy_reads = common-io` reads it, below [common.io] "
            "xcom_objectstorage_path."
        )
    else:
        report.notes.append(
            "It was not sealed by this backend, and holds its value in clear: what it holds is "
            "not shown. `unsealed_reads` says whether tasks may read it; under a clear key "
            "(`clear_keys`) that is as it should be."
        )


def _add_inline(report: Report, reference: Inline, settings: Settings | None) -> None:
    length_bytes = len(reference.envelope)
    report.row = {TAG: VERSION, "placement": "inline", "length_bytes": length_bytes}
    _check_length(report, length_bytes - PREAMBLE_BYTES_MAX, settings)
    _add_envelope(report, reference.envelope, length_bytes, settings)


def _add_offloaded(report: Report, reference: Offloaded, settings: Settings | None) -> None:
    report.row = {
        TAG: VERSION,
        "placement": "offloaded",
        "preamble_bytes": len(reference.preamble),
        "store": reference.store_uri,
        "object": reference.name,
        "generation": reference.generation,
        "length_bytes": reference.length_bytes,
        "crc32c": crc32c_base64(reference.crc32c),
    }
    _check_length(report, reference.length_bytes, settings)
    is_trusted = _check_store(report, reference.store_uri, None, settings)
    preamble = _parsed(report, lambda: parse_whole_preamble(reference.preamble))
    if preamble is not None:
        instance = preamble.unverified_header.instance
        _check_name(report, reference.name, names.object_name(instance, preamble.header_bytes))
        _describe(report, preamble, reference.length_bytes)
        _check_context(report, preamble, settings)
    if is_trusted:
        _compare_object(report, reference)


def _compare_object(report: Report, reference: Offloaded) -> None:
    """Hold the live object against the row, as step 7 does where the row's generation is gone."""
    store_uri, name = reference.store_uri, reference.name
    stored = _looked_up(report, 7, lambda: stores.find(store_uri, name))
    if stored is None:
        return
    _add_stored(report, store_uri, name, stored)
    is_same = (stored.length_bytes, stored.crc32c) == (reference.length_bytes, reference.crc32c)
    detail = ""
    if stored.generation != reference.generation:
        detail = (
            f"It is generation {stored.generation}, and the row says {reference.generation}. "
        ) + (
            "Its length and checksum are the row's, as after a restore: tasks read it."
            if is_same
            else "Tasks read the row's generation, if the bucket has kept it."
        )
    report.check(7, "the object is there", holds=True, detail=detail)
    for step, what, said, seen in (
        (7, "length", reference.length_bytes, stored.length_bytes),
        (8, "checksum", crc32c_base64(reference.crc32c), crc32c_base64(stored.crc32c)),
    ):
        report.check(
            *(step, f"row and object agree: {what}"),
            holds=said == seen,
            error=AuthenticationError,
            detail="" if said == seen else f"the row says {said}, the object has {seen}",
        )


def _add_state(report: Report, state: StateObject, settings: Settings | None) -> None:
    kind = stores.trusted(settings).get(state.store_uri) if settings else None
    # A row that names no store of states is refused as a state, of whichever kind.
    report.kind, report.state = "state", kind or "task"
    report.row = {STATE_TAG: VERSION, "store": state.store_uri, "object": state.name}
    if not _check_store(report, state.store_uri, report.state, settings) or not settings:
        return
    found = _looked_up(report, 1, lambda: stores.begin(state.store_uri, state.name))
    if found is not None:
        report.check(1, "the object is there", holds=True)
        _add_state_object(report, state, *found, settings)


def _add_state_object(
    report: Report, state: StateObject, stored: Stored, start: bytes, settings: Settings
) -> None:
    _add_stored(report, state.store_uri, state.name, stored)
    _check_length(report, stored.length_bytes - PREAMBLE_BYTES_MAX, settings)
    kind = report.state
    preamble = _add_envelope(report, start, stored.length_bytes, settings, kind)
    if preamble is not None:
        _check_name(report, state.name, names.state_name_of(preamble.unverified_header))


def _add_body(report: Report, length_bytes: int, settings: Settings | None) -> None:
    """Say what can be said of a body that comes without its row."""
    report.notes.append(_BODY)
    try:
        payload_length(length_bytes)
    except FormatError as error:
        detail = str(error)
        report.check(1, "the length is a body's", holds=False, error=FormatError, detail=detail)
    else:
        report.check(1, "the length is a body's", holds=True)
        _check_length(report, length_bytes, settings)


def _add_envelope(
    report: Report,
    start: bytes,
    length_bytes: int,
    settings: Settings | None,
    kind: str | None = None,
) -> Preamble | None:
    """Take down what an envelope says of itself; a check fails if it is none.

    Args:
        report: takes it down.
        start: the envelope's first bytes, up to a preamble's.
        length_bytes: the envelope's.
        settings: what is trusted.
        kind: of the states that are kept where it stands; None where its own mark says it.
    """

    def parse() -> Preamble:
        preamble = parse_preamble(start[:PREAMBLE_BYTES_MAX])
        payload_length(length_bytes - preamble.length_bytes)
        return preamble

    preamble = _parsed(report, parse)
    if preamble is None:
        return None
    _, sign, mark = preamble.unverified_header.instance.partition("#")
    report.state = kind or _STATE_KINDS.get(sign + mark)
    if report.state:
        report.kind = "state"
    _describe(report, preamble, length_bytes - preamble.length_bytes)
    _check_context(report, preamble, settings)
    return preamble


def _parsed(report: Report, parse: Callable[[], Preamble]) -> Preamble | None:
    what = "the preamble is well-formed"
    try:
        preamble = parse()
    except FormatError as error:
        report.kind = "malformed"
        report.check(2, what, holds=False, error=FormatError, detail=str(error))
        return None
    report.check(2, what, holds=True)
    return preamble


def _describe(report: Report, preamble: Preamble, body_bytes: int) -> None:
    header, wrapped = preamble.unverified_header, preamble.unverified_wrapped
    coordinate = header.coordinate
    report.envelope = {
        "version": VERSION,
        "kek": wrapped.kek_uri,
        "kek_version_hint": wrapped.unverified_version,
        "key_block_kind": KIND_WRAPPED,
        "wrapped_key_bytes": len(wrapped.ciphertext),
        "key_id": header.key_id.hex(),
        "suite": SUITE,
        "scope": SCOPE_TASK,
        "instance": header.instance,
        "dag_id": coordinate.dag_id,
        "run_id": coordinate.run_id,
        "task_id": coordinate.task_id,
        "map_index": coordinate.map_index,
        "key": coordinate.key,
        "ti_id": str(coordinate.ti_id) if coordinate.ti_id else None,
        "length_bytes": preamble.length_bytes + body_bytes,
        "preamble_bytes": preamble.length_bytes,
        "header_bytes": len(preamble.header_bytes),
        "body_bytes": body_bytes,
        "payload_bytes": payload_length(body_bytes),
    }


def _check_length(report: Report, length_bytes: int, settings: Settings | None) -> None:
    """Hold a length against the longest body that a reader takes."""
    if settings is None:
        return
    max_bytes = body_bytes_max(settings.max_value_bytes)
    report.check(
        *(1, "the length is within max_value_bytes"),
        holds=length_bytes <= max_bytes,
        error=FormatError,
    )


def _check_store(
    report: Report, store_uri: str, kind: str | None, settings: Settings | None
) -> bool:
    """Whether a store may be looked into for XComs (None) or for states of a kind."""
    if settings is None:
        return False
    known = stores.trusted(settings)
    holds = store_uri in known and known[store_uri] == kind
    report.check(
        *(1, "the store is trusted"),
        holds=holds,
        error=ConfigError,
        detail="" if holds else "It is not looked into, and tasks do not read from it either.",
    )
    return holds


def _check_name(report: Report, name: str, by_header: str) -> None:
    report.check(
        *(2, "the object's name is the one that the header gives"),
        holds=name == by_header,
        error=AuthenticationError,
        detail="" if name == by_header else f"by the header it is {by_header}",
    )


def _check_context(report: Report, preamble: Preamble, settings: Settings | None) -> None:
    """Steps 3 and 4; which XCom was asked for is not known here, and not compared."""
    deployment, sign, mark = preamble.unverified_header.instance.partition("#")
    if settings is not None:
        has_key = settings.kek_uri != stores.NO_KEK
        unknown = "" if has_key else "kek_uri is not set here."
        keks = (settings.kek_uri, *settings.trusted_keks)
        report.check(
            *(3, "the key is trusted"),
            holds=preamble.unverified_wrapped.kek_uri in keks if has_key else None,
            error=ConfigError,
            detail=unknown,
        )
        instances = (settings.instance, *settings.trusted_instances)
        report.check(
            *(4, "the deployment (instance) is trusted"),
            holds=deployment in instances if has_key else None,
            error=ConfigError,
            detail=unknown,
        )
    report.check(
        *(4, "it was sealed as what it stands for: an XCom, or a state of its kind"),
        holds=sign + mark == (STATE_MARKS[report.state] if report.state else ""),
        error=AuthenticationError,
    )


def _looked_up(report: Report, step: int, look_up: Callable[[], _Found]) -> _Found | None:
    what = "the object is there"
    try:
        return look_up()
    except ObjectNotFound as error:
        report.check(step, what, holds=False, error=ObjectNotFound, detail=str(error))
    except (StoreError, ConfigError) as error:
        report.check(step, what, holds=None, detail=str(error))
    except AuthenticationError as error:
        what = "the object can be read"
        report.check(step, what, holds=False, error=AuthenticationError, detail=str(error))
    return None


def _add_stored(report: Report, store_uri: str, name: str, stored: Stored) -> None:
    report.object = {
        "store": store_uri,
        "object": name,
        "generation": stored.generation,
        "length_bytes": stored.length_bytes,
        "crc32c": crc32c_base64(stored.crc32c),
    }


def _add_about(report: Report, said: str, reference: Inline | Offloaded | StateObject) -> None:
    """Take down what the row says to people, and note where it says anything else than the row."""
    if report.row is None:
        return
    report.row["about"] = said[:_ABOUT_CHARACTERS_MAX]
    if isinstance(reference, StateObject):
        written = about_state(reference.store_uri)
    elif report.envelope is not None:
        written = about(reference, str(report.envelope["kek"]))
    else:
        return
    # Under `describe = full`, type and size of the value stand before the rest.
    if not said.endswith(written.partition(": ")[2]):
        report.notes.append("The row's about says something else than the row. No task uses it.")
