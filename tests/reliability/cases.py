"""The faults, and what each operation is to make of them. One more fault is one more line.

A fault is there once, or for good. Expected is `recovered` (the operation returned, and what was
pushed is what is pulled), or the name of the error; `but` says where an operation differs.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from google.oauth2.credentials import Credentials
from reliability import operations
from reliability.operations import RECOVERED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from reliability.operations import Operation
    from reliability.scene import Scene

FOR_GOOD = 1_000_000
#: Longer than any deadline here.
LONG_SECONDS = 5.0


@dataclass(frozen=True)
class Fault:
    """One way to fail.

    Args:
        name: what it is called in the table.
        disturb: brings it about, so many times; it may give a context to act in.
        once: what is expected when it is there once.
        always: what is expected when it is there for good; None where that is the same thing.
        but: by operation and how often, what is expected instead.
        only: the operations that can meet it, by the beginnings of their names.
        never: those among them that cannot.
    """

    name: str
    disturb: Callable[[Scene, Operation, int], object]
    once: str = RECOVERED
    always: str | None = None
    but: dict[tuple[str, int], str] = field(default_factory=dict, hash=False)
    only: tuple[str, ...] = ("",)
    never: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One operation that meets one fault."""

    service: str
    fault: Fault
    operation: Operation
    transport: str
    times: int

    @property
    def expected(self) -> str:
        fault = self.fault
        usual = self.operation.expected or (fault.once if self.times == 1 else fault.always)
        return fault.but.get((self.operation.name, self.times), usual)

    def __str__(self) -> str:
        often = "once" if self.times == 1 else "for good"
        return f"{self.fault.name}-{self.operation.name}-{self.transport}-{often}"


def request(what: str, **details: float) -> Callable[[Scene, Operation, int], None]:
    """A fault of the proxy before Cloud Storage."""

    def disturb(scene: Scene, operation: Operation, times: int) -> None:
        if operation.kind in ("start", "part"):
            # A long value goes out in parts once it did not go through in one request.
            scene.proxy.fail("upload", "status", code=503)
        scene.proxy.fail(operation.kind, what, times=times, **details)

    return disturb


def status(code: str) -> Callable[[Scene, Operation, int], None]:
    """An answer of Cloud KMS."""
    return lambda scene, operation, times: scene.kms.traffic.fail(operation.kind, code, times=times)


def damaged(how: str) -> Callable[[Scene, Operation, int], None]:
    """An answer of Cloud KMS that is damaged on its way."""
    return lambda scene, operation, times: scene.kms.traffic.corrupt(operation.kind, how, times)


def line(what: str) -> Callable[[Scene, Operation, int], None]:
    """A fault of the connection to Cloud KMS."""
    return lambda scene, _operation, times: scene.line.fail(what, times)


def tokens(what: str) -> Callable[[Scene, Operation, int], None]:
    """A fault of the connection to where access tokens come from."""

    def disturb(scene: Scene, _operation: Operation, times: int) -> None:
        scene.tokens.fail(what, times)
        scene.credentials = Credentials(
            None,
            refresh_token="refresh",  # noqa: S106 - nobody's
            client_id="client",
            client_secret="secret",  # noqa: S106 - nobody's
            token_uri=f"http://{scene.tokens.address}/token",
        )

    return disturb


def system_call(name: str, number: int) -> Callable[[Scene, Operation, int], object]:
    """A call of the operating system that fails."""

    def disturb(_scene: Scene, _operation: Operation, times: int) -> object:
        stock, left = getattr(os, name), [times]

        def failing(*args: object, **kwargs: object) -> object:
            # The key file is opened by its whole path, objects from folder to folder.
            if left[0] and (name != "open" or "dir_fd" in kwargs):
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return stock(*args, **kwargs)

        return patch.object(os, name, failing)

    return disturb


def spoilt(spoil: Callable[[Path], object]) -> Callable[[Scene, Operation, int], None]:
    """An object of a directory that is not what was written."""

    def disturb(scene: Scene, _operation: Operation, _times: int) -> None:
        (name,) = scene.objects()
        spoil(scene.folder / name)

    return disturb


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    _rewrite(path, data)


