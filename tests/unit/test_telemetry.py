"""Who is told what, and what comes of it where nobody is."""

from __future__ import annotations

import pytest
from support.observed import observed

from secure_xcom import audit, telemetry
from secure_xcom.errors import AuthenticationError, KeyUnavailable
from secure_xcom.model import Coordinate, Expected, Inline, Offloaded

WHERE = Coordinate("d", "r", "t", -1, "k")
OFFLOADED = Offloaded("gs://b", "n", "1", 500, 7, b"preamble")


def test_nobody_is_told_unless_somebody_observes():
    with observed() as seen:
        pass
    telemetry.count("name")
    with telemetry.step("step"):
        assert not telemetry.is_observed()
    assert not seen.counts
    assert not seen.steps


@pytest.mark.parametrize(
    ("reference", "placed"), [(Inline(b"x"), "seal.inline"), (OFFLOADED, "seal.offloaded")]
)
def test_a_seal_counts_its_bytes_and_its_place(reference, placed):
    with observed() as seen, audit.attempt("seal", WHERE) as tried:
        tried.reference, tried.raw_bytes = reference, 12
    assert seen.counts == {"seal.ok": 1, "seal.bytes": 12, placed: 1}
    assert seen.steps == {"seal": 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (AuthenticationError(), "refused.AuthenticationError"),
        (KeyUnavailable("away"), "failed.KeyUnavailable"),
    ],
)
@pytest.mark.parametrize("operation", ["seal", "open", "delete"])
def test_what_does_not_succeed_counts_by_class_and_counts_no_bytes(operation, error, outcome):
    def fail():
        with audit.attempt(operation, Expected("d")) as tried:
            tried.raw_bytes = 12
            raise error

    with observed() as seen:
        with pytest.raises(type(error)):
            fail()
        audit.refused(operation, WHERE, error)
    assert seen.counts == {f"{operation}.{outcome}": 2}


def test_operations_are_counted_where_the_audit_log_is_off(caplog):
    caplog.set_level("CRITICAL", audit.logger.name)
    with observed() as seen, audit.attempt("open", WHERE):
        pass
    assert caplog.messages == []
    assert seen.counts == {"open.ok": 1}


def test_beyond_the_budget_of_masking_counts_once():
    with observed() as seen:
        audit.exceeded(WHERE)
    assert seen.counts == {"masking_exceeded": 1}


def test_tags_are_the_dag_and_the_task_as_far_as_they_are_known(monkeypatch):
    told = []
    with observed() as seen:
        monkeypatch.setattr(seen, "count", lambda name, _, tags: told.append((name, dict(tags))))
        for where in (WHERE, Expected("d"), Expected()):
            with audit.attempt("open", where):
                pass
    assert told == [
        ("open.ok", {"dag_id": "d", "task_id": "t"}),
        ("open.ok", {"dag_id": "d"}),
        ("open.ok", {}),
    ]
