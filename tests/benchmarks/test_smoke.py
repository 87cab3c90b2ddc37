"""The benchmarks run, and what they read is right; their figures are for a person to look at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_mapped():
    program = Path(__file__).parent / "mapped.py"
    options = ("--count", "6", "--peer-count", "2", "--value-bytes", "2000", "--json")
    done = subprocess.run(
        [sys.executable, program, *options], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["count"], figures["peer_count"]) == (6, 2)
    assert figures["ratio"] > 0
