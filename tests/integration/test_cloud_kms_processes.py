"""Cloud KMS from other processes: as in production, and across forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers.kms import URI, KmsServer
from servers.wire import Remote

from secure_xcom.keys.local import create_key_file

TESTS = Path(__file__).parents[1]
THERE_AND_BACK = f"""
from secure_xcom.keys import open_kek
kek = open_kek({URI!r})
wrapped = kek.wrap(bytes(32), b"aad")
assert kek.unwrap(wrapped, b"aad") == bytes(32)
print(wrapped.unverified_version)
"""


@pytest.fixture
def kms(tmp_path):
    with KmsServer(tmp_path) as server:
        server.create_key()
        yield server


def run(program, environment, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        env={**os.environ, **environment},
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_an_unchanged_program_reaches_it_over_tls_with_default_credentials(kms):
    answer = run(THERE_AND_BACK, kms.environment)
    assert (answer.returncode, answer.stdout) == (0, "1\n"), answer.stderr
    assert kms.traffic.calls() == {"Encrypt": 1, "Decrypt": 1}


def test_the_test_server_runs_as_a_process_too(tmp_path):
    ready = tmp_path / "ready"
    with subprocess.Popen(
        [sys.executable, TESTS / "servers" / "kms.py", "--ready-file", ready],
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            while not ready.exists():
                assert server.poll() is None
                time.sleep(0.02)
            told = json.loads(ready.read_text())
            answer = run(THERE_AND_BACK, told["environment"])
            remote = Remote(told["address"])
            assert answer.stdout == "1\n", answer.stderr
            assert remote.traffic.calls() == {"Encrypt": 1, "Decrypt": 1}
            assert remote.rotate() == 2
            assert run(THERE_AND_BACK, told["environment"]).stdout == "2\n"
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


REFUSED = f"""
from secure_xcom.keys import open_kek
try:
    open_kek({URI!r}, deadline_seconds=5).wrap(bytes(32), b"aad")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_missing_credentials_say_where_to_set_them_up(kms, tmp_path):
    environment = {**kms.environment, "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "none")}
    answer = run(REFUSED, environment)
    assert answer.stdout.startswith("KeyAccessDenied "), answer.stderr
    assert "application default credentials, or a connection by `gcp_conn_id`" in answer.stdout
    assert kms.traffic.calls() == {}


def test_credentials_that_give_no_token_say_so(kms, tmp_path):
    account = tmp_path / "user.json"
    account.write_text(
        json.dumps(
            {
                "type": "authorized_user",
                "client_id": "id",
                "client_secret": "a-client-secret",
                "refresh_token": "a-refresh-token",
                "token_uri": "http://127.0.0.1:9/token",
            }
        )
    )
    environment = {**kms.environment, "GOOGLE_APPLICATION_CREDENTIALS": str(account)}
    answer = run(REFUSED, environment)
    assert answer.stdout.startswith("KeyUnavailable "), answer.stderr
    assert "gave no access token" in answer.stdout
    assert "a-client-secret" not in answer.stdout + answer.stderr
    assert "a-refresh-token" not in answer.stdout + answer.stderr
    assert kms.traffic.calls() == {}


FORKS = f"""
import os, signal, sys, threading, time
from concurrent.futures import Future
from secure_xcom import forks
from secure_xcom.keys import open_kek
from secure_xcom.keys.data_keys import DataKeys

# A fork that waits in vain is seen to.
forks.WAIT_SECONDS = 3600
kek = open_kek({URI!r})
keys = DataKeys({{kek.uri: kek}}, kek.uri, 300)
AAD = b"aad"
mine = keys.for_sealing(b"scope")
wrapped = kek.wrap(bytes(32), AAD)
assert keys.for_opening(wrapped, AAD) == bytes(32)
busy, done = sys.argv[1] == "busy", threading.Event()
ahead = sys.argv[1] == "ahead"
if ahead:
    busy = False
begun = []

def seal():
    while not done.is_set():
        assert kek.unwrap(kek.wrap(bytes(32), AAD), AAD) == bytes(32)

threads = [threading.Thread(target=seal) for _ in range(2 if busy else 0)]
for thread in threads:
    thread.start()
# Locks that somebody holds for ever, as a thread might at the moment of a fork.
for lock in (kek._client_lock, keys._sealing._lock, keys._opening._lock):
    if not busy and not ahead:
        lock.acquire()

def child(pipe):
    signal.alarm(90)
    key = keys.for_sealing(b"scope")
    assert keys.for_sealing(b"scope") is key
    assert keys.for_opening(wrapped, AAD) == bytes(32)
    os.write(pipe, key.data_key)

seen = {{mine.data_key}}
for number in range(4):
    while busy and not forks.calls._inside:
        time.sleep(0.001)
    if ahead:
        for _ in range(20):
            begun.append(Future())
            assert kek.unwrap_ahead(wrapped, AAD, begun[-1])
        assert forks.calls._inside
    elif not busy:
        # gRPC 1.71 is at times not done with its last call yet, and its child then cannot connect.
        time.sleep(0.3)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(writer)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
    seen.add(os.read(reader, 32))
assert len(seen) == 5, len(seen)

done.set()
for thread in threads:
    thread.join()
assert all(key.result(10) == bytes(32) for key in begun)
if busy or ahead:
    assert keys.for_sealing(b"scope") is mine
    assert keys.for_opening(wrapped, AAD) == bytes(32)
    kek.wrap(bytes(32), AAD)
print("done", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("parent", ["idle", "busy", "ahead"])
@pytest.mark.parametrize("fork_support", ["", "1"])
def test_forked_children_start_afresh_whatever_the_parent_is_at(kms, parent, fork_support):
    """Keys, locks and connections: a child has its own, also when threads are inside calls."""
    kms.traffic.delay("Encrypt", 0.05)
    kms.traffic.delay("Decrypt", 0.05)
    environment = {**kms.environment}
    if fork_support:
        environment["GRPC_ENABLE_FORK_SUPPORT"] = fork_support
    answer = run(FORKS, environment, parent)
    assert answer.stdout == "done\n", answer.stderr
    # The parent's connection, and one for each child.
    assert kms.traffic.connections() >= 5


IMPORTS = f"""
import os, signal, sys, threading, time
from secure_xcom.keys import open_kek
kek = open_kek({URI!r})
thread = threading.Thread(target=kek.wrap, args=(bytes(32), b""))
thread.start()
while "grpc" not in sys.modules:
    time.sleep(0.001)
pid = os.fork()
if pid == 0:
    signal.alarm(90)
    kek.wrap(bytes(32), b"")
    os._exit(0)
_, status = os.waitpid(pid, 0)
thread.join()
print(status, flush=True)
os._exit(0)
"""


def test_a_fork_during_the_first_import_leaves_the_child_able_to_import(kms):
    answer = run(IMPORTS, kms.environment)
    assert answer.stdout == "0\n", answer.stderr


LOADED = """
import sys
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import load
from secure_xcom.stack import build

kek_uri, store_uri, value = sys.argv[1:]
stack = build(load({"kek_uri": kek_uri, "store_uri": store_uri}, None, None))
where = Coordinate("d", "r", "t", -1, "k")
row = stack.put(value, where)
assert stack.get(row, Expected.exactly(where)).value == value
print(row["placement"], *(
    name for name in ("google.cloud.kms_v1", "google.cloud.storage", "requests", "grpc", "pandas")
    if name in sys.modules
))
"""


def test_a_push_loads_the_clients_that_it_calls_and_no_other(kms, tmp_path, gcs_server, bucket):
    key_file = tmp_path / "kek"
    create_key_file(key_file)
    local, folder, store = f"local-kek://{key_file}", f"file://{tmp_path}/store", f"gs://{bucket}"
    environment = kms.environment | gcs_server.environment

    def loaded(*arguments):
        answer = run(LOADED, environment, *arguments)
        assert answer.returncode == 0, answer.stderr
        placement, *modules = answer.stdout.split()
        return placement, modules

    long = os.urandom(60_000).hex()
    assert loaded(local, folder, "short") == ("inline", [])
    assert loaded(local, folder, long) == ("offloaded", [])
    # An inline value needs no storage, though one is named.
    assert loaded(local, store, "short") == ("inline", [])
    placement, modules = loaded(URI, store, "short")
    assert placement == "inline"
    assert "google.cloud.kms_v1" in modules
    assert not {"google.cloud.storage", "pandas"} & {*modules}
    placement, modules = loaded(local, store, long)
    assert placement == "offloaded"
    assert "google.cloud.storage" in modules
    assert not {"google.cloud.kms_v1", "pandas"} & {*modules}
