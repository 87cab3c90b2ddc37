"""What users install: the wheel, from the source distribution, beside a plain Airflow."""

from __future__ import annotations

import json
import os
import re
import shutil
import tomllib
import zipfile
from email.parser import Parser

import pytest
from support.deployed import raw_xcoms, switch_on, xcoms
from support.environments import (
    ENVIRONMENTS,
    RECIPES,
    ROOT,
    VERSIONS,
    Environment,
    install,
    locked,
    new_home,
    run_uv,
)

DAG = """
import datetime
try:
    from airflow.sdk import dag, task
except ImportError:
    from airflow.decorators import dag, task

@dag(schedule=None, start_date=datetime.datetime(2026, 1, 1))
def small():
    @task
    def give():
        return {"rows": [1, 2, 3], "note": "a canary" * 2}

    @task
    def take(value):
        assert value == {"rows": [1, 2, 3], "note": "a canary" * 2}

    take(give())

small()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the source distribution, and the wheel from it alone."""
    folder = tmp_path_factory.mktemp("dist")
    run_uv("build", "--out-dir", folder, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (about,) = {name.partition("/")[0] for name in names if ".dist-info/" in name}
        metadata = Parser().parsestr(archive.read(f"{about}/METADATA").decode())
        licence = archive.read(f"{about}/licenses/LICENSE").decode()
        points = archive.read(f"{about}/entry_points.txt").decode()
    modules = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "secure_xcom").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if not name.startswith(about)} == modules
    assert "secure_xcom/py.typed" in modules
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert licence == (ROOT / "LICENSE").read_text()
    assert "secure-xcom = secure_xcom.cli:main" in points
    assert "provider_info = secure_xcom.airflow.provider:get_provider_info" in points
    assert "secure-xcom = secure_xcom.airflow.policy" in points


def test_the_same_source_gives_the_same_wheel(wheel, tmp_path):
    """The other one was built from a source distribution, on another day and by another user."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "secure_xcom", copy / "secure_xcom")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    run_uv("build", "--wheel", "--out-dir", tmp_path / "again", copy)
    (again,) = (tmp_path / "again").glob("*.whl")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()


def test_the_bill_of_materials_has_what_the_package_needs_and_no_tools(tmp_path):
    page = (ROOT / "docs" / "release.md").read_text()
    (command,) = re.findall(r"^uv (export .+) --output-file .+$", page, re.MULTILINE)
    run_uv(*command.split(), "--output-file", tmp_path / "bill.json")
    bill = json.loads((tmp_path / "bill.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component for component in bill["components"]}
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = metadata["optional-dependencies"].values()
    needed = {
        re.match(r"[\w.-]+", line)[0].replace(".", "-")
        for line in (*metadata["dependencies"], *(line for extra in extras for line in extra))
    }
    assert len(needed) > 8
    assert needed <= set(listed)
    assert not {"pytest", "mypy", "ruff", "hypothesis"} & set(listed)
    assert all(
        component["purl"].endswith(f"@{component['version']}") for component in listed.values()
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_wheel_works_beside_a_plain_airflow(version, wheel, tmp_path):
    """Neither extras nor anything that only tests use is there: pip would install this much."""
    environment = Environment(f"wheel-{version}", version, ENVIRONMENTS / f"wheel-{version}")
    recipe = RECIPES[version]
    pinned = [
        line for line in recipe.requirements if line.startswith("apache-airflow-") and "==" in line
    ]
    with locked(environment.name):
        install(environment, recipe, f"secure-xcom @ {wheel.as_uri()}", *pinned)
        home = new_home(environment, tmp_path / "home")
        (home.dags / "small.py").write_text(DAG)
        home.run("airflow", "dags", "test", "small", env=switch_on(home))
        home.run("secure-xcom", "--help")
        providers = json.loads(home.run("airflow", "providers", "list", "-o", "json").stdout)
        where = home.run("python", "-c", "import secure_xcom; print(secure_xcom.__file__)").stdout
    assert where.strip().startswith(str(environment.folder)), "not the checkout"
    assert "secure-xcom" in {provider["package_name"] for provider in providers}
    with home.connect() as database:
        states = database.execute("SELECT task_id, state FROM task_instance").fetchall()
    assert sorted(states) == [("give", "success"), ("take", "success")]
    assert xcoms(home)["give", -1, "return_value"]["__secure_xcom__"] == 1
    assert b"canary" not in raw_xcoms(home)
