"""`secure-xcom demo` and `secure-xcom census`: their arguments, and how their outcome is shown."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from secure_xcom.cli.command import Answer, Command
from secure_xcom.cli.output import Output, Progress, printable
from secure_xcom.format.about import size

if TYPE_CHECKING:
    from secure_xcom.trial.report import Outcome, XCom

#: This package's, the object storage backend, and the one that Airflow has of its own.
BACKENDS = ("secure", "common-io", "airflow")

#: The tables of XComs and of rendered fields; others have a line of their own if something is in
#: them.
_TABLES = ("table xcom", "table rendered_task_instance_fields", "table rtif")
_LINE = "{:<38} {:>9} {:>8}  {}"
_ENDS_BYTES = 36


def _add_keep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep",
        metavar="DIR",
        type=Path,
        help="make the home in this new or empty directory, and leave it there",
    )


def _add_census_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default=BACKENDS[0],
        help="search what another XCom backend leaves instead, to see the difference",
    )
    _add_keep(parser)


def _run_demo(arguments: argparse.Namespace, output: Output) -> Answer:
    from secure_xcom.trial import demo  # noqa: PLC0415 - --help need not wait for it

    outcome = demo.run(arguments.keep, Progress(Output(sys.stderr)))
    show_demo(outcome, _shown_on(outcome, arguments, output))
    return Answer(
        outcome.ok,
        {
            "ok": outcome.ok,
            "airflow_version": outcome.airflow_version,
            "xcoms": [_members(xcom) for xcom in outcome.xcoms],
            "problems": outcome.problems,
            "notes": outcome.notes,
        },
    )


def _run_census(arguments: argparse.Namespace, output: Output) -> Answer:
    from secure_xcom.trial import census  # noqa: PLC0415 - --help need not wait for it

    outcome = census.run(arguments.keep, arguments.backend, Progress(Output(sys.stderr)))
    show_census(outcome, _shown_on(outcome, arguments, output))
    return Answer(
        outcome.ok,
        {
            "ok": outcome.ok,
            "airflow_version": outcome.airflow_version,
            "backend": outcome.backend,
            "places": [place._asdict() for place in outcome.found.places],
            "looked": dict(outcome.found.looked),
            "problems": outcome.problems,
            "notes": outcome.notes,
        },
    )


def _shown_on(outcome: Outcome, arguments: argparse.Namespace, output: Output) -> Output:
    """Have a person see also beside `--json` what is off."""
    return Output(sys.stderr) if arguments.json and not outcome.ok else output


DEMO = Command(
    "demo",
    "run a DAG on a throw-away Airflow and see what is stored where",
    (
        "Makes a throw-away AIRFLOW_HOME with a SQLite database, runs a DAG on it whose values are "
        "sealed under a local key and kept in the database and in a local folder, and shows what "
        "each task returned, what the row holds and what the store holds. Exits with 1 if anything "
        "is off. Your own Airflow is not touched."
    ),
    _add_keep,
    _run_demo,
)
CENSUS = Command(
    "census",
    "run a DAG under real daemons and list each place where a value stands readable",
    (
        "Makes a throw-away AIRFLOW_HOME as the quickstart does, and runs Airflow's own daemons "
        "and a DAG on it, whose tasks return, pull, log and fail with texts and numbers made up "
        "for this run. Then searches every table of the database, every object of the store, every "
        "log and every other file for each of these, in clear and through encodings. Exits with 1 "
        "if anything is found. Your own Airflow is not touched."
    ),
    _add_census_arguments,
    _run_census,
)


def _members(xcom: XCom) -> dict[str, object]:
    coordinate = xcom.stored.coordinate
    return {
        "task_id": coordinate.task_id,
        "key": coordinate.key,
        "map_index": coordinate.map_index,
        "placement": xcom.stored.placement,
        "plain_bytes": xcom.plain_bytes,
        "stored_bytes": xcom.stored.stored_bytes,
    }


def show_demo(outcome: Outcome, output: Output) -> None:
    """Show a block for each XCom, and a verdict."""
    for xcom in outcome.xcoms:
        _show_xcom(xcom, output)
    _show_tail(outcome, output)
    output.line()
    _show_notes(outcome, output)
    if outcome.ok:
        _show_demo_verdict(outcome, output)
    else:
        output.line(f"NOT OK on Airflow {outcome.airflow_version}:", "bad")
        _show_problems(outcome, output)
    _show_kept(outcome, output)


def show_census(outcome: Outcome, output: Output) -> None:
    """Show surface by surface what was searched, then place by place what was found; a verdict."""
    output.line()
    _show_surfaces(outcome, output)
    _show_places(outcome, output)
    _show_tail(outcome, output)
    output.line()
    _show_notes(outcome, output)
    _show_problems(outcome, output)
    _show_census_verdict(outcome, output)
    _show_kept(outcome, output)


def _show_notes(outcome: Outcome, output: Output) -> None:
    for note in outcome.notes:
        output.paragraph(f"Note: {note}")


def _show_problems(outcome: Outcome, output: Output) -> None:
    for problem in outcome.problems:
        output.paragraph(f"  - {problem}", "bad", indent="    ")


def _show_tail(outcome: Outcome, output: Output) -> None:
    if outcome.tail:
        output.line()
        output.line("The end of what it printed:", "bold")
        for line in outcome.tail.splitlines():
            output.line(f"  {line}", "dim")


def _show_kept(outcome: Outcome, output: Output) -> None:
    if outcome.kept:
        output.line(f"Kept: {outcome.kept}")
        output.field("airflow.db", "the metadata database")
        output.field("store", "the store")
        if any((outcome.kept / "logs").glob("*")):
            output.field("logs", "the logs")
        output.field("printed", "what Airflow's processes printed")
        output.field("canaries", "what was searched for")
    elif not outcome.ok:
        output.paragraph("Nothing was kept. To look around, run it again with --keep DIR.")


def _show_xcom(xcom: XCom, output: Output) -> None:
    stored = xcom.stored
    output.line()
    output.line(f"{output.styled(stored.name, 'bold')}  {stored.placement}")
    if xcom.returned:
        output.field("returned", xcom.returned)
    output.field("row", _ends(stored.row), "dim")
    if stored.about:
        output.field("", stored.about)
    output.field("store", stored.object_name or "nothing", "dim" if stored.file else "")
    if stored.file:
        output.field("", _ends(stored.body), "dim")
    holder = "in the store" if stored.file else "in the row"
    output.field("size", f"{size(xcom.plain_bytes)} before, {size(stored.stored_bytes)} {holder}")
    for fault in xcom.faults:
        output.field("NOT OK", fault, "bad")


def _ends(data: bytes) -> str:
    """What stands at the beginning and at the end."""
    if len(data) <= 2 * _ENDS_BYTES:
        return printable(data)
    return f"{printable(data[:_ENDS_BYTES])} … {printable(data[-_ENDS_BYTES:])}"


def _show_demo_verdict(outcome: Outcome, output: Output) -> None:
    from secure_xcom.trial import surfaces  # noqa: PLC0415 - as above
    from secure_xcom.trial.values import CARD  # noqa: PLC0415

    offloaded = sum(xcom.stored.placement == "offloaded" for xcom in outcome.xcoms)
    looked = outcome.found.looked
    rows = sum(count for surface, count in looked.items() if surface.startswith("table "))
    objects = looked[surfaces.STORE]
    output.paragraph(
        f"The card number {outcome.texts[CARD]}, made up for this run, is in every one of these "
        f"values. It stands nowhere in the {rows} rows of the XCom table nor in the {objects} "
        f"{'object' if objects == 1 else 'objects'} of the store: not in clear, in base64 or in "
        "hexadecimal, nor inside anything compressed by zstd, gzip or zlib."
    )
    output.paragraph(
        "Every value came back as its task returned it, both in the DAG and when read again after "
        "it. Rendered fields and task logs, which Airflow writes by itself, were not searched: "
        "secure-xcom census does that."
    )
    output.line()
    output.line(
        f"OK: {len(outcome.xcoms)} XComs sealed on Airflow {outcome.airflow_version}, "
        f"{len(outcome.xcoms) - offloaded} inline and {offloaded} offloaded, "
        f"in {outcome.seconds:.0f} s",
        "good",
    )


def _show_surfaces(outcome: Outcome, output: Output) -> None:
    from secure_xcom.trial.surfaces import FILES  # noqa: PLC0415 - as above

    found = outcome.found
    tables = sorted(surface for surface in found.looked if surface.startswith("table "))
    shown = [table for table in tables if table.startswith(_TABLES) or found.on(table)]
    others = sum(found.looked[table] for table in tables if table not in shown)
    output.line(_LINE.format("surface", "looked at", "found in", "values"), "bold")
    for surface in shown:
        _show_surface(outcome, output, surface)
    output.line(_LINE.format("all other tables", f"{others:,}", 0, ""))
    for surface in FILES:
        _show_surface(outcome, output, surface)


def _show_surface(outcome: Outcome, output: Output, surface: str) -> None:
    places = outcome.found.on(surface)
    values = {place.value for place in places}
    line = _LINE.format(
        surface,
        f"{outcome.found.looked[surface]:,}",
        len({place.place for place in places}),
        f"{len(values)} of {outcome.values}" if places else "",
    )
    output.line(line, "bad" if places else "")


def _show_places(outcome: Outcome, output: Output) -> None:
    by_place: dict[tuple[str, str], list[str]] = {}
    for place in outcome.found.places:
        shown = place.value if place.how == "in clear" else f"{place.value} ({place.how})"
        by_place.setdefault((place.surface, place.place), []).append(shown)
    before = ""
    for (surface, where), values in by_place.items():
        if surface != before:
            output.line()
            output.line(surface, "bold")
        before = surface
        text = f"  {where}: {', '.join(values)}"
        if len(text) <= output.width:
            output.line(text)
        else:
            output.line(f"  {where}:")
            output.paragraph(f"      {', '.join(values)}", indent="      ")


def _show_census_verdict(outcome: Outcome, output: Output) -> None:
    on = f"the {outcome.backend} backend, Airflow {outcome.airflow_version}"
    count = len({(place.surface, place.place) for place in outcome.found.places})
    if outcome.ok:
        output.paragraph(
            f"{outcome.values} texts and numbers, made up for this run, were returned, pulled, "
            "logged, put into commands and into exceptions. They were searched for in clear, in "
            "UTF-16, in hexadecimal and base64, as binary numbers, and inside gzip, zlib, zstd, "
            "Arrow and Parquet; a text that was planted for a test was found everywhere."
        )
        output.line()
        output.line(f"OK: nothing readable ({on}, {outcome.seconds:.0f} s)", "good")
    elif outcome.problems:
        output.line(f"NOT OK: this census cannot be relied upon ({on})", "bad")
    else:
        places = "place" if count == 1 else "places"
        output.line(
            f"NOT OK: values stand readable in {count} {places} ({on}, {outcome.seconds:.0f} s)",
            "bad",
        )
