"""What the tasks of demo and census return: made from texts that are made up for one run.

Whoever checks a value makes it here again, and compares. The texts stand in a file that tasks read,
so that they are in no source, in no configuration and in no environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: The environment variable that says where the file is.
TEXTS_VARIABLE = "TRIAL_TEXTS"
#: The one text of the demo.
CARD = "card number"
RECORDS = 50_000
CARD_ROWS = 5_000
CHARGES_CENTS = (1_250, 990, 20_000)
#: One record, and one row of the frame, in so many holds the card number itself.
CARD_EVERY = 1_000
#: The text that is not sealed on purpose, in places where the search has to find it.
CONTROL = "control"
#: An XCom key that is never sealed, as those of operator links.
CLEAR_KEY = "_link_secure_xcom_census"

#: Long enough to be offloaded.
LINES = 2_000
FRAME_ROWS = 200

#: What processes mark that run no task: they may do so when the run is over.
MARKS_OF_DAEMONS = (
    *("callback of a run that fails", "notifier of a run that fails"),
    *("callback of a run that succeeds", "notifier of a run that succeeds"),
    *("callback of a killed task", "trigger", "trigger before a task", "listener of a run"),
)
#: What is logged right after values were, so that a log which breaks off is told from a clean one.
MARKS = (
    *("argument", "again (first try)", "again (second try)", "fails", "callback", "mapped"),
    *("holds", "holds bytes", "shell", "template", "deferring", "resumed", "killed"),
    *("sensor (first look)", "sensor (second look)", "tells", "listener of a task"),
    *MARKS_OF_DAEMONS,
)

#: The file among temporary ones that tells the task which kills itself that its log is written.
SEEN = "seen"

_TEXTS = (
    *("dict", "text six deep", "string", "list", "bytes", "multiple outputs", "mapped outputs"),
    *("task's state", "asset's state", CONTROL),
)
_NUMBERS = ("number in a dict", "number", "number among outputs", "mapped number")
#: Those that are in columns; where pandas and pyarrow are there.
_COLUMNS = ("DataFrame", "Series", "Arrow table", "array of texts")
_NUMBERS_IN_COLUMNS = ("number in a DataFrame", "number in a Series", "array of numbers")
_POLARS = "polars frame"

_DIGITS = 16
_START = datetime(2026, 1, 1, tzinfo=UTC)
_COUNTRIES = ("AT", "BR", "DE", "FR", "JP", "KE", "US")


def made_up_card(source: random.Random) -> str:
    """Draw a number that passes as a card's (Luhn), of no card network: it begins with 9."""
    digits = [9, *(source.randrange(10) for _ in range(_DIGITS - 2))]
    # Every second digit counts double, from the right; the check digit itself is the first.
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[::-2])
    check = -(sum(doubled) + sum(digits[-2::-2])) % 10
    return "".join(map(str, (*digits, check)))


def has_frames() -> bool:
    """Whether a DataFrame can travel here."""
    return find_spec("pandas") is not None and find_spec("pyarrow") is not None


def _has_polars() -> bool:
    return has_frames() and find_spec("polars") is not None


def _texts() -> dict[str, str]:
    texts: dict[str, str] = json.loads(Path(os.environ[TEXTS_VARIABLE]).read_text())
    return texts


def card() -> str:
    """Give the card number of this run's demo."""
    return _texts()[CARD]


def customer(card: str) -> dict[str, Any]:
    """Make a small dict."""
    return {"name": "Ada Example", "card": card, "expires": "2031-04", "limit_cents": 250_000}


def records(card: str) -> list[dict[str, Any]]:
    """Make a list of 50,000 records."""
    source = random.Random(card)  # noqa: S311 - made-up records, not secrets
    return [
        {
            "id": number,
            "at": (_START + timedelta(seconds=37 * number)).isoformat(),
            "card": card if number % CARD_EVERY == 0 else f"9{source.randrange(10**15):015}",
            "amount_cents": source.randrange(100, 50_000),
            "country": source.choice(_COUNTRIES),
        }
        for number in range(RECORDS)
    ]


def card_frame(card: str) -> pd.DataFrame:
    """Make a DataFrame with text, numbers, times with a zone and categories."""
    import pandas as pd  # noqa: PLC0415 - it may not be installed

    source = random.Random(card)  # noqa: S311 - made-up rows, not secrets
    rows = range(CARD_ROWS)
    return pd.DataFrame(
        {
            "card": [
                card if row % CARD_EVERY == 0 else f"9{source.randrange(10**15):015}"
                for row in rows
            ],
            "amount": [source.randrange(100, 50_000) / 100 for _ in rows],
            "at": pd.date_range(_START, periods=CARD_ROWS, freq="37s"),
            "country": pd.Categorical([source.choice(_COUNTRIES) for _ in rows]),
        }
    )


def charge(customer: Mapping[str, Any], amount_cents: int) -> dict[str, Any]:
    """Make what one mapped task returns."""
    return {"card": customer["card"], "amount_cents": amount_cents, "approved": True}


