"""Objects of the Kubernetes client: the stock backend writes two of them and reads none."""

from __future__ import annotations

import importlib
import json

import airflow
import pytest
from kubernetes.client import ApiClient, models

from secure_xcom.codecs import decode, encode
from secure_xcom.errors import CodecError

VERSION = tuple(int(part) for part in airflow.__version__.split(".")[:2])
SERDE = "airflow.sdk.serde" if VERSION >= (3, 2) else "airflow.serialization.serde"
CANARY = "canary-of-a-pod"

RESOURCES = models.V1ResourceRequirements(limits={"cpu": "1"})
CONTAINER = models.V1Container(
    name="main",
    image="image",
    resources=RESOURCES,
    env=[models.V1EnvVar(name="PASSWORD", value=CANARY)],
)
POD = models.V1Pod(
    metadata=models.V1ObjectMeta(name="pod", labels={"a": "b"}),
    spec=models.V1PodSpec(containers=[CONTAINER]),
)
OBJECTS = {
    "pod": POD,
    "resources": RESOURCES,
    "metadata": POD.metadata,
    "container": CONTAINER,
    "variable": CONTAINER.env[0],
}


@pytest.fixture(params=["as it is", "with the classes allowed"])
def serde(request, monkeypatch):
    module = importlib.import_module(SERDE)
    if request.param != "as it is":
        monkeypatch.setattr(module, "_match", lambda _: True)
    return module


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_the_stock_backend_does_not_give_back_is_refused_with_a_way_out(serde, name):
    value = OBJECTS[name]
    with pytest.raises((TypeError, ImportError)):
        serde.deserialize(serde.serialize(value))
    with pytest.raises(CodecError, match=r"\$\.pods\[1\]: .*`\.to_dict\(\)`") as caught:
        encode({"pods": [None, value]})
    assert type(value).__name__ in str(caught.value)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("name", OBJECTS)
def test_the_way_out_is_one(name):
    value = OBJECTS[name]
    assert decode(encode(value.to_dict())) == value.to_dict()
    plain = ApiClient().sanitize_for_serialization(value)
    assert json.loads(json.dumps(plain)) == decode(encode(plain)) == plain
