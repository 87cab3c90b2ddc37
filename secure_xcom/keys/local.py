"""KEKs in files, for laptops and tests: `local-kek:///absolute/path`.

The file holds one ASCII line, `secure-xcom-local-kek-1 <base64 of 32 bytes>`. A wrapped key is a
random 96-bit nonce and the AES-256-GCM ciphertext of the data key (`docs/format.md`, section 3.1).
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import shlex
import stat
import threading
from concurrent.futures import Future
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secure_xcom import signals
from secure_xcom.errors import AuthenticationError, ConfigError, KeyServiceError
from secure_xcom.format.envelope import DATA_KEY_BYTES
from secure_xcom.keys.protocol import Unwrapped
from secure_xcom.model import WrappedKey
from secure_xcom.uris import LOCAL_KEK, parse_kek

_LABEL = b"secure-xcom-local-kek-1 "
_KEY_BYTES = 32
_LINE_BYTES_MAX = 128
_NONCE_BYTES = 12
_WRAPPED_BYTES = _NONCE_BYTES + DATA_KEY_BYTES + 16

_log = logging.getLogger(__name__)
_warn_once = threading.Lock()


class LocalKek:
    """A key in a file that only its owner may read; threads may share it.

    Args:
        uri: `local-kek://` and the absolute path of the file, taken literally.

    Raises:
        ConfigError: the URI names no key file.
    """

    def __init__(self, uri: str) -> None:
        path = parse_kek(uri)
        if not isinstance(path, Path):
            raise ConfigError(f"{uri!r} names no key file; {LOCAL_KEK}/absolute/path does.")
        self._uri = uri
        self._path = path
        self._aead: AESGCM | None = None

    def __repr__(self) -> str:
        return f"LocalKek({self._uri!r})"

    @property
    def uri(self) -> str:
        """The URI that the key was opened by."""
        return self._uri

    def wrap(self, data_key: bytes, aad: bytes) -> WrappedKey:
        """Encrypt a data key with the file's key (`Kek.wrap`).

        Raises:
            ConfigError: there is no key file, or it cannot be used as it is.
        """
        if len(data_key) != DATA_KEY_BYTES:
            raise KeyServiceError(f"A data key has {DATA_KEY_BYTES} bytes, not {len(data_key)}.")
        nonce = os.urandom(_NONCE_BYTES)
        return WrappedKey(self._uri, nonce + self._key().encrypt(nonce, data_key, aad))

    def unwrap_ahead(self, _wrapped: WrappedKey, _aad: bytes, _data_key: Future[bytes]) -> bool:
        """Never begins: nothing is gained where no service is called (`Kek.unwrap_ahead`)."""
        return False

    def unwrap(self, wrapped: WrappedKey, aad: bytes) -> bytes:
        """Decrypt a data key with the file's key (`Kek.unwrap`)."""
        return self.examine(wrapped, aad).data_key

    def examine(self, wrapped: WrappedKey, aad: bytes) -> Unwrapped:
        """Decrypt a data key with the file's key, which is its only version (`Kek.examine`).

        Raises:
            ConfigError: there is no key file, or it cannot be used as it is.
        """
        if len(wrapped.ciphertext) != _WRAPPED_BYTES:
            raise AuthenticationError
        nonce, sealed = wrapped.ciphertext[:_NONCE_BYTES], wrapped.ciphertext[_NONCE_BYTES:]
        try:
            return Unwrapped(self._key().decrypt(nonce, sealed, aad), used_primary=True)
        except InvalidTag as error:
            raise AuthenticationError from error

    def _key(self) -> AESGCM:
        if self._aead is None:
            self._aead = AESGCM(_read_key_file(self._path))
            if _warn_once.acquire(blocking=False):
                _log.warning(
                    "The key %s is a file beside the data that it protects: good for a laptop, "
                    "not for a deployment. Set `kek_uri` to a gcp-kms:// key there.",
                    self._uri,
                )
        return self._aead


def create_key_file(path: str | os.PathLike[str]) -> None:
    """Write a new random key to a file that does not exist yet, readable by its owner only.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    line = _LABEL + base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n"
    try:
        with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise ConfigError(
            f"{path} exists already. A new key there would make unreadable what the present one "
            "has sealed; remove the file first if that is meant."
        ) from error
    except OSError as error:
        if signals.is_callers(error):
            raise
        raise ConfigError(f"The key file {path} cannot be written: {error.strerror}.") from error


def _read_key_file(path: Path) -> bytes:
    try:
        link = path.lstat()
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (os.geteuid(), 0):
            raise ConfigError(
                f"{path} is a symbolic link of another user, who could point it at another key. "
                "Name the file itself in `kek_uri`."
            )
        follow = 0 if stat.S_ISLNK(link.st_mode) else os.O_NOFOLLOW
        # Without O_NONBLOCK, a named pipe in the file's place would hang the task.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | follow)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - it is a descriptor
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{path} is not a regular file. Name a key file in `kek_uri`.")
            if mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"The key file {path} is open to others than its owner (mode "
                    f"{stat.S_IMODE(mode):04o}). Close it: chmod 600 {path}"
                )
            line = file.read(_LINE_BYTES_MAX)
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no key file {path}. If one was there, restore it: nothing else opens what "
            f"it sealed. To create a new one: secure-xcom init {shlex.quote(str(path))}"
        ) from error
    except OSError as error:
        if signals.is_callers(error):
            raise
        raise ConfigError(f"The key file {path} cannot be read: {error.strerror}.") from error
    return _parse_key_file(line, path)


def _parse_key_file(line: bytes, path: Path) -> bytes:
    try:
        text = line.removeprefix(_LABEL).removesuffix(b"\n")
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES or line.removesuffix(b"\n") != _LABEL + base64.b64encode(key):
        # No cause: its traceback would lead to the file's contents.
        raise ConfigError(
            f"{path} is not a key file: one line is expected, `{_LABEL.decode()}` and 32 bytes in "
            "base64. If it was a key file, restore it from a copy."
        )
    return key
