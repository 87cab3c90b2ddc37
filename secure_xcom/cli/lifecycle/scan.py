"""`secure-xcom scan`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.lifecycle import common
from secure_xcom.cli.output import Output
from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle import terms
from secure_xcom.text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable

    from secure_xcom.lifecycle.content import Content
    from secure_xcom.lifecycle.rows import StoredRow
    from secure_xcom.lifecycle.scan import Compared, Scanned
    from secure_xcom.settings import Settings

_DAY_SECONDS = 86_400.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_selection(parser)
    parser.add_argument(
        "--deep",
        action="store_true",
        help="open each sealed row with the deployment's key, and let go of the value",
    )
    parser.add_argument(
        "--objects",
        action="store_true",
        help="compare all rows with the objects of the store",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Count, and show what was counted.

    Raises:
        SecureXComError: rows or objects could not be read whole.
    """
    # --help need not wait for these.
    from secure_xcom.airflow import metadata  # noqa: PLC0415
    from secure_xcom.lifecycle.scan import scan  # noqa: PLC0415

    wanted = common.selection(arguments)
    if arguments.objects and any(part is not None for part in wanted):
        raise ConfigError(
            "--objects compares with all rows: an object does not tell whose it is. Leave "
            "--dag-id, --run-id and --older-than away."
        )
    shown, told = common.progress()
    with common.run("scan") as (settings, _):
        compared = _comparison(settings) if arguments.objects else None
        with shown.step("Reading rows"):
            found = scan(
                metadata.rows(),
                metadata.legacy_prefixes(),
                selection=wanted,
                check=_opening(settings) if arguments.deep else None,
                compared=compared,
                told=told,
            )
    _show(found, output, deep=arguments.deep)
    return Answer(found.ok, members(found))


def members(found: Scanned) -> dict[str, object]:
    """What `--json` prints."""
    objects = found.objects
    return {
        "ok": found.ok,
        "at": found.at.isoformat(timespec="seconds"),
        "rows": found.rows,
        "tables": {
            name: {"archived": table.archived, **table.states}
            for name, table in found.tables.items()
        },
        "keys": [
            {"kek": kek_uri, "unverified_version": version, "rows": count}
            for (kek_uri, version), count in sorted(found.keys.items())
        ],
        "opened": found.opened,
        "failures": dict(found.failures),
        "missing": found.missing,
        "objects": None
        if objects is None
        else {
            "total": objects.total,
            "named": objects.named,
            "young": objects.young,
            "orphans": objects.orphans,
            "other": objects.other,
        },
        "wrong": [
            {
                "what": what,
                "table": table,
                "dag_id": where.dag_id,
                "run_id": where.run_id,
                "task_id": where.task_id,
                "map_index": where.map_index,
                "key": where.key,
            }
            for what, table, where in found.wrong
        ],
        "promise": terms.SCAN,
    }


def _comparison(settings: Settings) -> Compared:
    from secure_xcom.lifecycle.objects import folders  # noqa: PLC0415
    from secure_xcom.lifecycle.scan import Compared  # noqa: PLC0415

    found = folders(settings.store_uri, settings.instance, common.stores(settings))
    return Compared(found, _DAY_SECONDS)


def _opening(settings: Settings) -> Callable[[StoredRow, Content], None]:
    """What opens a row, under the deployment's own settings."""
    from secure_xcom.airflow import configuration  # noqa: PLC0415
    from secure_xcom.format.reference import dumps  # noqa: PLC0415
    from secure_xcom.stack import build, build_states  # noqa: PLC0415

    credentials = configuration.credentials(settings)
    stack = build(settings, credentials)
    states = {kind: build_states(settings, kind, credentials) for kind in ("task", "asset")}

    def check(row: StoredRow, held: Content) -> None:
        if row.kind == "xcom":
            stack.check(held.row, row.where)
        else:
            states[row.kind].from_row(dumps(held.row or {}).decode(), row.where)

    return check


def _show(found: Scanned, output: Output, *, deep: bool) -> None:
    for name, table in found.tables.items():
        states = ", ".join(f"{count:,} {state}" for state, count in sorted(table.states.items()))
        output.line(f"  {name}{' (archive)' if table.archived else ''}: {states or 'no rows'}")
    for (kek_uri, version), count in sorted(found.keys.items()):
        hint = f", version {version}" if version else ""
        output.line(f"  under {escaped(kek_uri)}{escaped(hint)}: {count:,}")
    if deep:
        output.line(f"  opened: {found.opened:,}")
    objects = found.objects
    if objects is not None:
        output.line(
            f"  objects: {objects.total:,}, of which {objects.named:,} named by rows, "
            f"{objects.orphans:,} by none, {objects.young:,} younger than a day, "
            f"{objects.other:,} of other names or versions"
        )
    for what, table_name, where in found.wrong:
        output.line(
            escaped(
                f"  {what}: dag {where.dag_id}, run {where.run_id}, task {where.task_id}, map "
                f"index {where.map_index}, key {where.key} ({table_name})"
            ),
            "bad",
        )
    at = found.at.isoformat(timespec="seconds")
    bad = found.broken + found.failures.total() + found.missing
    output.line(
        f"{found.rows:,} rows at {at}: {bad:,} with something wrong. {terms.SCAN}",
        "good" if found.ok else "bad",
    )


COMMAND = Command(
    "scan",
    "count the rows by what they hold, and compare them with the store",
    (
        "Counts the rows of the metadata database by what they hold, where it is, and under which "
        "key, archive tables included. With --deep each is opened, with --objects compared with "
        "the store. Changes nothing. Runs where Airflow's own commands have the database. Exits "
        "with 1 if a row is broken, does not open, or has lost its object."
    ),
    _add_arguments,
    _run,
)
