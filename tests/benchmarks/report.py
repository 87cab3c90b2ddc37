"""Make the tables and plots of `docs/performance.md` from the results file.

    uv run python tests/benchmarks/report.py [RESULTS]

The page is written by hand around them: what stands between `<!-- table: NAME -->` and
`<!-- end -->` is made here, and so are the plots in `docs/performance/`. A test holds that both are
what this makes of the committed results.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import values  # noqa: E402 - they are found there
from names import FAR, NEAR, OURS, OURS_HELD, PEERS, STOCK  # noqa: E402
from plots import log_log  # noqa: E402
from results import PATH, Section, load, target  # noqa: E402

DOCS = HERE.parents[1] / "docs"
PAGE = "performance.md"
_PART = re.compile(r"(<!-- table: (?P<name>[a-z: -]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Results = dict[str, Section]
Row = dict[str, Any]

_NONE = "-"

_BOTH = (OURS, OURS_HELD)
#: What is compared with the fastest peer: value, section, backends, and the bounds of push and
#: pull.
_RATIOS = (
    (values.SMALL, "loopback", (OURS_HELD,), 2.0, 2.0),
    (values.DICTS, "loopback", _BOTH, 0.5, 0.5),
    (values.DICTS, "shaped link", (OURS,), 0.48, 0.35),
    (values.DICTS, "shaped link", (OURS_HELD,), 0.6, 0.6),
    (values.BYTES, "plain client", _BOTH, 1.10, 1.10),
    (values.FRAME, "loopback", _BOTH, 0.4, 0.5),
    (values.LARGE_FRAME, "shaped link", _BOTH, 0.4, 0.5),
)
#: And in milliseconds over the stock backend, of push and of pull.
_SMALL_OVER_MS = {"push": 0.028, "pull": 0.045}
#: A new key may take so many times as long as one that is held, 20 ms away.
_NEW_TO_HELD = 1.10
_LINKS = {"loopback": NEAR, "shaped link": FAR, "plain client": NEAR}
#: What stands in the way, beyond what the profile says.
_INLINE = (
    "The stock backend walks over the value, and no more. Sealing derives three keys (HKDF), draws "
    "two random numbers, encrypts and puts the envelope into base64; each of these calls takes "
    "some microseconds, and so do Airflow's settings, the audit log and the checks around them."
)
#: By section: title, what is across and up, and the column.
_PLOTS = (
    ("scale", "Push, by size", "bytes", "seconds", "push s"),
    ("scale", "Pull, by size", "bytes", "seconds", "pull s"),
    ("scale", "Push, memory above the value", "bytes", "MB", "push peak MB"),
    ("scale", "Pull, memory with the value", "bytes", "MB", "pull peak MB"),
    ("mapped", "Reduce, by mapped values", "values of 100 KB", "seconds", "s"),
    ("mapped", "Reduce, memory", "values of 100 KB", "MB", "peak MB"),
)
_SHAPED = (
    "KMS and storage are asked side by side, in threads that take the same cores; the fastest peer "
    "makes two or three round trips."
)


def main() -> None:
    """Write the page and the plots."""
    write(Path(sys.argv[1]) if sys.argv[1:] else PATH)


def write(path: Path) -> None:
    """Write the page and the plots of a results file."""
    if not path.exists():
        raise SystemExit(f"There are no results in {path}.")
    results = load(path)
    page = DOCS / PAGE
    page.write_text(filled(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    for name, text in plots(results).items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")


def filled(page: str, results: Results) -> str:
    """The page with its tables as they are made of the results."""
    return _PART.sub(lambda part: f"{part[1]}{table(part['name'], results)}{part[3]}", page)


def table(name: str, results: Results) -> str:
    """One table, by its name on the page; a sentence where it has not been measured."""
    if name == "targets":
        return _markdown([_told(one) for one in targets(results)])
    if name == "environment":
        return _environment(results)
    if name == "prices":
        return _markdown(results["cost"]["prices"]) if "cost" in results else _MISSING
    if name.endswith(" plots"):
        return _shown(name.removesuffix(" plots"), results)
    if name not in results:
        return _MISSING
    section = results[name]
    make = _TABLES.get(name)
    rows = make(section["rows"]) if make else section["rows"]
    notes = "".join(f"\n{note}\n" for note in section["notes"])
    return _markdown(rows) + notes


_MISSING = "Not measured yet.\n"


def targets(results: Results) -> list[Row]:
    """Every target, and whether it was reached."""
    found = []
    for value, section, backends, *bounds in _RATIOS:
        for operation, bound in zip(("push", "pull"), bounds, strict=True):
            for backend in backends:
                found += _ratio(results, section, (value, operation, backend), bound)
    found += [_new_to_held(results, operation) for operation in ("push", "pull")]
    for section in results.values():
        found += section["targets"]
    return found


def _new_to_held(results: Results, operation: str) -> Row:
    rows = results.get("shaped link", {"rows": []})["rows"]
    new, held = (
        _find(rows, value=values.DICTS, operation=operation, backend=name) for name in _BOTH
    )
    what = f"{values.DICTS}, shaped link, new key to key held: {operation}"
    aim = f"≤ {_NEW_TO_HELD:.2f}"
    if new is None or held is None:
        return target(what, aim, "not measured", holds=False, why="Not measured yet.")
    ratio = new["ms"] / held["ms"]
    return target(what, aim, f"{ratio:.2f}", holds=ratio <= _NEW_TO_HELD, why=_SHAPED)


def _ratio(results: Results, section: str, of: tuple[str, str, str], bound: float) -> list[Row]:
    value, operation, backend = of
    rows = results.get(section, {"rows": []})["rows"]
    row = _find(rows, value=value, operation=operation, backend=backend)
    kind = "key held" if backend == OURS_HELD else "new key"
    what = f"{value}, {section}, {kind}: {operation}"
    if row is None or "ratio" not in row:
        return [target(what, f"≤ {bound}", "not measured", holds=False, why="Not measured yet.")]
    measured = f"{_spread(row, 'ratio')} of {row['against']}'s"
    why = _profile_of(results, row, section)
    if value == values.SMALL:
        why = f"{_INLINE} {why}"
    elif backend == OURS and section == "shaped link":
        why = f"{_SHAPED} {why}"
    made = [target(what, f"≤ {bound}", measured, holds=row["ratio"] <= bound, why=why)]
    if value == values.SMALL:
        over = f"{row['over_ms'] * 1e3:.0f} µs"
        aim = f"≤ {_SMALL_OVER_MS[operation] * 1e3:g} µs over stock's"
        holds = row["over_ms"] <= _SMALL_OVER_MS[operation]
        made.append(target(what, aim, over, holds=holds, why=why))
    return made


def _profile_of(results: Results, row: Row, section: str) -> str:
    rows = results.get("profile", {"rows": []})["rows"]
    found = _find(rows, value=row["value"], operation=row["operation"], link=_LINKS[section])
    if found is None:
        return ""
    shares = sorted(
        ((share, part.removesuffix(", %")) for part, share in found.items() if ", %" in part),
        reverse=True,
    )
    told = ", ".join(f"{part} {share:.0f}%" for share, part in shares if share >= 1)
    return f"Where its time goes: {told}."


def _told(one: Row) -> Row:
    """A row of the table of targets; one that is missed says so, and why."""
    return {
        "what": one["what"],
        "target": one["target"],
        "measured": one["measured"],
        "holds": "yes" if one["holds"] else "**no**",
        "what stands in the way": "" if one["holds"] else one["why"] or "Not looked into yet.",
    }


def _compared(rows: list[Row]) -> list[Row]:
    """One row for each value and direction, one column for each backend, in milliseconds."""
    made: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["value"], row["operation"])
        line = made.setdefault(key, {"value": key[0], "": key[1]})
        line[row["backend"]] = row["ms"]
        if row["backend"] in (OURS, OURS_HELD) and "ratio" in row:
            line[f"ratio of {row['backend']}"] = _spread(row, "ratio")
            line["to"] = row["against"]
    columns = ["value", "", OURS, OURS_HELD, STOCK, *PEERS, "plain client"]
    columns += [f"ratio of {OURS}", f"ratio of {OURS_HELD}", "to"]
    used = [name for name in columns if any(name in line for line in made.values())]
    return [{name: line.get(name, _NONE) for name in used} for line in made.values()]


def _mapped(rows: list[Row]) -> list[Row]:
    return [
        {
            "backend": row["backend"],
            "values": row["values"],
            "of them read": row["read"],
            "s": _spread(row, "s"),
            f"{OURS} ÷ it": _spread(row, "ratio"),
        }
        for row in rows
    ]


def _inline(rows: list[Row]) -> list[Row]:
    return [
        {
            "what": row["backend"],
            "values": row["values"],
            "s": _spread(row, "s"),
            f"{OURS} ÷ it": _spread(row, "s, ratio"),
            "CPU, ms a value": _spread(row, "CPU ms a value"),
            f"CPU, {OURS} ÷ it": _spread(row, "CPU ms a value, ratio"),
        }
        for row in rows
    ]


def _plain_data(rows: list[Row]) -> list[Row]:
    return [
        {
            "value": row["value"],
            "": row["operation"],
            "ms": row["ms"],
            "ormsgpack, ms": row["ormsgpack, ms"],
            "ratio": _spread(row, "ratio"),
        }
        for row in rows
    ]


def _cost(rows: list[Row]) -> list[Row]:
    return [
        {
            "shape": row["shape"],
            "backend": row["backend"],
            "scope": row["scope"],
            **{
                f"{operation}: counted / model": f"{row[f'{operation}, counted']} / "
                f"{row[f'{operation}, model']}"
                for operation in ("KMS", "class A", "class B")
            },
            **{
                f"{operation}, a million": row[f"{operation}, a million"]
                for operation in ("KMS", "class A", "class B")
            },
            "US$ a million": f"{row['dollars']:.2f}",
        }
        for row in rows
    ]


_TABLES = {
    "loopback": _compared,
    "shaped link": _compared,
    "plain client": _compared,
    "mapped": _mapped,
    "mapped inline": _inline,
    "plain data": _plain_data,
    "cost": _cost,
}


def _environment(results: Results) -> str:
    """What the sections were measured on, and with; as one where they agree."""
    lines = []
    for name, section in results.items():
        about = section["environment"]
        packages = ", ".join(f"{what} {version}" for what, version in about["packages"].items())
        line = (
            f"Python {about['python']} on {about['system']}, {about['cores']} cores "
            f"({about['processor']}): {packages}."
        )
        lines.append((line, name))
    told = [
        f"- {', '.join(name for other, name in lines if other == line)}: {line}\n"
        for line in dict.fromkeys(line for line, _ in lines)
    ]
    return "".join(told) or _MISSING


def plots(results: Results) -> dict[str, str]:
    """The plots by file name, below the folder of the documentation."""
    made = {}
    for section, title, across, up, column in _PLOTS:
        found = results.get(section, {})
        # Those of a reduce are apart from its comparison.
        rows = found.get("points", found.get("rows", []))
        x = "bytes" if across == "bytes" else "values"
        series = {
            name: [(row[x], row[column]) for row in rows if row["backend"] == name]
            for name in dict.fromkeys(row["backend"] for row in rows)
        }
        if any(y > 0 for points in series.values() for _, y in points):
            made[_file(title)] = log_log(title, across, up, series)
    return made


def _shown(section: str, results: Results) -> str:
    """The plots of a section, as the page shows them."""
    made = plots(results)
    titles = [title for of, title, *_ in _PLOTS if of == section and _file(title) in made]
    return "".join(f"![{title}]({_file(title)})\n" for title in titles) or _MISSING


def _file(title: str) -> str:
    return f"performance/{title.lower().replace(',', '').replace(' ', '-')}.svg"


def _find(rows: list[Row], **wanted: str) -> Row | None:
    return next(
        (row for row in rows if all(row.get(name) == value for name, value in wanted.items())), None
    )


def _spread(row: Row, name: str) -> str:
    return f"{_number(row[name])} ({_number(row[f'{name}_low'])}-{_number(row[f'{name}_high'])})"


def _markdown(rows: list[Row]) -> str:
    if not rows:
        return _MISSING
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row.get(column, _NONE)) for column in columns] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return _number(value) if isinstance(value, (int, float)) else str(value)


def _number(value: float) -> str:
    """Three figures, without powers of ten."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    if abs(value) < 0.001:
        return "< 0.001" if value > 0 else "> -0.001"
    return f"{float(f'{value:.3g}'):g}"


if __name__ == "__main__":
    main()
