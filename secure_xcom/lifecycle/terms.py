"""What the commands promise, in these words, and their bounds unless told otherwise."""

from __future__ import annotations

#: The least age of an object that is collected, without a flag of its own.
GRACE_SECONDS = 86_400
#: The largest part of all objects that is collected at once without a word.
SHARE = 0.5

#: How long Cloud KMS may take until a new primary version is used everywhere: a minute as a rule,
#: "several hours" in exceptional cases (https://cloud.google.com/kms/docs/consistency), once three.
SPREAD_SECONDS = 21_600

SCAN = "Counts at the time that is named; the version hint is not authenticated."
GC = (
    "Removed only objects that no row named at two readings. It reclaims space. What it removes, "
    "a restored database can no longer open, except by soft delete."
)
REWRAP = (
    "No answer to a data key that leaked, nor to a KEK that others could encrypt under: it would "
    "carry what they forged to the new key."
)
