"""A run on a throw-away Airflow, from its empty home to the report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeAlias

from secure_xcom.errors import ConfigError
from secure_xcom.trial.home import Home, ProgramFailed, last_line, throw_away_home
from secure_xcom.trial.report import Listener, Outcome
from secure_xcom.trial.values import has_frames

Step: TypeAlias = Callable[[Home, Outcome, Listener], None]

_TAIL_LINES = 30
_TAIL_LINE_CHARACTERS = 300


def run(
    outcome: Outcome,
    steps: Sequence[Step],
    listener: Listener,
    keep: Path | None,
    overrides: Callable[[Home], Mapping[str, str | None]],
) -> None:
    """Make a home, migrate its database and take steps in it; the outcome takes down what failed.

    Args:
        outcome: with the texts, which go into a file of the home.
        steps: each is taken even if a program of the one before failed.
        listener: told what is being done.
        keep: a directory for the home; None for a temporary one, which goes away.
        overrides: gives environment variables of the programs in the home.

    Raises:
        ConfigError: `keep` cannot be used.
    """
    began = time.monotonic()
    if not has_frames():
        outcome.notes.append(
            "No DataFrame in this run: it needs pandas and pyarrow, "
            "pip install 'secure-xcom[arrow]' pandas"
        )
    with throw_away_home(keep, {}) as plain:
        home = replace(plain, overrides=overrides(plain))
        home.texts.write_text(json.dumps(outcome.texts, indent=2))
        if keep:
            outcome.kept = home.path
        for step in (_migrate, *steps):
            try:
                step(home, outcome, listener)
            except ProgramFailed as error:
                outcome.problems.append(
                    without(outcome.texts, f"{error} {last_line(error.printed)}")
                )
                lines = error.printed.read_text(errors="replace").splitlines()
                outcome.tail = outcome.tail or tail(outcome.texts, lines)
                if step is _migrate:
                    break
    outcome.seconds = time.monotonic() - began


def airflow_version() -> str:
    """Give the version of this environment's Airflow.

    Raises:
        ConfigError: there is none.
    """
    for distribution in ("apache-airflow-core", "apache-airflow"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise ConfigError("There is no Airflow in this environment: pip install apache-airflow.")


def tail(texts: Mapping[str, str], lines: Sequence[str]) -> str:
    """Give the last of these lines, without the texts."""
    return without(texts, "\n".join(line[:_TAIL_LINE_CHARACTERS] for line in lines[-_TAIL_LINES:]))


def without(texts: Mapping[str, str], printed: str) -> str:
    """Put the names of the texts in their place."""
    for name, text in texts.items():
        printed = printed.replace(text, f"(the {name})")
    return printed


def _migrate(home: Home, _: Outcome, listener: Listener) -> None:
    with listener.step("airflow db migrate"):
        home.run("airflow db migrate", "-m", "airflow", "db", "migrate")
