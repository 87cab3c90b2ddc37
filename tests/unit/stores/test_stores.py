from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials

from secure_xcom.errors import ConfigError
from secure_xcom.format.reference import STATE_STORES
from secure_xcom.settings.kinds import is_store_uri
from secure_xcom.stores import open_store
from secure_xcom.stores.file import Directory
from secure_xcom.stores.gcs.store import Gcs
from secure_xcom.uris import PREFIX_CHARACTERS_MAX


def test_a_uri_opens_its_store(tmp_path: Path):
    credentials = AnonymousCredentials()
    bucket = open_store("gs://bucket/prefix", credentials=credentials)
    assert isinstance(bucket, Gcs)
    assert bucket.uri == "gs://bucket/prefix"
    assert bucket._client._credentials is credentials
    directory = open_store(f"file://{tmp_path}")
    assert isinstance(directory, Directory)
    assert directory.uri == f"file://{tmp_path}"


@pytest.mark.parametrize("kind", STATE_STORES)
def test_the_states_below_the_longest_prefix_have_a_store(kind: str):
    base = "gs://bucket/" + "p" * PREFIX_CHARACTERS_MAX
    assert is_store_uri(base)
    assert not is_store_uri(base + "p")
    assert open_store(base + STATE_STORES[kind]).uri == base + STATE_STORES[kind]


@pytest.mark.parametrize("uri", ["", "bucket", "s3://bucket", "http://bucket", "GS://bucket"])
def test_other_uris_open_none(uri: str):
    with pytest.raises(ConfigError, match="names no store"):
        open_store(uri)


def test_opening_a_store_imports_nothing_of_googles_clients():
    program = (
        "import sys; from secure_xcom.stores import open_store; open_store('gs://bucket/prefix');"
        "print([name for name in ('google.cloud.storage', 'google.auth', 'requests', 'urllib3')"
        " if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "[]\n"
