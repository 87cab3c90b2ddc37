"""What needs no Airflow to run passes with the lowest and with the newest dependencies, too."""

from __future__ import annotations

import json
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from support.environments import ROOT, provide, run_in
from support.inner import FAST, run_tests

VERSIONS = """
import importlib.metadata, json
print(json.dumps({d.name: d.version for d in importlib.metadata.distributions()}))
"""


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("resolution", ["lowest", "newest"])
def test_the_tests_pass(resolution):
    run_tests(provide(resolution), *FAST, "integration")


def test_lowest_is_lowest():
    text = run_in(provide("lowest"), "python", "-c", VERSIONS).stdout
    installed = {canonicalize_name(name): version for name, version in json.loads(text).items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["arrow"], *extras["google-provider"]):
        requirement = Requirement(line)
        (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
        name = canonicalize_name(requirement.name)
        assert Version(installed[name]) == Version(bound), name
