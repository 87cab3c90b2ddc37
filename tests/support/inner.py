"""Runs of this suite, or parts of it, by another Python or by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.environments import ROOT, Environment, run_in

if TYPE_CHECKING:
    from pathlib import Path

#: The fast tier: what starts no Airflow, and takes under a minute.
FAST = ("unit", "contract", "vectors", "tamper", "property")


def run_tests(environment: Environment, *which: str | Path, timeout_seconds: float = 1400) -> None:
    """Run files or folders of `tests/` by the Python of an environment.

    Raises:
        AssertionError: one fails, or none is there; with the output.
    """
    run_in(
        environment,
        *("python", "-m", "pytest", *(ROOT / "tests" / one for one in which)),
        *("-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-o", "addopts="),
        *("--import-mode=importlib", "-p", "no:cacheprovider", "-m", "not airflow", "-ra"),
        timeout_seconds=timeout_seconds,
    )
