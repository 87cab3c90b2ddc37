"""What the demo's tasks return: made from one made-up card number, and from nothing else.

The DAG and the process that reads its values back both make them here, so that what comes back
can be compared with what was returned.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RECORDS = 50_000
FRAME_ROWS = 5_000
CHARGES_CENTS = (1_250, 990, 20_000)
#: One record, and one row of the frame, in so many holds the card number itself.
CARD_EVERY = 1_000

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


def frame(card: str) -> pd.DataFrame:
    """Make a DataFrame with text, numbers, times with a zone and categories."""
    import pandas as pd  # noqa: PLC0415 - it may not be installed

    source = random.Random(card)  # noqa: S311 - made-up rows, not secrets
    rows = range(FRAME_ROWS)
    return pd.DataFrame(
        {
            "card": [
                card if row % CARD_EVERY == 0 else f"9{source.randrange(10**15):015}"
                for row in rows
            ],
            "amount": [source.randrange(100, 50_000) / 100 for _ in rows],
            "at": pd.date_range(_START, periods=FRAME_ROWS, freq="37s"),
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
    return {"customer": customer, "records": records, "frame": frame}[task_id](card)


def same(one: object, other: object) -> bool:
    """Whether two values are equal, type included."""
    if type(one) is not type(other):
        return False
    if has_frames():
        import pandas as pd  # noqa: PLC0415 - it may not be installed

        if isinstance(one, pd.DataFrame) and isinstance(other, pd.DataFrame):
            return one.equals(other)
    return one == other
