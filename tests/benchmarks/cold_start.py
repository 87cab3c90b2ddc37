"""What the first push and the first pull cost a task, which is a freshly forked process.

    uv run python tests/benchmarks/cold_start.py [--airflow 2.11.2 3.3.2] [--rounds 5] [--out FILE]

For each Airflow and executor, the backends take turns: their processes are forked in the chain
that Airflow forks them in (`cold_start_inside.py`), and each task says the CPU and the time from
its fork to the row of its push, or to the value of its pull. The table has medians; `added` is what
the backend adds to the stock one. Keys are wrapped by the test KMS, over gRPC with TLS and a token
of a metadata server, as on Composer, or (`--credentials key-file`) one that the process signs
itself with a service account's key; objects go to the test storage without either, for all alike.
Then, what importing Airflow and calling its command line cost with each backend configured.
"""
# ruff: noqa: T201 - a program

from __future__ import annotations

import argparse
import http.server
import json
import os
import resource
import statistics
import sys
import tempfile
import threading
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import results
from cloud import BUCKET, BUCKET_VARIABLE, KEK_URI, Cloud

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support.environments import DEFAULT, Home, new_home, provide  # noqa: E402 - it is found there

OURS, STOCK, COMMON_IO = "secure_xcom", "stock", "common-io, gcsfs"
WRITTEN, WRITTEN_TOP = "hand-written", "hand-written, hook imported at the top"
BACKENDS = {
    STOCK: "",
    OURS: "secure_xcom.airflow.backend.SecureXComBackend",
    COMMON_IO: "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend",
    WRITTEN: "hand_written.Lazy",
    WRITTEN_TOP: "hand_written_top.Early",
}
THRESHOLD_BYTES = 49_152
ANONYMOUS = {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "p"}}
SETTINGS = {
    "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
    "AIRFLOW__SECURE_XCOM__KEK_URI": KEK_URI,
    "AIRFLOW__SECURE_XCOM__STORE_URI": f"gs://{BUCKET}/ours",
    "AIRFLOW__SECURE_XCOM__THRESHOLD_BYTES": str(THRESHOLD_BYTES),
    "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"gs://{BUCKET}/common-io",
    "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": str(THRESHOLD_BYTES),
    "AIRFLOW_VAR_SECURE_XCOM": "{}",
    f"AIRFLOW_VAR_{BUCKET_VARIABLE}": BUCKET,
    "AIRFLOW_CONN_GOOGLE_CLOUD_STORAGE_DEFAULT": json.dumps(ANONYMOUS),
    # Or gcsfs looks for kinds of buckets that the server does not have, at its own cost.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    "PYTHONPATH": str(HERE),
    "PYTHONWARNINGS": "ignore",
}
COMMANDS = (
    ("import airflow", ("python", "-c", "import airflow")),
    ("airflow --help", ("airflow", "--help")),
    ("airflow db migrate", ("airflow", "db", "migrate")),
)

Figures = dict[tuple[str, ...], list[float]]


def main() -> None:
    """Run it."""
    wanted = _wanted()
    figures: Figures = defaultdict(list)
    commands: Figures = defaultdict(list)
    with Cloud(), _metadata() as address, tempfile.TemporaryDirectory() as scratch:
        if wanted.credentials == "metadata":
            del os.environ["GOOGLE_APPLICATION_CREDENTIALS"]
            os.environ |= {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}
        homes = {
            name: new_home(provide(name), Path(scratch) / name, SETTINGS) for name in wanted.airflow
        }
        for _ in range(wanted.rounds):
            for airflow, home in homes.items():
                for backend in wanted.backends:
                    for executor in wanted.executors:
                        _chain(home, executor, backend, wanted.tasks, (airflow,), figures)
                    if not wanted.no_commands:
                        _commands(home, backend, (airflow,), commands)
    rows = _rows(figures, wanted.backends)
    _print(rows)
    command_rows = [
        {"airflow": airflow, "command": command, "backend": backend}
        | {"CPU ms": statistics.median(figure)}
        for (airflow, command, backend), figure in sorted(commands.items())
    ]
    _print(command_rows)
    targets = _targets(rows)
    for one in targets:
        print(f"{one['what']}: {one['measured']} ({one['target']}) {'' if one['holds'] else 'NOT'}")
    if wanted.out:
        results.record(wanted.out, "cold start", rows, targets=targets, notes=NOTES)
        if command_rows:
            results.record(wanted.out, "cold start: commands", command_rows)


def _wanted() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--airflow", nargs="+", default=["2.11.2", DEFAULT])
    parser.add_argument("--executors", nargs="+", default=["local", "celery"])
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS), choices=BACKENDS)
    parser.add_argument("--credentials", choices=("metadata", "key-file"), default="metadata")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=3, help="of each kind, in each round")
    parser.add_argument("--no-commands", action="store_true")
    parser.add_argument("--out", type=Path, help="a results file to record it in")
    parser.add_argument("--quick", action="store_true", help="one of everything, to see it run")
    wanted = parser.parse_args()
    if wanted.quick:
        wanted.airflow, wanted.executors, wanted.no_commands = [DEFAULT], ["local"], True
        wanted.rounds = wanted.tasks = 1
    return wanted


