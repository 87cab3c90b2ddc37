"""Text from wherever, such as ids and keys that tasks choose, in lines that people read."""

from __future__ import annotations

import json


def escaped(text: str) -> str:
    """Show what is no printable character by its code: a line stays one, a terminal obeys none."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)
