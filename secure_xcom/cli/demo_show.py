"""Shows a person what a run of the demo found: a block for each XCom, and a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secure_xcom.cli.output import Output, printable, size

if TYPE_CHECKING:
    from secure_xcom.trial.demo import Outcome, XCom

_ROW_BYTES = 200
_ENDS_BYTES = 30


def show(outcome: Outcome, output: Output) -> None:
    """Show all of it."""
    for xcom in outcome.xcoms:
        _show_xcom(xcom, output)
    if outcome.tail:
        output.line()
        output.line("The end of what it printed:", "bold")
        for line in outcome.tail.splitlines():
            output.line(f"  {line}", "dim")
    output.line()
    for note in outcome.notes:
        output.paragraph(f"Note: {note}")
    if outcome.ok:
        _show_verdict(outcome, output)
    else:
        output.line(f"NOT OK on Airflow {outcome.airflow_version}:", "bad")
        for problem in outcome.problems:
            output.paragraph(f"  - {problem}", indent="    ")
    if outcome.kept:
        output.line(f"Kept: {outcome.kept}")
        output.field("airflow.db", "the metadata database")
        output.field("store", "the store")
        output.field("printed", "what Airflow printed")
        output.field("card", "the card number, to search for")
    elif not outcome.ok:
        output.paragraph("Nothing was kept. To look around, run it again with --keep DIR.")


def _show_xcom(xcom: XCom, output: Output) -> None:
    seen = xcom.seen
    output.line()
    output.line(f"{output.styled(seen.name, 'bold')}  {seen.placement}")
    if xcom.returned:
        output.field("returned", xcom.returned)
    output.field("row", printable(seen.row[:_ROW_BYTES]), "dim")
    output.field("store", seen.object_name or "nothing", "dim" if seen.file else "")
    if seen.file:
        ends = printable(seen.envelope[:_ENDS_BYTES]), printable(seen.envelope[-_ENDS_BYTES:])
        output.field("", " … ".join(ends), "dim")
    holder = "in the store" if seen.file else "in the row"
    output.field("size", f"{size(xcom.plain_bytes)} before, {size(seen.stored_bytes)} {holder}")
    for fault in xcom.faults:
        output.field("NOT OK", fault, "bad")


def _show_verdict(outcome: Outcome, output: Output) -> None:
    offloaded = sum(xcom.seen.placement == "offloaded" for xcom in outcome.xcoms)
    objects = "object" if outcome.objects == 1 else "objects"
    output.paragraph(
        f"The card number {outcome.card}, made up for this run, is in every one of these values. "
        f"It stands nowhere in the {outcome.rows} rows of the XCom table nor in the "
        f"{outcome.objects} {objects} of the store: not in clear, in base64 or in hexadecimal, nor "
        "inside anything compressed by zstd, gzip or zlib."
    )
    output.paragraph(
        "Every value came back as its task returned it, both in the DAG and when read again after "
        "it. Rendered fields and task logs, which Airflow writes by itself, were not looked at: "
        "secure-xcom census does that."
    )
    output.line()
    output.line(
        f"OK: {len(outcome.xcoms)} XComs sealed on Airflow {outcome.airflow_version}, "
        f"{len(outcome.xcoms) - offloaded} inline and {offloaded} offloaded, "
        f"in {outcome.seconds:.0f} s",
        "good",
    )
