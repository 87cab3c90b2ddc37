"""Which names a store takes: those that lead nowhere out of it.

What objects are called is the format's matter (`format/names.py`).
"""

from __future__ import annotations

import re

#: The longest name. With the longest prefix of a bucket (`uris.PREFIX_CHARACTERS_MAX`) and a folder
#: for states behind it, it stays within Cloud Storage's 1,024 bytes.
NAME_CHARACTERS_MAX = 800

_PART = r"(?!\.)[A-Za-z0-9_.~%-]{1,255}"
_NAME = re.compile(rf"{_PART}(?:/{_PART})*")


def is_name(name: str) -> bool:
    """Whether a name has a form that stays below the store it is used in, and is not hidden."""
    return len(name) <= NAME_CHARACTERS_MAX and _NAME.fullmatch(name) is not None
