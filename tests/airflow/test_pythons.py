"""The fast tier passes on the later Pythons that the package is for, where the machine has them."""

from __future__ import annotations

import sys
import tomllib

import pytest
from support.environments import PYTHONS, ROOT, interpreter, provide_locked, run_in
from support.inner import FAST, run_tests

VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("version", PYTHONS)
def test_the_fast_tier_passes(version):
    if interpreter(version) is None:
        pytest.skip(f"this machine has no Python {version}")
    environment = provide_locked(version)
    assert run_in(environment, "python", "-c", VERSION).stdout.strip() == version
    run_tests(environment, *FAST)


def test_the_classifiers_name_what_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    start = "Programming Language :: Python :: "
    named = [one.removeprefix(start) for one in project["classifiers"] if one.startswith(start)]
    assert named == ["3.11", *PYTHONS]
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in named
