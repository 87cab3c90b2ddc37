"""The package as a whole: its direction of imports, its public names, its errors."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

import secure_xcom
from secure_xcom import errors, uris

PACKAGE = Path(secure_xcom.__file__).parent
TESTS = PACKAGE.parent / "tests"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: What stands further down may import what stands further up, and parts side by side nothing of
#: each other.
ORDER = (
    {"errors", "forks", "telemetry", "text"},
    {"__init__"},
    {"google_errors", "model", "signals", "single_flight", "threads", "uris"},
    {"audit", "format"},
    {"codecs", "keys", "stores"},
    {"layers"},
    {"settings"},
    {"stack"},
    {"lifecycle"},
    {"airflow"},
    {"trial"},
    {"cli"},
)
RANK = {part: rank for rank, parts in enumerate(ORDER) for part in parts}

#: Who may import Airflow: what speaks to it, and what it runs as a DAG.
AIRFLOW = (
    *("secure_xcom/airflow/", "secure_xcom/codecs/serde"),
    "secure_xcom/trial/dags/",
)
#: Who may import Google's clients, and only where they are first needed.
GOOGLE = ("secure_xcom/cli/doctor/", "secure_xcom/keys/cloud_kms", "secure_xcom/stores/gcs")

TREE = """
SecureXComError
    ConfigError
    CodecError
    FormatError
    UnsealedError
    AuthenticationError
    KeyServiceError
        KeyAccessDenied
        KeyUnavailable
    StoreError
        ObjectNotFound
        StoreAccessDenied
        StoreUnavailable
