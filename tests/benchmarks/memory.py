"""How much memory a push and a pull take, besides the value itself.

    uv run python tests/benchmarks/memory.py [--out FILE] [--quick]

Each is done once, to and from a fake Cloud Storage, in a child process of its own that has pushed
and pulled a small value of the same kind before. Its largest resident size is set back before, read
after, and what was resident before is taken off: for a push that includes the value, so that what
is left is what the push took; a pull begins without it. 512 MiB of random bytes do not compress,
the table does a little, the list does.
"""
# ruff: noqa: T201, PLC0415 - a program; a child imports what its value needs

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
BUCKET = "xcom"
MIB = 2**20
#: What a push may take beyond the encoded form of a value, and a pull beyond that and the value.
ROOM_MIB = 16
#: Said where a target does not hold.
WHY = "Beside the encoded form, 8 MiB are held until an object is known to be longer."
KINDS = {"bytes": "bytes, random", "table": "Arrow table", "list": "list of int"}


def main() -> None:
    """Run it, or one of its children."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="8 MiB")
    parser.add_argument("--child", nargs=3, metavar=("VERB", "KIND", "BYTES"))
    wanted = parser.parse_args()
    if wanted.child:
        verb, kind, length = wanted.child
        print(json.dumps({"push": _push, "pull": _pull}[verb](kind, int(length))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        server = _serve(Path(scratch))
        try:
            figures = _measure((8 if wanted.quick else 512) * MIB)
        finally:
            server.terminate()
            server.wait(20)
    _report(figures, wanted.out)


def _serve(scratch: Path) -> subprocess.Popen[bytes]:
    ready = scratch / "ready"
    program = TESTS / "servers" / "fault_proxy.py"
    server = subprocess.Popen(
        [sys.executable, program, "--ready-file", ready, "--bucket", BUCKET],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not ready.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            raise SystemExit("The storage did not start.")
        time.sleep(0.05)
    told = json.loads(ready.read_text())
    # Straight to the storage: the proxy has no part in this.
    os.environ |= {
        name: told["server_url"] if value == told["url"] else value
        for name, value in told["environment"].items()
    }
    os.environ["SECURE_XCOM_BENCHMARK_KEK"] = str(scratch / "kek")
    return server


def _measure(length_bytes: int) -> list[dict[str, Any]]:
    from secure_xcom.keys.local import create_key_file

    create_key_file(Path(os.environ["SECURE_XCOM_BENCHMARK_KEK"]))
    figures = []
    for kind, name in KINDS.items():
        pushed = _child("push", kind, length_bytes, "")
        pulled = _child("pull", kind, length_bytes, json.dumps(pushed["row"]))
        if pulled["digest"] != pushed["digest"]:
            raise SystemExit(f"What was pulled is not what was pushed: {name}.")
        figures.append({"kind": kind, **pushed, "pull_bytes": pulled["peak_bytes"]})
    return figures


def _child(verb: str, kind: str, length_bytes: int, row: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", verb, kind, str(length_bytes)],
        input=row,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"The child that was to {verb} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _push(kind: str, length_bytes: int) -> dict[str, Any]:
    from secure_xcom.codecs import encode

    stack, place = _warm(kind)
    before = _resident("VmRSS")
    value = _value(kind, length_bytes)
    value_bytes = _resident("VmRSS") - before
    _set_back()
    before = _resident("VmRSS")
    row = stack.put(value, place)
    peak_bytes = _resident("VmHWM") - before
    return {
        "row": row,
        "digest": _digest(kind, value),
        "value_bytes": value_bytes,
        "encoded_bytes": encode(value).raw_bytes,
        "sealed_bytes": row["length_bytes"],
        "push_bytes": peak_bytes,
    }


def _pull(kind: str, length_bytes: int) -> dict[str, Any]:
    del length_bytes
    from secure_xcom.model import Expected

    stack, place = _warm(kind)
    row = json.load(sys.stdin)
    _set_back()
    before = _resident("VmRSS")
    value = stack.get(row, Expected.exactly(place)).value
    peak_bytes = _resident("VmHWM") - before
    return {"digest": _digest(kind, value), "peak_bytes": peak_bytes}


def _warm(kind: str) -> tuple[Any, Any]:
    from secure_xcom.model import Coordinate, Expected
    from secure_xcom.settings import load
    from secure_xcom.stack import build

    key_file = os.environ["SECURE_XCOM_BENCHMARK_KEK"]
    settings = load(
        {"kek_uri": f"local-kek://{key_file}", "store_uri": f"gs://{BUCKET}"}, None, None
    )
    stack = build(settings)
    place = Coordinate("d", "r", "t", -1, "return_value")
    stack.get(stack.put(_value(kind, 2_000_000), place), Expected.exactly(place))
    return stack, place


def _value(kind: str, length_bytes: int) -> Any:
    if kind == "bytes":
        return os.urandom(length_bytes)
    import numpy as np

    generator = np.random.default_rng(1)
    if kind == "list":
        # Each takes 8 bytes in the list and 32 of its own.
        return generator.integers(2**32, 2**40, length_bytes // 40).tolist()
    import pyarrow as pa

    rows = length_bytes // 64
    return pa.table({f"c{n}": generator.standard_normal(rows) for n in range(8)})


def _digest(kind: str, value: Any) -> str:
    if kind == "list":
        import numpy as np

        value = np.array(value, np.int64)
    if kind == "table":
        return hashlib.sha256(
            b"".join(bytes(value[n].combine_chunks().buffers()[1]) for n in value.column_names)
        ).hexdigest()
    return hashlib.sha256(value).hexdigest()


def _resident(name: str) -> int:
    """`VmRSS`, what is resident now, or `VmHWM`, the most that was (what `ru_maxrss` says)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


