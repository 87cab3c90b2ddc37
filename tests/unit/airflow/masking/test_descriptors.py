"""What is written past Python's streams is masked, whoever writes it and however it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are files in memory")

BEGIN = """
import ctypes, io, logging, os, subprocess, sys, time
from secure_xcom.airflow.masking import descriptors
from secure_xcom.airflow.masking.descriptors import Diverted

def mask(text):
    return text.replace("SECRET", "***")

def new():
    return Diverted(lambda text: mask(text))

diverted = new()
"""


def printed(code, *, check=True):
    """What reaches standard output of a program that diverts it, and standard error."""
    # A program that forks beside its threads is warned of it from Python 3.12 on.
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", BEGIN + code]
    done = subprocess.run(command, capture_output=True, text=True, check=check)
    return done.stdout, done.stderr


WRITE = """
os.write(1, b"1 SECRET\\n")
sys.stdout.buffer.write(b"2 SECRET\\n"); sys.stdout.flush()
with open(1, "wb", closefd=False) as file:
    file.write(b"3 SECRET\\n")
subprocess.run(["echo", "4 SECRET"])
os.system("echo 5 SECRET >> /dev/stdout")
libc = ctypes.CDLL(None); libc.puts(b"6 SECRET"); libc.fflush(None)
os.write(1, b"7 SEC"); time.sleep(0.3); os.write(1, b"RET\\n")
if os.fork() == 0:
    os.write(1, b"8 SECRET\\n")
    sys.stdout.flush()
    os._exit(0)
os.wait()
print("9 SECRET"); sys.stdout.flush()
os.write(1, b"last SECRET")
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "diverted.restore()",
        "sys.stdout.flush(); os._exit(0)",
        "logging.shutdown(); os._exit(0)",
    ],
)
def test_it_is_masked_whoever_writes_it_and_however_it_ends(end):
    out, error = printed(WRITE + end)
    assert out.splitlines() == [*(f"{number} ***" for number in range(1, 10)), "last ***"]
    assert error == ""


def test_standard_error_is_one_of_its_own():
    out, error = printed('os.write(1, b"out SECRET\\n"); os.write(2, b"error SECRET\\n")')
    assert (out, error) == ("out ***\n", "error ***\n")


def test_what_is_no_line_yet_is_shown_where_a_stream_is_flushed():
    code = 'sys.stdout.write("a"); sys.stdout.flush(); os.kill(os.getpid(), 9)'
    assert printed(code, check=False) == ("a", "")


def test_bytes_that_are_no_text_come_through():
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + 'os.write(1, b"\\xff\\x00SECRET\\xc3\\n\\xc3")'],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"\xff\x00***\xc3\n\xc3"


def test_a_line_that_is_too_long_is_hidden_whole():
    code = 'os.write(1, b"before\\n" + b"x" * (5 << 20) + b"SECRET\\nafter\\n")'
    assert printed(code)[0] == "before\n***\nafter\n"


def test_what_cannot_be_masked_in_time_is_dropped_with_a_word():
    code = """
descriptors._MOST_WAITING_BYTES = 100
with diverted._lock:
    os.write(1, b"SECRET " * 100 + b"SECRET")
    diverted.deliver()
os.write(1, b" SECRET\\nand after\\n")
"""
    out, error = printed(code)
    assert out == "***\nand after\n"
    assert "descriptor 1 has been dropped" in error


def test_what_fails_to_mask_hides_the_lines():
    code = """
def mask(text):
    raise ValueError(text)
os.write(1, b"a SECRET\\n")
"""
    assert printed(code) == ("***\n", "")


def test_what_interrupts_it_loses_nothing():
    code = """
import signal
def handler(*_):
    raise TimeoutError
signal.signal(signal.SIGALRM, handler)
calls = []
def mask(text):
    calls.append(text)
    if len(calls) == 1:
        signal.raise_signal(signal.SIGALRM)
    return text.replace("SECRET", "***")
with diverted._lock:
    os.write(1, b"a SECRET\\n")
    try:
        diverted.deliver()
    except TimeoutError:
        os.write(1, b"interrupted\\n")
"""
    assert printed(code) == ("a ***\ninterrupted\n", "")


