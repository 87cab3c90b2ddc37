"""Checks the versions of libraries: some are known to be slow or broken under this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import google_crc32c

from secure_xcom.cli.doctor.check import Check, failed, passed, warned

#: The lowest sound version, and why it is not a lower one.
_LOWEST = {
    "ormsgpack": (
        (1, 13, 1),
        "a crafted value crashes the process: an array that claims more members than it has",
    ),
    "pyarrow": (
        (14, 0, 1),
        "reading a stream can run code that the stream brings (CVE-2023-47248)",
    ),
}
#: https://github.com/googleapis/google-cloud-python/issues/15015, fixed by pull request 16579.
_SLOW_API_CORE = ((2, 28, 0), (2, 30, 2))
#: Libraries of frames, which travel as Arrow.
_FRAMES = ("pandas", "polars")
_SHOWN = (
    "apache-airflow",
    "cryptography",
    "google-api-core",
    "google-cloud-kms",
    "google-cloud-storage",
    "google-crc32c",
    "ormsgpack",
    "pyarrow",
)


def installed(name: str) -> str:
    """Give the version of a distribution; empty where there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def checks(
    find: Callable[[str], str] = installed, crc32c: str = google_crc32c.implementation
) -> Iterator[Check]:
    """Look at what is installed.

    Args:
        find: gives the version of a distribution.
        crc32c: how google-crc32c computes, `c` or `python`.
    """
    sound = True
    for name, (lowest, why) in _LOWEST.items():
        found = find(name)
        if found and _numbers(found) < lowest:
            sound = False
            needed = ".".join(map(str, lowest))
            yield failed("libraries", f"{name} {found}: {why}.", f"pip install '{name}>={needed}'")
    found = find("google-api-core")
    if found and _SLOW_API_CORE[0] <= _numbers(found) <= _SLOW_API_CORE[1]:
        sound = False
        yield warned(
            "libraries",
            f"google-api-core {found}: versions 2.28.0 to 2.30.2 look through every installed "
            "package when they are imported (importlib.metadata.packages_distributions), which in "
            "an Airflow environment takes seconds, in each task that calls the key or the bucket.",
            "pip install 'google-api-core>=2.30.3' (or <2.28)",
        )
    frames = [name for name in _FRAMES if find(name)]
    if frames and not find("pyarrow"):
        sound = False
        yield warned(
            "libraries",
            f"{' and '.join(frames)} is installed, and pyarrow is not: a task that returns a "
            "DataFrame fails, and so does one that pulls one.",
            "pip install pyarrow (14.0.1 or later), in every Airflow component",
        )
    if crc32c != "c":
        sound = False
        yield warned(
            "libraries",
            "google-crc32c computes in Python, without its C part: checksums of large values take "
            "hundreds of times as long.",
            "Install a google-crc32c that has a wheel for this Python and platform.",
        )
    if sound:
        listed = ", ".join(f"{name} {found}" for name in _SHOWN if (found := find(name)))
        yield passed("libraries", f"no version is known to be slow or broken: {listed}")


def _numbers(text: str) -> tuple[int, ...]:
    """The release of a version, such as (2, 30, 0) for 2.30.0rc1 or 2.30."""
    numbers: list[int] = []
    for part in text.split(".")[:3]:
        digits = ""
        for character in part:
            if not character.isdigit():
                break
            digits += character
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return (*numbers, 0, 0, 0)[:3]
