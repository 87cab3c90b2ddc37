"""The census judges homes made by hand: it finds what is there, and trusts no blind search."""

from __future__ import annotations

import base64
import errno
import io
import json
import re
import sqlite3
import sys
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from secure_xcom.cli import main
from secure_xcom.cli.output import Output, Progress
from secure_xcom.cli.trials import BACKENDS, show_census
from secure_xcom.errors import ConfigError
from secure_xcom.trial import census, daemons, planted, values
from secure_xcom.trial.home import Home, throw_away_home
from secure_xcom.trial.report import Outcome
from secure_xcom.trial.surfaces import Found, Hit, search

CANARY = "canary-6d1f0c8b5e7a"
CARD = "4929123412341234"
QUICKSTART = Path(__file__).resolve().parents[3] / "docs" / "quickstart.md"


@pytest.fixture
def home(tmp_path):
    """A home in which the census has run, and nothing was left anywhere."""
    with throw_away_home(tmp_path / "home", {}) as made:
        sql(
            made,
            "CREATE TABLE xcom (task_id, key, value)",
            "CREATE TABLE rendered_task_instance_fields (task_id, rendered_fields)",
            "CREATE TABLE dag_run (state)",
            "CREATE TABLE import_error (stacktrace)",
            "CREATE TABLE task_instance (dag_id, task_id, map_index, state)",
        )
        yield made


def sql(home, statement, *more, values=()):
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute(statement, values)
        for another in more:
            connection.execute(another)


def write(file, data):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


def places(home, **texts):
    return search(home, texts or {"it": CANARY}).places


def test_nothing_is_found_where_nothing_is(home):
    found = search(home, {"it": CANARY, "number": CARD})
    assert found.places == []
    # The database and the key's file.
    assert found.looked == {"database file, deleted rows included": 1, "rest of the home": 1}


@pytest.mark.parametrize(
    ("file", "surface", "place"),
    [
        ("store/dag/object", "store: objects", "dag/object"),
        (
            "logs/dag_id=d/run_id=r/task_id=t/map_index=3/attempt=1.log",
            "task logs",
            "task_id=t/map_index=3/attempt=1.log",
        ),
        ("logs/scheduler/latest/d.log", "other logs", "scheduler/latest/d.log"),
        ("printed/scheduler.log", "printed by Airflow's processes", "scheduler.log"),
        ("tmp/deep/one", "temporary directory", "deep/one"),
        ("airflow.db.old", "database file, deleted rows included", "airflow.db.old"),
        ("dags/__pycache__/d.pyc", "rest of the home", "dags/__pycache__/d.pyc"),
        ("airflow.cfg", "rest of the home", "airflow.cfg"),
    ],
)
def test_each_file_is_looked_into_and_said_to_be_what_it_is(home, file, surface, place):
    write(home.path / file, b"x " + zlib.compress(CANARY.encode()))
    assert places(home) == [Hit(surface, place, "it", "in clear, through zlib")]
    if not file.startswith("store"):
        return
    assert search(home, {"it": CANARY}).looked["store: names of objects"] == 1


@pytest.mark.parametrize("folder", ["store", "logs", "tmp"])
def test_a_name_that_holds_it_is_found(home, folder):
    write(home.path / folder / f"{base64.b64encode(CANARY.encode()).decode()}.json", b"")
    [found] = places(home)
    assert found.surface in {"store: names of objects", "other logs", "temporary directory"}
    assert found.how == "in base64 (offset 0)"


def test_every_row_of_every_table_is_looked_at(home):
    sql(home, "INSERT INTO xcom VALUES ('t', 'k', ?)", values=(CANARY.encode(),))
    sql(home, 'CREATE TABLE "of another kind" (id, anything)')
    sql(home, 'INSERT INTO "of another kind" VALUES (1, 2), (3, ?)', values=(int(CARD),))
    found = [place for place in places(home, text=CANARY, number=CARD) if "table" in place.surface]
    assert found == [
        Hit("table of another kind", "row 2", "number", "in clear"),
        Hit("table xcom", "row 1, task t", "text", "in clear"),
    ]
    assert search(home, {}).looked["table of another kind"] == 2


