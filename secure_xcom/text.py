"""How things are shown: text from wherever, such as ids that tasks choose, and checksums."""

from __future__ import annotations

import base64
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


def crc32c_base64(crc32c: int) -> str:
    """A CRC-32C as rows and Cloud Storage have it: four bytes, big-endian, in base64."""
    return base64.b64encode(crc32c.to_bytes(4, "big")).decode()