def test_the_memory_of_what_is_delivered_is_given_back():
    code = """
memory = diverted._channels[0]._memory
for _ in range(64):
    os.write(1, (b"x" * 1023 + b"\\n") * 1024)
    diverted.deliver_all()
held = os.fstat(memory)
os.write(2, b"%d %d" % (held.st_size >> 20, held.st_blocks * 512 >> 20))
"""
    out, error = printed(code)
    assert len(out) == 64 << 20
    size, held = map(int, error.split())
    assert (size, held <= 2) == (64, True)


def test_a_program_cannot_empty_it():
    code = (
        'os.write(1, b"first\\n"); os.system("echo second > /dev/stdout"); os.write(1, b"third\\n")'
    )
    out, error = printed(code)
    assert out == "first\nthird\n"
    assert "/dev/stdout" in error


def test_what_the_masker_writes_itself_comes_through():
    code = """
def mask(text):
    if "SECRET" in text:
        print("masking", flush=True)
    return text.replace("SECRET", "***")
os.write(1, b"a SECRET\\n")
diverted.deliver_all()
"""
    assert printed(code)[0] == "a ***\nmasking\n"


def test_what_masks_may_restore_it():
    code = """
def mask(text):
    diverted.restore()
    return text.replace("SECRET", "***")
os.write(1, b"a SECRET\\nb SECRET\\n")
diverted.deliver_all()
os.write(1, b"c\\n")
"""
    assert printed(code) == ("a ***\nb ***\nc\n", "")


def test_a_child_that_diverts_it_anew_masks_with_both():
    code = """
if os.fork() == 0:
    child = Diverted(lambda text: text.replace("CHILD", "+++"))
    assert child.is_ours and not diverted.is_ours
    os.write(1, b"of SECRET and CHILD\\n")
    child.restore()
    diverted.restore()
    os.write(1, b"as the parent had it\\n")
    os._exit(0)
os.wait()
os.write(1, b"of SECRET and CHILD\\n")
"""
    assert printed(code)[0].splitlines() == [
        "as the parent had it",
        "of *** and +++",
        "of *** and CHILD",
    ]


def test_what_somebody_else_led_elsewhere_stays_there(tmp_path):
    code = f"""
file = os.open({str(tmp_path / "elsewhere")!r}, os.O_CREAT | os.O_WRONLY)
os.dup2(file, 1)
diverted.restore()
os.write(1, b"elsewhere")
"""
    assert printed(code) == ("", "")
    assert (tmp_path / "elsewhere").read_text() == "elsewhere"


def test_streams_are_put_back():
    code = """
assert "flush" in vars(sys.stdout)
diverted.restore()
assert "flush" not in vars(sys.stdout)
assert not [one for one in logging._handlerList if "AtShutdown" in repr(one())]
"""
    assert printed(code) == ("", "")


def test_a_terminal_is_left_alone():
    code = """
import pty
diverted.restore()
main, terminal = pty.openpty()
os.dup2(terminal, 1)
diverted = new()
assert os.isatty(1)
assert not os.isatty(2)
os.write(1, b"a SECRET\\n")
seen = os.read(main, 100)
diverted.restore()
os.write(2, seen)
"""
    assert printed(code)[1] == "a SECRET\n"


@pytest.mark.parametrize(
    "lacking", ["del os.memfd_create", "os.memfd_create = lambda *_: os.open('', 0)"]
)
def test_where_there_are_no_files_in_memory_it_says_so(lacking):
    code = f"""
diverted.restore()
{lacking}
try:
    new()
except OSError:
    os.write(1, b"as it was\\n")
"""
    assert printed(code) == ("as it was\n", "")