def test_a_deleted_row_is_found_in_the_file(home):
    sql(home, "INSERT INTO xcom VALUES ('t', 'k', ?)", values=(CANARY,))
    with closing(sqlite3.connect(home.database)) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM xcom")
    assert [place.surface for place in places(home)] == ["database file, deleted rows included"]


def test_what_is_left_out_is_not_looked_at(home):
    write(home.path / "canaries", CANARY.encode())
    assert search(home, {"it": CANARY}, left_out=[home.path / "canaries"]).places == []


def leave_control(home, text):
    """Leave the text where the DAG does."""
    sql(home, "INSERT INTO xcom VALUES ('t', '_link_x', ?)", values=(text,))
    sql(home, "INSERT INTO rendered_task_instance_fields VALUES ('t', ?)", values=(text,))
    write(home.path / "logs/dag_id=d/task_id=t/attempt=1.log", text.encode())
    write(home.temporary / "control", text.encode())


def plant(home, text=CANARY):
    home.texts.write_text(json.dumps({values.CONTROL: text}))
    with planted.planted(home, text) as files:
        found = search(home, {values.CONTROL: text}, left_out=[home.texts])
    return found, files


def test_what_is_planted_everywhere_is_found_and_taken_away(home):
    leave_control(home, CANARY)
    found, files = plant(home)
    assert planted.missed(found, CANARY) == []
    assert len(files) == 11
    assert [file for file in files if file.exists()] == []
    how = {place.place: place.how for place in found.on("store: objects")}
    assert how["planted, Arrow"] == "in clear, through Arrow"
    assert how["planted, Parquet in hexadecimal"] == "in clear, through hexadecimal, Parquet"


def test_what_was_planted_goes_though_some_of_it_stays(home, monkeypatch):
    unlink = Path.unlink

    def stuck(path, *, missing_ok):
        if path.name == "planted, gzip":
            raise OSError(errno.EBUSY, "Device or resource busy")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", stuck)
    with pytest.raises(ConfigError, match=r"planted, gzip \(Device or resource busy\)"):
        plant(home)
    assert [path.name for path in home.store.iterdir()] == ["planted, gzip"]


@pytest.mark.parametrize(
    ("lost", "missed"),
    [
        ("DELETE FROM xcom", "the table of XComs"),
        ("DELETE FROM rendered_task_instance_fields", "the table of rendered fields"),
        ("logs/dag_id=d/task_id=t/attempt=1.log", "task logs"),
        ("tmp/control", "temporary directory"),
    ],
)
def test_a_surface_on_which_it_is_not_found_is_named(home, lost, missed):
    leave_control(home, CANARY)
    if lost.startswith("DELETE"):
        sql(home, lost)
    else:
        (home.path / lost).unlink()
    found, _ = plant(home)
    assert planted.missed(found, CANARY) == [missed]


@pytest.mark.parametrize("blind", ["_STREAMS", "_BASE64", "_HEX", "_PARQUET", "_ARROW"])
def test_a_search_that_does_not_undo_an_encoding_is_not_relied_upon(home, blind, monkeypatch):
    leave_control(home, CANARY)
    nothing = () if blind == "_STREAMS" else re.compile(b"(?!)")
    monkeypatch.setattr(f"secure_xcom.trial.search.{blind}", nothing)
    found, _ = plant(home)
    missed = planted.missed(found, CANARY)
    expected = {
        "_STREAMS": {"gzip", "zlib", "zstd", "zstd in zlib in hexadecimal"},
        "_BASE64": {"gzip in url-safe base64"},
        "_HEX": {"zstd in zlib in hexadecimal", "Parquet in hexadecimal"},
        "_PARQUET": {"Parquet in hexadecimal"},
        "_ARROW": {"Arrow"},
    }
    assert {f"the store, {how}" for how in expected[blind]} <= set(missed)


