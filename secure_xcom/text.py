"""Text from wherever, such as ids and keys that tasks choose, in lines that people read."""

from __future__ import annotations

import json


def escaped(text: str, keep: str = "") -> str:
    """Show what is no printable character by its code: a line stays one, a terminal obeys none.

    Args:
        text: from wherever.
        keep: characters that stay as they are, such as a line's end.
    """
    return "".join(
        character if character.isprintable() or character in keep else json.dumps(character)[1:-1]
        for character in text
    )
