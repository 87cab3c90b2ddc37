"""A Cloud KMS in memory: real gRPC, real messages, real AES-GCM, and faults on request.

It serves the methods that `google-cloud-kms` calls for symmetric keys, with versions, rotation,
states, CRC32C fields, permissions and limits as the service documents them. In a test:

    with KmsServer() as kms:
        kms.create_key()
        kek = CloudKms(URI, make_client=kms.make_client)

For programs that run elsewhere, `KmsServer(directory)` has an `environment` that leads them here
(`servers/front.py`). As a process: `python tests/servers/kms.py --ready-file FILE`; the file gets
a JSON object with `address`, for `Remote`, and `environment`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import google_crc32c
import grpc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.auth.transport.grpc import AuthMetadataPlugin
from google.auth.transport.requests import Request
from google.cloud.kms_v1.services.key_management_service import KeyManagementServiceClient
from google.cloud.kms_v1.services.key_management_service.transports import (
    KeyManagementServiceGrpcTransport,
)
from google.cloud.kms_v1.types import resources, service
from google.iam.v1 import iam_policy_pb2, policy_pb2

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from servers.certificate import Certificate
from servers.front import Front
from servers.wire import Refused, Traffic, control

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

HOST = "cloudkms.googleapis.com"
KEY = "projects/test-project/locations/europe-west3/keyRings/airflow/cryptoKeys/xcom"
URI = f"gcp-kms://{KEY}"
LIMIT_BYTES = 65_536
STATES = resources.CryptoKeyVersion.CryptoKeyVersionState
SOFTWARE = resources.ProtectionLevel.SOFTWARE
ALGORITHM = resources.CryptoKeyVersion.CryptoKeyVersionAlgorithm.GOOGLE_SYMMETRIC_ENCRYPTION
PERMISSIONS = {
    "Encrypt": "cloudkms.cryptoKeyVersions.useToEncrypt",
    "Decrypt": "cloudkms.cryptoKeyVersions.useToDecrypt",
    "GetCryptoKey": "cloudkms.cryptoKeys.get",
    "ListCryptoKeyVersions": "cloudkms.cryptoKeyVersions.list",
}
#: How many versions a page of their list has at most.
PAGE_VERSIONS = 2
_MAGIC = b"kms-test\x01"
_HEAD_BYTES = len(_MAGIC) + 32 + 12


def crc32c(data: bytes) -> int:
    return google_crc32c.value(data)


def secure_client(address: str, pem: bytes, credentials: Credentials) -> KeyManagementServiceClient:
    """The real client, over TLS and with credentials, as in production but for the name."""
    plugin = AuthMetadataPlugin(credentials, Request())
    channel = grpc.secure_channel(
        address,
        grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(pem), grpc.metadata_call_credentials(plugin)
        ),
        options=[("grpc.use_local_subchannel_pool", 1), ("grpc.ssl_target_name_override", HOST)],
    )
    return KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=channel))


def client(address: str) -> KeyManagementServiceClient:
    """The real client, on a plain channel of its own."""
    channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
    return KeyManagementServiceClient(transport=KeyManagementServiceGrpcTransport(channel=channel))


class Key:
    """A symmetric key: its versions' material and states."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.material: dict[int, bytes] = {}
        self.states: dict[int, STATES] = {}
        self.created: dict[int, dt.datetime] = {}
        #: What the key is said to be, besides; by the names of `KmsServer.describe_key`.
        self.said: dict[str, object] = {}
        self.primary = self.add_version()

    def add_version(self) -> int:
        number = len(self.states) + 1
        self.material[number] = os.urandom(32)
        self.states[number] = STATES.ENABLED
        self.created[number] = dt.datetime.now(dt.UTC)
        return number

    def usable(self, number: int) -> AESGCM:
        if self.states[number] != STATES.ENABLED:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{self.name}/cryptoKeyVersions/{number} is not enabled, "
                f"current state is: {self.states[number].name}.",
            )
        return AESGCM(self.material[number])

    def version(self, number: int) -> resources.CryptoKeyVersion:
        is_doomed = self.states[number] == STATES.DESTROY_SCHEDULED
        return resources.CryptoKeyVersion(
            name=f"{self.name}/cryptoKeyVersions/{number}",
            state=self.states[number],
            create_time=self.created[number],
            destroy_time=dt.datetime.now(dt.UTC) + dt.timedelta(days=30) if is_doomed else None,
            protection_level=self.said.get("protection_level", SOFTWARE.name),
            algorithm=self.said.get("algorithm", ALGORITHM.name),
        )

    def describe(self) -> resources.CryptoKey:
        shown = self.version(self.primary)
        days = self.said.get("rotation_days")
        return resources.CryptoKey(
            name=self.name,
            primary=shown if self.said.get("has_primary", True) else None,
            purpose=self.said.get("purpose", "ENCRYPT_DECRYPT"),
            version_template={
                "protection_level": shown.protection_level,
                "algorithm": shown.algorithm,
            },
            rotation_period=dt.timedelta(days=days) if days else None,
            destroy_scheduled_duration=dt.timedelta(hours=self.said.get("destroy_hours", 720)),
        )


