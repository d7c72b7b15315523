"""The package as its users get it: a wheel, used from a folder that has files of the same names as ours."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

import tieflow

ROOT = Path(__file__).parents[1]
NO_NETWORK = re.compile(r"NewConnectionError|Temporary failure in name resolution|No matching distribution found for")
SCRIPT = """
import common, launch
import tieflow

assert common.mine and launch.mine
result = tieflow.solve(tieflow.load("ieee13", periods=2))
print(tieflow.__file__, tieflow.__version__)
print(f"{result.cost:.4f} $, {result.check.passed}")
"""


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


def isolation() -> list[str]:
    """pip's option to build with what is here, without a network, where that is new enough."""
    setuptools = tuple(map(int, re.findall(r"\d+", importlib.metadata.version("setuptools"))[:2]))
    alone = setuptools >= (70, 1) or (setuptools >= (68, 0) and find_spec("wheel") is not None)
    return ["--no-build-isolation"] if alone else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel of this checkout, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    # Of a copy, for a build leaves files behind.
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "*.h5")
    shutil.copytree(ROOT, folder / "checkout", symlinks=True, ignore=leave)
    pip = ["-m", "pip", "--disable-pip-version-check"]
    # A whole path: a bare name would be looked up in the package index.
    built = python(folder, *pip, "wheel", str(folder / "checkout"), "--no-deps", "-w", "dist", *isolation())
    if built.returncode and NO_NETWORK.search(built.stdout + built.stderr):
        pytest.skip("no network to get setuptools from, and the one here is too old to build a wheel alone")
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("tieflow-*.whl")
    put = python(folder, *pip, "install", "--no-deps", "--target", "site", str(wheel))
    assert put.returncode == 0, put.stderr
    shutil.rmtree(folder / "checkout")
    return folder / "site"


@pytest.fixture
def own(tmp_path: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with files of their own; what is started there finds the installed package."""
    monkeypatch.setenv("PYTHONPATH", str(site))
    for name in ("common", "launch", "areas", "coordinator"):
        (tmp_path / f"{name}.py").write_text("mine = True\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def test_a_script_beside_files_of_our_names_solves_a_case(own: Path, site: Path) -> None:
    ended = python(own, "script.py")
    assert ended.returncode == 0, ended.stderr
    where, cost = ended.stdout.splitlines()
    assert where == f"{site / 'tieflow' / '__init__.py'} {tieflow.__version__}"
    here = tieflow.solve(tieflow.load("ieee13", periods=2), check=False)
    assert here is not None
    assert cost == f"{here.cost:.4f} $, True"


def test_the_command_solves_on_three_ranks_from_there(
    own: Path, site: Path, mpirun: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    ended = mpirun(3, "-m", "tieflow", "solve", "ieee13", "--periods", "2")
    assert ended.returncode == 0, ended.stderr
    assert "newton, 4 area(s) on 3 rank(s)" in ended.stdout and "OpenDSS confirms the schedule" in ended.stdout
    assert (own / "ieee13.h5").exists()


def test_the_version_is_that_of_the_wheel(own: Path, site: Path) -> None:
    assert (site / f"tieflow-{tieflow.__version__}.dist-info").is_dir()
    assert python(own, "-m", "tieflow", "--version").stdout.split()[-1] == tieflow.__version__


def test_importing_the_package_loads_nothing_heavy(own: Path) -> None:
    ended = python(own, "-X", "importtime", "-c", "import tieflow, sys; print(*sys.modules)")
    assert ended.returncode == 0, ended.stderr
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    assert "tieflow" in loaded
    assert not loaded & {
        "numpy",
        "scipy",
        "numba",
        "pydantic",
        "h5py",
        "mpi4py",
        "opendssdirect",
        "cvxpy",
        "matplotlib",
    }
    # import time: self [us] | cumulative | package
    took = re.search(r"^import time: +\d+ \| +(\d+) \| tieflow$", ended.stderr, flags=re.MULTILINE)
    assert took is not None and int(took[1]) < 100_000
