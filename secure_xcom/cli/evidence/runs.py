"""The last runs of the commands that change things, as the files of the audit log have them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

#: What is looked for, by the member `operation`.
COMMANDS = ("gc", "rewrap")
#: What is taken of a line, and nothing else: whoever can write the file can write anything there.
_MEMBERS = {
    **dict.fromkeys(("time", "outcome", "actor", "host", "digest", "error"), str),
    "count": int,
}
#: A line of ours is shorter than both.
_LINE_BYTES_MAX = 65_536
_TEXT_MAX = 256


def last_runs(files: Iterable[str]) -> dict[str, object]:
    """Give the last run of each command.

    Args:
        files: the paths of files in which lines of the audit log are.

    Returns:
        `files`, each with whether it could be read; `runs`, by command, None where there is none;
        `note`, what that means.
    """
    runs: dict[str, dict[str, object] | None] = dict.fromkeys(COMMANDS)
    read: dict[str, bool] = {}
    for path in files:
        try:
            for command, line in _runs(Path(path)):
                before = runs[command]
                if before is None or str(line.get("time")) >= str(before.get("time")):
                    runs[command] = {"file": path, **line}
            read[path] = True
        except OSError:
            read[path] = False
    if not read:
        note = (
            "audit_log names no file, so that these runs leave their lines on standard error alone."
        )
    elif not all(read.values()):
        note = "Some file could not be read; a run that is missing may stand there."
    else:
        note = "A run that is missing has left no line in these files, or in one moved away since."
    return {"files": read, "runs": runs, "note": note}


def _runs(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield each line of a whole run.

    Raises:
        OSError: it is no file that can be read.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        while data := file.readline(_LINE_BYTES_MAX):
            if b'"what": "run"' not in data:
                continue
            line = _parsed(data)
            if line.get("what") == "run" and line.get("operation") in COMMANDS:
                taken = {
                    name: line[name]
                    for name, kind in _MEMBERS.items()
                    if type(line.get(name)) is kind and len(str(line[name])) <= _TEXT_MAX
                }
                yield line["operation"], taken


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        line = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}
