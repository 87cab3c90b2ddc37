"""The body is Tink's: each opens what the other sealed, at every boundary (section 4).

So Tink also opens the object of an offloaded XCom as it lies in the store.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from dataclasses import replace

import pytest
import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2
from vectors import generate, reader
from vectors.case import load

from secure_xcom.errors import AuthenticationError
from secure_xcom.format import body

FIRST = 1_048_520
FURTHER = 1_048_560
SIZES = [1, 256, *(FIRST + count * FURTHER + by for count in range(3) for by in (-1, 0, 1))]
OFFLOADED = sorted(
    name for name in generate.objects() if name.startswith("good-") and "state" not in name
)
ASSOCIATED_DATA = hashlib.sha256(b"a header").digest()


@pytest.fixture(scope="module", autouse=True)
def _registered():
    streaming_aead.register()


def primitive(key: bytes) -> streaming_aead.StreamingAead:
    """Tink's AES256_GCM_HKDF_1MB under a key of our own."""
    template = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKeyFormat.FromString(
        streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB.value
    )
    assert template.params.ciphertext_segment_size == 1_048_576
    assert template.params.hkdf_hash_type == common_pb2.SHA256
    proto = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0, params=template.params, key_value=key
    )
    keyset = tink_pb2.Keyset(
        primary_key_id=1,
        key=[
            tink_pb2.Keyset.Key(
                key_data=tink_pb2.KeyData(
                    type_url=streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB.type_url,
                    value=proto.SerializeToString(),
                    key_material_type=tink_pb2.KeyData.SYMMETRIC,
                ),
                status=tink_pb2.ENABLED,
                key_id=1,
                output_prefix_type=tink_pb2.RAW,
            )
        ],
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


class Kept(io.BytesIO):
    """Tink closes what it wrote to; this can still be read then."""

    contents = b""

    def close(self) -> None:
        self.contents = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_what_we_seal(size):
    key, payload = os.urandom(32), os.urandom(size)
    sealed = b"".join(body.seal(key, ASSOCIATED_DATA, [payload], os.urandom(body.RANDOM_BYTES)))
    assert len(sealed) == body.body_length(size)
    with primitive(key).new_decrypting_stream(io.BytesIO(sealed), ASSOCIATED_DATA) as stream:
        assert stream.read() == payload


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_tink_seals(size):
    key, payload, sink = os.urandom(32), os.urandom(size), Kept()
    with primitive(key).new_encrypting_stream(sink, ASSOCIATED_DATA) as stream:
        stream.write(payload)
    assert (
        b"".join(body.open_(key, ASSOCIATED_DATA, [sink.contents], len(sink.contents))) == payload
    )


def test_tink_takes_bytes_after_a_full_last_segment_and_we_do_not():
    """Why the reader takes as last the segment in which the envelope ends."""
    key, payload = os.urandom(32), os.urandom(FIRST)
    sealed = b"".join(
        body.seal(key, ASSOCIATED_DATA, [payload], os.urandom(body.RANDOM_BYTES))
    ) + bytes(17)
    with primitive(key).new_decrypting_stream(io.BytesIO(sealed), ASSOCIATED_DATA) as stream:
        assert stream.read() == payload
    with pytest.raises(AuthenticationError):
        list(body.open_(key, ASSOCIATED_DATA, [sealed], len(sealed)))


@pytest.mark.parametrize("name", OFFLOADED)
def test_tink_opens_the_very_object_of_a_vector(name):
    vector = load(name, (generate.FILES / f"{name}.txt").read_text(encoding="utf-8"))
    preamble, rest = reader.split(base64.b64decode(json.loads(vector.row)["preamble"]))
    assert rest == b""
    key = reader.derived("content", bytes.fromhex(vector.data_key), preamble)
    data = generate.objects()[name]
    assert hashlib.sha256(data).hexdigest() == vector.object_sha256
    with primitive(key).new_decrypting_stream(io.BytesIO(data), preamble.hh) as stream:
        codec, compression, raw = reader.payload(vector, stream.read())
    assert vector.encoded == {
        "codec": codec,
        "compression": compression,
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }


@pytest.mark.parametrize("changed", ["key", "hh"])
def test_tink_does_not_open_it_under_another_key_or_header(changed):
    """The salt of the header goes into the key: the data key alone is not enough."""
    vector = load(
        "good-offloaded", (generate.FILES / "good-offloaded.txt").read_text(encoding="utf-8")
    )
    preamble, _ = reader.split(base64.b64decode(json.loads(vector.row)["preamble"]))
    dek = bytes.fromhex(vector.data_key)
    key, hh = reader.derived("content", dek, preamble), preamble.hh
    if changed == "key":
        key = reader.derived("content", dek, replace(preamble, salt=bytes(32)))
    else:
        hh = bytes(32)
    data = generate.objects()["good-offloaded"]
    with (
        primitive(key).new_decrypting_stream(io.BytesIO(data), hh) as stream,
        pytest.raises(tink.TinkError),
    ):
        stream.read()
