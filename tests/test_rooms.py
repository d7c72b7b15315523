"""Where the modules stand: rooms in one order, and no circle of imports."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMMON = (
    *("arrays", "errors", "compiled", "row_kernels", "inputs", "feeder", "circuit", "case"),
    *("ties", "wire", "interior_point", "results", "replay"),
)
LAUNCH = ("runs", "figures", "plots", "studies", "report", "commands", "api", "example")
PACKAGES = ("common", "areas", "coordinator", "launch")


def modules() -> dict[str, Path]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {"tieflow." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def imports() -> dict[str, set[str]]:
    """The modules that each module names in its imports, wherever they stand in it."""
    known = modules()
    found: dict[str, set[str]] = {}
    for module, path in known.items():
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
        found[module] = named & known.keys() - {module}
    return found


IMPORTS = imports()


def room(module: str) -> tuple[str, str]:
    _, package, name, *_ = module.split(".")
    return package, name


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert len(list(TopologicalSorter(IMPORTS).static_order())) == len(IMPORTS) > 100


@pytest.mark.parametrize(("package", "order"), [("common", COMMON), ("launch", LAUNCH)])
def test_rooms_import_only_those_before_them(package: str, order: tuple[str, ...]) -> None:
    inside = [module for module in IMPORTS if room(module)[0] == package and room(module)[1] != "__init__"]
    assert {room(module)[1] for module in inside} == set(order)
    upwards = [
        (module, used)
        for module in inside
        for used in IMPORTS[module]
        if room(used)[0] == package and order.index(room(used)[1]) > order.index(room(module)[1])
    ]
    assert not upwards


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("common", {"common"}), ("areas", {"areas", "common"}), ("coordinator", {"coordinator", "common"})],
)
def test_areas_and_coordinator_know_only_what_they_have_in_common(package: str, allowed: set[str]) -> None:
    used = {room(used)[0] for module, named in IMPORTS.items() if room(module)[0] == package for used in named}
    assert used <= allowed


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("opendssdirect", ("common/circuit/", "common/replay/")),
        ("h5py", tuple(f"common/results/{name}.py" for name in ("store", "study_store", "scales", "checksum"))),
        ("cvxpy", ("areas/",)),
    ],
)
def test_a_library_is_known_in_its_rooms_only(library: str, homes: tuple[str, ...]) -> None:
    statement = re.compile(rf"^\s*(from|import) {library}\b", re.MULTILINE)
    users = [path.relative_to(ROOT).as_posix() for path in modules().values() if statement.search(path.read_text())]
    assert users and all(user.startswith(homes) for user in users)


def test_who_names_a_room_above_without_importing_it() -> None:
    named = re.compile(r"[\"']tieflow\.(launch|areas|coordinator)\b")
    found = {
        module for module, path in modules().items() if room(module)[0] != "launch" and named.search(path.read_text())
    }
    # The folder of shipped cases; and what a notebook shows of a result, which asks the result itself.
    assert found == {"tieflow.common.case", "tieflow.common.results.result"}