def wait(home, monkeypatch, *processes):
    monkeypatch.setattr(census, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(census, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(census, "_CALLBACKS_SECONDS", 0.02)
    return census._wait(home, daemons.Daemons({}, dict(processes)), Progress(Output(io.StringIO())))


class Ended:
    def __init__(self, code):
        self.code = code

    def poll(self):
        return self.code


def test_a_dag_that_has_run_is_waited_for_no_longer(home, monkeypatch):
    sql(home, "INSERT INTO dag_run VALUES ('success'), ('failed')")
    assert wait(home, monkeypatch, ("scheduler", Ended(None))) == []


def test_callbacks_are_waited_for_when_the_dags_have_run(home, monkeypatch):
    sql(home, "INSERT INTO dag_run VALUES ('success'), ('failed')")
    written = []

    def sleep(_):
        written.append(len(written))
        names = values.MARKS_OF_DAEMONS if len(written) == 3 else ()
        printed = "".join(map(values.mark, names))
        write(home.printed / "scheduler.log", printed.encode())

    monkeypatch.setattr(census.time, "sleep", sleep)
    monkeypatch.setattr(census, "_TIMEOUT_SECONDS", 60)
    running = daemons.Daemons({}, {})
    assert census._wait(home, running, Progress(Output(io.StringIO()))) == []
    assert written == [0, 1, 2]


@pytest.mark.parametrize(
    ("of_task", "of_job"), [("last_heartbeat_at", "other"), ("other", "latest_heartbeat")]
)
def test_a_task_that_is_gone_is_let_be_missed(home, of_task, of_job):
    sql(
        home,
        "DROP TABLE task_instance",
        f"CREATE TABLE task_instance (dag_id, task_id, state, job_id, {of_task})",
        f"CREATE TABLE job (id, {of_job})",
        "INSERT INTO task_instance VALUES "
        "('secure_xcom_census', 'killed', 'running', 1, '2026-11-25'), "
        "('secure_xcom_census', 'other', 'running', 2, '2026-11-25'), "
        "('secure_xcom_census', 'killed', 'queued', 3, '2026-11-25')",
        "INSERT INTO job VALUES (1, '2026-11-25'), (2, '2026-11-25'), (3, '2026-11-25')",
    )
    census._let_be_missed(home, "killed")
    column, table = (of_job, "job") if of_job == "latest_heartbeat" else (of_task, "task_instance")
    with closing(sqlite3.connect(home.database)) as connection:
        days = connection.execute(f"SELECT {column} FROM {table}").fetchall()  # noqa: S608
    assert [day[:10] for (day,) in days] == ["2026-01-01", "2026-11-25", "2026-11-25"]


def test_a_daemon_that_has_ended_is_a_problem_even_if_the_dag_has_run(home, monkeypatch):
    sql(home, "INSERT INTO dag_run VALUES ('success'), ('failed')")
    (home.printed / "triggerer.log").write_text("one\nthe last line\n\n")
    [problem] = wait(home, monkeypatch, ("scheduler", Ended(None)), ("triggerer", Ended(3)))
    assert problem.startswith("airflow triggerer ended while the DAG ran (exit 3). ")
    assert problem.endswith("What it printed ends with: the last line")


def test_a_dag_that_does_not_end_is_a_problem(home, monkeypatch):
    sql(home, "INSERT INTO dag_run VALUES ('running'), ('success')")
    [problem] = wait(home, monkeypatch)
    assert problem.startswith("The DAG did not end within")


def test_a_dag_that_cannot_be_imported_is_a_problem(home, monkeypatch):
    sql(home, "INSERT INTO import_error VALUES (?)", values=("Traceback:\nImportError: no\n",))
    assert wait(home, monkeypatch) == ["The DAG cannot be imported: ImportError: no"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_in_another_state_is_a_problem_of_ours_and_a_note_on_others(home, backend):
    expected = census._expected()
    for (task, index), state in expected.items():
        sql(
            home,
            "INSERT INTO task_instance VALUES (?, ?, ?, ?)",
            values=(census.DAG_ID, task, index, state),
        )
    outcome = Outcome("3.3.2", backend)
    census._check_states(home, outcome, expected)
    assert outcome.problems == outcome.notes == []

    sql(home, "UPDATE task_instance SET state = 'success' WHERE task_id = 'fails'")
    sql(home, "DELETE FROM task_instance WHERE task_id = 'mapped' AND map_index = 1")
    census._check_states(home, outcome, expected)
    faults = ["Task mapped[1] is not there, not success", "Task fails is success, not failed"]
    if backend == "secure":
        assert outcome.problems == [f"{fault}." for fault in faults]
    else:
        assert outcome.notes == [
            f"{fault}; this backend may not take its value." for fault in faults
        ]
        assert outcome.problems == []


def judged(home, *, without=()):
    """Look at a home that holds the control text, and all marks but some."""
    texts = {"dict": CARD, values.CONTROL: CANARY}
    leave_control(home, CANARY)
    marks = [values.mark(name) for name in values.MARKS if name not in without]
    write(home.path / "logs/task_id=x/attempt=1.log", "\n".join(marks).encode())
    (home.path / "canaries").write_text(json.dumps(texts))
    outcome = Outcome("3.3.2", "secure", texts)
    census._search(home, outcome, Progress(Output(io.StringIO())))
    return outcome


def test_a_clean_home_is_ok(home):
    outcome = judged(home)
    assert outcome.ok
    assert outcome.problems == []
    # What was planted there is not the deployment's.
    assert (outcome.found.looked["store: objects"], outcome.found.places) == (0, [])


def test_a_log_that_breaks_off_is_not_ok(home):
    outcome = judged(home, without=["callback"])
    assert not outcome.ok
    assert outcome.problems == ["A log breaks off where values were in use: callback."]


def test_what_is_found_is_not_ok(home):
    write(home.store / "object", CARD.encode())
    outcome = judged(home)
    assert not outcome.ok
    assert outcome.problems == []
    assert outcome.found.places == [Hit("store: objects", "object", "dict", "in clear")]


def test_nothing_looked_at_is_not_ok():
    assert not Outcome("3.3.2", "secure").ok


def test_daemons_that_end_are_named_and_all_are_ended(tmp_path):
    program = tmp_path / "airflow.py"
    program.write_text(
        "import sys, time\n"
        "print('told:', *sys.argv[1:], flush=True)\n"
        "sys.exit(3) if sys.argv[1] == 'scheduler' else time.sleep(600)\n"
    )
    with daemons.daemons(
        [sys.executable, program], tmp_path, {}, has_api_server=True, printed=tmp_path
    ) as running:
        running.processes["scheduler"].wait(30)
        assert running.ended() == {"scheduler": 3}
        url = running.environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
        assert running.environment["AIRFLOW__API__PORT"] in url
    assert set(running.processes) == {"api-server", "dag-processor", "scheduler", "triggerer"}
    assert all(process.poll() is not None for process in running.processes.values())
    assert (tmp_path / "scheduler.log").read_text() == "told: scheduler --skip-serve-logs\n"


def test_values_hold_the_texts_and_nothing_else_does(tmp_path, monkeypatch):
    texts = values.make_up()
    (tmp_path / "canaries").write_text(json.dumps(texts))
    monkeypatch.setenv(values.TEXTS_VARIABLE, str(tmp_path / "canaries"))
    frame = values.frame()
    held = repr(
        [
            *(values.record(), values.string(), values.number()),
            *(values.binary(), values.lines(), values.outputs()),
            *(values.pieces(), frame.to_dict(), values.state(), values.asset_state()),
            *map(values.written_out, values.columns().values()),
        ]
    )
    assert {name for name, text in texts.items() if text not in held} == {values.CONTROL}
    assert len(set(texts.values())) == len(texts) == 22
    assert values.lines().count(texts["list"]) == 3
    assert isinstance(frame, pd.DataFrame)
    assert values.make_up().keys() == texts.keys()
    assert not set(values.make_up().values()) & set(texts.values())
    values.check(values.frame(), frame)
    with pytest.raises(RuntimeError, match="not what was returned"):
        values.check(texts["number"], values.number())


def test_without_pandas_there_is_no_frame(monkeypatch):
    monkeypatch.setattr(values, "has_frames", lambda: False)
    assert values.columns() == {}
    assert len(values.make_up()) == 14
    assert ("frame", -1) not in census._expected()


def test_the_deployment_is_the_quickstart_s(tmp_path):
    told = dict(re.findall(r"^export (AIRFLOW__\w+)=(.*)$", QUICKSTART.read_text(), re.MULTILINE))
    assert len(told) == 4
    home = Home(tmp_path, census._switched("secure", Home(tmp_path, {})))
    made = home.environment()
    ours = {name for name in made if "SECURE_XCOM" in name or name.endswith("_BACKEND")}
    assert ours == set(told)
    for name, value in told.items():
        folder = value.replace("$AIRFLOW_HOME", str(tmp_path))
        assert made[name] == folder.replace(f"{tmp_path}/xcom", f"{tmp_path}/store")
    # Nor does anything else in it protect.
    assert {name for name in made if name.startswith("AIRFLOW__")} - ours == {
        "AIRFLOW__CORE__DAGS_FOLDER",
        "AIRFLOW__CORE__LOAD_EXAMPLES",
        "AIRFLOW__CORE__PLUGINS_FOLDER",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED",
    }


def test_other_backends_have_nothing_of_ours(tmp_path):
    for backend in ("airflow", "common-io"):
        home = Home(tmp_path, census._switched(backend, Home(tmp_path, {})))
        assert not [name for name in home.environment() if "SECURE_XCOM" in name]
    assert (
        "AIRFLOW__CORE__XCOM_BACKEND"
        not in Home(tmp_path, census._switched("airflow", home)).environment()
    )


def test_without_the_provider_its_backend_cannot_be_looked_at(tmp_path, monkeypatch):
    def version(_name):
        raise census.PackageNotFoundError

    monkeypatch.setattr(census, "version", version)
    with pytest.raises(ConfigError, match="pip install apache-airflow-providers-common-io"):
        census._switched("common-io", Home(tmp_path, {}))


def test_a_program_that_fails_is_a_problem_with_what_it_printed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/ls")
    made = census.run(tmp_path / "home", "secure", Progress(Output(io.StringIO())))
    assert not made.ok
    [problem] = made.problems
    assert problem.startswith("airflow db migrate failed (exit 2). What it printed ends with: ")
    assert made.found.looked == {}


def outcome(**changes):
    found = Found(
        [
            Hit("table xcom", "row 1, task record", "dict", "in clear"),
            Hit("table xcom", "row 1, task record", "number", "in hexadecimal"),
            Hit("task logs", "task_id=record/attempt=1.log", "dict", "in clear"),
        ],
        Counter({"table xcom": 7, "table dag": 1_200, "task logs": 2}),
    )
    texts = {str(number): "" for number in range(13)} | {values.CONTROL: ""}
    made = Outcome("3.3.2", "airflow", texts, found, seconds=41.4)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def shown(made):
    stream = io.StringIO()
    show_census(made, Output(stream))
    return stream.getvalue()


def test_a_person_sees_surface_by_surface_what_was_found():
    text = shown(outcome())
    lines = [line.split() for line in text.splitlines()]
    assert ["table", "xcom", "7", "1", "2", "of", "13"] in lines
    assert ["all", "other", "tables", "1,200", "0"] in lines
    assert ["task", "logs", "2", "1", "1", "of", "13"] in lines
    assert "  row 1, task record: dict, number (in hexadecimal)\n" in text
    assert "NOT OK: values stand readable in 2 places (the airflow backend, Airflow 3.3.2" in text
    assert "run it again with --keep DIR" in text
    clean = outcome(found=Found(looked=Counter({"table xcom": 7})), backend="secure")
    assert "OK: nothing readable (the secure backend, Airflow 3.3.2, 41 s)" in shown(clean)
    clean.problems = ["airflow scheduler ended while the DAG ran (exit 1)."]
    assert "  - airflow scheduler ended while" in shown(clean)
    assert "NOT OK: this census cannot be relied upon" in shown(clean)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"found": Found(looked=Counter({"table xcom": 1}))}, 0),
        ({}, 1),
        ({"found": Found(looked=Counter({"table xcom": 1})), "problems": ["off"]}, 1),
    ],
)
def test_the_status_and_the_json_say_the_same(changes, status, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(census, "run", lambda *given: asked.append(given) or outcome(**changes))
    assert main(["census", "--json", "--backend", "airflow", "--keep", "there"]) == status
    assert asked[0][:2] == (Path("there"), "airflow")
    said = json.loads(capsys.readouterr().out)
    assert list(said) == [
        *("ok", "airflow_version", "backend", "places", "looked", "problems", "notes"),
    ]
    assert said["ok"] is (status == 0)
    if not changes:
        assert said["places"][1] == {
            "surface": "table xcom",
            "place": "row 1, task record",
            "value": "number",
            "how": "in hexadecimal",
        }
    assert main(["census"]) == status
    assert "secure" in asked[1]
