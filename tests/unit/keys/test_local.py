"""Key files: how they are made, which are refused, and what they wrap."""

from __future__ import annotations

import base64
import logging
import os
import re
import shlex
import stat
import threading
import traceback

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_xcom.cli import main
from secure_xcom.errors import ConfigError
from secure_xcom.keys import local, open_kek
from secure_xcom.keys.local import LocalKek, create_key_file
from secure_xcom.model import WrappedKey

DATA_KEY = bytes(range(32))
KEY = bytes(range(100, 132))
LINE = b"secure-xcom-local-kek-1 " + base64.b64encode(KEY) + b"\n"


def key_file(tmp_path, contents=LINE, mode=0o600):
    path = tmp_path / "kek"
    path.write_bytes(contents)
    path.chmod(mode)
    return path


def refusal(path):
    """The error that a use of the file ends with; nothing of the file may stand in it."""
    with pytest.raises(ConfigError) as caught:
        LocalKek(f"local-kek://{path}").wrap(DATA_KEY, b"")
    assert str(path) in str(caught.value)
    printed = "".join(traceback.format_exception(caught.value))
    assert base64.b64encode(KEY)[:16].decode() not in printed
    return str(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_key_file_is_one_line_that_only_its_owner_reads(tmp_path, umask):
    before = os.umask(umask)
    try:
        create_key_file(tmp_path / "kek")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "kek").stat().st_mode) == 0o600
    line = (tmp_path / "kek").read_bytes()
    match = re.fullmatch(rb"secure-xcom-local-kek-1 ([A-Za-z0-9+/]{43}=)\n", line)
    assert len(base64.b64decode(match[1])) == 32
    kek = LocalKek(f"local-kek://{tmp_path}/kek")
    assert kek.unwrap(kek.wrap(DATA_KEY, b"a"), b"a") == DATA_KEY


def test_two_key_files_hold_two_keys(tmp_path):
    create_key_file(tmp_path / "one")
    create_key_file(str(tmp_path / "other"))
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_a_key_file_is_never_written_over(tmp_path):
    path = key_file(tmp_path)
    with pytest.raises(ConfigError, match="exists already"):
        create_key_file(path)
    assert path.read_bytes() == LINE
    dangling = tmp_path / "link"
    dangling.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="exists already"):
        create_key_file(dangling)
    assert not (tmp_path / "elsewhere").exists()


def test_a_key_file_that_cannot_be_written_says_why(tmp_path):
    with pytest.raises(ConfigError, match="No such file or directory"):
        create_key_file(tmp_path / "missing" / "kek")


def test_the_wrapped_form_is_the_one_of_the_format(tmp_path):
    kek = LocalKek(f"local-kek://{key_file(tmp_path)}")
    wrapped = kek.wrap(DATA_KEY, b"aad").ciphertext
    assert len(wrapped) == 60
    assert AESGCM(KEY).decrypt(wrapped[:12], wrapped[12:], b"aad") == DATA_KEY
    nonce = bytes(12)
    by_hand = WrappedKey(kek.uri, nonce + AESGCM(KEY).encrypt(nonce, DATA_KEY, b"aad"))
    assert kek.unwrap(by_hand, b"aad") == DATA_KEY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path, mode):
    message = refusal(key_file(tmp_path, mode=mode))
    assert f"chmod 600 {tmp_path}/kek" in message
    assert f"{mode:04o}" in message


def test_a_missing_file_says_how_to_make_one(tmp_path):
    message = refusal(tmp_path / "a kek")
    command = re.search(r"secure-xcom (.*)", message)[1]
    assert main(shlex.split(command)) == 0
    assert LocalKek(f"local-kek://{tmp_path}/a kek").wrap(DATA_KEY, b"")


def test_nothing_is_read_before_the_first_use(tmp_path):
    assert open_kek(f"local-kek://{tmp_path}/kek").uri == f"local-kek://{tmp_path}/kek"


def test_what_is_not_a_regular_file_is_refused(tmp_path):
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("directory", "pipe"):
        assert re.search("not a regular file|Is a directory", refusal(tmp_path / name))


def test_own_symbolic_links_are_followed_and_those_of_others_refused(tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path))
    wrapped = LocalKek(f"local-kek://{link}").wrap(DATA_KEY, b"").ciphertext
    assert AESGCM(KEY).decrypt(wrapped[:12], wrapped[12:], b"") == DATA_KEY
    if os.geteuid() == 0:
        os.chown(link, 4242, 4242, follow_symlinks=False)
    else:
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert "symbolic link of another user" in refusal(link)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"secure-xcom-local-kek-1 ",
        LINE.replace(b"-1 ", b"-2 "),
        LINE.removeprefix(b"secure-xcom-local-kek-1 "),
        b" " + LINE,
        LINE.replace(b"\n", b"\r\n"),
        LINE + b"\n",
        LINE + LINE,
        LINE.replace(b" ", b"  "),
        LINE.replace(b"=", b""),
        b"secure-xcom-local-kek-1 " + base64.b64encode(KEY[:31]) + b"\n",
        b"secure-xcom-local-kek-1 " + base64.b64encode(KEY + b"x") + b"\n",
        b"secure-xcom-local-kek-1 " + base64.urlsafe_b64encode(b"\xff" * 32) + b"\n",
        # The last digit of base64 has two bits that nothing reads; they must be zero.
        b"secure-xcom-local-kek-1 " + base64.b64encode(KEY)[:-2] + b"N=\n",
        LINE.decode().encode("utf-16"),
        b"\xff" * 4096,
    ],
)
def test_a_malformed_file_is_refused(tmp_path, contents):
    assert contents != LINE
    assert "not a key file" in refusal(key_file(tmp_path, contents))


def test_the_line_may_lack_its_end(tmp_path):
    kek = LocalKek(f"local-kek://{key_file(tmp_path, LINE.rstrip())}")
    wrapped = kek.wrap(DATA_KEY, b"").ciphertext
    assert AESGCM(KEY).decrypt(wrapped[:12], wrapped[12:], b"") == DATA_KEY


def test_it_warns_once_that_it_is_for_a_laptop(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(local, "_warn_once", threading.Lock())
    path = key_file(tmp_path)
    with caplog.at_level(logging.INFO, logger="secure_xcom"):
        for _ in range(2):
            LocalKek(f"local-kek://{path}").wrap(DATA_KEY, b"")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "laptop" in record.getMessage()
    assert str(path) in record.getMessage()


@pytest.mark.parametrize(
    "uri",
    [
        "local-kek://",
        "local-kek://relative",
        "local-kek://host/path",
        "local-kek:///",
        "local-kek:////double",
        "local-kek:///a//b",
        "local-kek:///a/../b",
        "local-kek:///a/./b",
        "local-kek:///a/",
        "local-kek:///a\0b",
    ],
)
def test_a_uri_that_names_no_file_is_refused(uri):
    with pytest.raises(ConfigError, match="names no key"):
        open_kek(uri)


@pytest.mark.parametrize("uri", ["", "local-kek", "file:///key", "LOCAL-KEK:///a", "aws-kms://a"])
def test_an_unknown_scheme_is_refused(uri):
    with pytest.raises(ConfigError, match=r"gcp-kms://projects.* local-kek:///absolute/path"):
        open_kek(uri)
