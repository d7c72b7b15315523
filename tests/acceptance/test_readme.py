"""Every command in the README runs, in its order, as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
CASES = README.parent / "launch" / "cases"


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    # quickstart.sh and test.sh make the environment that this test runs in.
    return [line for line in lines if not line.startswith("./launch/")]


def environment() -> dict[str, str]:
    """This environment's commands first, and what Open MPI wants of root on two cores."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    as_root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**os.environ, **as_root, "PATH": path, "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}


def test_every_command_of_the_readme_succeeds(tmp_path: Path) -> None:
    assert len(commands()) >= 12
    # The README's reader has an OpenDSS model of their own.
    shutil.copy(CASES / "ieee123_unbalanced" / "circuit.dss", tmp_path / "Master.dss")
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "new circuit" in (tmp_path / "ieee123.dss").read_text(encoding="utf-8")


def test_the_settings_table_of_the_readme_is_complete() -> None:
    from tieflow.common.inputs.settings import Settings

    named = set(re.findall(r"`([a-z_]+)`", README.read_text(encoding="utf-8")))
    assert set(Settings.model_fields) - named == {"title"}


def test_the_examples_that_read_a_result_run(tmp_path: Path) -> None:
    plain, by_xarray, *_ = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    solve = [sys.executable, "-m", "tieflow", "solve", "ieee123"]
    subprocess.run(solve, cwd=tmp_path, env=environment(), check=True, capture_output=True, timeout=120)
    printed = []
    for example in (plain, by_xarray):
        done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert len(printed[0].split()) >= 5
    assert printed[0].startswith("[1.0")
    assert "'v_pu'" in printed[1] and "period" in printed[1], printed[1]
