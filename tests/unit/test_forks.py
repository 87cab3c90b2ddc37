"""What is called in a forked child, and in which order."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref

from secure_xcom import forks

PROGRAM = """
import os
from secure_xcom import forks

calls = []

class Holder:
    def __init__(self, name):
        self.name = name

    def forget(self):
        calls.append(self.name)

first, gone = Holder("first"), Holder("gone")
forks.run_in_children(first.forget)
forks.run_in_children(gone.forget)

@forks.run_in_children
def second():
    calls.append("second")

third = [1]
forks.run_in_children(third.clear)
del gone
if pid := os.fork():
    assert os.waitpid(pid, 0)[1] == 0
    print("parent", calls, third, second.__name__, flush=True)
else:
    print("child", calls, third, flush=True)
"""


def test_children_call_what_was_registered_in_order():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.splitlines() == [
        "child ['first', 'second'] []",
        "parent [] [1] second",
    ]


def test_what_is_registered_does_not_live_longer_for_it():
    class Holder:
        def forget(self):
            os._exit(1)

    before = len(forks._in_children)
    holder = Holder()
    forks.run_in_children(holder.forget)
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None
    for _ in range(100):
        forks.run_in_children(Holder().forget)
    gc.collect()
    assert len(forks._in_children) <= before + 1


AT_EXIT = """
import sys
import types
from secure_xcom import forks

module = types.ModuleType("holding")
exec("class Holder:\\n    def forget(self): ...\\nholder = Holder()", vars(module))
sys.modules["holding"] = module
forks.run_in_children(module.holder.forget)
"""


def test_the_end_of_the_interpreter_is_quiet():
    ran = subprocess.run(
        [sys.executable, "-c", AT_EXIT], capture_output=True, text=True, check=True, timeout=60
    )
    assert (ran.stdout, ran.stderr) == ("", "")
