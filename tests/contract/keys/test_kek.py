"""What every KEK must do, whatever keeps its key."""

from __future__ import annotations

import os
import pickle
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from servers.kms import KEY, KmsServer

from secure_xcom.errors import AuthenticationError, KeyServiceError, SecureXComError
from secure_xcom.keys.cloud_kms.kek import CloudKms
from secure_xcom.keys.local import LocalKek, create_key_file

AAD = b"secure-xcom/v1/dek\x00" + bytes(range(48))
DATA_KEY = os.urandom(32)


@pytest.fixture(scope="module")
def kms():
    with KmsServer() as server:
        server.create_key(KEY)
        server.create_key(KEY + "-foreign")
        yield server


@pytest.fixture(params=["local", "cloud"])
def keks(request, tmp_path):
    """A KEK and a foreign one."""
    if request.param == "cloud":
        server = request.getfixturevalue("kms")
        return [
            CloudKms(f"gcp-kms://{KEY}{suffix}", make_client=server.make_client)
            for suffix in ("", "-foreign")
        ]
    paths = [tmp_path / "own", tmp_path / "foreign"]
    for path in paths:
        create_key_file(path)
    return [LocalKek(f"local-kek://{path}") for path in paths]


@pytest.fixture
def kek(keks):
    return keks[0]


def test_what_was_wrapped_is_unwrapped(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    assert wrapped.kek_uri == kek.uri
    assert 1 <= len(wrapped.ciphertext) <= 2048
    assert kek.unwrap(wrapped, AAD) == DATA_KEY
    examined = kek.examine(wrapped, AAD)
    assert (examined.data_key, examined.used_primary) == (DATA_KEY, True)
    assert DATA_KEY.hex() not in repr(examined)
    assert repr(DATA_KEY) not in repr(examined)


def test_empty_additional_data_is_data_too(kek):
    wrapped = kek.wrap(DATA_KEY, b"")
    assert kek.unwrap(wrapped, b"") == DATA_KEY
    with pytest.raises(AuthenticationError):
        kek.unwrap(wrapped, b"\x00")


def test_wrapping_twice_gives_two_ciphertexts_and_neither_shows_the_key(kek):
    one, other = (kek.wrap(DATA_KEY, AAD).ciphertext for _ in range(2))
    assert one != other
    for ciphertext in (one, other):
        assert not any(DATA_KEY[i : i + 4] in ciphertext for i in range(29))


def test_the_version_is_shown_and_not_used(kek):
    wrapped = replace(kek.wrap(DATA_KEY, AAD), unverified_version="999")
    assert kek.unwrap(wrapped, AAD) == DATA_KEY


@pytest.mark.parametrize(
    "aad",
    [b"", AAD[:-1], AAD + b"\x00", bytes((AAD[0] ^ 1,)) + AAD[1:], AAD[:-1] + b"\xff"],
    ids=["empty", "shorter", "longer", "other start", "other end"],
)
def test_other_additional_data_is_refused(kek, aad):
    wrapped = kek.wrap(DATA_KEY, AAD)
    with pytest.raises(AuthenticationError):
        kek.unwrap(wrapped, aad)


def test_each_flipped_byte_is_refused(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    for position in range(len(wrapped.ciphertext)):
        damaged = bytearray(wrapped.ciphertext)
        damaged[position] ^= 1
        with pytest.raises(AuthenticationError):
            kek.unwrap(replace(wrapped, ciphertext=bytes(damaged)), AAD)


def test_each_truncation_and_an_extension_are_refused(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    for length in range(len(wrapped.ciphertext)):
        with pytest.raises(AuthenticationError):
            kek.unwrap(replace(wrapped, ciphertext=wrapped.ciphertext[:length]), AAD)
    with pytest.raises(AuthenticationError):
        kek.unwrap(replace(wrapped, ciphertext=wrapped.ciphertext + b"\x00"), AAD)


def test_a_foreign_key_opens_nothing(keks):
    own, foreign = keks
    with pytest.raises(AuthenticationError):
        foreign.unwrap(own.wrap(DATA_KEY, AAD), AAD)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_data_key_has_32_bytes(kek, length):
    with pytest.raises(KeyServiceError, match=rf"32 bytes, not {length}\b"):
        kek.wrap(bytes(length), AAD)


def test_threads_may_share_it(kek):
    def there_and_back(number):
        data_key = bytes((number,)) * 32
        return kek.unwrap(kek.wrap(data_key, AAD), AAD) == data_key

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(there_and_back, range(64)))


def test_nothing_that_prints_shows_a_key(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    secrets = [DATA_KEY.hex(), repr(DATA_KEY), wrapped.ciphertext.hex(), repr(wrapped.ciphertext)]
    with pytest.raises(SecureXComError) as caught:
        kek.unwrap(replace(wrapped, ciphertext=wrapped.ciphertext[:-1]), AAD)
    printed = [repr(kek), repr(wrapped), *traceback.format_exception(caught.value)]
    assert kek.uri in repr(kek)
    assert not any(secret in text for secret in secrets for text in printed)


def test_its_errors_pickle(kek):
    wrapped = kek.wrap(DATA_KEY, AAD)
    for attempt in (lambda: kek.unwrap(wrapped, b"other"), lambda: kek.wrap(b"", AAD)):
        with pytest.raises(SecureXComError) as caught:
            attempt()
        copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - of our own making
        assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
