"""A deployment with services that fail on request, and what is done with it.

The clients are the real ones. Their deadlines are set to a second or two, so that a fault that
stays is over soon; the defaults are longer, and the mechanism is the same.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self
from unittest.mock import patch

from google.oauth2.credentials import Credentials
from servers.fault_proxy import FaultProxy
from servers.gcs import GcsServer
from servers.kms import URI, KmsServer, secure_client
from servers.relay import Relay

from secure_xcom.errors import SecureXComError
from secure_xcom.keys.cloud_kms import kek as cloud_kms
from secure_xcom.keys.local import create_key_file
from secure_xcom.model import Coordinate, Expected
from secure_xcom.settings import TABLE, load
from secure_xcom.stack import build, build_states
from secure_xcom.stores.gcs import client, retry

if TYPE_CHECKING:
    from secure_xcom.layers.states import States
    from secure_xcom.stack import Stack

#: What one call to Cloud KMS may take (gRPC connects again after a second), and an exchange with
#: the store that makes no progress.
KMS_DEADLINE_SECONDS = 2
STORE_DEADLINE_SECONDS = 1
WHERE = Coordinate("dag", "run", "task", -1, "key")
ASKED = Expected.exactly(WHERE)


class Scene:
    """The services, and one deployment after the other in them."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.gcs = stack.enter_context(GcsServer())
            self.proxies = {
                "http": stack.enter_context(FaultProxy(self.gcs.url)),
                "https": stack.enter_context(FaultProxy(self.gcs.url, tls=True)),
            }
            stack.enter_context(patch.dict(os.environ, self.proxies["https"].environment))
            self.kms = stack.enter_context(KmsServer())
            self.kms.create_key()
            self.line = stack.enter_context(Relay(self.kms.secure_port))
            self.tokens = stack.enter_context(Relay(int(self.gcs.url.rpartition(":")[2])))
            self._home = Path(tempfile.mkdtemp(prefix="reliability-"))
            stack.callback(shutil.rmtree, self._home, ignore_errors=True)
            create_key_file(self._home / "kek")
            for module, name, value in (
                (cloud_kms, "ATTEMPT_SECONDS", 0.4),
                (cloud_kms, "BACKOFF_SECONDS", (0.01, 0.1)),
                (cloud_kms, "make_client", self._kms_client),
                (retry, "TIMEOUT_SECONDS", (0.5, 0.5)),
                (retry, "DEADLINE_SECONDS", float(STORE_DEADLINE_SECONDS)),
                (retry, "BACKOFF_SECONDS", (0.01, 0.1)),
                (client, "make_client", lambda _: self.proxy.make_client()),
            ):
                stack.enter_context(patch.object(module, name, value))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def begin(self, service: str, transport: str) -> None:
        """A new deployment, in which all is well."""
        self.service = service
        self.proxy = self.proxies.get(transport, self.proxies["http"])
        self.credentials = Credentials("a-token")
        self.heal()
        if service == "gs":
            self.bucket = self.gcs.create_bucket(f"bucket-{secrets.token_hex(8)}")
            store_uri = f"gs://{self.bucket}/xcom"
        else:
            self.folder = self._home / secrets.token_hex(8)
            store_uri = f"file://{self.folder}"
        bounds = {
            "kms_deadline_seconds": str(KMS_DEADLINE_SECONDS),
            "store_deadline_seconds": str(STORE_DEADLINE_SECONDS),
        }
        self._settings = load(
            {
                "store_uri": store_uri,
                "kek_uri": URI if service == "kms" else f"local-kek://{self._home}/kek",
                "threshold_bytes": "-1" if service == "kms" else "0",
                "compression": "none",
                **{row.name: bounds[row.name] for row in TABLE if row.name in bounds},
            },
            None,
            None,
        )

    def heal(self) -> None:
        """No fault from now on."""
        for proxy in self.proxies.values():
            proxy.reset()
        self.kms.traffic.reset()
        self.kms.deny()
        for relay in (self.line, self.tokens):
            relay.fail("pass", 0)

    def stack(self) -> Stack:
        """XComs as a process that has just started sees them."""
        return build(self._settings)

    def states(self) -> States:
        """States as a process that has just started sees them."""
        return build_states(self._settings, "task")

    def objects(self) -> list[str]:
        """What the store truly holds."""
        if self.service == "gs":
            return self.gcs.names(self.bucket)
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )

    def state(self) -> object:
        """The state that a reader gets when all is well; None where it is refused."""
        self.heal()
        states = self.states()
        try:
            return states.get(WHERE)
        except SecureXComError:
            return None

    def _kms_client(self, _credentials: object) -> object:
        return secure_client(self.line.address, self.kms.certificate.pem, self.credentials)
