"""The rules of the house that a test can keep: who imports whom, what is imported when, how long a file is."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import spikeloop

ROOT = Path(spikeloop.__file__).resolve().parent
CHAIN = ["models", "hardware_profiles", "deploy", "runtime", "bridges", "cli"]
MAY_IMPORT = {folder: set(CHAIN[: index + 1]) for index, folder in enumerate(CHAIN)}
MAY_IMPORT["training"] = {"training", "models", "hardware_profiles", "deploy", "runtime", "bridges"}
MAY_IMPORT["virtual_board"] = {"virtual_board"}
MAY_IMPORT["deploy"] |= {"virtual_board"}  # starts and stops one, where a profile names it as the target
MAY_IMPORT["cli"] |= {"virtual_board", "training"}  # training only when a command asks for it: it brings torch
EVERYWHERE = {"errors", "lazily", ""}  # the error tree, and the package itself for its version
SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
LONGEST = 400


def imported(path):
    """The folders and modules of the package that a file imports, anywhere in it."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = parts[: len(parts) - node.level]
            assert len(parts) >= node.level, f"{path} imports from outside of the package"
            module = (*base, *(node.module or "").split("."))
            names = [".".join(["spikeloop", *filter(None, module)])]
            if len(names[0].split(".")) == 1:  # from .. import a, b
                names = [f"spikeloop.{alias.name}" for alias in node.names if (ROOT / alias.name).is_dir()] or names
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "spikeloop":
                found.add(rest.split(".")[0])
    return found


def test_the_sources_are_found():
    folders = {path.relative_to(ROOT).parts[0] for path in SOURCES}
    assert set(CHAIN) <= folders
    assert imported(ROOT / "cli" / "live.py") >= {"bridges", "runtime", "deploy", "models", "errors"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    forbidden = imported(path) - MAY_IMPORT[folder] - EVERYWHERE
    assert not forbidden, f"{folder} must not import {', '.join(sorted(forbidden))}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{lines} lines; at most {LONGEST}"


def test_errors_import_nothing_of_the_package_but_for_type_checking():
    tree = ast.parse((ROOT / "errors.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.level]


def loaded_after(code):
    code += "; import sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.split())


def test_importing_the_package_imports_no_simulator_and_no_socket():
    assert not loaded_after("import spikeloop") & {"nest", "torch", "gymnasium", "zmq", "numpy", "numba", "pydantic"}


def test_the_command_line_starts_without_what_a_command_may_need():
    assert not loaded_after("import spikeloop.cli.main") & {"nest", "torch", "gymnasium", "numba", "matplotlib"}


def test_simulators_are_imported_when_they_are_used():
    code = "import spikeloop.cli.main; spikeloop.plan(spikeloop.load('cartpole'), spikeloop.load_profile('nest-exact'))"
    modules = loaded_after(code)
    assert "spikeloop.deploy.nest" in modules
    assert not modules & {"nest", "torch", "gymnasium"}


@pytest.mark.parametrize("name", ["spikeloop", "spikeloop.runtime", "spikeloop.runtime.fidelity"])
def test_every_public_name_can_be_had(name):
    package = importlib.import_module(name)
    assert set(package.__all__) <= set(dir(package))
    modules = {module.rpartition(".")[2] for module in sys.modules if module.rpartition(".")[0] == name}
    for public in package.__all__:
        assert getattr(package, public) is not None
        assert public not in modules, "the module would take the name's place once it is imported"
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018
