"""`secure-xcom gc`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.lifecycle import common
from secure_xcom.cli.output import Output
from secure_xcom.lifecycle import terms

if TYPE_CHECKING:
    from secure_xcom.lifecycle.gc import Collected, Wanted

_BEGINNING = re.compile(r"[0-9a-f]{1,8}")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return share


def _beginning(text: str) -> str:
    if not _BEGINNING.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 8 lower-case hexadecimal digits")
    return text


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="count what would be deleted, and change nothing"
    )
    parser.add_argument(
        "--older-than",
        metavar="AGE",
        type=common.duration,
        default=float(terms.GRACE_SECONDS),
        help="the grace: take objects only that are older by the store's clock (24h)",
    )
    parser.add_argument(
        "--short-grace", action="store_true", help="the grace may be less than 24 hours"
    )
    parser.add_argument(
        "--adopt",
        action="store_true",
        help="this is the one database that the objects belong to, whatever the store's mark says",
    )
    parser.add_argument(
        "--former-instance",
        metavar="NAME",
        help="the deployment was renamed, and had this name: take its objects, too",
    )
    parser.add_argument(
        "--max-share",
        metavar="SHARE",
        type=_share,
        default=terms.SHARE,
        help=f"refuse if more than this part of all objects would go ({terms.SHARE:g})",
    )
    parser.add_argument(
        "--no-rows", action="store_true", help="a database without a single row is no mistake"
    )
    parser.add_argument(
        "--names",
        metavar="DIGITS",
        type=_beginning,
        help="look only at objects whose names begin with these hexadecimal digits",
    )
    parser.add_argument(
        "--manifest",
        metavar="FILE",
        type=Path,
        help="delete nothing, and write this new file for Google's Storage Batch Operations",
    )


def _run(arguments: argparse.Namespace, output: Output) -> Answer:
    """Collect, and show what came of it.

    Raises:
        SecureXComError: it was refused, or could not be done.
    """
    # --help need not wait for these.
    from secure_xcom.airflow import metadata  # noqa: PLC0415
    from secure_xcom.lifecycle.gc import Wanted, collect  # noqa: PLC0415

    shown, told = common.progress()
    with common.run("gc") as (settings, run):
        wanted = Wanted(
            store_uri=settings.store_uri,
            instance=settings.instance,
            trusted_instances=settings.trusted_instances,
            grace_seconds=arguments.older_than,
            short_grace=arguments.short_grace,
            former_instance=arguments.former_instance,
            adopt=arguments.adopt,
            share=arguments.max_share,
            no_rows=arguments.no_rows,
            dry_run=arguments.dry_run,
            manifest=arguments.manifest,
            beginning=arguments.names or "",
        )
        with shown.step("Collecting objects that no row names"):
            done = collect(
                wanted, metadata.rows(), common.stores(settings), metadata.memory(), told
            )
        run.count, run.digest = done.deleted or done.listed_in_manifest, done.digest
    _show(done, wanted, output)
    return Answer(not done.failure, _members(done, wanted))


def _show(done: Collected, wanted: Wanted, output: Output) -> None:
    output.line(
        f"  objects: {done.objects:,}, of which {done.young:,} within the grace and {done.other:,} "
        "of other names or versions"
    )
    output.line(f"  rows: {done.rows:,}")
    output.line(f"  named by no row: {done.orphans:,}; named by one since: {done.named_later:,}")
    if done.gone:
        output.line(f"  deleted or replaced by others meanwhile: {done.gone:,}")
    if done.failure:
        output.paragraph(
            f"  {done.deleted:,} objects were deleted, and then: {done.failure} What was deleted "
            "is done; run it again for the rest.",
            "bad",
        )
        return
    left = done.orphans - done.named_later
    if wanted.dry_run:
        output.line(f"{left:,} objects would be deleted. Nothing was changed.", "good")
    elif wanted.manifest is not None:
        output.paragraph(
            f"{done.listed_in_manifest:,} objects are listed in {wanted.manifest}. Nothing was "
            "deleted. Use it within the grace: what it lists has no row now.",
            "good",
        )
    else:
        output.paragraph(f"{done.deleted:,} objects deleted. {terms.GC}", "good")


def _members(done: Collected, wanted: Wanted) -> dict[str, object]:
    return {
        "ok": not done.failure,
        "dry_run": wanted.dry_run,
        "objects": done.objects,
        "young": done.young,
        "other": done.other,
        "rows": done.rows,
        "orphans": done.orphans,
        "named_later": done.named_later,
        "deleted": done.deleted,
        "gone": done.gone,
        "listed_in_manifest": done.listed_in_manifest,
        "digest": done.digest,
        "marks": done.marks,
        "failure": done.failure,
        "promise": terms.GC,
    }


COMMAND = Command(
    "gc",
    "delete the objects that no row names",
    (
        "Lists the objects of this deployment, reads all rows twice, archives included, and "
        "deletes the objects that are older than the grace and that neither reading names, each "
        "by its generation. Refuses where that could be wrong, such as in a copy of a database, "
        "and says how to go on if it was meant. May be interrupted, and run again. Exits with 1 "
        "if a deletion failed, with 2 if it was refused."
    ),
    _add_arguments,
    _run,
)
