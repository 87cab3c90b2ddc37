"""What is authentic and yet not what its codec writes: an error of the tree, with no contents.

Only who holds the key can make these; another release of a library can, too.
"""

from __future__ import annotations

import base64
import struct

import pytest
from support.deployment import CANARY, WHERE, exactly, refused
from vectors import construct

from secure_xcom.errors import FormatError
from secure_xcom.model import CodecId

TEXT = CANARY.encode()
#: A MessagePack map of one member that holds the canary.
TREE = b"\x81\xa4card\xb3" + TEXT
NPY = b"\x93NUMPY\x01\x00"
HEADER = b"{'descr': '%s', 'fortran_order': False, 'shape': (%d,), }"


def document(tree, parts=b""):
    return struct.pack(">Q", len(tree)) + tree + parts


def npy(descr, length, data=b""):
    header = (HEADER % (descr, length)).ljust(117) + b"\n"
    return NPY + struct.pack("<H", len(header)) + header + data


JUNK = {
    "nothing": b"",
    "zero": b"\0",
    "text": TEXT * 5,
    "json": b'{"card": "%s"}' % TEXT,
    "pickle": b"\x80\x04\x95\x17\x00\x00\x00\x00\x00\x00\x00\x8c\x13" + TEXT + b"\x94.",
    "tree-and-more": document(TREE + TEXT),
    "tree-cut": document(TREE[:-1]),
    "tree-and-part": document(TREE, TEXT),
    "not-utf8": document(b"\xb3\xff" + TEXT[1:]),
    "unknown-extension": document(b"\x91\xc7\x13\x09" + TEXT),
    "object-scalar": document(b"\x91\xc7\x18\x05\x04|O08" + TEXT),
    "part-of-document": document(b"\xc7\x09\x01\x01" + struct.pack(">Q", len(TREE)), TREE),
    "deep": document(b"\x91" * 10_000 + b"\xc0"),
    "claims-elements": document(b"\xdd\x00\xff\xff\xff" + TEXT),
    "claims-bytes": document(b"\xc6\xff\xff\xff\xff" + TEXT),
    "array-of-objects": npy(b"|O8", 2, TEXT),
    "array-cut": npy(b"|S19", 2, TEXT),
    "array-claims": npy(b"|S19", 2**40, TEXT),
    "array-header": NPY + struct.pack("<H", 190) + TEXT * 10,
    "array-code": npy(b"'+print('" + TEXT + b"')+'", 1),
    "arrow-file": b"ARROW1\0\0" + TEXT * 5,
    "arrow-stream": struct.pack(">Q", 2) + b"{}" + b"\xff\xff\xff\xff" + TEXT * 5,
}


@pytest.fixture
def stack(deployment):
    key = base64.b64encode(construct.kek(deployment.kek_uri))
    deployment.key_file.write_bytes(b"secure-xcom-local-kek-1 " + key + b"\n")
    return deployment.stack()


def row_of(deployment, codec, raw):
    made = construct.envelope(
        "contents",
        raw,
        codec=codec,
        kek_uri=deployment.kek_uri,
        instance="prod",
        dag=WHERE.dag_id,
        run=WHERE.run_id,
        task=WHERE.task_id,
        map_index=WHERE.map_index,
        key=WHERE.key,
    )
    return construct.inline(made)


@pytest.mark.parametrize("codec", [codec for codec in CodecId if codec is not CodecId.BYTES])
@pytest.mark.parametrize("junk", JUNK)
def test_what_a_codec_never_writes_is_refused_and_not_shown(deployment, stack, codec, junk):
    row = row_of(deployment, codec, JUNK[junk])
    numbers = (str(int.from_bytes(TEXT[:8], "big")), str(int.from_bytes(TEXT[:8], "little")))
    with refused(FormatError, TEXT[:9].decode(), *numbers):
        stack.get(row, exactly())


def test_bytes_are_whatever_they_are(deployment, stack):
    for raw in JUNK.values():
        assert stack.get(row_of(deployment, CodecId.BYTES, raw), exactly()).value == raw
