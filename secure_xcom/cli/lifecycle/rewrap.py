"""`secure-xcom rewrap`."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.lifecycle import common
from secure_xcom.cli.output import Output
from secure_xcom.errors import ConfigError
from secure_xcom.lifecycle import terms
from secure_xcom.text import escaped

if TYPE_CHECKING:
    from secure_xcom.lifecycle.rewrap import Keyring, Look, Rewrapped
    from secure_xcom.settings import Settings


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_selection(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="count what would be rewrapped, and change nothing"
    )
    parser.add_argument(
        "--former-instance",
        metavar="NAME",
        help="the deployment was renamed, and had this name: rewrap its large states, too",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="change nothing, and see whether another version than the primary is still needed",
    )
    parser.add_argument(
        "--first-look",
        metavar="LOOK",
        help="with --verify: what the first look printed, which this one is to complete",
    )
    parser.add_argument(
        "--longest-push",
        metavar="AGE",
        type=common.duration,
        default=float(terms.GRACE_SECONDS),
        help="with --verify: how long a push of this deployment may take (24h)",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Rewrap or verify, and show what came of it.

    Raises:
        SecureXComError: it could not be done.
    """
    # --help need not wait for these.
    from secure_xcom.airflow import metadata  # noqa: PLC0415
    from secure_xcom.lifecycle.rewrap import Look, rewrap  # noqa: PLC0415

    selected = common.selection(arguments)
    if arguments.verify and any(part is not None for part in selected):
        raise ConfigError(
            "--verify says what no row needs, so it looks at all of them. Leave --dag-id, --run-id "
            "and --older-than away."
        )
    if arguments.first_look is not None and not arguments.verify:
        raise ConfigError("--first-look is for --verify.")
    first = None if arguments.first_look is None else Look.parse(arguments.first_look)
    shown, told = common.progress()
    with common.run("rewrap") as (settings, run):
        wait_seconds = terms.SPREAD_SECONDS + settings.data_key_ttl_seconds + arguments.longest_push
        if first is not None:
            first.check_due(datetime.now(UTC), wait_seconds)
        with shown.step("Opening data keys" if arguments.verify else "Rewrapping data keys"):
            done = rewrap(
                _keyring(settings, arguments.former_instance),
                metadata.rows(),
                told,
                selection=selected,
                dry_run=arguments.dry_run or arguments.verify,
            )
        if first is not None:
            first.check_same(done, settings.kek_uri)
        run.count, run.digest = done.changed_rows + done.changed_states, done.digest
    _show(done, output)
    if not arguments.verify:
        of = " of the selection" if any(part is not None for part in selected) else ""
        return _conclude(done, settings.kek_uri, of, output, dry_run=arguments.dry_run)
    return _verdict(done, settings.kek_uri, first, wait_seconds, output)


def _keyring(settings: Settings, former_instance: str | None) -> Keyring:
    """The keys of a deployment, and what belongs to it.

    Raises:
        ConfigError: there are no credentials, or the former name is none.
    """
    from secure_xcom.airflow import configuration  # noqa: PLC0415
    from secure_xcom.keys import open_kek  # noqa: PLC0415
    from secure_xcom.lifecycle.rewrap import Keyring  # noqa: PLC0415

    if former_instance is not None and former_instance not in settings.trusted_instances:
        raise ConfigError(
            f"--former-instance {former_instance!r} is no former name of this deployment: it has "
            "to stand in `trusted_instances`."
        )
    credentials = configuration.credentials(settings)
    keks = {
        uri: open_kek(uri, credentials=credentials, deadline_seconds=settings.kms_deadline_seconds)
        for uri in (settings.kek_uri, *settings.trusted_keks)
    }
    return Keyring(
        keks,
        settings.kek_uri,
        settings.instance,
        settings.store_uri,
        common.stores(settings),
        settings.max_value_bytes,
        trusted_instances=settings.trusted_instances,
        trusted_stores=settings.trusted_stores,
        former_instance=former_instance,
    )


def _show(done: Rewrapped, output: Output) -> None:
    output.line(f"  rows: {done.rows:,}, of which {done.sealed_rows:,} hold a data key")
    output.line(f"  objects of states: {done.states:,}")
    output.line(f"  under the primary version already: {done.current:,}")
    for version, count in sorted(done.wrapped_by.items()):
        output.line(f"  data keys wrapped by version {version or 'of the file'}: {count:,}")
    if done.gone:
        output.line(f"  deleted by others meanwhile: {done.gone:,}")
    for place, where, reason, detail in done.left_first:
        output.line(
            escaped(
                f"  left, {reason}: {place} (dag {where.dag_id}, run {where.run_id}, task "
                f"{where.task_id}, map index {where.map_index}, key {where.key}): {detail}"
            ),
            "bad",
        )