class KmsServer:
    """The service, and what a test arranges in it.

    Args:
        directory: with one, the server also stands behind a front, and `environment` leads to it.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.traffic = Traffic(CORRUPTIONS)
        self.environment: dict[str, str] = {}
        #: What Cloud Audit Logs would hold of each call, as far as tests look at it.
        self.audit_log: list[dict[str, object]] = []
        #: The fields that came without a checksum.
        self.unchecked: list[str] = []
        self._directory = directory
        self._front: Front | None = None
        self._lock = threading.RLock()
        self._keys: dict[str, Key] = {}
        self._denied: set[str] = set()
        #: IAM policies by the resource's name: roles, and who has each; `role?` has a condition.
        self.policies: dict[str, dict[str, list[str]]] = {}

    def __enter__(self) -> Self:
        self._grpc = grpc.server(
            ThreadPoolExecutor(max_workers=64), handlers=[*self._handlers(), control(self)]
        )
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self.certificate = Certificate(HOST)
        self.secure_port = self._grpc.add_secure_port(
            "127.0.0.1:0", self.certificate.server_credentials()
        )
        if self._directory is not None:
            ports = {HOST: self.secure_port}
            self._front = Front(ports, self.certificate, self._directory).__enter__()
            self.environment = self._front.environment
        self._grpc.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._front is not None:
            self._front.__exit__()
        self._grpc.stop(grace=None).wait()

    def make_client(self, _credentials: object = None) -> KeyManagementServiceClient:
        return client(self.address)

    def create_key(self, name: str = KEY) -> None:
        with self._lock:
            self._keys[name] = Key(name)

    def rotate(self, name: str = KEY) -> int:
        """Make a new version and encrypt with it from now on."""
        with self._lock:
            self._keys[name].primary = self._keys[name].add_version()
            return self._keys[name].primary

    def set_state(self, state: str, version: int = 1, name: str = KEY) -> None:
        """ENABLED, DISABLED, DESTROY_SCHEDULED, or DESTROYED, which erases the material."""
        with self._lock:
            self._keys[name].states[version] = STATES[state]
            if state == "DESTROYED":
                self._keys[name].material[version] = b""

    def date_version(self, days_ago: float, version: int = 1, name: str = KEY) -> None:
        """Have a version be older than it is."""
        with self._lock:
            self._keys[name].created[version] -= dt.timedelta(days=days_ago)

    def describe_key(self, name: str = KEY, **said: object) -> None:
        """Have the key say of itself what it is not: purpose, algorithm, protection_level,
        rotation_days, destroy_hours, has_primary."""
        with self._lock:
            self._keys[name].said |= said

    def deny(self, *permissions: str) -> None:
        """Withhold exactly these permissions from every caller."""
        self._denied = set(permissions)

    # The methods of the service.

    def _encrypt(self, request: service.EncryptRequest) -> service.EncryptResponse:
        plaintext, aad = request.plaintext, request.additional_authenticated_data
        verified_plaintext = self._check(plaintext, request.plaintext_crc32c, "plaintext")
        verified_aad = self._check(aad, request.additional_authenticated_data_crc32c, _AAD)
        key = self._key(request.name)
        number, nonce = key.primary, os.urandom(12)
        head = _MAGIC + hashlib.sha256(key.name.encode()).digest() + number.to_bytes(12, "big")
        ciphertext = head + nonce + key.usable(number).encrypt(nonce, plaintext, head + aad)
        return service.EncryptResponse(
            name=f"{key.name}/cryptoKeyVersions/{number}",
            ciphertext=ciphertext,
            ciphertext_crc32c=crc32c(ciphertext),
            verified_plaintext_crc32c=verified_plaintext,
            verified_additional_authenticated_data_crc32c=verified_aad,
            protection_level=SOFTWARE,
        )

    def _decrypt(self, request: service.DecryptRequest) -> service.DecryptResponse:
        ciphertext, aad = request.ciphertext, request.additional_authenticated_data
        self._check(ciphertext, request.ciphertext_crc32c, "ciphertext")
        self._check(aad, request.additional_authenticated_data_crc32c, _AAD)
        key = self._key(request.name)
        head, rest = ciphertext[:_HEAD_BYTES], ciphertext[_HEAD_BYTES:]
        number = int.from_bytes(head[-12:], "big")
        known = head[:-12] == _MAGIC + hashlib.sha256(key.name.encode()).digest()
        if not known or number not in key.states:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
            )
        try:
            plaintext = key.usable(number).decrypt(rest[:12], rest[12:], head + aad)
        except (InvalidTag, ValueError):
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, "Decryption failed: the ciphertext is invalid."
            ) from None
        return service.DecryptResponse(
            plaintext=plaintext,
            plaintext_crc32c=crc32c(plaintext),
            used_primary=number == key.primary,
            protection_level=SOFTWARE,
        )

    def _get(self, request: service.GetCryptoKeyRequest) -> resources.CryptoKey:
        return self._key(request.name).describe()

    def _list(
        self, request: service.ListCryptoKeyVersionsRequest
    ) -> service.ListCryptoKeyVersionsResponse:
        key = self._key(request.parent)
        # The newest first, since the service promises no order.
        numbers = sorted(key.states, reverse=True)
        first = int(request.page_token or 0)
        after = first + PAGE_VERSIONS
        return service.ListCryptoKeyVersionsResponse(
            crypto_key_versions=[key.version(number) for number in numbers[first:after]],
            next_page_token=str(after) if after < len(numbers) else "",
            total_size=len(numbers),
        )

    def _add(self, request: service.CreateCryptoKeyVersionRequest) -> resources.CryptoKeyVersion:
        key = self._key(request.parent)
        return key.version(key.add_version())

    def _promote(
        self, request: service.UpdateCryptoKeyPrimaryVersionRequest
    ) -> resources.CryptoKey:
        key = self._key(request.name)
        key.primary = int(request.crypto_key_version_id)
        return key.describe()

    def _update(self, request: service.UpdateCryptoKeyVersionRequest) -> resources.CryptoKeyVersion:
        return self._change(request.crypto_key_version.name, request.crypto_key_version.state)

    def _destroy(
        self, request: service.DestroyCryptoKeyVersionRequest
    ) -> resources.CryptoKeyVersion:
        return self._change(request.name, STATES.DESTROY_SCHEDULED)

    def _restore(
        self, request: service.RestoreCryptoKeyVersionRequest
    ) -> resources.CryptoKeyVersion:
        return self._change(request.name, STATES.DISABLED)

    def _test_permissions(
        self, request: iam_policy_pb2.TestIamPermissionsRequest
    ) -> iam_policy_pb2.TestIamPermissionsResponse:
        # The service says nothing of whether there is such a key.
        asked = request.permissions if request.resource in self._keys else ()
        return iam_policy_pb2.TestIamPermissionsResponse(
            permissions=[name for name in asked if name not in self._denied]
        )

    def _policy(self, request: iam_policy_pb2.GetIamPolicyRequest) -> policy_pb2.Policy:
        kind = "cryptoKeys" if "/cryptoKeys/" in request.resource else "keyRings"
        if (permission := f"cloudkms.{kind}.getIamPolicy") in self._denied:
            raise Refused(grpc.StatusCode.PERMISSION_DENIED, f"Permission '{permission}' denied.")
        roles = self.policies.get(request.resource, {})
        # The service leaves bindings with conditions out where they were not asked for.
        shown = {r: m for r, m in roles.items() if not r.endswith("?") or _asks_conditions(request)}
        return policy_pb2.Policy(
            version=request.options.requested_policy_version,
            bindings=[
                policy_pb2.Binding(
                    role=role.removesuffix("?"),
                    members=members,
                    condition={"expression": "true"} if role.endswith("?") else None,
                )
                for role, members in shown.items()
            ],
        )

    def _check(self, data: bytes, sent_crc32c: int | None, field: str) -> bool:
        """As the service does: too long or damaged is an error; verified says a sum was sent."""
        if len(data) > LIMIT_BYTES:
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT, f"{field} is longer than {LIMIT_BYTES}."
            )
        if sent_crc32c is None:
            self.unchecked.append(field)
        elif sent_crc32c != crc32c(data):
            raise Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"The checksum in field {field}_crc32c did not match the data in field {field}.",
            )
        return sent_crc32c is not None

    def _key(self, name: str) -> Key:
        if name not in self._keys:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"CryptoKey {name} not found.")
        return self._keys[name]

    def _change(self, version_name: str, state: STATES) -> resources.CryptoKeyVersion:
        name, _, number = version_name.partition("/cryptoKeyVersions/")
        key = self._key(name)
        key.states[int(number)] = state
        return key.version(int(number))

    def _handlers(self) -> list[grpc.GenericRpcHandler]:
        methods = {
            "Encrypt": (self._encrypt, service.EncryptRequest),
            "Decrypt": (self._decrypt, service.DecryptRequest),
            "GetCryptoKey": (self._get, service.GetCryptoKeyRequest),
            "ListCryptoKeyVersions": (self._list, service.ListCryptoKeyVersionsRequest),
            "CreateCryptoKeyVersion": (self._add, service.CreateCryptoKeyVersionRequest),
            "UpdateCryptoKeyPrimaryVersion": (
                self._promote,
                service.UpdateCryptoKeyPrimaryVersionRequest,
            ),
            "UpdateCryptoKeyVersion": (self._update, service.UpdateCryptoKeyVersionRequest),
            "DestroyCryptoKeyVersion": (self._destroy, service.DestroyCryptoKeyVersionRequest),
            "RestoreCryptoKeyVersion": (self._restore, service.RestoreCryptoKeyVersionRequest),
        }
        kms = {
            name: self.traffic.handler(
                name,
                self._guarded(name, serve),
                request.deserialize,
                lambda a: type(a).serialize(a),
            )
            for name, (serve, request) in methods.items()
        }
        iam = self.traffic.handler(
            "TestIamPermissions",
            self._guarded("TestIamPermissions", self._test_permissions),
            iam_policy_pb2.TestIamPermissionsRequest.FromString,
            iam_policy_pb2.TestIamPermissionsResponse.SerializeToString,
        )
        policy = self.traffic.handler(
            "GetIamPolicy",
            self._guarded("GetIamPolicy", self._policy),
            iam_policy_pb2.GetIamPolicyRequest.FromString,
            policy_pb2.Policy.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler("google.cloud.kms.v1.KeyManagementService", kms),
            grpc.method_handlers_generic_handler(
                "google.iam.v1.IAMPolicy", {"TestIamPermissions": iam, "GetIamPolicy": policy}
            ),
        ]

    def _guarded(self, name: str, serve):
        def guarded(request: object, context: grpc.ServicerContext) -> object:
            encrypted = context.auth_context().get("transport_security_type") == [b"ssl"]
            metadata = dict(context.invocation_metadata())
            token = metadata.get("authorization", "")
            reason = metadata.get("x-goog-request-reason")
            self.audit_log.append(
                {
                    "methodName": name,
                    "resourceName": getattr(request, "name", ""),
                    "requestMetadata": {
                        "callerSuppliedUserAgent": metadata.get("user-agent", ""),
                        "requestAttributes": {} if reason is None else {"reason": reason},
                    },
                }
            )
            if encrypted and not token.startswith("Bearer "):
                raise Refused(grpc.StatusCode.UNAUTHENTICATED, "The request has no credentials.")
            if (permission := PERMISSIONS.get(name)) in self._denied:
                raise Refused(
                    grpc.StatusCode.PERMISSION_DENIED,
                    f"Permission '{permission}' denied on resource "
                    f"'{getattr(request, 'name', '') or request.parent}' "
                    "(or it may not exist).",
                )
            with self._lock:
                return serve(request)

        return guarded


def _asks_conditions(request: iam_policy_pb2.GetIamPolicyRequest) -> bool:
    return request.options.requested_policy_version >= 3


def _serialize(answer: object) -> bytes:
    return type(answer).serialize(answer)


_AAD = "additional_authenticated_data"


def _set(answer: object, data: bytes, checksum: int | None) -> None:
    field = "ciphertext" if isinstance(answer, service.EncryptResponse) else "plaintext"
    setattr(answer, field, data)
    setattr(answer, f"{field}_crc32c", checksum)


def _data(answer: object) -> bytes:
    return answer.ciphertext if isinstance(answer, service.EncryptResponse) else answer.plaintext


def _flip(data: bytes) -> bytes:
    return bytes((data[0] ^ 1,)) + data[1:]


#: What `traffic.corrupt` can do to an answer on its way back.
CORRUPTIONS = {
    "crc32c": lambda answer: _set(answer, _data(answer), crc32c(_data(answer)) ^ 1),
    "no_crc32c": lambda answer: _set(answer, _data(answer), None),
    "bytes": lambda answer: _set(answer, _flip(_data(answer)), crc32c(_data(answer))),
    "empty": lambda answer: _set(answer, b"", 0),
    "short": lambda answer: _set(answer, _data(answer)[:16], crc32c(_data(answer)[:16])),
    "other_key": lambda answer: setattr(
        answer, "name", answer.name.replace("/cryptoKeyVersions/", "2/cryptoKeyVersions/")
    ),
    "no_version": lambda answer: setattr(answer, "name", answer.name.rpartition("/")[0]),
    "unverified_plaintext": lambda answer: setattr(answer, "verified_plaintext_crc32c", False),
    "unverified_aad": lambda answer: setattr(
        answer, "verified_additional_authenticated_data_crc32c", False
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A Cloud KMS in memory.")
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--key", action="append", help=f"a key to begin with; else {KEY}")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with KmsServer(options.ready_file.parent) as server:
        for name in options.key or [KEY]:
            server.create_key(name)
        aside = options.ready_file.with_suffix(".part")
        aside.write_text(
            json.dumps({"address": server.address, "environment": server.environment}),
            encoding="utf-8",
        )
        aside.rename(options.ready_file)
        stopped.wait()


if __name__ == "__main__":
    main()
