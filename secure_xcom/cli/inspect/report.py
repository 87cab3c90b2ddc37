"""What `secure-xcom inspect` found without a key: the members of each part, and what agrees."""

from __future__ import annotations

from dataclasses import dataclass, field

from secure_xcom.model import Reference

Members = dict[str, object]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison. `holds` is None where it could not be made."""

    what: str
    holds: bool | None
    detail: str = ""


@dataclass(slots=True)
class Report:
    """All that was found without a key."""

    #: `XCom`, `state`, `legacy`, `unsealed` or `malformed`.
    kind: str
    origin: str
    row: Members | None = None
    object: Members | None = None
    envelope: Members | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[Comparison] = field(default_factory=list)
    #: What can be opened; for a file, the file is read then.
    reference: Reference | None = None
    #: `task` or `asset`, where it is a state.
    state: str | None = None

    @property
    def ok(self) -> bool:
        """Whether it is sealed, and nothing that could be compared disagrees."""
        sealed = self.kind in ("XCom", "state")
        return sealed and all(check.holds is not False for check in self.checks)

    def as_json(self) -> Members:
        """Give the object that `--json` prints."""
        return {
            "ok": self.ok,
            "kind": self.kind,
            "from": self.origin,
            "row": self.row,
            "object": self.object,
            "envelope": self.envelope,
            "checks": [
                {"what": check.what, "holds": check.holds, "detail": check.detail}
                for check in self.checks
            ],
            "notes": self.notes,
        }