"""


def part_of(module):
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(module):
    """Yield (dotted name, at import time) for each import that is not for type checkers alone."""

    def walk(node, *, eager):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, eager) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                yield from ((f"{child.module}.{alias.name}", eager) for alias in child.names)
            else:
                yield from walk(child, eager=eager and not isinstance(child, FUNCTIONS))

    return list(walk(ast.parse(module.read_text()), eager=True))


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def test_imports_run_one_way():
    wrong = [
        f"{part_of(module)} imports {name}"
        for module in MODULES
        for name, _ in imports(module)
        if name.partition(".")[0] == "secure_xcom"
        and (part := (*name.split("."), "")[1]) != part_of(module)
        and RANK.get(part, RANK["__init__"]) >= RANK[part_of(module)]
    ]
    assert wrong == []


def test_only_the_command_line_imports_the_trials_and_not_before_it_runs_one():
    wrong = [
        f"{module.relative_to(PACKAGE)} imports {name}"
        for module in MODULES
        for name, eager in imports(module)
        if name.startswith("secure_xcom.trial") and part_of(module) != "trial"
        if eager or part_of(module) != "cli"
    ]
    assert wrong == []


def test_the_package_imports_no_tests():
    # As they are named on the path that tests run with; `airflow` is the real one.
    ours = {TESTS.name, *(path.stem for path in TESTS.iterdir())} - {"airflow"}
    wrong = [
        f"{module.relative_to(PACKAGE)} imports {name}"
        for module in MODULES
        for name, _ in imports(module)
        if name.partition(".")[0] in ours
    ]
    assert wrong == []


def test_what_tests_share_does_not_go_through_the_command_line():
    wrong = [
        f"{module.name} imports {name}"
        for module in sorted((TESTS / "support").rglob("*.py"))
        for name, _ in imports(module)
        if name.startswith("secure_xcom.cli")
    ]
    assert wrong == []


def test_three_siblings_with_one_prefix_make_a_folder():
    siblings = Counter(
        (module.parent / module.stem.partition("_")[0]).relative_to(PACKAGE).as_posix()
        for module in MODULES
        if not module.stem.startswith("_")
    )
    assert {prefix for prefix, count in siblings.items() if count >= 3} == set()


#: What `uris.py` alone may do with a scheme: look for it in a text, or begin a text with it.
TAKING_APART = frozenset(
    ("startswith", "removeprefix", "partition", "rpartition", "split", "rsplit", "find", "index")
) | frozenset(("compile", "match", "fullmatch", "search", "sub", "urlparse", "urlsplit"))
SCHEMES = {name: text for name, text in vars(uris).items() if str(text).endswith("://")}


def names_scheme(node):
    """Whether an expression has a scheme in it, by its name or as a text."""
    return any(
        (isinstance(child, ast.Name) and child.id in SCHEMES)
        or (isinstance(child, ast.Constant) and "://" in str(child.value))
        for child in ast.walk(node)
    )


def handles_uri(node):
    """Whether a piece of a program takes a URI apart or builds one; a text may show one."""
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        return name in TAKING_APART and any(map(names_scheme, node.args))
    if isinstance(node, ast.Compare):
        return isinstance(node.ops[0], (ast.In, ast.NotIn)) and names_scheme(node.left)
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Constant) and node.value.value in SCHEMES.values()
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and names_scheme(node.left)
    if isinstance(node, ast.JoinedStr) and len(node.values) > 1:
        first = getattr(node.values[0], "value", None)
        text = SCHEMES.get(first.id, "") if isinstance(first, ast.Name) else first
        return text in SCHEMES.values()
    return False


def test_only_one_module_takes_uris_apart_or_builds_them():
    found = {
        module.relative_to(PACKAGE).as_posix()
        for module in MODULES
        if any(map(handles_uri, ast.walk(ast.parse(module.read_text()))))
    }
    assert found == {"uris.py"}


@pytest.mark.parametrize(
    "line",
    [
        *('uri.startswith("gs://")', "uri.startswith((GCS, FILE))", "uri.removeprefix(LEGACY)"),
        *('uri.partition("://")', 're.compile(r"gcp-kms://(.*)")', '"://" in uri[:20]'),
        *('_SCHEME = "gcs://"', 'GCS + "/".join(parts)', 'f"gs://{bucket}"', 'f"{FILE}{path}"'),
    ],
)
def test_a_line_that_handles_uris_is_found(line):
    assert any(map(handles_uri, ast.walk(ast.parse(line))))


@pytest.mark.parametrize(
    "line",
    [
        *(
            'f"{uri} is no file; {FILE}/directory is"',
            'f"gcloud storage buckets create gs://{name}"',
        ),
        *("scheme(uri) == GCS", 'name.removeprefix("x")', '"gs://bucket/xcom"'),
    ],
)
def test_a_line_that_only_shows_one_is_not(line):
    assert not any(map(handles_uri, ast.walk(ast.parse(line))))


def test_no_two_classes_have_one_name():
    names = Counter(
        node.name
        for module in MODULES
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef)
    )
    # One for each Airflow.
    assert {name for name, count in names.items() if count > 1} == {"SecureXComBackend"}


def test_contributing_draws_the_order():
    page = (PACKAGE.parent / "docs" / "CONTRIBUTING.md").read_text()
    drawn = page.partition("\n```\n")[2].partition("```")[0].splitlines()
    # What a room does stands beside it, further off than rooms of one line from each other.
    lines = [set(re.split(" {3,}", line)[0].split()) & set(RANK) for line in reversed(drawn)]
    assert [line for line in lines if line] == [parts for parts in ORDER if parts != {"__init__"}]


def test_every_part_has_its_place_in_the_order():
    assert {part_of(module) for module in MODULES} == set(RANK)


@pytest.mark.parametrize(("root", "allowed"), [("airflow", AIRFLOW), ("google", GOOGLE)])
def test_only_those_named_import(root, allowed):
    found = {
        module.relative_to(PACKAGE.parent).as_posix()
        for module in MODULES
        for name, _ in imports(module)
        if name.partition(".")[0] == root
    }
    assert {module for module in found if not module.startswith(allowed)} == set()


VERSIONS = PACKAGE / "airflow" / "versions.py"
#: What Airflow calls what is its own, where it is a text of ours that names it.
PRIVATE = re.compile(r"_?AIRFLOW_|_?SUPERVISOR_COMMS|POLICY_PLUGIN_MANAGER|airflow\.[\w.]*\b_\w+")


def names_that_are_ours():
    ours = set()
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, (*FUNCTIONS[:2], ast.ClassDef)):
                ours.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.id if isinstance(node, ast.Name) else node.attr)
    return ours


def private_names(tree, ours):
    """Give what a module names of other packages' insides: attributes, imports and texts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if re.match(r"_(?!_)", node.attr) and node.attr not in ours:
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("airflow"):
            yield from (name.name for name in node.names if name.name.startswith("_"))
            yield from re.findall(r"\._\w+", node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value if "\n" not in node.value and " " not in node.value else ""
            yield from PRIVATE.findall(text)


def release_tuples(tree):
    """Give the comparisons of something with a tuple of numbers, such as `(3, 1)`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                if isinstance(side, ast.Tuple) and all(
                    isinstance(part, ast.Constant) and type(part.value) is int for part in side.elts
                ):
                    yield ast.unparse(node)


def test_airflows_own_names_and_releases_stand_in_one_room():
    rooms = [module for module in MODULES if module.is_relative_to(PACKAGE / "airflow")]
    ours = names_that_are_ours()
    found = {
        f"{room.name}: {name}"
        for room in rooms
        if room != VERSIONS
        for tree in [ast.parse(room.read_text())]
        for name in (*private_names(tree, ours), *release_tuples(tree))
    }
    # The prefix of environment variables is documented, and frames are Python's.
    assert found - {"configuration.py: AIRFLOW_", "running.py: _current_frames"} == set()
    assert set(private_names(ast.parse(VERSIONS.read_text()), ours)) >= {"_xcom_arg", "_scope"}


def test_google_is_imported_where_it_is_needed_and_not_before():
    eager = {
        (module.name, name)
        for module in MODULES
        for name, at_import in imports(module)
        if at_import and name.startswith("google.")
    }
    assert eager == set()


def test_units_lie_at_the_path_of_what_they_test():
    units = Path(__file__).parent
    rooms = {PACKAGE / path.parent.relative_to(units) for path in units.rglob("test_*.py")}
    wrong = [room for room in rooms if not (room.is_dir() or room.with_suffix(".py").is_file())]
    assert wrong == []


def test_importing_the_package_costs_nothing():
    look = """
import sys
import tomllib
before = set(sys.modules)
import secure_xcom
print(*sorted(set(sys.modules) - before))
"""
    loaded = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=True
    ).stdout.split()
    assert loaded == ["secure_xcom", "secure_xcom.errors"]


def test_the_public_names_are_the_errors_and_the_version():
    assert sorted(secure_xcom.__all__) == sorted([*TREE.split(), "__version__"])
    for name in TREE.split():
        assert getattr(secure_xcom, name) is getattr(errors, name)


def test_the_package_is_typed():
    assert files("secure_xcom").joinpath("py.typed").is_file()


def drawn(error, depth=0):
    """Draw the public tree below an error class, by indentation, in order of definition."""
    return [
        "    " * depth + error.__name__,
        *(
            line
            for child in error.__subclasses__()
            if child.__module__ == errors.__name__
            for line in drawn(child, depth + 1)
        ),
    ]


def test_the_error_tree_is_as_it_is():
    assert drawn(errors.SecureXComError) == TREE.split("\n")[1:-1]
    assert errors.SecureXComError.__bases__ == (Exception,)


def test_the_error_tree_is_as_its_docstring_draws_it():
    lines = [line for line in errors.__doc__.splitlines() if re.search(r"─|XComError", line)]
    names = [re.match(r"[ │├└─]*(\w+)", line)[1] for line in lines]
    depths = [re.search(r"\w", line).start() for line in lines]
    base = min(depths)
    assert [
        " " * (depth - base) + name for depth, name in zip(depths, names, strict=True)
    ] == drawn(errors.SecureXComError)


def pickled(error):
    """Send an error the way Airflow's processes do."""
    return pickle.loads(pickle.dumps(error))  # noqa: S301 - what was dumped right here


@pytest.mark.parametrize("name", TREE.split())
def test_errors_pickle(name):
    error = getattr(errors, name)("the setting `kek_uri` is missing; set it")
    copy = pickled(error)
    assert type(copy) is type(error)
    assert (str(copy), copy.args, copy.__dict__) == (str(error), error.args, error.__dict__)


def test_authentication_error_says_the_same_whatever_happened():
    copy = pickled(errors.AuthenticationError())
    assert str(copy) == str(errors.AuthenticationError())
    assert "tampered" in str(copy)


def test_the_lock_knows_the_public_index_alone():
    lock = tomllib.loads((PACKAGE.parent / "uv.lock").read_text())
    sources = {tuple(*package["source"].items()) for package in lock["package"]}
    assert sources == {("registry", "https://pypi.org/simple"), ("editable", ".")}
    urls = [
        file["url"]
        for package in lock["package"]
        for file in (*package.get("wheels", ()), package.get("sdist"))
        if file
    ]
    assert len(urls) > len(lock["package"])
    assert {url for url in urls if not url.startswith("https://files.pythonhosted.org/")} == set()
