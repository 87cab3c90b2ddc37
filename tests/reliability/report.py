"""Runs all cases and writes `docs/reliability.md`: `uv run python tests/reliability/report.py`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability.cases import CASES, Case
from reliability.running import Outcome, run
from reliability.scene import KMS_DEADLINE_SECONDS, STORE_DEADLINE_SECONDS, Scene

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
TITLES = {"gs": "Cloud Storage", "kms": "Cloud KMS", "file": "Directories"}
INTRODUCTION = f"""# What fails, and what comes of it

Each row is a fault that was brought about between the real clients and a server, and what an operation made of it.
`recovered` means that it returned, and that what was pushed is what was pulled afterwards; everything else is an [error](errors.md), after which no reader gets a value that was not written.
After a state's write that failed, readers get the state that was there before.

The figures are of a run with `kms_deadline_seconds` at {KMS_DEADLINE_SECONDS} and the store's deadline at {STORE_DEADLINE_SECONDS} second, attempts of 0.4 seconds (0.5 at the store), and waits of 0.1 between them; with the defaults, what does not pass ends as [operations.md](operations.md#how-long-a-push-and-a-pull-can-take) says.
A fault that is there once disturbs one request, call or connection; one that is there for good disturbs all.

`uv run python tests/reliability/report.py` writes this page, and a test compares it with the cases that are tested.
"""  # noqa: E501 - one sentence is one line
HEAD = "| fault | operation | over | once | for good |\n|---|---|---|---|---|"


def rows(outcomes: dict[Case, Outcome]) -> dict[str, list[str]]:
    """The lines of each service's table."""
    lines: dict[str, list[str]] = {service: [] for service in TITLES}
    for case, outcome in outcomes.items():
        if case.times != 1:
            continue
        lasting = [
            _cell(outcomes[other])
            for other in outcomes
            if other.times != 1
            and (other.fault, other.operation, other.transport)
            == (case.fault, case.operation, case.transport)
        ]
        cells = [case.fault.name, case.operation.name, case.transport, _cell(outcome)]
        cells.append(lasting[0] if lasting else "")
        lines[case.service].append(f"| {' | '.join(cells)} |")
    return lines


def page(outcomes: dict[Case, Outcome]) -> str:
    """The whole page."""
    tables = [
        f"## {TITLES[service]}\n\n{HEAD}\n" + "\n".join(lines)
        for service, lines in rows(outcomes).items()
    ]
    return "\n\n".join([INTRODUCTION.rstrip(), *tables]) + "\n"


def _cell(outcome: Outcome) -> str:
    return f"{outcome.what}, {outcome.seconds:.1f} s"


def main() -> None:
    logging.disable(logging.CRITICAL)
    outcomes = {}
    with Scene() as scene:
        for case in CASES:
            outcomes[case] = run(scene, case)
            if outcomes[case].what != case.expected:
                sys.exit(f"{case}: {outcomes[case]}, where {case.expected} was expected.")
    PAGE.write_text(page(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
