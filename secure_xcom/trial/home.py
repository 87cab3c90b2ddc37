"""A throw-away AIRFLOW_HOME, and programs that run in it and know of no other deployment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from secure_xcom.airflow.backend import DOTTED_NAME
from secure_xcom.airflow.states import DOTTED_NAME as STATE_STORE
from secure_xcom.errors import ConfigError
from secure_xcom.keys.local import create_key_file
from secure_xcom.trial.values import TEXTS_VARIABLE
from secure_xcom.uris import directory, key_file, parse_store

#: All that a program inherits: how to find programs, modules and libraries, and how to write.
_INHERITED = (
    "PYTHONPATH",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "USER",
    "LOGNAME",
)
#: What a path may not have, because Airflow or a database URI would read it as something else.
_UNSAFE = frozenset("%$?#*'\"\\\n")


class ProgramFailed(Exception):  # noqa: N818 - it says what happened
    """A program in the home did not exit with 0."""

    def __init__(self, title: str, code: int, printed: Path) -> None:
        super().__init__(f"{title} failed (exit {code}).")
        self.title = title
        #: The file that holds what it printed.
        self.printed = printed


@dataclass(frozen=True)
class Home:
    """An AIRFLOW_HOME with a SQLite database, a `file://` store and a `local-kek://` key."""

    path: Path
    #: Environment variables of the programs in it; None stands for one that they do not have.
    overrides: Mapping[str, str | None]

    @property
    def database(self) -> Path:
        """The metadata database's file."""
        return self.path / "airflow.db"

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.path / "store"

    @property
    def kek(self) -> Path:
        """The key's file."""
        return self.path / "kek"

    @property
    def dags(self) -> Path:
        """The DAGs folder."""
        return self.path / "dags"

    @property
    def texts(self) -> Path:
        """The file with the texts that were made up for this run; only tasks read it."""
        return self.path / "canaries"

    @property
    def printed(self) -> Path:
        """Where the output of programs is kept, a file for each."""
        return self.path / "printed"

    @property
    def temporary(self) -> Path:
        """Where programs put what is temporary."""
        return self.path / "tmp"

    def environment(self) -> dict[str, str]:
        """The whole environment of a program in this home; nothing of it is the user's own."""
        variables = {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            # Airflow starts itself by its name, and must not find another one.
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ.get('PATH', '')}",
            "HOME": str(self.path),
            "TMPDIR": str(self.temporary),
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(self.path / "plugins"),
            "AIRFLOW__CORE__XCOM_BACKEND": DOTTED_NAME,
            "AIRFLOW__WORKERS__STATE_STORE_BACKEND": STATE_STORE,
            "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.database}",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.path / "logs"),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__SECURE_XCOM__STORE_URI": directory(self.store),
            "AIRFLOW__SECURE_XCOM__KEK_URI": key_file(self.kek),
            TEXTS_VARIABLE: str(self.texts),
            **self.overrides,
        }
        return {name: value for name, value in variables.items() if value is not None}

    def add_dag(self, name: str) -> None:
        """Put one of the rig's DAGs into the DAGs folder, as a file of its own."""
        shutil.copyfile(
            Path(__file__).with_name("dags") / f"{name}.py", self.dags / f"secure_xcom_{name}.py"
        )

    def add_plugin(self, name: str) -> None:
        """Put one of the rig's plugins into the plugins folder."""
        plugins = self.path / "plugins"
        plugins.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(
            Path(__file__).with_name("dags") / f"{name}.py", plugins / f"secure_xcom_{name}.py"
        )

    def run(
        self, title: str, *arguments: str, on_line: Callable[[str], None] | None = None
    ) -> None:
        """Run `python <arguments>` to its end and keep what it prints.

        It runs in a process group of its own, which is ended when this is interrupted.

        Raises:
            ProgramFailed: it did not exit with 0.
        """
        kept = self.printed / f"{title.replace(' ', '-')}.log"
        with (
            kept.open("wb") as file,
            subprocess.Popen(  # noqa: S603 - this Python, with arguments of our own
                [sys.executable, *arguments],
                cwd=self.path,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            try:
                for data in process.stdout or ():
                    file.write(data)
                    if on_line:
                        on_line(data.decode(errors="replace"))
                code = process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if code:
            raise ProgramFailed(title, code, kept)


def last_line(printed: Path) -> str:
    """Say what a program printed last."""
    lines = printed.read_text(errors="replace").strip().splitlines()
    return f"What it printed ends with: {lines[-1]}" if lines else "It printed nothing."


@contextmanager
def throw_away_home(keep: Path | None, overrides: Mapping[str, str | None]) -> Iterator[Home]:
    """Make a home that goes away with the context, or stays in the directory `keep`.

    Args:
        keep: a directory that does not exist or is empty; None for a temporary one.
        overrides: environment variables of the programs that run in it; None for one less.

    Raises:
        ConfigError: `keep` cannot be used.
    """
    if keep is None:
        with TemporaryDirectory(prefix="secure-xcom-", ignore_cleanup_errors=True) as temporary:
            yield _furnish(_usable(Path(temporary)), overrides)
        return
    path = _usable(keep)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ConfigError(f"{path} is not empty: name a directory that is new or empty.")
        path.chmod(0o700)
        home = _furnish(path, overrides)
    except OSError as error:
        raise ConfigError(f"{path} cannot be used: {error.strerror}.") from error
    yield home


def _usable(path: Path) -> Path:
    resolved = path.resolve()
    try:
        parse_store(directory(resolved / "store"))
    except ConfigError:
        is_uri = False
    else:
        is_uri = True
    if not is_uri or _UNSAFE & set(str(resolved)):
        raise ConfigError(
            f"{resolved} cannot be used: the path goes into URIs and into Airflow's configuration, "
            f"which read some characters as something else. Choose one without any of "
            f"{' '.join(sorted(_UNSAFE - {chr(10)}))}."
        )
    return resolved


def _furnish(path: Path, overrides: Mapping[str, str | None]) -> Home:
    home = Home(path, overrides)
    for folder in (home.dags, home.store, home.printed, home.temporary):
        folder.mkdir(mode=0o700)
    create_key_file(home.kek)
    return home
