"""What stands in clear in a row, an object or an envelope, and whether they agree.

No key is used, so none of it is authenticated.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from secure_xcom.cli.inspect import stores
from secure_xcom.cli.inspect.report import Comparison, Report
from secure_xcom.cli.inspect.subject import File, Object, Row
from secure_xcom.errors import (
    ConfigError,
    FormatError,
    ObjectNotFound,
    SecureXComError,
    StoreError,
)
from secure_xcom.format import body
from secure_xcom.format.envelope import (
    KIND_WRAPPED,
    SCOPE_TASK,
    SUITE,
    VERSION,
    Preamble,
    parse_preamble,
)
from secure_xcom.format.reference import (
    FOLDER_TAG,
    STATE_MARKS,
    STATE_STORES,
    TAG,
    folder_from_row,
    from_row,
    is_folder,
    is_tagged,
)
from secure_xcom.model import Expected, Inline, Reference, Remote
from secure_xcom.stores.names import coordinate_prefix

#: The members of `about` that a writer of this version writes, and of which type.
_ABOUT = {"kek": str, "sealed_bytes": int, "type": str, "raw_bytes": int}
_ABOUT_LENGTH_MAX = 1024
_STATE_KINDS = {mark: kind for kind, mark in STATE_MARKS.items()}


def report_on(given: Row | Object | File) -> Report:
    """Report what stands in clear in what was given.

    Raises:
        SecureXComError: an object that was asked for is not there, or may not be looked at.
    """
    if isinstance(given, Row):
        return _report_on_row(given)
    if isinstance(given, Object):
        report = Report("XCom", given.uri)
        _add_object(report, stores.find(*stores.store_of(given.uri)))
        return report
    report = Report("XCom", str(given.path))
    report.object = {"length_bytes": given.length_bytes, "crc32c": _base64(given.crc32c)}
    _add_envelope(report, given.start, given.length_bytes)
    return report


def _report_on_row(row: Row) -> Report:
    report = Report("XCom", row.origin)
    if row.wrapped:
        report.notes.append(
            "The row stands as text in JSON, as Airflow 3's server keeps what it was given over "
            "the REST API. A task does not read such a row as sealed."
        )
    try:
        if is_folder(row.value):
            _add_folder(report, row.value)
        elif is_tagged(row.value):
            _add_reference(report, row.value, from_row(row.value))
        else:
            _add_unsealed(report, row.value)
    except FormatError as error:
        report.kind = "malformed"
        report.checks.append(Comparison("the row is well-formed", holds=False, detail=str(error)))
    return report


def _add_unsealed(report: Report, value: object) -> None:
    """Say what kind of row it is, and nothing of what it holds."""
    report.kind = "unsealed"
    report.row = {"placement": "clear", "type": type(value).__name__}
    if isinstance(value, str) and value.startswith("gcs://"):
        report.kind = "legacy"
        report.notes.append(
            "It has the form of a row of a hand-written backend: the name of an object in the "
            "bucket of the Variable XCOM_BACKEND_DATA_GCS_NAME, which holds the value in clear. "
            "`legacy_reads = gcs` reads it."
        )
    elif isinstance(value, str) and "://" in value[:20]:
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


def _add_reference(report: Report, row: object, reference: Reference) -> None:
    report.row = {
        TAG: VERSION,
        "placement": "inline" if isinstance(reference, Inline) else "offloaded",
    }
    if isinstance(reference, Inline):
        report.row["length_bytes"] = len(reference.envelope)
        report.reference = reference
        _add_envelope(report, reference.envelope, len(reference.envelope))
    else:
        report.row |= {
            "store": reference.store_uri,
            "object": reference.name,
            "generation": reference.generation,
            "length_bytes": reference.length_bytes,
            "crc32c": _base64(reference.crc32c),
        }
        report.reference = reference
        _compare_object(report, reference)
    _add_about(report, row)


def _compare_object(report: Report, reference: Remote) -> None:
    try:
        known = stores.trusted()
    except ConfigError as error:
        report.checks.append(Comparison("row and object agree", holds=None, detail=str(error)))
        return
    if reference.store_uri not in known:
        detail = "It is not looked into, and tasks do not read from it either."
        report.checks.append(Comparison("the store is trusted", holds=False, detail=detail))
        return
    report.checks.append(Comparison("the store is trusted", holds=True))
    if (found := _found(report, lambda: stores.find(reference.store_uri, reference.name))) is None:
        return
    _add_object(report, found)
    there = found.reference
    report.reference = reference
    for what, said, seen in (
        ("generation", reference.generation, there.generation),
        ("length", reference.length_bytes, there.length_bytes),
        ("crc32c", _base64(reference.crc32c), _base64(there.crc32c)),
    ):
        detail = "" if said == seen else f"the row says {said}, the object has {seen}"
        report.checks.append(
            Comparison(f"row and object agree: {what}", holds=said == seen, detail=detail)
        )


def _add_folder(report: Report, row: object) -> None:
    report.kind = "state"
    store_uri, folder = folder_from_row(row)
    report.row = {FOLDER_TAG: VERSION, "store": store_uri, "folder": folder}
    try:
        known = stores.trusted()
    except ConfigError as error:
        report.checks.append(Comparison("the newest object", holds=None, detail=str(error)))
        return
    trusted = store_uri in known and store_uri.endswith(tuple(STATE_STORES.values()))
    report.checks.append(Comparison("the store is trusted", holds=trusted))
    if not trusted:
        return
    if (found := _found(report, lambda: stores.newest(store_uri, folder))) is not None:
        _add_object(report, found)


def _found(report: Report, find: Callable[[], stores.FoundObject]) -> stores.FoundObject | None:
    try:
        return find()
    except ObjectNotFound as error:
        report.checks.append(Comparison("the object is there", holds=False, detail=str(error)))
    except (StoreError, ConfigError) as error:
        report.checks.append(Comparison("the object is there", holds=None, detail=str(error)))
    except SecureXComError as error:
        report.checks.append(Comparison("the object can be read", holds=False, detail=str(error)))
    return None


def _add_object(report: Report, found: stores.FoundObject) -> None:
    reference = found.reference
    report.object = {
        "store": reference.store_uri,
        "object": reference.name,
        "generation": reference.generation,
        "length_bytes": reference.length_bytes,
        "crc32c": _base64(reference.crc32c),
    }
    report.reference = reference
    preamble = _add_envelope(report, found.start, reference.length_bytes)
    if preamble is None:
        return
    coordinate = preamble.unverified_header.coordinate
    prefix = coordinate_prefix(Expected.exactly(coordinate))
    holds = reference.name.startswith(prefix) and "/" not in reference.name[len(prefix) :]
    detail = "" if holds else "the object's name is that of another XCom"
    report.checks.append(
        Comparison("object and envelope agree: context", holds=holds, detail=detail)
    )
    if report.state:
        in_place = reference.store_uri.endswith(STATE_STORES[report.state])
    else:
        in_place = not reference.store_uri.endswith(tuple(STATE_STORES.values()))
    report.checks.append(Comparison("object and envelope agree: XCom or state", holds=in_place))


def _add_envelope(report: Report, start: bytes, length_bytes: int) -> Preamble | None:
    """Take down what the preamble says; a check fails if it is not one."""
    what = "the envelope is well-formed"
    try:
        preamble = parse_preamble(start)
        body_bytes = length_bytes - preamble.length_bytes
        payload_bytes = body.payload_length(body_bytes)
    except FormatError as error:
        report.kind = "malformed"
        report.checks.append(Comparison(what, holds=False, detail=str(error)))
        return None
    report.checks.append(Comparison(what, holds=True))
    header = preamble.unverified_header
    wrapped = preamble.unverified_wrapped
    mark = "#" + header.instance.rpartition("#")[2]
    report.state = _STATE_KINDS.get(mark)
    if report.state:
        report.kind = "state"
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
        "length_bytes": length_bytes,
        "preamble_bytes": preamble.length_bytes,
        "header_bytes": len(preamble.header_bytes),
        "body_bytes": body_bytes,
        "payload_bytes": payload_bytes,
    }
    return preamble


def _add_about(report: Report, row: object) -> None:
    """Take down what the row says to people, and say where the envelope says otherwise."""
    about = row.get("about") if isinstance(row, Mapping) else None
    if not isinstance(about, Mapping) or report.row is None:
        return
    shown = {
        name: about[name]
        for name, kind in _ABOUT.items()
        if name in about
        and type(about[name]) is kind
        and len(str(about[name])) <= _ABOUT_LENGTH_MAX
    }
    report.row["about"] = shown
    if len(shown) != len(about):
        report.notes.append("The row's about has members that this version does not write.")
    for name, member in (("kek", "kek"), ("sealed_bytes", "length_bytes")):
        if name in shown and report.envelope and shown[name] != report.envelope[member]:
            report.notes.append(f"The row's about says another {name} than the envelope.")


def _base64(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
