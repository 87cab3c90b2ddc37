"""How `secure-xcom inspect` shows what it found, on a terminal and as JSON."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from secure_xcom.cli.inspect.opening import Readable
from secure_xcom.cli.inspect.report import Comparison, Report
from secure_xcom.cli.output import Output
from secure_xcom.format.about import size
from secure_xcom.text import escaped

_KINDS = {
    "XCom": "A sealed XCom",
    "state": "A sealed state",
    "body": "The object of an XCom, without its row",
    "legacy": "A row of another backend: not sealed",
    "unsealed": "A row that is not sealed",
    "malformed": "Not a well-formed sealed value",
}
#: What stands behind a value, by its name.
_SAID = {
    "kek_version_hint": "a hint; never authenticated",
    "scope": "the writes of one task instance",
    "suite": "HKDF-SHA-256 with key commitment, AES-256-GCM in segments",
    "payload_bytes": "the value, padded to a multiple of 256 up to 4 KiB",
    "map_index": "-1: not mapped",
    "about": "for people; no task uses it",
}


def show(report: Report, output: Output) -> None:
    """Show what stands in clear, and what agrees."""
    output.line(_KINDS[report.kind], "bold")
    output.line(f"  from {escaped(report.origin)}", "dim")
    for title, members in (
        ("Row", report.row),
        ("Object", report.object),
        ("Envelope (in clear; authenticated only when it is opened)", report.envelope),
    ):
        if members:
            output.line()
            output.line(title, "bold")
            _show_members(members, output)
    if report.checks:
        output.line()
        output.line("Checks, by the steps of a read (docs/format.md, section 8.2)", "bold")
        for check in report.checks:
            _show_check(check, output)
    for note in report.notes:
        output.line()
        output.paragraph(escaped(note))


def show_opened(opened: Readable, written_to: Path | None, output: Output) -> None:
    """Show an opened value, or say where it was written."""
    output.line()
    if written_to is not None:
        output.line(
            f"Opened: {escaped(opened.type)}, written as {opened.form} to "
            f"{escaped(str(written_to))} ({size(len(opened.data))})",
            "bold",
        )
        return
    output.line(f"Opened: {escaped(opened.type)}", "bold")
    output.line(_readable(opened))


def members(report: Report, opened: Readable | None, written_to: Path | None) -> dict[str, object]:
    """The members of what `--json` prints."""
    found = report.as_json()
    found["authenticated"] = opened is not None
    if opened is not None:
        shown: dict[str, object] = {"type": opened.type, "form": opened.form}
        if written_to is not None:
            shown |= {"file": str(written_to), "bytes": len(opened.data)}
        elif opened.form == "bytes":
            shown["base64"] = base64.b64encode(opened.data).decode()
        elif opened.form == "JSON":
            shown["value"] = json.loads(opened.data)
        else:
            shown["value"] = opened.data.decode(errors="surrogatepass")
        found["opened"] = shown
    return found


def _readable(opened: Readable) -> str:
    if opened.form == "bytes":
        return repr(opened.data)
    text = opened.data.decode(errors="surrogatepass")
    if opened.form == "text":
        return json.dumps(text)
    return escaped(text.removesuffix("\n"), keep="\n")


def _show_members(members: dict[str, object], output: Output) -> None:
    for name, value in members.items():
        said = f"  ({_SAID[name]})" if name in _SAID and value not in (None, "") else ""
        shown = "—" if value in (None, "") else escaped(str(value))
        output.line(f"  {name:<22} {shown}{said}")


def _show_check(check: Comparison, output: Output) -> None:
    mark, style = {True: ("✓", "good"), False: ("✗", "bad"), None: ("?", "dim")}[check.holds]
    said = {
        True: check.what,
        False: f"{check.what}: no ({check.error})",
        None: f"{check.what}: not looked at",
    }[check.holds]
    output.line(f"  {output.styled(mark, style)} {check.step}. {said}")
    if check.detail:
        output.paragraph(f"       {escaped(check.detail)}", indent="       ")
