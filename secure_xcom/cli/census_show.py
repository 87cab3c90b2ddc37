"""Shows a person what a census found: surface by surface, then place by place, and a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.cli.output import Output
from secure_xcom.trial import surfaces

if TYPE_CHECKING:
    from secure_xcom.trial.census import Outcome

#: The tables that everybody asks for; others have a line of their own if something is in them.
_ASKED_FOR = ("table xcom", "table rendered_task_instance_fields", "table rtif")
_FILES = (
    surfaces.DATABASE,
    surfaces.STORE,
    surfaces.NAMES,
    surfaces.TASK_LOGS,
    surfaces.OTHER_LOGS,
    surfaces.PRINTED,
    surfaces.TEMPORARY,
    surfaces.REST,
)
_LINE = "{:<38} {:>9} {:>8}  {}"


def show(outcome: Outcome, output: Output) -> None:
    """Show all of it."""
    output.line()
    _show_table(outcome, output)
    _show_places(outcome, output)
    output.line()
    for note in outcome.notes:
        output.paragraph(f"Note: {note}")
    for problem in outcome.problems:
        output.paragraph(f"  - {problem}", "bad", indent="    ")
    _show_verdict(outcome, output)
    if outcome.kept:
        output.line(f"Kept: {outcome.kept}")
        output.field("airflow.db", "the metadata database")
        output.field("store", "the store")
        output.field("logs", "the logs")
        output.field("printed", "what Airflow's processes printed")
        output.field("canaries", "what was looked for")
    elif not outcome.ok:
        output.paragraph("Nothing was kept. To look around, run it again with --keep DIR.")


def _show_table(outcome: Outcome, output: Output) -> None:
    found = outcome.found
    tables = sorted(surface for surface in found.looked if surface.startswith("table "))
    shown = [table for table in tables if table.startswith(_ASKED_FOR) or found.on(table)]
    others = [table for table in tables if table not in shown]
    output.line(_LINE.format("surface", "looked at", "found in", "values"), "bold")
    for surface in shown:
        _show_surface(outcome, output, surface)
    looked = sum(found.looked[table] for table in others)
    output.line(_LINE.format("all other tables", f"{looked:,}", 0, ""))
    for surface in _FILES:
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


def _show_verdict(outcome: Outcome, output: Output) -> None:
    on = f"the {outcome.backend} backend, Airflow {outcome.airflow_version}"
    count = len({(place.surface, place.place) for place in outcome.found.places})
    if outcome.ok:
        output.paragraph(
            f"{outcome.values} texts and numbers, made up for this run, were returned, pulled, "
            "logged, put into commands and into exceptions. They were looked for in clear, in "
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
