"""Runs a case, and says what came of it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

from reliability.operations import RECOVERED

from secure_xcom import threads
from secure_xcom.errors import SecureXComError

if TYPE_CHECKING:
    from reliability.cases import Case
    from reliability.scene import Scene

#: Whatever takes this long goes on for ever: many times the deadlines that are set.
HANG_SECONDS = 15.0


class Outcome(NamedTuple):
    """`recovered`, the name of an error of ours, or one of the three that must not be."""

    what: str
    seconds: float


def run(scene: Scene, case: Case) -> Outcome:
    """Do what the case says, and look at what is then true."""
    operation = case.operation
    scene.begin(case.service, case.transport)
    prepared = operation.prepare(scene)
    scene.heal()
    context = case.fault.disturb(scene, operation, case.times) or nullcontext()
    started = time.monotonic()
    with context:
        done = threads.outcome(lambda: operation.act(scene, prepared), "case", HANG_SECONDS)
    seconds = time.monotonic() - started
    scene.heal()
    if not done.done():
        return Outcome("hang", seconds)
    error = done.exception()
    if error is None:
        right = operation.is_right(scene, prepared, done.result())
        return Outcome(RECOVERED if right else "wrong", seconds)
    if not isinstance(error, SecureXComError):
        return Outcome(f"bare exception ({type(error).__name__})", seconds)
    if not operation.is_clean(scene, prepared):
        return Outcome(f"wrong after {type(error).__name__}", seconds)
    return Outcome(type(error).__name__, seconds)
