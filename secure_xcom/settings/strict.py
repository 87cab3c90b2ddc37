"""The settings that `require_cloud_kms` and `strict` refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from secure_xcom.uris import CLOUD_KMS, scheme


def contradictions(
    values: Mapping[str, Any], origin: Callable[[str], str] = lambda _: ""
) -> Iterator[str]:
    """A sentence for each setting that these two refuse.

    Args:
        values: the settings that are set, by name; None for those that are wrong anyway.
        origin: says where a setting comes from; empty where it does not matter.
    """

    def named(name: str) -> str:
        found = origin(name)
        return f"{name}, from {found}," if found else name

    strict = values.get("strict") is True
    if strict or values.get("require_cloud_kms") is True:
        because = "strict" if strict else "require_cloud_kms"
        by = f"{because} (from {origin(because)})" if origin(because) else because
        keks = {
            "kek_uri": (values.get("kek_uri"),),
            "trusted_keks": values.get("trusted_keks") or (),
        }
        for name, uris in keks.items():
            for uri in uris:
                if uri is not None and scheme(uri) != CLOUD_KMS:
                    yield f"{named(name)} has {uri}, which is no Cloud KMS key, and {by} refuses it"
        if strict:
            yield from _against_strict(values, named, by)


def _against_strict(
    values: Mapping[str, Any], named: Callable[[str], str], by: str
) -> Iterator[str]:
    needed = {
        "require_cloud_kms": True,
        "unsealed_reads": "deny",
        "legacy_reads": (),
        "mask_pulled_values": True,
        "log_return_values": False,
    }
    for name, allowed in needed.items():
        # What is not set has a default that strict is content with, or implies.
        held = values.get(name, allowed)
        if held not in (allowed, None):
            shown = held if isinstance(held, str) else json.dumps(held)
            yield f"{named(name)} is {shown}, and {by} refuses it; leave it out"
    if values.get("instance", "") == "":
        yield f"instance is not set, and {by} needs the deployment's name in every sealed value"
    if "" in (values.get("trusted_instances") or ()):
        yield (
            f"{named('trusted_instances')} has the empty name, and {by} refuses values without a "
            "name"
        )