def _cut(path: Path) -> None:
    _rewrite(path, path.read_bytes()[: path.stat().st_size // 2])


def _rewrite(path: Path, data: bytes) -> None:
    """Write over an object as a disk does that forgets: its times do not tell."""
    status = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


AWAY, DENIED = "StoreUnavailable", "StoreAccessDenied"
UPLOADS = ("push", "state write")
DOWNLOADS = ("pull", "state read, object")

#: Their answers have no body.
BODILESS = ("push in parts, beginning", "state write, tidying", "delete")
#: What does not go through in one request goes out in parts.
IN_PARTS = {("push of 9 MB, one request", FOR_GOOD): RECOVERED}
#: And what became of a part, or of an object, can be asked.
ASKED = {
    **IN_PARTS,
    ("push in parts, a part", FOR_GOOD): RECOVERED,
    ("push", FOR_GOOD): RECOVERED,
    ("state write", FOR_GOOD): RECOVERED,
}

STORAGE = (
    *(
        Fault(f"HTTP {code}", request("status", code=code), RECOVERED, AWAY, but=IN_PARTS)
        for code in (408, 429, 500, 502, 503, 504)
    ),
    Fault("HTTP 503, and hangs up", request("refuse", code=503), RECOVERED, AWAY, but=IN_PARTS),
    Fault("reset before the answer", request("reset"), RECOVERED, AWAY, but=IN_PARTS),
    Fault(
        "reset in the request's body",
        request("reset", after_bytes=20_000),
        RECOVERED,
        AWAY,
        but=IN_PARTS,
        only=("push", "state write"),
        never=("push in parts, beginning", "state write, tidying"),
    ),
    Fault("answer lost", request("lose_answer"), RECOVERED, AWAY, but=ASKED),
    Fault(
        "answer cut after its head",
        request("truncate", after_bytes=0),
        RECOVERED,
        AWAY,
        but=ASKED,
        never=BODILESS,
    ),
    Fault(
        "answer cut in its body",
        request("truncate", after_bytes=20),
        RECOVERED,
        AWAY,
        but=ASKED,
        only=(*UPLOADS, "state read, listing"),
        never=BODILESS,
    ),
    Fault("silence", request("stall", seconds=LONG_SECONDS), RECOVERED, AWAY, but=IN_PARTS),
    Fault(
        "bit flipped in a download", request("corrupt", after_bytes=100), RECOVERED, only=DOWNLOADS
    ),
    Fault(
        "HTTP 404, though it is there",
        request("status", code=404),
        RECOVERED,
        only=("pull",),
    ),
    Fault(
        "HTTP 404, the session is gone",
        request("status", code=404),
        RECOVERED,
        AWAY,
        only=("push in parts, a part",),
    ),
    Fault(
        "HTTP 410, the session is gone",
        request("status", code=410),
        RECOVERED,
        AWAY,
        only=("push in parts, a part",),
    ),
    Fault(
        "HTTP 412",
        request("status", code=412),
        "StoreError",
        only=("push",),
        never=("push in parts, beginning", "push in parts, a part", "state write, tidying"),
    ),
    Fault("HTTP 401", request("status", code=401), DENIED, DENIED),
    Fault("HTTP 403", request("status", code=403), DENIED, DENIED),
)

KEY_AWAY = "KeyUnavailable"
KMS = (
    *(
        Fault(code, status(code), RECOVERED, KEY_AWAY)
        for code in (
            *("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "INTERNAL"),
            *("ABORTED", "CANCELLED", "UNKNOWN"),
        )
    ),
    Fault("PERMISSION_DENIED", status("PERMISSION_DENIED"), "KeyAccessDenied"),
    Fault("UNAUTHENTICATED", status("UNAUTHENTICATED"), "KeyAccessDenied"),
    Fault("NOT_FOUND", status("NOT_FOUND"), KEY_AWAY),
    Fault("FAILED_PRECONDITION", status("FAILED_PRECONDITION"), KEY_AWAY),
    *(
        Fault(code, status(code), "KeyServiceError")
        for code in ("DATA_LOSS", "OUT_OF_RANGE", "ALREADY_EXISTS", "UNIMPLEMENTED")
    ),
    Fault(
        "INVALID_ARGUMENT",
        status("INVALID_ARGUMENT"),
        "KeyServiceError",
        but={("pull", 1): "AuthenticationError"},
    ),
    Fault("wrong checksum", damaged("crc32c"), RECOVERED, "KeyServiceError"),
    Fault("no checksum", damaged("no_crc32c"), RECOVERED, "KeyServiceError"),
    Fault("bit flipped", damaged("bytes"), RECOVERED, "KeyServiceError"),
    Fault("names another key", damaged("other_key"), RECOVERED, "KeyServiceError", only=("push",)),
    Fault(
        "silence",
        lambda scene, operation, times: scene.kms.traffic.delay(operation.kind, 1.5, times),
        RECOVERED,
        KEY_AWAY,
    ),
    Fault("connection reset", line("reset"), RECOVERED, KEY_AWAY),
    Fault("connection closed", line("hang_up"), RECOVERED, KEY_AWAY),
    Fault("connection stalls", line("stall"), KEY_AWAY, KEY_AWAY),
    Fault("connection drips", line("drip"), KEY_AWAY, KEY_AWAY),
    Fault("token service: connection reset", tokens("reset"), KEY_AWAY, KEY_AWAY),
    Fault("token service stalls", tokens("stall"), KEY_AWAY, KEY_AWAY),
    Fault("token service drips", tokens("drip"), KEY_AWAY, KEY_AWAY),
)

FILES = (
    *(
        Fault(
            f"{name} fails: {os.strerror(number)}",
            system_call(name, number),
            error,
            error,
            only=only,
        )
        for name, number, error, only in (
            ("open", errno.EMFILE, AWAY, ("",)),
            ("write", errno.ENOSPC, AWAY, ("push", "state write")),
            ("link", errno.EIO, AWAY, ("push",)),
            ("rename", errno.EIO, AWAY, ("state write",)),
            ("read", errno.EIO, AWAY, ("pull", "state read")),
            ("unlink", errno.EIO, AWAY, ("delete",)),
        )
    ),
    Fault("bit flipped", spoilt(_flip), "AuthenticationError", only=("pull", "state read")),
    Fault(
        "cut",
        spoilt(_cut),
        "AuthenticationError",
        but={("state read", 1): "FormatError"},
        only=("pull", "state read"),
    ),
    Fault("gone", spoilt(Path.unlink), "ObjectNotFound", only=("pull",)),
)


def _cases(
    service: str,
    faults: tuple[Fault, ...],
    acts: tuple[Operation, ...],
    transports: tuple[str, ...],
) -> Iterator[Case]:
    for fault in faults:
        for operation in acts:
            if not operation.name.startswith(fault.only) or operation.name in fault.never:
                continue
            case = partial(Case, service, fault, operation)
            for transport in transports:
                yield case(transport, 1)
            if fault.always is not None:
                yield case(transports[-1], FOR_GOOD)


CASES = (
    *_cases("gs", STORAGE, operations.STORAGE, ("http", "https")),
    *_cases("kms", KMS, operations.KMS, ("gRPC over TLS",)),
    *_cases("file", FILES, operations.FILES, ("file",)),
)
