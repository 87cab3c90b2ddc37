"""The names that stand in the results, apart from what it takes to measure."""

NEAR, FAR, COUNTED = "loopback", "20 ms, 100 MB/s", "counted"

OURS, OURS_HELD = "secure_xcom", "secure_xcom, key held"
STOCK, PLAIN, GZIP, WRITTEN = "stock", "common-io", "common-io, gzip", "hand-written"
#: Those that put values into a bucket in clear.
PEERS = (PLAIN, GZIP, WRITTEN)
