"""How fast values are sealed and opened, against the fastest that the processor's AES can do.

    uv run python tests/benchmarks/crypto.py [--out FILE] [--quick]

Sealing is `format/body.py` alone: 64 MiB of random bytes in, pieces of ciphertext out, each let go
when the next one comes; opening is the way back, from blocks of 1 MiB as a store gives them, which
begin anywhere in a segment. The limit is a C program over EVP AES-256-GCM, compiled here against
the OpenSSL that the system's headers are from: it encrypts the same amount in the same segments
into one buffer. All run on one core, in turns, and what is compared is the CPU time of the thread.
`cryptography` brings an OpenSSL of its own in its wheel, which may be of another version; so there
is a second limit, `AESGCM.encrypt_into`, which is that OpenSSL under the thinnest call.
"""
# ruff: noqa: T201 - a program

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from results import PATH, record, target

from secure_xcom.format import body

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
SEGMENT_BYTES = 1_048_560
AIM = 0.8
#: Said where a target does not hold.
WHY = (
    "What is lost above the cipher's own call is in the last column: a context for each segment, "
    "and the first use of each piece of memory, which the system gives out page by page."
)
PROGRAM = r"""
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { SEGMENT = 1048560 };

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    size_t length = strtoull(argv[1], NULL, 10);
    unsigned char *in = malloc(length), *out = malloc(SEGMENT + 16);
    unsigned char key[32] = {1}, nonce[12] = {2};
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int count, ok = in && out && ctx;
    for (size_t i = 0; ok && i < length; i++) in[i] = (unsigned char)(i * 2654435761u >> 13);
    ok = ok && EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce);
    puts(OpenSSL_version(OPENSSL_VERSION));
    fflush(stdout);
    while (getchar() != EOF) { /* one line of input, one measurement */
        double begun = cpu_seconds();
        for (size_t at = 0; ok && at < length; at += SEGMENT) {
            int size = length - at < SEGMENT ? (int)(length - at) : SEGMENT;
            nonce[0]++;
            ok = EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce)
                && EVP_EncryptUpdate(ctx, out, &count, in + at, size)
                && EVP_EncryptFinal_ex(ctx, out + count, &count)
                && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, 16, out + size);
        }
        printf("%.9f\n", ok ? cpu_seconds() - begun : -1.0);
        fflush(stdout);
    }
    return 0;
}
"""


class Limit:
    """The C program, waiting to be told to measure; what it is linked to says so first."""

    def __init__(self, folder: Path, length_bytes: int) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise SystemExit(
                "A C compiler and OpenSSL's headers (Debian: gcc libssl-dev) are needed."
            )
        source, program = folder / "limit.c", folder / "limit"
        source.write_text(PROGRAM)
        subprocess.run([compiler, "-O2", "-o", program, source, "-lcrypto"], check=True)
        self._process = subprocess.Popen(
            [program, str(length_bytes)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.openssl = self._process.stdout.readline().strip()

    def measure(self) -> float:
        """CPU seconds of one round."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        seconds = float(self._process.stdout.readline())
        if seconds <= 0:
            raise SystemExit("The C program could not encrypt.")
        return seconds

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait(10)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PATH)
    parser.add_argument("--quick", action="store_true", help="4 MiB, three rounds")
    wanted = parser.parse_args()
    length_bytes, rounds = (4 * MIB, 3) if wanted.quick else (64 * MIB, 25)
    # One core for all, so that the same one is compared with itself.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        limit = Limit(Path(folder), length_bytes)
        try:
            seconds = _measure(limit, length_bytes, rounds)
        finally:
            limit.close()
    _report(wanted.out, limit.openssl, length_bytes, seconds)


def _measure(limit: Limit, length_bytes: int, rounds: int) -> dict[str, list[float]]:
    value = os.urandom(length_bytes)
    key, data, random = os.urandom(32), b"data", os.urandom(body.RANDOM_BYTES)
    sealed = b"".join(body.seal(key, data, [value], random))
    if b"".join(body.open_(key, data, [sealed], len(sealed))) != value:
        raise SystemExit("What was opened is not what was sealed.")
    # A preamble of some hundred bytes goes before the body.
    starts = [0, *range(MIB - 400, len(sealed), MIB), len(sealed)]
    blocks = [sealed[start:end] for start, end in pairwise(starts)]
    ways: dict[str, Callable[[], object]] = {
        "sealing": lambda: _drain(body.seal(key, data, [value], random)),
        "opening": lambda: _drain(body.open_(key, data, blocks, len(sealed))),
        "opening, in one block": lambda: _drain(body.open_(key, data, [sealed], len(sealed))),
    }
    cipher = AESGCM(key)
    if hasattr(cipher, "encrypt_into"):
        ways["`AESGCM.encrypt_into`"] = lambda: _encrypt_into(cipher, value)
    seconds: dict[str, list[float]] = {name: [] for name in ("limit", *ways)}
    for _ in range(rounds):
        seconds["limit"].append(limit.measure())
        for name, way in ways.items():
            begun = time.thread_time()
            way()
            seconds[name].append(time.thread_time() - begun)
    return seconds


def _drain(pieces: object) -> None:
    for _ in pieces:
        pass


def _encrypt_into(cipher: AESGCM, value: bytes) -> None:
    view, buffer = memoryview(value), bytearray(SEGMENT_BYTES + 16)
    for index, at in enumerate(range(0, len(view), SEGMENT_BYTES)):
        piece = view[at : at + SEGMENT_BYTES]
        target = memoryview(buffer)[: len(piece) + 16]
        cipher.encrypt_into(index.to_bytes(12, "big"), piece, None, target)


def _report(out: Path, openssl: str, length_bytes: int, seconds: dict[str, list[float]]) -> None:
    own = "`AESGCM.encrypt_into`"
    rows = []
    for name, spent in seconds.items():
        row = {
            "what": f"EVP AES-256-GCM in C, {openssl}" if name == "limit" else name,
            "GB/s": length_bytes / statistics.median(spent) / 1e9,
            "of the loop in C": _fraction(seconds["limit"], spent)[0],
        }
        if own in seconds:
            row[f"of {own}"] = _fraction(seconds[own], spent)[0]
        rows.append(row)
        print(
            *(f"{cell:.2f}" if isinstance(cell, float) else f"{cell:50}" for cell in row.values())
        )
    targets = []
    for way in ("sealing", "opening"):
        fraction = _fraction(seconds["limit"], seconds[way])
        targets.append(
            target(
                f"{way} alone, {length_bytes // MIB} MiB, of the loop in C",
                f"≥ {AIM}",
                "{:.2f} ({:.2f}-{:.2f})".format(*fraction),
                holds=fraction[0] >= AIM,
                why="" if fraction[0] >= AIM else WHY,
            )
        )
    about = (
        f"{length_bytes // MIB} MiB in segments of 1 MiB on one core, CPU time, medians of "
        f"{len(seconds['limit'])} rounds in turns. cryptography {version('cryptography')} with "
        f"{backend.openssl_version_text()}, the loop in C with {openssl}: where these differ, the "
        "fraction of `AESGCM.encrypt_into` is the one that tells what is lost above the cipher."
    )
    record(out, "sealing", rows, targets=targets, notes=[about])


def _fraction(limit: list[float], spent: list[float]) -> tuple[float, float, float]:
    """How fast it is beside the limit: median and quartiles of the rounds."""
    parts = sorted(one / other for one, other in zip(limit, spent, strict=True))
    return statistics.median(parts), parts[len(parts) // 4], parts[-1 - len(parts) // 4]


if __name__ == "__main__":
    main()
