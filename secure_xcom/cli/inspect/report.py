"""What `secure-xcom inspect` found without a key: the members of each part, and what agrees."""

from __future__ import annotations

from dataclasses import dataclass, field

from secure_xcom.errors import SecureXComError

Members = dict[str, object]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One check of a reader's that needs no key."""

    #: The step of `docs/format.md`, section 8.2, that it belongs to.
    step: int
    what: str
    #: None where it could not be made.
    holds: bool | None
    #: The class of the error with which a reader refuses, where it does not hold.
    error: str = ""
    detail: str = ""


@dataclass(slots=True)
class Report:
    """All that was found without a key."""

    #: `XCom`, `state`, `body`, `legacy`, `unsealed` or `malformed`.
    kind: str
    origin: str
    row: Members | None = None
    object: Members | None = None
    envelope: Members | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[Comparison] = field(default_factory=list)
    #: `task` or `asset`, where it is a state.
    state: str | None = None

    def check(
        self,
        step: int,
        what: str,
        *,
        holds: bool | None,
        error: type[SecureXComError] = SecureXComError,
        detail: str = "",
    ) -> None:
        """Take a check down.

        Args:
            step: of section 8.2.
            what: what is to hold.
            holds: whether it does; None where that could not be looked at.
            error: what a reader raises if it does not.
            detail: what there is to say of it.
        """
        name = error.__name__ if holds is False else ""
        self.checks.append(Comparison(step, what, holds, name, detail))

    @property
    def ok(self) -> bool:
        """Whether it is sealed, and nothing that could be compared disagrees."""
        sealed = self.kind in ("XCom", "state", "body")
        return sealed and all(check.holds is not False for check in self.checks)

    def as_json(self) -> Members:
        """The object that `--json` prints."""
        return {
            "ok": self.ok,
            "kind": self.kind,
            "from": self.origin,
            "row": self.row,
            "object": self.object,
            "envelope": self.envelope,
            "checks": [
                {
                    "step": check.step,
                    "what": check.what,
                    "holds": check.holds,
                    "error": check.error,
                    "detail": check.detail,
                }
                for check in self.checks
            ],
            "notes": self.notes,
        }
