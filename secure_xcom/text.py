"""How things are shown: text from wherever, such as ids that tasks choose, and checksums.

And what may not be: a wrong value can be a secret that somebody put into the wrong place.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

#: How much of a wrong text a message shows, and how much of one that is nothing that is known.
_SHOWN_CHARACTERS_MAX = 120
_BEGINNING_CHARACTERS = 4
#: No longer text is looked at for mistakes.
_MENDED_CHARACTERS_MAX = 2048
#: Credentials and parameters of an address, and what a key or a token looks like.
_SECRETS = re.compile(
    r"(?P<whole>(?<=//)[^/@\s]+(?=@)|(?<=[?])[^\s\"']+|-----BEGIN.*)"
    r"|\b(?:eyJ|ya29\.|AIza)[\w.-]*"
    r"|\b[0-9A-Fa-f]{32,}\b"
    r"|(?=[\w+=-]*[0-9])(?=[\w+=-]*[a-z])(?=[\w+=-]*[A-Z])[\w+=-]{20,}",
    re.DOTALL,
)


class Mistake(NamedTuple):
    """A usual mistake in a text."""

    pattern: re.Pattern[str]
    #: What belongs there, as `re.sub` takes it; None: nobody can tell from the text.
    instead: str | Callable[[re.Match[str]], str] | None
    advice: str


class Meant(NamedTuple):
    """What was probably meant by a wrong value."""

    #: None: there is advice only.
    value: object
    advice: str

    def sentence(self, as_written: Callable[[Any], str]) -> str:
        """Propose it, written as the source of the wrong value has it."""
        if self.value is None:
            return f"{self.advice[0].upper()}{self.advice[1:]}."
        return f"Probably meant: {as_written(self.value)} ({self.advice})."


def meant(text: str, mistakes: Iterable[Mistake], is_right: Callable[[str], bool]) -> Meant | None:
    """Give what is right, once all mistakes are mended, or why it cannot be given.

    Args:
        text: what was found.
        mistakes: those that are usual, each of which gets the text as those before have left it.
        is_right: whether a text is allowed.
    """
    advice: list[str] = []
    if len(text) > _MENDED_CHARACTERS_MAX:
        return None
    for mistake in mistakes:
        if mistake.instead is None:
            if mistake.pattern.search(text):
                return Meant(None, mistake.advice)
            continue
        mended = mistake.pattern.sub(mistake.instead, text)
        if mended != text:
            text = mended
            advice.append(mistake.advice)
    if advice and is_right(text) and without_secrets(text) == text:
        return Meant(text, ", ".join(advice))
    return None


def without_secrets(text: str) -> str:
    """Leave out of a text what looks like a key, a token or a password, and its end if it is long.

    It cannot know a short password from a name: show what is nothing known by `beginning`.
    """
    shown = _SECRETS.sub(
        lambda found: "…" if found["whole"] else f"{found[0][:_BEGINNING_CHARACTERS]}…", text
    )
    if len(shown) > _SHOWN_CHARACTERS_MAX:
        return f"{shown[:_SHOWN_CHARACTERS_MAX]}…"
    return shown


def beginning(text: str) -> str:
    """Show so much of a text that whoever wrote it knows it again, and nobody else has it."""
    return f"{text[: min(_BEGINNING_CHARACTERS, len(text) // 2)]}… ({len(text)} characters)"


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


def type_name(value: object) -> str:
    """The type of a value as a row or a message shows it, such as `builtins.dict`."""
    kind = type(value)
    # As `type` itself has them: a metaclass may say something else, or raise.
    module, name = (type.__dict__[name].__get__(kind) for name in ("__module__", "__qualname__"))
    return f"{module if isinstance(module, str) else '?'}.{name}"