def _conclude(done: Rewrapped, kek_uri: str, of: str, output: Output, *, dry_run: bool) -> Answer:
    name = _name(done.version, kek_uri)
    changed = f"{done.changed_rows:,} rows and {done.changed_states:,} states"
    left = done.left.total()
    if dry_run:
        output.line(f"{done.old:,} rows and states would be rewrapped. Nothing was changed.")
        ok = not left
    elif done.is_done:
        output.paragraph(
            f"{changed} rewrapped. Rows, archives and states{of} are under {name} now. "
            f"{terms.REWRAP}",
            "good",
        )
        ok = True
    else:
        others = sorted(set(done.wrapped_by) - {done.version})
        also = (
            f" Cloud KMS has wrapped some by version {', '.join(others)}: a new primary version "
            "may take hours to be used everywhere."
            if others
            else ""
        )
        output.paragraph(
            f"{changed} rewrapped, {left:,} left.{also} Not all is under {name}; run it again. "
            f"{terms.REWRAP}",
            "bad",
        )
        ok = False
    return Answer(ok, _members(done, kek_uri) | {"ok": ok, "promise": terms.REWRAP})


def _verdict(
    done: Rewrapped, kek_uri: str, first: Look | None, wait_seconds: float, output: Output
) -> Answer:
    """What a look says, alone or as the second of two."""
    from secure_xcom.lifecycle.rewrap import Look  # noqa: PLC0415

    members = _members(done, kek_uri)
    name = _name(done.version, kek_uri)
    if not done.is_clean:
        left = done.left.total()
        output.paragraph(
            f"{done.old:,} rows and states need another version than {name}, and {left:,} "
            "could not be looked into. Run `secure-xcom rewrap`, and begin again.",
            "bad",
        )
        return Answer(
            ok=False, members=members | {"ok": False, "first_look": None, "promise": None}
        )
    look = Look.of(done, kek_uri)
    if first is None:
        due = look.at + timedelta(seconds=wait_seconds)
        output.paragraph(
            f"Nothing that was read needs another version than {name}. That is the first of two "
            "looks: what another version has wrapped may still come in, by a push under way. From "
            f"{due:%Y-%m-%dT%H:%M:%SZ} on run:"
        )
        output.line(f"secure-xcom rewrap --verify --first-look {look}")
        return Answer(
            ok=False, members=members | {"ok": False, "first_look": str(look), "promise": None}
        )
    promise = (
        f"No row, archived row or state needs another version than {name}; backups from before "
        f"{first.at:%Y-%m-%dT%H:%M:%SZ} do, and are lost with it."
    )
    output.paragraph(promise, "good")
    return Answer(
        ok=True, members=members | {"ok": True, "first_look": str(first), "promise": promise}
    )


def _name(version: str, kek_uri: str) -> str:
    return f"version {version} of {kek_uri}" if version else kek_uri


def _members(done: Rewrapped, kek_uri: str) -> dict[str, object]:
    return {
        "at": done.began.isoformat(timespec="seconds"),
        "kek": kek_uri,
        "version": done.version,
        "rows": done.rows,
        "sealed_rows": done.sealed_rows,
        "states": done.states,
        "current": done.current,
        "old": done.old,
        "changed_rows": done.changed_rows,
        "changed_states": done.changed_states,
        "gone": done.gone,
        "wrapped_by": dict(done.wrapped_by),
        "left": dict(done.left),
        "left_first": [
            {"place": place, **asdict(where), "reason": reason, "detail": detail}
            for place, where, reason, detail in done.left_first
        ],
        "digest": done.digest,
    }


COMMAND = Command(
    "rewrap",
    "have data keys wrapped by the primary version of the key",
    (
        "Opens each wrapped data key of rows, archives and states, checks that it belongs where it "
        "stands, and puts one in its place that the primary version of kek_uri has wrapped. "
        "Nothing else of a value changes, and each stays readable all the while. May be "
        "interrupted, and run again. With --verify it changes nothing, and says, by two looks, "
        "whether another version is still needed. Exits with 1 if something was left, or is not "
        "verified yet."
    ),
    _add_arguments,
    _run,
)