def settlement(charges: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Make what the reduce over the mapped tasks returns."""
    return {
        "cards": sorted({charge["card"] for charge in charges}),
        "charges": len(charges),
        "total_cents": sum(charge["amount_cents"] for charge in charges),
    }


def expected(card: str, task_id: str, map_index: int) -> object:
    """Make what a task of the demo's DAG returned."""
    if task_id == "charge":
        return charge(customer(card), CHARGES_CENTS[map_index])
    if task_id == "settle":
        return settlement([charge(customer(card), cents) for cents in CHARGES_CENTS])
    return {"customer": customer, "records": records, "frame": card_frame}[task_id](card)


def same(value: object, other: object) -> bool:
    """Whether two values are equal, type included."""
    if type(value) is not type(other):
        return False
    if has_frames():
        import pandas as pd  # noqa: PLC0415 - it may not be installed

        if isinstance(value, pd.DataFrame) and isinstance(other, pd.DataFrame):
            return value.equals(other)
    return value == other


def make_up() -> dict[str, str]:
    """Make up the texts of a census, by a name for each; numbers are written in digits."""
    texts = {name: f"canary-{secrets.token_hex(12)}" for name in _TEXTS}
    texts |= {name: str(10**15 + secrets.randbelow(9 * 10**15)) for name in _NUMBERS}
    if has_frames():
        columns = (*_COLUMNS, _POLARS) if _has_polars() else _COLUMNS
        texts |= {name: f"canary-{secrets.token_hex(12)}" for name in columns}
        texts |= {name: str(10**15 + secrets.randbelow(8 * 10**15)) for name in _NUMBERS_IN_COLUMNS}
    return texts


def mark(name: str) -> str:
    """Make the mark that stands in a task's log."""
    if name not in MARKS:
        raise ValueError(name)
    return f"secure-xcom-census: {name}."


def control() -> str:
    """Give the text that is not sealed."""
    return _texts()[CONTROL]


def record() -> dict[str, Any]:
    """Make a small dict, with a text deeper than Airflow's masker goes."""
    texts = _texts()
    deep = {"b": {"c": {"d": {"e": {"f": texts["text six deep"]}}}}}
    return {"text": texts["dict"], "number": int(texts["number in a dict"]), "a": deep}


def string() -> str:
    """Give a text."""
    return _texts()["string"]


def number() -> int:
    """Give a number of 16 digits, as a card has."""
    return int(_texts()["number"])


def binary() -> bytes:
    """Make bytes."""
    return _texts()["bytes"].encode()


def lines() -> list[str]:
    """Make a long list, with the text first, in the middle and last."""
    text = _texts()["list"]
    hashes = [hashlib.sha256(f"{text} {line}".encode()).hexdigest() for line in range(LINES)]
    return [text, *hashes[: LINES // 2], text, *hashes[LINES // 2 :], text]


def outputs() -> dict[str, Any]:
    """Make a dict of which each member is an XCom of its own."""
    texts = _texts()
    return {"first": texts["multiple outputs"], "second": int(texts["number among outputs"])}


def pieces() -> list[Any]:
    """Make what a task is mapped over."""
    texts = _texts()
    return [texts["mapped outputs"], int(texts["mapped number"])]


def frame() -> pd.DataFrame:
    """Make a DataFrame with a text and a number."""
    import pandas as pd  # noqa: PLC0415 - it may not be installed

    texts = _texts()
    return pd.DataFrame(
        {
            "text": [texts["DataFrame"], *(f"row {row}" for row in range(1, FRAME_ROWS))],
            "number": [int(texts["number in a DataFrame"]) + row for row in range(FRAME_ROWS)],
        }
    )


def columns() -> dict[str, Any]:
    """Make values of the sorts that hold columns, by XCom key: none where there are no frames."""
    if not has_frames():
        return {}
    import numpy as np  # noqa: PLC0415 - these may not be installed
    import pandas as pd  # noqa: PLC0415

    texts = _texts()
    pa = import_module("pyarrow")
    made: dict[str, Any] = {
        "series": pd.Series([texts["Series"], int(texts["number in a Series"])], dtype=object),
        "arrow": pa.table({"text": [texts["Arrow table"], None]}),
        "texts": np.array([texts["array of texts"], "row 2"]),
        "numbers": np.array([int(texts["array of numbers"]), 2]),
    }
    if _has_polars():
        import polars as pl  # noqa: PLC0415

        made["polars"] = pl.DataFrame({"text": [texts[_POLARS], "row 2"]})
    return made


def written_out(value: Any) -> str:  # noqa: ANN401 - of any library
    """Write a value out as whoever looks at all of it does."""
    for name in ("to_pydict", "to_dicts", "to_string", "tolist"):
        if hasattr(value, name):
            return str(getattr(value, name)())
    return str(value)


def state() -> dict[str, str]:
    """Make the state of a task."""
    return {"checkpoint": _texts()["task's state"]}


def asset_state() -> list[str]:
    """Make the state of an asset."""
    return [_texts()["asset's state"]]


def check(pulled: object, returned: object) -> None:
    """Check that what was pulled is what a task returned.

    Raises:
        RuntimeError: it is not.
    """
    if not same(pulled, returned):
        raise RuntimeError("What was pulled is not what was returned.")
