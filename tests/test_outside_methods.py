"""Methods of other packages: the example of docs/methods.md as an installed package, and what is refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Tieflow as Command

import tieflow
from tieflow.common.errors import CaseError
from tieflow.common.results.result import Result
from tieflow.coordinator.methods import METHODS, Method, find_method, method_names
from tieflow.launch.studies.file import read_study_file

PAGE = Path(__file__).parents[1] / "docs" / "methods.md"


def install(folder: Path, name: str, modules: dict[str, str], entries: str) -> None:
    """A package as pip leaves it."""
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)
    about = folder / f"{name}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[tieflow.methods]\n{entries}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, for this process and those that it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))))
    return folder


@pytest.fixture
def plain(site: Path) -> None:
    """The example, registered as its pyproject.toml says."""
    page = PAGE.read_text()
    code, project = (re.search(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL) for kind in ("py", "toml"))
    assert code is not None and project is not None
    entry = re.search(r'^plain_admm = "(.*)"$', project[1], flags=re.MULTILINE)
    assert entry is not None and '[project.entry-points."tieflow.methods"]' in project[1]
    install(site, "plain_admm", {"plain_admm": code[1]}, f"plain_admm = {entry[1]}")


@pytest.mark.usefixtures("plain")
def test_the_example_solves_a_case_from_python_as_its_own_default_too(small: Path, small_result: Result) -> None:
    assert method_names() == [*METHODS, "plain_admm"]
    for case, method in ((tieflow.load(small), "plain_admm"), (tieflow.load(small, method="plain_admm"), None)):
        result = tieflow.solve(case, method)
        assert result is not None and result.check is not None
        assert result.converged and result.check.passed
        assert (result.method, set(result.history.method)) == ("plain_admm", {"plain_admm"})
        assert result.cost == pytest.approx(small_result.cost, rel=1e-5)
        assert len(result.history.cost) > 3 * len(small_result.history.cost), "it has no acceleration"


@pytest.mark.usefixtures("plain")
def test_the_example_is_a_method_of_the_command_its_benchmark_and_studies(tieflow: Command, small: Path) -> None:
    ended = tieflow("benchmark", small, "--methods", "admm,plain_admm", "--json")
    rows = {run["method"]: run for run in ended.json["runs"]}
    assert ended.code == 0 and list(rows) == ["centralized", "admm", "plain_admm"]
    assert rows["plain_admm"]["converged"] and abs(rows["plain_admm"]["gap_to_optimum"]) < 1e-5
    study = small.parent / "mine.toml"
    study.write_text('case = "small"\nmethod = "plain_admm"\n[[variants]]\nname = "only"\n')
    assert read_study_file(str(study)).method == "plain_admm"


@pytest.mark.usefixtures("plain")
def test_the_example_runs_over_mpi(mpirun: Callable[..., subprocess.CompletedProcess[str]], small: Path) -> None:
    run = mpirun(5, "-m", "tieflow", "solve", small, "--method", "plain_admm", "--json")
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["methods_used"], found["ranks"], found["converged"]) == (["plain_admm"], 5, True)
    assert found["checker"]["passed"]


def test_a_function_alone_is_a_method_and_tieflows_own_names_are_not_to_be_had(site: Path, small: Path) -> None:
    code = "from tieflow.coordinator.methods import METHODS\ndef mine(task): return METHODS['newton'].solve(task)\n"
    install(site, "mine", {"mine": code}, "mine = mine:mine\nadmm = mine:mine")
    found = find_method("mine")
    assert isinstance(found, Method) and not found.exact and found.successor is None
    assert find_method("admm") is METHODS["admm"]
    assert method_names().count("admm") == 1


def test_a_method_that_gives_up_is_followed_by_its_successor_and_never_by_one_that_has_given_up(
    site: Path, small: Path
) -> None:
    code = """
from functools import partial
from tieflow.coordinator.loop import agree
from tieflow.coordinator.methods import Method, admm

def method(name, successor):
    return Method(partial(agree, name, admm.start, admm.update, patience=0), successor=successor)

first, second, third = method("first", "newton"), method("second", "third"), method("third", "second")
"""
    install(
        site, "tired", {"tired": code}, "\n".join(f"{name} = tired:{name}" for name in ("first", "second", "third"))
    )
    case = tieflow.load(small)
    result = tieflow.solve(case, "first", check=False)
    assert result is not None and result.converged
    assert list(dict.fromkeys(result.history.method)) == ["first", "newton"]
    assert "first gave up in round 1: the mismatch has not halved in 0 rounds; newton takes over" in result.notes
    with pytest.raises(tieflow.TieflowError, match="third gave up in round 1"):
        tieflow.solve(case, "second", check=False)


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("bad = nowhere:METHOD", r"^method 'bad' \(nowhere:METHOD\) cannot be loaded: ModuleNotFoundError: "),
        ("bad = odd:missing", r"^method 'bad' \(odd:missing\) cannot be loaded: AttributeError: "),
        ("bad = broken:x", r"^method 'bad' \(broken:x\) cannot be loaded: ZeroDivisionError: "),
        ("bad = odd:number", "neither a Method nor a function of a Task"),
        ("bad = odd:lost", "its successor 'nobody' is unknown"),
        ("good = odd:number", "^method 'bad' is unknown. Known: .*good, newton"),
    ],
)
def test_what_cannot_be_a_method_is_refused_by_name(site: Path, entries: str, told: str) -> None:
    code = "from tieflow.coordinator.methods import Method\nnumber = 3\nlost = Method(print, successor='nobody')\n"
    install(site, "odd", {"odd": code, "broken": "1 / 0\n"}, entries)
    with pytest.raises(CaseError, match=told):
        find_method("bad")


def test_a_name_that_two_packages_register_is_refused(site: Path) -> None:
    for name in ("one", "two"):
        install(site, name, {}, f"same = {name}:METHOD")
    with pytest.raises(CaseError, match="'same' is registered by several packages: one:METHOD, two:METHOD"):
        find_method("same")


def test_an_unknown_method_of_a_case_is_refused_where_it_was_set(small: Path, tieflow: Command) -> None:
    ended = tieflow("solve", small, "--set", "method=amdm")
    assert ended.code == 1 and "--set: method 'amdm' is unknown. Did you mean 'admm'?" in ended.err
    text = (small / "case.toml").read_text()
    (small / "case.toml").write_text(f'method = "amdm"\n{text}')
    assert "case.toml: method 'amdm' is unknown." in tieflow("solve", small).err
    study = small.parent / "mine.toml"
    study.write_text('case = "small"\n[[variants]]\nname = "only"\n')
    assert "variant 'only': method 'amdm' is unknown." in tieflow("study", study).out
