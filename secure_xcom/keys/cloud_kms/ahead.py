"""Unwraps that no thread waits for, one attempt each.

They go over the channel of Google's client, with its credentials and its messages, but not through
its methods: these take a thread each, and twice the CPU (`docs/decisions/0147`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import google_crc32c

from secure_xcom import forks
from secure_xcom.format.envelope import DATA_KEY_BYTES, correlation_id
from secure_xcom.model import WrappedKey

if TYPE_CHECKING:
    from google.cloud.kms_v1 import KeyManagementServiceClient

#: Begins an attempt, and says whether it has. What is handed to it gets the data key in a thread of
#: gRPC's, or None where there was no answer that passes its checks.
Begin: TypeAlias = "Callable[[WrappedKey, bytes, Callable[[bytes | None], None]], bool]"

_METHOD = "/google.cloud.kms.v1.KeyManagementService/Decrypt"


def reason(aad: bytes) -> tuple[str, str]:
    """The header whose text Cloud Audit Logs show as `requestMetadata.requestAttributes.reason`.

    See https://cloud.google.com/apis/docs/system-parameters and
    https://cloud.google.com/logging/docs/reference/audit/auditlog/rest/Shared.Types/AuditLog.
    """
    return ("x-goog-request-reason", correlation_id(aad))


def beginner(
    client: KeyManagementServiceClient, key_name: str, attempt_seconds: float
) -> Begin | None:
    """What begins unwraps with a key; None if the client has no channel of gRPC's.

    Args:
        client: the client of this process, which has been answered before.
        key_name: what Cloud KMS calls the key.
        attempt_seconds: how long an attempt may take.
    """
    channel = getattr(client.transport, "grpc_channel", None)
    if channel is None:
        return None
    from google.api_core.gapic_v1.routing_header import to_grpc_metadata  # noqa: PLC0415
    from google.cloud.kms_v1 import DecryptRequest, DecryptResponse  # noqa: PLC0415

    request_type, answer_type = DecryptRequest.pb(), DecryptResponse.pb()
    decrypt = channel.unary_unary(
        _METHOD,
        request_serializer=request_type.SerializeToString,
        response_deserializer=answer_type.FromString,
    )
    forks.wait_before_others()
    routing = to_grpc_metadata((("name", key_name),))  # type: ignore[no-untyped-call]

    def begin(wrapped: WrappedKey, aad: bytes, take: Callable[[bytes | None], None]) -> bool:
        request = request_type(
            name=key_name,
            ciphertext=wrapped.ciphertext,
            ciphertext_crc32c={"value": google_crc32c.value(wrapped.ciphertext)},
            additional_authenticated_data=aad,
            additional_authenticated_data_crc32c={"value": google_crc32c.value(aad)},
        )
        end = forks.calls.begin()

        def ended(call: Any) -> None:  # noqa: ANN401 - gRPC declares no types
            try:
                take(_data_key(call))
            finally:
                end()

        try:
            metadata = (routing, reason(aad))
            call = decrypt.future(request, timeout=attempt_seconds, metadata=metadata)
        except BaseException as error:
            end()
            if isinstance(error, Exception):
                return False
            raise
        call.add_done_callback(ended)
        return True

    return begin


def _data_key(call: Any) -> bytes | None:  # noqa: ANN401 - gRPC declares no types
    try:
        answer = call.result()
    except Exception:  # noqa: BLE001 - the reason is told to whoever asks again
        return None
    plaintext: bytes = answer.plaintext
    checksum = answer.plaintext_crc32c
    if not answer.HasField("plaintext_crc32c") or checksum.value != google_crc32c.value(plaintext):
        return None
    return plaintext if len(plaintext) == DATA_KEY_BYTES else None
