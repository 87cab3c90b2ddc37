"""What the census looks for, and the values that its tasks make of it.

Every text is made up for one run. Tasks read them from a file, so that they are in no source, in no
configuration and in no environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secure_xcom.trial.values import has_frames, same

if TYPE_CHECKING:
    import pandas as pd

#: The environment variable that says where the file is.
FILE = "SECURE_XCOM_CENSUS"
#: The text that is not sealed on purpose, in places where the look has to find it.
CONTROL = "control"
#: An XCom key that is never sealed, as those of operator links.
CONTROL_KEY = "_link_secure_xcom_census"

#: Long enough to be offloaded.
LINES = 2_000
FRAME_ROWS = 200

#: What is logged right after values were, so that a log which breaks off is told from a clean one.
MARKS = (
    *("argument", "again (first try)", "again (second try)", "fails", "callback", "mapped"),
    *("holds", "holds bytes", "shell", "template", "deferring", "resumed"),
)

_TEXTS = (
    *("dict", "text six deep", "string", "list", "bytes", "multiple outputs", "mapped outputs"),
    CONTROL,
)
_NUMBERS = ("number in a dict", "number", "number among outputs", "mapped number")
_FRAME = ("DataFrame", "number in a DataFrame")


def make() -> dict[str, str]:
    """Make up the texts of one run, by a name for each; numbers are written in digits."""
    texts = {name: f"canary-{secrets.token_hex(12)}" for name in _TEXTS}
    texts |= {name: str(10**15 + secrets.randbelow(9 * 10**15)) for name in _NUMBERS}
    if has_frames():
        texts[_FRAME[0]] = f"canary-{secrets.token_hex(12)}"
        texts[_FRAME[1]] = str(10**15 + secrets.randbelow(8 * 10**15))
    return texts


def mark(name: str) -> str:
    """Make the mark that stands in a task's log."""
    if name not in MARKS:
        raise ValueError(name)
    return f"secure-xcom-census: {name}."


def _made() -> dict[str, str]:
    made: dict[str, str] = json.loads(Path(os.environ[FILE]).read_text())
    return made


def control() -> str:
    """Give the text that is not sealed."""
    return _made()[CONTROL]


def record() -> dict[str, Any]:
    """Make a small dict, with a text deeper than Airflow's masker goes."""
    made = _made()
    deep = {"b": {"c": {"d": {"e": {"f": made["text six deep"]}}}}}
    return {"text": made["dict"], "number": int(made["number in a dict"]), "a": deep}


def string() -> str:
    """Give a text."""
    return _made()["string"]


def number() -> int:
    """Give a number of 16 digits, as a card has."""
    return int(_made()["number"])


def octets() -> bytes:
    """Make bytes."""
    return _made()["bytes"].encode()


def lines() -> list[str]:
    """Make a long list, with the text first, in the middle and last."""
    text = _made()["list"]
    hashes = [hashlib.sha256(f"{text} {line}".encode()).hexdigest() for line in range(LINES)]
    return [text, *hashes[: LINES // 2], text, *hashes[LINES // 2 :], text]


def outputs() -> dict[str, Any]:
    """Make a dict of which each member is an XCom of its own."""
    made = _made()
    return {"first": made["multiple outputs"], "second": int(made["number among outputs"])}


def pieces() -> list[Any]:
    """Make what a task is mapped over."""
    made = _made()
    return [made["mapped outputs"], int(made["mapped number"])]


def frame() -> pd.DataFrame:
    """Make a DataFrame with a text and a number."""
    import pandas as pd  # noqa: PLC0415 - it may not be installed

    made = _made()
    return pd.DataFrame(
        {
            "text": [made[_FRAME[0]], *(f"row {row}" for row in range(1, FRAME_ROWS))],
            "number": [int(made[_FRAME[1]]) + row for row in range(FRAME_ROWS)],
        }
    )


def check(pulled: object, returned: object) -> None:
    """Check that what was pulled is what a task returned.

    Raises:
        RuntimeError: it is not.
    """
    if not same(pulled, returned):
        raise RuntimeError("What was pulled is not what was returned.")