NOTES = [
    (
        "The processes are forked as the LocalExecutor and a Celery worker fork them, with what "
        "those import before, but by the benchmark: no scheduler and no broker run."
    ),
    (
        "CPU is user and system time of the task's process from its fork on, all threads "
        "together; added is what the backend adds to the stock one's median."
    ),
    (
        "The hand-written backend that imports its hook at the top pays for it in every process "
        "that imports the backend, calls of the command line among them."
    ),
]

WHY = (
    "This peer's imports are paid before the fork, and by every call of the command line; what is "
    "left of it is one request in clear, without credentials. What is left of ours is a gRPC "
    "channel with TLS, credentials, and a call of Cloud KMS."
)


def _chain(  # noqa: PLR0913, PLR0917 - what, how often, and where to put it
    home: Home, executor: str, backend: str, tasks: int, key: tuple[str, ...], figures: Figures
) -> None:
    program = (HERE / "cold_start_inside.py", executor, str(tasks))
    done = home.run("python", *program, env=_backend(backend))
    for one in json.loads(done.stdout.splitlines()[-1]):
        where = (*key, executor, one["placement"], one["verb"], backend)
        figures[*where, "cpu"].append(one["cpu_ms"])
        figures[*where, "wall"].append(one["wall_ms"])


def _commands(home: Home, backend: str, key: tuple[str, ...], figures: Figures) -> None:
    for name, command in COMMANDS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        home.run(*command, env=_backend(backend))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        figures[*key, name, backend].append(spent * 1000)


def _backend(name: str) -> dict[str, str]:
    """The environment of a process; `Cloud` has led this one's to the test servers."""
    names = {"STORAGE_EMULATOR_HOST"}
    if name == OURS:
        # The peers need no credentials here, and would spend time on them.
        names |= {"grpc_proxy", "no_grpc_proxy", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"}
        names |= {"GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GCE_METADATA_IP"}
    backend = {"AIRFLOW__CORE__XCOM_BACKEND": BACKENDS[name]} if BACKENDS[name] else {}
    return backend | {name: os.environ[name] for name in names & set(os.environ)}


@contextmanager
def _metadata() -> Iterator[str]:
    """A metadata server, as every machine of Google's has one, that gives out tokens."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


class _Metadata(http.server.BaseHTTPRequestHandler):
    ANSWERS = (
        ("/token", {"access_token": "a-token", "expires_in": 3600, "token_type": "Bearer"}),
        ("/service-accounts/default/", {"email": "worker@example.com", "scopes": []}),
        ("/universe-domain", "googleapis.com"),
        ("/project-id", "test-project"),
        ("", ""),
    )

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = next(answer for end, answer in self.ANSWERS if path.endswith(end))
        is_text = isinstance(answer, str)
        body = (answer if is_text else json.dumps(answer)).encode()
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/text" if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _rows(figures: Figures, backends: list[str]) -> list[dict[str, Any]]:
    rows = []
    for airflow, executor, placement, verb in sorted({key[:4] for key in figures}):
        where = (airflow, executor, placement, verb)
        stock = statistics.median(figures.get((*where, STOCK, "cpu"), [0.0]))
        for backend in backends:
            cpu = statistics.median(figures[*where, backend, "cpu"])
            rows.append(
                {
                    "airflow": airflow,
                    "executor": executor,
                    "value": placement,
                    "call": f"first {verb}",
                    "backend": backend,
                    "CPU ms": cpu,
                    "added CPU ms": cpu - stock,
                    "wall ms": statistics.median(figures[*where, backend, "wall"]),
                }
            )
    return rows


def _targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    added = {
        (row["airflow"], row["executor"], row["value"], row["backend"]): row["added CPU ms"]
        for row in rows
        if row["call"] == "first push"
    }
    targets = []
    for airflow, executor in sorted({key[:2] for key in added}):
        place = f"Airflow {airflow}, {executor}"
        ours = added.get((airflow, executor, "offloaded", OURS))
        if ours is None:
            continue
        for peer in (COMMON_IO, WRITTEN, WRITTEN_TOP):
            theirs = added.get((airflow, executor, "offloaded", peer))
            if theirs and theirs > 0:
                what = f"Added CPU before the first offloaded push, ÷ {peer}'s; {place}"
                ratio = ours / theirs
                targets.append(
                    results.target(
                        what,
                        "≤ 0.25",
                        f"{ratio:.2f} ({ours:.0f} ms)",
                        holds=ratio <= 0.25,
                        why=WHY if peer == WRITTEN_TOP and ratio > 0.25 else "",
                    )
                )
        inline = added[airflow, executor, "inline", OURS]
        targets.append(
            results.target(
                f"Added CPU before the first inline push; {place}",
                "≤ 60 ms",
                f"{inline:.0f} ms",
                holds=inline <= 60,
            )
        )
    return targets


def _print(rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    texts = [
        [f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        for row in rows
    ]
    texts.insert(0, list(rows[0]))
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print()


if __name__ == "__main__":
    main()
