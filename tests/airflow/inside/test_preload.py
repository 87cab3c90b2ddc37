"""What importing Airflow with the backend loads, and what the first fork and a push add to it.

Programs of their own, for a process loads a module once.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pytest
from conftest import VERSION

KEY = "gcp-kms://projects/test-project/locations/europe-west3/keyRings/airflow/cryptoKeys/xcom"
STOCK = f"airflow.{'models' if VERSION[0] == 2 else 'sdk.bases'}.xcom.BaseXCom"
CLOUD = {"kek_uri": KEY, "store_uri": "gs://bucket/prefix"}
#: What a process that pushes to the cloud needs, and no other should have.
GOOGLES = ("google.cloud.kms_v1", "google.cloud.storage", "google.auth", "google.api_core", "grpc")

BEGINNING = """
import json, os, signal, sys
try:
    import airflow.sdk.execution_time.xcom
except ImportError:
    import airflow.models.xcom

def loaded(*names):
    return [name for name in names if name in sys.modules]

def in_child(look):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        try:
            os.write(writer, json.dumps(look()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    return json.loads(os.read(reader, 100_000))
"""


@pytest.fixture
def run(tmp_path):
    """Run a program in a process of its own, with these settings in airflow.cfg."""

    def run_(program, settings, **environment):
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AIRFLOW__SECURE_XCOM__")
        }
        set_ = {f"AIRFLOW__SECURE_XCOM__{name.upper()}": text for name, text in settings.items()}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", BEGINNING + program],
            env=kept | set_ | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        # A hook of a fork that raises ends nothing, and is only heard of there.
        assert "Exception ignored" not in done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run_


def test_importing_airflow_with_the_backend_loads_little_more_than_without(run):
    """Every daemon and every call of the command line imports it."""
    look = "print(json.dumps(sorted(sys.modules)))"
    stock = set(run(look, CLOUD, AIRFLOW__CORE__XCOM_BACKEND=STOCK))
    ours = set(run(look, CLOUD))
    assert "secure_xcom.airflow.preload" in ours - stock
    assert "secure_xcom.stack" not in ours
    more = {name.partition(".")[0] for name in ours - stock} - set(sys.stdlib_module_names)
    assert more <= {"airflow", "secure_xcom", "cryptography", "_cffi_backend", "google_crc32c"}


FORKS = f"""
import threading
import secure_xcom.airflow.preload as preload

def afresh(look, load=preload._load, **settings):
    '''Look in a child of a child, the parent of which has the settings, and loaded nothing yet.'''
    def parent():
        for name, text in settings.items():
            os.environ["AIRFLOW__SECURE_XCOM__" + name.upper()] = text
        preload._load = load
        preload._loading._begun = False
        return look()

    return in_child(parent)

CLOUD = {CLOUD!r}
GOOGLES = {GOOGLES!r}
load = preload._load
preload._loading._begun = True

def there():
    return in_child(lambda: loaded("google.cloud.kms_v1", "google.cloud.storage"))

def forked_with_a_client_missing():
    sys.modules["google.cloud.kms_v1"] = None
    return [in_child(lambda: "forked"), in_child(lambda: "forked again")]

def forked_while_another_loads():
    begun = threading.Event()

    def slowly():
        begun.set()
        load()

    def push():
        import google.cloud.kms_v1, google.cloud.storage, secure_xcom.stack
        return "imported"

    preload._load = slowly
    first = threading.Thread(target=in_child, args=(lambda: None,))
    first.start()
    begun.wait()
    pushed = in_child(push)
    first.join()
    return pushed

names = (*GOOGLES, "secure_xcom.stack")
print(json.dumps(dict(
    before=afresh(lambda: loaded(*names), **CLOUD),
    child=afresh(lambda: in_child(lambda: loaded(*names)), **CLOUD),
    grandchild=afresh(lambda: in_child(lambda: in_child(lambda: loaded(*names))), **CLOUD),
    kek=afresh(there, kek_uri=CLOUD["kek_uri"], store_uri="file:///store"),
    store=afresh(there, kek_uri="local-kek:///key", store_uri="gs://b"),
    neither=afresh(there, kek_uri="local-kek:///key", store_uri="file:///store"),
    unknown=afresh(there),
    missing=afresh(forked_with_a_client_missing, **CLOUD),
    another=afresh(forked_while_another_loads, **CLOUD),
)))
"""


def test_what_a_task_needs_is_there_when_it_is_forked_and_no_more(run):
    found = run(FORKS, {})
    stack = ["secure_xcom.stack"]
    before = found.pop("before")
    assert not {"google.cloud.kms_v1", "google.cloud.storage", *stack} & {*before}
    kms, storage = "google.cloud.kms_v1", "google.cloud.storage"
    assert found == {
        "child": [*GOOGLES, *stack],
        "grandchild": [*GOOGLES, *stack],
        "kek": [kms],
        "store": [storage],
        "neither": [],
        # It stands in a Variable then, and most likely is Google's.
        "unknown": [kms, storage],
        # The first push says so.
        "missing": ["forked", "forked again"],
        # Or the child would have the locks of modules that nobody goes on to load.
        "another": "imported",
    }


PUSH = f"""
before = loaded(*{GOOGLES!r})
from secure_xcom.airflow.backend import SecureXComBackend
SecureXComBackend.serialize_value(
    "a value", key="k", task_id="t", dag_id="d", run_id="r", map_index=-1
)
print(json.dumps(dict(before=before, after=loaded(*{GOOGLES!r}))))
"""


def test_a_local_push_loads_nothing_of_googles(run, tmp_path):
    kek, store = tmp_path / "kek", tmp_path / "store"
    kek.touch(mode=0o600)
    kek.write_text(f"secure-xcom-local-kek-1 {base64.b64encode(os.urandom(32)).decode()}\n")
    store.mkdir(mode=0o700)
    found = run(PUSH, {"kek_uri": f"local-kek://{kek}", "store_uri": f"file://{store}"})
    assert found["after"] == found["before"]
    assert "google.cloud.storage" not in found["after"]
