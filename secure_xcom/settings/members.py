"""Reads the Variable's JSON object, and says where a text stops being one."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping

from secure_xcom.settings.table import BY_NAME

_EXAMPLE = 'Such as {"threshold_bytes": 65536}.'
#: What stands where JSON ends, and what to say of it.
_MISTAKES = (
    (re.compile("['\u2018-\u201f]"), 'a quote of another kind: JSON has " around names and texts'),
    (re.compile(r",\s*[}\]]"), "a comma behind the last member: leave it out"),
    (re.compile(r"(?:True|False)\b"), "{0}: JSON has true and false"),
    (re.compile(r"None\b"), "None: JSON has null, and no setting takes it"),
    (re.compile("#|//|/[*]"), "a comment: JSON has none"),
    (re.compile(r"[A-Za-z_]+\s*[:=]"), 'a name without quotes: JSON has " around it'),
)
#: What stands behind the name of an option that is a command's output, or a secret.
_SUFFIXES = re.compile(r"_(?:cmd|secret)$")


class _Twice(ValueError):  # noqa: N818 - raised and handled in this module only
    """A name stands twice in an object."""


def members(variable: Mapping[str, object] | str | None) -> tuple[Mapping[str, object], str]:
    """Give the Variable's members, or none of them and what is wrong, as sentences."""
    parsed: object = {} if variable is None else variable
    reason = _EXAMPLE
    if isinstance(parsed, str):
        try:
            parsed = json.loads(parsed, object_pairs_hook=_unique)
        except json.JSONDecodeError as error:
            parsed, reason = None, _where(error)
        except _Twice as error:
            parsed, reason = None, f"{error}. {_EXAMPLE}"
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, str) and parsed.lstrip().startswith("{"):
            reason = "The whole object stands in quotes: leave them out."
    if isinstance(parsed, Mapping) and all(isinstance(name, str) for name in parsed):
        return parsed, ""
    return {}, reason


def without_suffix(name: str) -> str:
    """The setting that a name with `_cmd` or `_secret` behind it is about; empty if it is none."""
    setting = _SUFFIXES.sub("", name)
    return setting if setting != name and setting in BY_NAME else ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        # Of other names nobody knows what they hold.
        raise _Twice(f"{twice if twice in BY_NAME else 'A name'} stands twice")
    return found


def _where(error: json.JSONDecodeError) -> str:
    """Say where a text is not JSON and how to mend it, and show nothing of it."""
    if not error.doc.strip():
        return f"It is empty: delete it, or write {{}}. {_EXAMPLE}"
    before = error.doc[: error.pos].rstrip()
    # Some versions of Python say where the comma is, and some where the object ends behind it.
    begin = len(before) - 1 if before.endswith(",") else error.pos
    line, column = error.doc.count("\n", 0, begin) + 1, begin - error.doc.rfind("\n", 0, begin)
    place, rest = f"line {line}, column {column}", error.doc[begin:]
    if not rest.strip():
        return f"It ends at {place}, before it is complete."
    for pattern, advice in _MISTAKES:
        if found := pattern.match(rest) or pattern.match(error.doc, error.pos):
            return f"At {place} there is {advice.format(found[0].strip())}."
    return f"At {place}: {error.msg.lower()}. {_EXAMPLE}"
