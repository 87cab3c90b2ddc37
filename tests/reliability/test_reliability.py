"""Each fault, met by each operation, has the outcome that `docs/reliability.md` promises."""

from __future__ import annotations

import re

import pytest
from reliability.cases import CASES
from reliability.report import PAGE, page
from reliability.running import Outcome, run
from reliability.scene import Scene

from secure_xcom import errors


@pytest.fixture(scope="module")
def scene():
    with Scene() as scene:
        yield scene


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_fault_has_the_outcome_that_is_promised(scene, case):
    outcome = run(scene, case)
    assert outcome.what == case.expected, outcome


def test_nothing_else_is_ever_promised_than_success_or_an_error_of_ours():
    allowed = {"recovered"} | {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.SecureXComError)
    }
    assert {case.expected for case in CASES} <= allowed


def test_no_case_is_listed_twice():
    assert len({str(case) for case in CASES}) == len(CASES)


def test_the_page_lists_exactly_these_cases_and_outcomes():
    """But for the seconds, which are those of a run."""
    expected = page({case: Outcome(case.expected, 0.0) for case in CASES})
    timeless = re.sub(r", \d+\.\d s\b", ", 0.0 s", PAGE.read_text())
    assert timeless == expected, "run tests/reliability/report.py"
