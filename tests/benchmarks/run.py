"""Measure everything: this package beside the backends that it is compared with.

    uv run python tests/benchmarks/run.py [--quick] [--only SECTION …] [--out FILE]

Each section runs in a process of its own, and is in the results file as soon as it is done, so that
a run that is cut short loses one section at most, and one that fails leaves what was there. Then,
without `--out`, `report.py` makes the tables and plots of `docs/performance.md`. The quick form
measures nothing of worth: it runs everything on less, and checks that what is read is what was
written; its results go to `--out`, which it needs.
"""
# ruff: noqa: T201, PLC0415 - a program; Airflow is imported once its home is set

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402 - it is found there
from results import PATH, record  # noqa: E402

#: Sections, by the function that measures them; in this order.
SECTIONS = {
    "links": ("links", "measure"),
    "loopback": ("compare", "near"),
    "shaped link": ("compare", "far"),
    "plain client": ("compare", "plain"),
    "mapped": ("many", "measure"),
    "mapped inline": ("many", "inline"),
    "plain data": ("plain_data", "measure"),
    "calls": ("counts", "measure"),
    "cost": ("cost", "measure"),
    "worker": ("worker", "measure"),
    "profile": ("profiling", "measure"),
    "scale": ("scale", "measure"),
}
#: Those that are programs of their own, which record what they measure.
PROGRAMS = {
    "sealing": ("crypto.py",),
    "peak memory": ("memory.py",),
    # Each round has three tasks of each kind, on two versions of Airflow and two executors.
    "cold start": ("cold_start.py", "--rounds", "2"),
}


def main() -> int:
    """Run the sections that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = (*SECTIONS, *PROGRAMS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="SECTION", help=", ".join(names)
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    # The servers are stopped on the way out, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if wanted.quick and wanted.out is None:
        parser.error("--quick needs --out: what it measures is not for docs/performance.md")
    out = (wanted.out or PATH).resolve()
    if wanted.in_process:
        _measure(wanted.only, out, quick=wanted.quick)
        return 0
    failed = []
    started = time.monotonic()
    for group in _groups(wanted.only, quick=wanted.quick):
        print(f"{time.monotonic() - started:8.1f} s  {', '.join(group)}", flush=True)
        if _run(group, out, quick=wanted.quick):
            failed += group
    print(f"{time.monotonic() - started:8.1f} s  done", flush=True)
    if out == PATH:
        report.write(PATH)
    if failed:
        print(f"Failed, and not in the results: {', '.join(failed)}", flush=True)
    return bool(failed)


def _groups(names: list[str], *, quick: bool) -> list[list[str]]:
    """One process for each section; the quick form saves itself most of the starts."""
    ours = [name for name in names if name in SECTIONS]
    groups = [ours] if quick else [[name] for name in ours]
    return [group for group in groups if group] + [[name] for name in names if name in PROGRAMS]


def _run(names: list[str], out: Path, *, quick: bool) -> int:
    options = [*(["--quick"] if quick else []), "--out", out]
    if names[0] in PROGRAMS:
        file, *more = PROGRAMS[names[0]]
        program = [HERE / file, *more, *options]
    else:
        program = [Path(__file__), *options, "--in-process", "--only", *names]
    with subprocess.Popen([sys.executable, *program]) as child:
        try:
            return child.wait()
        except BaseException:
            # It has servers to stop.
            child.terminate()
            child.wait(30)
            raise


def _measure(names: list[str], out: Path, *, quick: bool) -> None:
    import peers
    from cloud import Cloud

    home = Path(tempfile.mkdtemp(prefix="benchmark-home-"))
    try:
        with Cloud() as cloud:
            # What Airflow and Google's libraries say of their own deprecations is not of interest.
            warnings.simplefilter("ignore")
            peers.configure(home)
            os.environ["PYTHONWARNINGS"] = "ignore"
            from bench import Bench

            bench = Bench(cloud, peers.backends(), quick)
            # What was imported is not looked at again by each collection, of which there are many.
            gc.freeze()
            for name in names:
                bench.section = name
                module, function = SECTIONS[name]
                found = getattr(importlib.import_module(module), function)(bench)
                _record(out, name, found)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _record(out: Path, name: str, found: object) -> None:
    if isinstance(found, list):
        found = {"rows": found}
    record(out, name, **found)


if __name__ == "__main__":
    sys.exit(main())
