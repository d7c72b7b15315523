"""What several test files share: a small case folder to spoil, its solved result, and this environment's mpirun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Ended, Tieflow
from hypothesis import settings

from tieflow.common.case import read_case
from tieflow.common.results.result import Result
from tieflow.common.wire.transport import WORLD_RANKS, WORLD_SIZES
from tieflow.launch.commands.cli import main
from tieflow.launch.runs.solve import Options, solve

# The same examples in every run; how long one takes depends on the machine.
settings.register_profile("tieflow", derandomize=True, deadline=None)
settings.load_profile("tieflow")

# Substation s, then a; behind a both d and b; behind b then c. Four areas, a day of four periods.
SMALL = {
    "case.toml": """\
voltage_kv = 4.16
substation_bus = "s"
substation_v_pu = 1.02
periods = 2
dt_hours = 6.0
price_low_per_kwh = 0.05
price_high_per_kwh = 0.3
price_high_share = 0.5
""",
    "buses.csv": """\
bus,p_load_kw,q_load_kvar,q_cap_kvar
s,0,0,0
a,100,40,0
b,80,30,20
c,60,20,0
d,40,10,0
""",
    "branches.csv": """\
from_bus,to_bus,r_ohm,x_ohm
s,a,0.05,0.1
b,a,0.1,0.2
b,c,0.1,0.1
a,d,0.2,0.1
""",
    "profiles.csv": "hour,load_pu,pv_pu\n0,0.6,0\n1,0.8,1\n2,1,0.5\n3,0.7,0\n",
    "areas.csv": "bus,area\ns,main\na,main\nb,west\nc,far\nd,east\n",
    "pv.csv": "bus,p_rated_kw,s_rated_kva\nc,30,36\n",
    "batteries.csv": "bus,p_rated_kw,s_rated_kva,energy_kwh\nd,20,24,200\n",
}

MPI_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def write_small(folder: Path) -> Path:
    folder.mkdir()
    for name, text in SMALL.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The folder of the small case, to be changed at will."""
    return write_small(tmp_path / "small")


@pytest.fixture
def edit(small: Path) -> Callable[[str, str, str], None]:
    """``edit(file, old, new)`` replaces a text in a file of the small case."""

    def replace_text(name: str, old: str, new: str) -> None:
        text = (small / name).read_text()
        assert old in text
        (small / name).write_text(text.replace(old, new, 1))

    return replace_text


@pytest.fixture(scope="session")
def small_result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The small case, solved in this process and confirmed."""
    folder = write_small(tmp_path_factory.mktemp("cases") / "small")
    return solve(read_case(str(folder)), Options())


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """``run(*arguments)``: exit code, output and errors of the command, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in (*WORLD_SIZES, *WORLD_RANKS):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tieflow", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def tieflow(run: Callable[..., tuple[int, str, str]]) -> Tieflow:
    """``tieflow(*arguments)``: the same, with names."""
    return lambda *arguments: Ended(*run(*arguments))


@pytest.fixture(scope="session")
def launcher() -> str:
    """The mpirun of this environment, else the one on the PATH."""
    beside = Path(sys.executable).with_name("mpirun")
    found = str(beside) if beside.exists() else shutil.which("mpirun")
    assert found, "no mpirun: install the extra [mpi]"
    return found


@pytest.fixture
def mpirun(launcher: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``mpirun(ranks, *arguments)`` runs this Python with the arguments on so many ranks, in a folder of its own."""

    def run(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
        alone = {name: value for name, value in os.environ.items() if name not in (*WORLD_SIZES, *WORLD_RANKS)}
        return subprocess.run(
            [launcher, "-n", str(ranks), sys.executable, *map(str, arguments)],
            cwd=tmp_path,
            env=alone | MPI_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture(scope="session")
def chromium() -> str:
    """A Chromium that runs: some distributions have a stub of that name."""
    for path in filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        if "Chrom" in subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout:
            return path
    pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium), so no browser looks at the page")


@pytest.fixture
def browse(tmp_path: Path, chromium: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``browse(page, *options)`` opens the text of a page in a headless Chromium that knows no network."""

    def open_page(text: str, *options: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "page.html").write_text(text)
        with tempfile.TemporaryDirectory() as profile:
            return subprocess.run(
                [
                    chromium,
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--hide-scrollbars",  # a phone's take no room
                    "--host-resolver-rules=MAP * ~NOTFOUND",
                    "--enable-logging=stderr",
                    f"--user-data-dir={profile}",
                    *options,
                    (tmp_path / "page.html").as_uri(),
                ],
                capture_output=True,
                text=True,
                timeout=120,
            )

    return open_page
