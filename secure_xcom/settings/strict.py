"""The settings that `require_cloud_kms` and `strict` refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from secure_xcom.uris import CLOUD_KMS, scheme


def contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each setting that these two refuse.

    Args:
        values: the settings that are set, by name; None for those that are wrong anyway.
    """
    strict = values.get("strict") is True
    if strict or values.get("require_cloud_kms") is True:
        because = "strict" if strict else "require_cloud_kms"
        keks = {
            "kek_uri": (values.get("kek_uri"),),
            "trusted_keks": values.get("trusted_keks") or (),
        }
        for name, uris in keks.items():
            if any(uri is not None and scheme(uri) != CLOUD_KMS for uri in uris):
                yield f"{name} has a key that is no Cloud KMS key, and {because} refuses those"
    if strict:
        yield from _against_strict(values)


def _against_strict(values: Mapping[str, Any]) -> Iterator[str]:
    needed = {
        "require_cloud_kms": True,
        "unsealed_reads": "deny",
        "legacy_reads": (),
        "mask_pulled_values": True,
        "log_return_values": False,
    }
    for name, allowed in needed.items():
        # What is not set has a default that strict is content with, or implies.
        if values.get(name, allowed) not in (allowed, None):
            yield f"{name} is set to what strict refuses; leave it out"
    if values.get("audit_log", (None,)) == ():
        yield "audit_log is empty, and strict needs a line for each value"
    if values.get("instance", "") == "":
        yield "instance is not set, and strict needs the deployment's name in every sealed value"
    if "" in (values.get("trusted_instances") or ()):
        yield "trusted_instances has the empty name, and strict refuses values without a name"
