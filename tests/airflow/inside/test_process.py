"""What importing costs, and what a forked child inherits."""
# ruff: noqa: ARG001 - fixtures are asked for by name

from __future__ import annotations

import os
import subprocess
import sys
import threading

from conftest import pull, push

from secure_xcom.airflow.process import process

FIRST = """
import sys
from secure_xcom.airflow.backend import SecureXComBackend
try:
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:
    from airflow.models.xcom import XCom
assert XCom is SecureXComBackend, XCom
ours = {name for name in sys.modules if name.startswith("secure_xcom")}
# Of keys and stores, those parts alone that have to see each fork (`preload.py`).
allowed = {"", ".gcs", ".gcs.client"}
parts = ("secure_xcom.stack", "secure_xcom.codecs", "secure_xcom.keys", "secure_xcom.stores")
light = {part + rest for part in parts[2:] for rest in allowed}
heavy = {name for name in ours if name.startswith(parts)} - light
assert not heavy, heavy
# Airflow 2 imports the client of Kubernetes where it is there, and that imports `google.auth`.
others = () if "kubernetes" in sys.modules else ("google.auth",)
google = {name for name in sys.modules if name.startswith(("google.cloud.", *others))}
assert not google, google
print("imported")
"""


def test_the_class_is_imported_without_settings_and_before_airflow_asks():
    env = {name: value for name, value in os.environ.items() if "SECURE_XCOM__" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FIRST], env=env, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["imported"], done.stderr


def test_a_child_starts_with_a_stack_of_its_own(deployment):
    row = push("value")
    mine = process.current()[1]

    def in_child():
        assert process._current is None
        assert pull(row) == "value"
        assert process.current()[1] is not mine

    assert outcome(in_child) == 0
    assert process.current()[1] is mine


def test_a_child_forked_while_the_parent_builds_is_not_stuck(deployment):
    release = threading.Event()
    held = threading.Event()

    def hold():
        with process._building:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait()
        assert outcome(lambda: push("value")) == 0
    finally:
        release.set()
        thread.join()


def test_threads_that_start_at_once_share_one_stack(deployment):
    start = threading.Barrier(8)
    stacks = []

    def build():
        start.wait()
        stacks.append(process.current()[1])

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stacks) == 8
    assert len({id(stack) for stack in stacks}) == 1


def outcome(check):
    """Run a check in a forked child; its exit status, or that of a child that hangs."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            alarm = threading.Timer(20, os._exit, [3])
            alarm.daemon = True
            alarm.start()
            check()
            status = 0
        except BaseException:  # noqa: BLE001 - the child must end here in any case
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