def _set_back() -> None:
    """Let the largest resident size begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def _report(figures: list[dict[str, Any]], out: Path | None) -> None:
    from results import PATH, record, target

    rows, targets = [], []
    for one in figures:
        mib = {name: one[name] / MIB for name in one if name.endswith("_bytes")}
        kind = KINDS[one["kind"]]
        rows.append(
            {
                "value": kind,
                "value MiB": mib["value_bytes"],
                "encoded MiB": mib["encoded_bytes"],
                "sealed MiB": mib["sealed_bytes"],
                "push takes MiB": mib["push_bytes"],
                "pull takes MiB": mib["pull_bytes"],
            }
        )
        # Bytes and Arrow are their own encoded form.
        encoded = mib["encoded_bytes"] if one["kind"] == "list" else 0.0
        for verb, aim in (
            ("push", encoded + ROOM_MIB),
            ("pull", mib["value_bytes"] + mib["encoded_bytes"] + ROOM_MIB),
        ):
            targets.append(
                target(
                    f"peak memory of a {verb}, {kind}, {mib['value_bytes']:.0f} MiB",
                    f"≤ {aim:.0f} MiB" + (" above the value" if verb == "push" else ""),
                    f"{mib[verb + '_bytes']:.1f} MiB",
                    holds=mib[verb + "_bytes"] <= aim,
                    why="" if mib[verb + "_bytes"] <= aim else WHY,
                )
            )
        print(
            *(f"{name}: {cell:.1f}" if name != "value" else cell for name, cell in rows[-1].items())
        )
    for row in targets:
        print(f"{row['what']:52} {row['target']:28} {row['measured']:>12} {row['holds']}")
    note = (
        "Largest resident size of a child process, less what was resident before; a pull begins "
        "without the value, so what it takes has the value in it. The encoded form of bytes and of "
        "a table is their own memory, so their push may take no more than 16 MiB."
    )
    record(out or PATH, "peak memory", rows, targets=targets, notes=[note])


if __name__ == "__main__":
    main()
